"""The tools beside a server that writes: what they say is how everything was at one moment."""

from pathlib import Path

import pytest

from memcache_kv.journal.tools.cli import main as journal_main
from tests.journal.tools.journals import Run
from tests.journal.tools.live_journal import busy_rounds, check_pairs, server
from tests.program import Program

__all__ = ["server"]


def test_an_export_beside_a_server_that_is_busy_and_compacts_is_one_moment(
    server: Program, tmp_path: Path, run: Run
) -> None:
    for _ in busy_rounds(server):
        said = run("export", tmp_path / "journal")
        assert said.status == 0, said.err
        check_pairs(said.out.splitlines())
        assert run("verify", tmp_path / "journal").status == 0
        assert run("stats", tmp_path / "journal").status == 0
        assert journal_main(["verify", str(tmp_path / "journal"), "--json"]) == 0


@pytest.mark.parametrize("command", ["compact", "repair", "load"])
def test_what_changes_a_journal_refuses_while_a_server_has_it(
    server: Program, tmp_path: Path, run: Run, command: str
) -> None:
    (tmp_path / "text").write_text("a 1\n")
    more = ["--text", tmp_path / "text"] if command == "load" else []
    said = run(command, tmp_path / "journal", *more)
    assert said.status == 3
    assert f"a server uses the journal in {tmp_path / 'journal'}: stop it first" in said.err
