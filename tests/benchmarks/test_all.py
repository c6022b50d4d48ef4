"""All measurements in one run: what it takes, what it keeps, and how it draws."""

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.all import PARTS, effort_of, main, parse_arguments
from benchmarks.charts import Bars
from benchmarks.durability_report import Column, Section
from benchmarks.part_saturated import NO_CRUSHER
from benchmarks.parts import FULL, QUICK, Effort, Findings
from benchmarks.recorded_traces import INTERRUPTED
from benchmarks.rounds import Tell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read Linux' /proc")
CHARACTER_WIDTH = 6.5


def finds(effort: Effort, tell: Tell) -> Findings:
    return Findings([Section("found", (Column("items"),), [(effort.items,)])])


def is_interrupted(effort: Effort, tell: Tell) -> Findings:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_measured_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, part in (("loads", finds), ("memory", is_interrupted), ("start", finds)):
        monkeypatch.setitem(PARTS, name, part)
    assert main(["--only", "loads,memory,start", "--output", str(tmp_path)]) == INTERRUPTED
    assert list(json.loads((tmp_path / "benchmarks.json").read_text())["parts"]) == ["loads"]


def test_the_names_of_a_legend_do_not_overlap() -> None:
    names = ["memcache_kv", "memcached -t 1", "LRU", "S3-FIFO", "W-TinyLFU", "optimum"]
    drawn = Bars("title", "up", ["group"], {name: [1.0] for name in names}).svg()
    starts = [float(re.search(rf'<text x="([\d.]+)"[^>]*>{re.escape(name)}<', drawn)[1]) for name in names]  # type: ignore[index]
    for (start, name), (following, _) in pairwise(zip(starts, names, strict=True)):
        assert start + CHARACTER_WIDTH * len(name) < following - 18


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
    monkeypatch.setenv("MC_CRUSHER", "/none")
    names = ["start", "saturated", "tls", "line", "threads", "always", "replay", "rewrite"]
    assert main(["--quick", "--only", ",".join(names), "--output", str(tmp_path)]) == 0
    parts = json.loads((tmp_path / "benchmarks.json").read_text())["parts"]
    assert NO_CRUSHER in parts["saturated"]["sections"][0]["notes"]
    assert list(parts) == names
    labels = [way.label for way in effort_of(parse_arguments([])).ways]
    for name in ("tls", "line", "threads", "always", "replay", "rewrite"):
        servers = {str(row) for section in parts[name]["sections"] for row in section["rows"]}
        assert all(any(label in server for server in servers) for label in labels), name
