"""All measurements in one run."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.all import PARTS, effort_of, main, parse_arguments
from benchmarks.parts import FULL, QUICK

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read Linux' /proc")


def test_a_run_measures_everything_unless_it_is_told_otherwise() -> None:
    assert parse_arguments([]).only == list(PARTS)


def test_a_run_takes_this_interpreter_unless_it_is_told_otherwise() -> None:
    effort = effort_of(parse_arguments([]))
    assert effort.rounds == FULL.rounds
    assert {way.python for way in effort.ways} == {sys.executable}


def test_a_short_run_does_less() -> None:
    assert effort_of(parse_arguments(["--quick"])).rounds == QUICK.rounds < FULL.rounds


def test_a_part_that_does_not_exist_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--only", "start,nonsense"])
    assert "no part nonsense" in capsys.readouterr().err


def test_an_interpreter_that_can_not_run_the_server_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--python", "false", "--only", "start"]) == 1
    assert "false can't run memcache_kv" in capsys.readouterr().err


@pytest.mark.long
def test_a_short_run_names_its_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHED", "/none")
    assert main(["--quick", "--only", "start,tls,threads,always,replay,rewrite", "--output", str(tmp_path)]) == 0
    parts = json.loads((tmp_path / "benchmarks.json").read_text())["parts"]
    assert list(parts) == ["start", "tls", "threads", "always", "replay", "rewrite"]
    labels = [way.label for way in effort_of(parse_arguments([])).ways]
    for name in ("tls", "threads", "always", "replay", "rewrite"):
        servers = {str(row) for section in parts[name]["sections"] for row in section["rows"]}
        assert all(any(label in server for server in servers) for label in labels), name
