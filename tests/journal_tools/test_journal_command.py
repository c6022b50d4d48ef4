"""`memcache-kv journal` on the command line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.cli import main
from tests.journal_tools.journals import Run, sets, tree, write_journal
from tests.program import command, environment, poll_until, run_to_its_end

COMMANDS = ["verify", "stats", "repair", "compact", "export", "load", "restore"]


def test_help_names_the_commands_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in said] == []
    for text in ("exit status:", "wrong usage", "a server uses the journal"):
        assert text in said


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", name, "--help"])
    assert ended.value.code == 0
    assert "exit status:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["verify"], ["stats", "x", "--top", "many"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", *arguments])
    assert ended.value.code == 2


def test_it_is_a_command_of_the_program(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    done = run_to_its_end("journal", "export", str(journal))
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"key":"a","value":"value of a"}\n', "")


def test_a_server_does_not_import_the_tools() -> None:
    tools = "{'memcache_kv.journal_cli', 'memcache_kv.journal.repair', 'memcache_kv.memcached_source'}"
    code = f"import sys, memcache_kv.cli; print(list({tools} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_reader_that_leaves_is_no_fault(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "journal", sets(*(f"key-{number}" for number in range(20_000))))
    line = f"{sys.executable} -m memcache_kv journal export {journal} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "1"
    assert done.stderr == ""


def test_ctrl_c_ends_a_load_with_status_130_and_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    before = tree(journal)
    words = command("journal", "load", str(journal), "--text", "-")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        poll_until(lambda: list(journal.glob("*.tmp")), "the load has begun")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == b"memcache-kv journal: interrupted; the journal is as it was\n"
    assert tree(journal) == before


def test_a_delimiter_must_be_something(tmp_path: Path, run: Run) -> None:
    assert run("stats", write_journal(tmp_path / "journal", sets("a")), "--delimiter", "").status == 2
