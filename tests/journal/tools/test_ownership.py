"""Tools that root runs leave files that the journal's server can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.ownership import disk_for
from tests.journal.tools.journals import STARTED, Run, flip, keys, middle_of, sets, several_files, write_journal
from tests.journal.tools.test_restore_command import eventful

SERVICE, GROUP = 12345, 23456

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def give(path: Path, uid: int = SERVICE, gid: int = GROUP) -> Path:
    """Give a journal to the service."""
    for file in (path, *path.rglob("*")):
        os.chown(file, uid, gid)
    return path


def owners(path: Path) -> set[tuple[int, int]]:
    return {(file.stat().st_uid, file.stat().st_gid) for file in (path, *path.rglob("*"))}


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in path.rglob("*") if file.is_file()}


@as_root
def test_what_compact_makes_belongs_to_the_directorys_owner(tmp_path: Path, run: Run) -> None:
    journal = give(several_files(tmp_path / "journal"))
    assert run("compact", journal).status == 0
    assert (owners(journal), modes(journal)) == ({(SERVICE, GROUP)}, {0o600})


@as_root
def test_what_load_makes_belongs_to_the_directorys_owner_in_an_empty_one_too(tmp_path: Path, run: Run) -> None:
    (tmp_path / "text").write_text("a 1\n")
    for journal in (several_files(tmp_path / "journal"), tmp_path / "new"):
        journal.mkdir(exist_ok=True)
        assert run("load", give(journal), "--text", tmp_path / "text").status == 0
        assert (owners(journal), modes(journal)) == ({(SERVICE, GROUP)}, {0o600})


@as_root
@pytest.mark.parametrize("has_links", [True, False])
def test_what_repair_makes_belongs_to_the_directorys_owner(
    tmp_path: Path, run: Run, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    journal = several_files(tmp_path / "journal")
    flip(journal / "increment-000002.jsonl", middle_of(journal / "increment-000002.jsonl", "value of e"))
    give(journal)
    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    assert run("repair", journal, "--yes").status == 0
    assert len(list(journal.glob("before-repair-*/*"))) == 4
    assert len(list(journal.glob("*.cut-*"))) == 1
    assert (owners(journal), modes(journal)) == ({(SERVICE, GROUP)}, {0o600})


@as_root
def test_what_restore_makes_belongs_to_the_directorys_owner(tmp_path: Path, run: Run) -> None:
    journal = give(write_journal(tmp_path / "journal", eventful))
    assert run("restore", journal, "--until", STARTED + 10, "--yes").status == 0
    assert (owners(journal), modes(journal)) == ({(SERVICE, GROUP)}, {0o600})
    assert keys(journal) == "a b"


@as_root
def test_a_copy_of_a_torn_end_belongs_to_the_directorys_owner(tmp_path: Path, run: Run) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    with (journal / "increment-000001.jsonl").open("ab") as file:
        file.write(b'{"crc":"00')
    (tmp_path / "text").write_text("b 1\n")
    assert run("load", give(journal), "--text", tmp_path / "text").status == 0
    assert len(list(journal.glob("*.torn-*"))) == 1
    assert owners(journal) == {(SERVICE, GROUP)}


@as_root
def test_in_a_directory_of_root_new_files_are_as_the_files_that_are_there(tmp_path: Path, run: Run) -> None:
    journal = give(several_files(tmp_path / "journal"))
    for file in journal.iterdir():
        file.chmod(0o640)
    os.chown(journal, 0, GROUP)
    assert run("compact", journal).status == 0
    assert owners(journal) == {(SERVICE, GROUP), (0, GROUP)}
    assert {file.stat().st_uid for file in journal.iterdir()} == {SERVICE}
    assert modes(journal) == {0o640}


@as_root
def test_what_root_left_by_an_older_version_is_given_back_by_the_next_compact(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    (journal / "lock").touch(0o600)
    os.chown(journal, SERVICE, GROUP)
    assert run("compact", journal, "--keep", 0).status == 0
    assert owners(journal) == {(SERVICE, GROUP)}


@as_root
@pytest.mark.parametrize("is_symbolic", [True, False])
def test_a_link_that_is_called_lock_gives_nothing_away(tmp_path: Path, run: Run, is_symbolic: bool) -> None:
    journal = give(several_files(tmp_path / "journal"))
    secret = tmp_path / "secret"
    secret.write_text("of root")
    if is_symbolic:
        (journal / "lock").symlink_to(secret)
    else:
        (journal / "lock").hardlink_to(secret)
    assert run("compact", journal).status == 0
    assert secret.stat().st_uid == 0


@as_root
def test_a_journal_of_root_stays_roots(tmp_path: Path, run: Run) -> None:
    journal = several_files(tmp_path / "journal")
    assert run("compact", journal).status == 0
    assert owners(journal) == {(0, 0)}


@as_root
def test_nobody_but_root_gives_files_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = give(several_files(tmp_path / "journal"))
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE + 1)
    assert type(disk_for(journal)) is SystemDisk
