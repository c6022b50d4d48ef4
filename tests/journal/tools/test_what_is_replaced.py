"""What `journal export`, `load`, `restore` and `repair` put in a file's place: regular files, and nothing else."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from memcache_kv.journal.manifest import MANIFEST_NAME
from tests.journal.tools.journals import STARTED, Run, flip, middle_of, sets, tree, write_journal
from tests.journal.tools.test_restore_command import eventful
from tests.program import command, environment

EXPORTED = '{"key":"a","value":"value of a"}\n'
NOBODY = 65534


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of one item."""
    return write_journal(tmp_path / "journal", sets("a"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where an export goes, in a directory of its own."""
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "export.jsonl"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def needs_root() -> None:
    if os.geteuid():
        pytest.skip("only root may make devices and give files away")


# Export


def test_a_new_export_is_for_its_owner_alone(journal: Path, run: Run, output: Path) -> None:
    assert run("export", journal, "--output", output).status == 0
    assert mode_of(output) == 0o600


def test_an_export_that_is_replaced_keeps_its_mode(journal: Path, run: Run, output: Path) -> None:
    output.write_text("old")
    output.chmod(0o640)
    assert run("export", journal, "--output", output).status == 0
    assert (mode_of(output), output.read_text()) == (0o640, EXPORTED)


def test_an_export_that_root_replaces_keeps_its_owner(journal: Path, run: Run, output: Path) -> None:
    needs_root()
    output.write_text("old")
    os.chown(output, NOBODY, NOBODY)
    assert run("export", journal, "--output", output).status == 0
    assert (output.stat().st_uid, output.stat().st_gid, output.read_text()) == (NOBODY, NOBODY, EXPORTED)


def test_a_device_is_written_to_and_not_replaced(journal: Path, run: Run, output: Path) -> None:
    needs_root()
    try:
        os.mknod(output, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        output.write_bytes(b"a file system may refuse devices")
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")
    assert run("export", journal, "--output", output).status == 0
    assert stat.S_ISCHR(output.lstat().st_mode)
    assert os.listdir(output.parent) == [output.name]


def test_a_pipe_is_written_to_and_not_replaced(journal: Path, run: Run, output: Path) -> None:
    os.mkfifo(output)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(output.read_text()), daemon=True)
    reader.start()
    assert run("export", journal, "--output", output).status == 0
    assert stat.S_ISFIFO(output.lstat().st_mode)
    reader.join(60)
    assert read == [EXPORTED]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(
    journal: Path, run: Run, output: Path, tmp_path: Path, is_there: bool
) -> None:
    target = tmp_path / "elsewhere.jsonl"
    if is_there:
        target.write_text("old")
    output.symlink_to("../elsewhere.jsonl")
    assert run("export", journal, "--output", output).status == 0
    assert output.is_symlink()
    assert target.read_text() == EXPORTED
    assert sorted(os.listdir(tmp_path)) == ["elsewhere.jsonl", "exports", "journal"]


def test_a_link_to_a_pipe_leads_to_the_pipe(journal: Path, run: Run, output: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    output.symlink_to(tmp_path / "pipe")
    reader = threading.Thread(target=(tmp_path / "pipe").read_text, daemon=True)
    reader.start()
    assert run("export", journal, "--output", output).status == 0
    assert output.is_symlink()
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    reader.join(60)


def test_standard_output_by_its_name_is_appended_to_like_without_a_name(journal: Path, output: Path) -> None:
    output.write_text("before\n")
    words = command("journal", "export", str(journal), "--output", "/dev/fd/1")
    with output.open("ab") as file:
        subprocess.run(words, stdout=file, env=environment(), check=True, timeout=60)
    assert output.read_text() == "before\n" + EXPORTED


@pytest.mark.parametrize("name", [MANIFEST_NAME, "increment-000001.jsonl", "increment-000002.jsonl", "lock", "link"])
def test_no_export_takes_the_place_of_a_file_of_the_journal(journal: Path, run: Run, name: str) -> None:
    if name == "link":
        (journal / name).symlink_to(MANIFEST_NAME)
    before = tree(journal)
    said = run("export", journal, "--output", journal / name)
    assert (said.status, "is a file of the journal:" in said.err) == (1, True)
    assert tree(journal) == before


def test_an_output_that_cannot_be_written_is_named(journal: Path, run: Run, output: Path) -> None:
    said = run("export", journal, "--output", output.parent)
    assert (said.status, f"can't write {output.parent}: Is a directory" in said.err) == (1, True)
    said = run("export", journal, "--output", output / "none" / "file")
    assert (said.status, f"can't write {output / 'none' / 'file'}: No such file" in said.err) == (1, True)


# The files of a journal


@pytest.mark.parametrize("command_", ["load", "restore", "repair"])
def test_a_manifest_that_is_a_link_is_not_replaced(tmp_path: Path, run: Run, command_: str) -> None:
    refuse(tmp_path, run, command_, MANIFEST_NAME)


@pytest.mark.parametrize("command_", ["restore", "repair"])
def test_an_increment_that_is_a_link_is_not_replaced(tmp_path: Path, run: Run, command_: str) -> None:
    refuse(tmp_path, run, command_, "increment-000001.jsonl")


def refuse(tmp_path: Path, run: Run, command_: str, name: str) -> None:
    """See that a command does nothing where a link stands in the place of a file of the journal."""
    journal = write_journal(tmp_path / "journal", eventful)
    if command_ == "repair":
        flip(journal / "increment-000001.jsonl", middle_of(journal / "increment-000001.jsonl", '"value":"1"'))
    (journal / name).rename(tmp_path / "target")
    (journal / name).symlink_to(tmp_path / "target")
    (tmp_path / "text").write_text("z 1\n")
    arguments: dict[str, list[object]] = {
        "load": ["--text", tmp_path / "text"],
        "restore": ["--until", STARTED + 10, "--yes"],
        "repair": ["--yes"],
    }
    before = tree(journal)
    said = run(command_, journal, *arguments[command_])
    assert (said.status, f"{journal / name} is not a regular file" in said.err) == (1, True), said
    assert tree(journal) == before
    assert (journal / name).is_symlink()
