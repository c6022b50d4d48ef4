"""`memcache-kv journal` on the command line."""

import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from memcache_kv.cli import main
from memcache_kv.journal.record import framed
from tests.journal.tools.journals import Run, sets, several_files, tree, write_journal
from tests.program import command, environment, poll_until, run_to_its_end

COMMANDS = ["verify", "stats", "repair", "compact", "export", "load", "restore"]


def test_help_names_the_commands_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in said] == []
    for text in ("exit status:", "the command line is invalid", "a server uses the journal"):
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
    code = "import sys, memcache_kv.cli; print([m for m in sys.modules if m.startswith('memcache_kv.journal.tools')])"
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
    assert said == b"memcache-kv journal: interrupted; the journal is unchanged\n"
    assert tree(journal) == before


def test_a_delimiter_must_be_something(tmp_path: Path, run: Run) -> None:
    assert run("stats", write_journal(tmp_path / "journal", sets("a")), "--delimiter", "").status == 2


@pytest.mark.parametrize("arguments", [["stats"], ["export"], ["compact"], ["restore", "--until", "1700000000"]])
def test_a_lost_manifest_is_named_with_what_to_do(tmp_path: Path, run: Run, arguments: list[str]) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    (journal / "manifest.json").unlink()
    before = tree(journal)
    said = run(arguments[0], journal, *arguments[1:])
    assert said.status == 1
    assert said.err == (
        f"memcache-kv journal: {journal / 'manifest.json'} is missing: put it back, or create "
        f"a new one with `memcache-kv journal repair {journal}`\n"
    )
    assert tree(journal) == before
    assert f"create a new one with `memcache-kv journal repair {journal}`" in run("verify", journal).out


def test_a_load_into_a_journal_without_its_manifest_is_refused(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    (journal / "manifest.json").unlink()
    (tmp_path / "text").write_text("b 1\n")
    before = tree(journal)
    said = run("load", journal, "--text", tmp_path / "text")
    assert (said.status, "but no manifest.json" in said.err) == (1, True)
    assert tree(journal) == before


@pytest.mark.parametrize("name", ["compact", "load"])
def test_what_is_set_aside_is_said(tmp_path: Path, run: Run, name: str) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    (several_files(tmp_path / "newer") / "base-000002.jsonl").rename(journal / "base-000002.jsonl")
    (tmp_path / "text").write_text("b 1\n")
    said = run(name, journal, *(["--text", tmp_path / "text"] if name == "load" else []))
    assert said.status == 0
    assert "no manifest names the file that is now base-000002.jsonl.unlisted" in said.err


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\u202e\r"
"""What sets a terminal's title, clears it, colours it, and turns its text round."""


def said_by_all(run: Run, journal: Path, key: str, tmp_path: Path) -> list[str]:
    """What every tool says of a journal in which the key, a file's name and a damaged record are hostile."""
    write_journal(journal, sets(f"{key}:1"))
    texts = [*run("stats", journal)[1:], *run("stats", journal, "--json")[1:], *run("export", journal)[1:]]
    (journal / f"{key}.tmp").touch()
    with (journal / "increment-000001.jsonl").open("ab") as file:
        file.write(framed(b'"op":"%b"}' % key.encode()) + b"\n")
    for arguments in (["verify"], ["verify", "--json"], ["repair"], ["repair", "--yes"], ["stats"], ["export"]):
        texts += run(arguments[0], journal, *arguments[1:])[1:]
    texts += run("stats", tmp_path / key)[1:]
    texts += run("load", tmp_path / "new", "--text", tmp_path / key)[1:]
    return texts


def test_nothing_that_a_terminal_would_obey_is_printed(tmp_path: Path, run: Run) -> None:
    texts = said_by_all(run, tmp_path / f"journal{HOSTILE}", HOSTILE, tmp_path)
    assert sum("owned" in text for text in texts) > 8
    for text in texts:
        obeyed = [one for one in text if one != "\n" and unicodedata.category(one) == "Cc"]
        assert obeyed == [], text


def test_stats_shows_a_prefix_with_its_control_characters_escaped(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("k\u00e4se\x1b[31m\u202e:1"))
    assert "  k\u00e4se\\x1b[31m\\u202e: 1 items" in run("stats", journal).out
    assert run("stats", journal, "--json").json["prefixes"][0]["prefix"] == "k\u00e4se\x1b[31m\u202e"


def test_an_export_says_the_same_with_its_control_characters_escaped(tmp_path: Path, run: Run) -> None:
    value = "k\u00e4se \u00c2\u0080 \x7f\x1b\u009b \u0100"
    journal = write_journal(tmp_path / "journal", lambda journal: journal.stored(b"a", 0, 0, 0, value.encode()))
    said = run("export", journal)
    assert json.loads(said.out)["value"] == value
    assert "k\u00e4se \u00c2\\u0080 \\u007f\\u001b\\u009b \u0100" in said.out


def test_a_directory_whose_name_is_no_text_is_named_all_the_same(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / os.fsdecode(b"\xff"), sets("a"))
    assert run("stats", journal, "--json").json["directory"] == str(journal)
    (journal / "manifest.json").unlink()
    said = run("verify", journal)
    assert (said.status, f"{tmp_path}/\\udcff" in said.out) == (1, True)
