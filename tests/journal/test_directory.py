"""The directory of a journal: its lock, what is refused to start beside, and what is cleared away."""

import errno
import fcntl
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLocked
from memcache_kv.journal.directory import LOCK_NAME, JournalDirectory
from memcache_kv.journal.disk import File, SystemDisk
from memcache_kv.journal.manifest import (
    FORMER_NAME,
    MANIFEST_NAME,
    TEMPORARY_SUFFIX,
    Manifest,
    Part,
    base_name,
    increment_name,
)
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of, set_line
from tests.journal.disk import Disk, broken
from tests.journal.journals import (
    FIRST,
    START,
    STARTED,
    Run,
    keys_in,
    make_journal,
    manifest_in,
    names_in,
    write_manifest,
)

HOLD_THE_LOCK = """
import sys
from contextlib import closing
from pathlib import Path
from memcache_kv.journal import JournalDirectory
directory = JournalDirectory(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def start_holder(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that has the lock once this returns."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    return holder


def end(holder: "subprocess.Popen[bytes]") -> None:
    holder.kill()
    holder.communicate()


def test_a_directory_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    directory = JournalDirectory(tmp_path / "deep" / "journal")
    assert directory.path == tmp_path / "deep" / "journal"
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.open() is None
    directory.close()


def test_a_directory_that_another_process_has_is_refused_by_name(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(JournalLocked, match=str(tmp_path)):
            JournalDirectory(tmp_path)
    finally:
        end(holder)


def test_the_lock_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    end(start_holder(tmp_path))
    assert (tmp_path / LOCK_NAME).exists()
    JournalDirectory(tmp_path).close()


def test_the_same_process_does_not_get_a_directory_twice_before_it_closes_it(tmp_path: Path) -> None:
    first = JournalDirectory(tmp_path)
    with pytest.raises(JournalLocked):
        JournalDirectory(tmp_path)
    first.close()
    JournalDirectory(tmp_path).close()


def test_a_lock_file_left_behind_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("left by a crash")
    directory = JournalDirectory(tmp_path)
    assert directory.open() is None
    directory.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("a file")
    with pytest.raises(JournalError, match="can't use the journal directory"):
        JournalDirectory(path)


def test_the_lock_is_known_to_be_the_one_that_others_see(tmp_path: Path) -> None:
    with closing(JournalDirectory(tmp_path)) as directory:
        assert directory.is_locked()
        (tmp_path / LOCK_NAME).unlink()
        assert not directory.is_locked()
        (tmp_path / LOCK_NAME).touch()
        assert not directory.is_locked()


# What is begun beside what


def opened(path: Path) -> Manifest | None:
    with closing(JournalDirectory(path)) as directory:
        return directory.open()


@pytest.mark.parametrize("name", ["photo.jpg", f"{FIRST}.torn-1700000000", f"{FIRST}.unlisted", "base", "photo.tmp"])
def test_no_empty_journal_is_begun_beside_files_that_tell_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(JournalCorrupt, match=f"holds '{name}' but no journal"):
        opened(tmp_path)
    assert names_in(tmp_path) == {name}


@pytest.mark.parametrize("name", [FIRST, increment_name(7), base_name(2)])
def test_no_empty_journal_is_begun_beside_one_that_lost_its_manifest(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(START + set_line(b"a", 0, 0, 0, b"1"))
    with pytest.raises(JournalCorrupt, match=f"holds '{name}' but no manifest.json"):
        opened(tmp_path)
    assert names_in(tmp_path) == {name}


@pytest.mark.parametrize("content", [b"", START[:20], START, bytes(99), bytes(64) + START[64:], bytes(20) + START[20:]])
def test_a_first_start_that_a_crash_ended_early_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FIRST).write_bytes(content)
    (tmp_path / f"{MANIFEST_NAME}{TEMPORARY_SUFFIX}").write_bytes(b"{")
    assert opened(tmp_path) is None
    assert names_in(tmp_path) == set()
    run = Run(tmp_path)
    run.store(b"a")
    run.close()
    assert keys_in(tmp_path) == [b"a"]


def test_an_empty_file_of_format_1_is_no_journal_yet(tmp_path: Path) -> None:
    (tmp_path / FORMER_NAME).touch()
    assert opened(tmp_path) is None
    assert names_in(tmp_path) == set()


def test_a_journal_with_copies_of_torn_ends_beside_it_is_fine(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    (tmp_path / f"{FIRST}.torn-1700000000").write_bytes(b"{")
    assert opened(tmp_path) == manifest_in(tmp_path)
    assert names_in(tmp_path) == {FIRST, MANIFEST_NAME, f"{FIRST}.torn-1700000000"}


def test_a_file_system_of_its_own_is_as_good_as_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert opened(tmp_path) is None


# What a crash left


def test_what_was_never_finished_is_removed(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    for name in (MANIFEST_NAME, base_name(2), increment_name(2)):
        (tmp_path / f"{name}{TEMPORARY_SUFFIX}").write_bytes(b"half of it")
    opened(tmp_path)
    assert names_in(tmp_path) == {FIRST, MANIFEST_NAME}


def make_rewritten_journal(path: Path, begun_at: int = STARTED) -> set[str]:
    """Make a journal of a base and an increment, both of the number 5; return the names of its files."""
    start = line_of(Record("start", at=begun_at, version=FORMAT_VERSION))
    base = start + line_of(Record("end", at=begun_at, count=1))
    path.mkdir(exist_ok=True)
    (path / base_name(5)).write_bytes(base)
    (path / increment_name(5)).write_bytes(start)
    parts = Part(base_name(5), len(base)), Part(increment_name(5), len(start))
    write_manifest(path, Manifest(FORMAT_VERSION, parts[0], parts[1:]))
    return {MANIFEST_NAME, base_name(5), increment_name(5)}


def test_what_a_new_base_replaced_is_removed(tmp_path: Path) -> None:
    ours = make_rewritten_journal(tmp_path)
    for name in (FORMER_NAME, FIRST, increment_name(4), base_name(3)):
        (tmp_path / name).write_bytes(START + set_line(b"old", 0, 0, 0, b"1"))
    with closing(JournalDirectory(tmp_path)) as directory:
        directory.open()
        assert any(f"removed {increment_name(4)}" in note for note in directory.notes())
    assert names_in(tmp_path) == ours


def test_what_was_begun_after_the_base_is_not_taken_for_what_it_replaced(tmp_path: Path) -> None:
    ours = make_rewritten_journal(tmp_path, begun_at=STARTED - 1)
    newer = START + set_line(b"new", 0, 0, 0, b"1")
    (tmp_path / FIRST).write_bytes(newer)
    with closing(JournalDirectory(tmp_path)) as directory:
        directory.open()
        assert directory.set_aside == [f"{FIRST}.unlisted"]
    assert (tmp_path / f"{FIRST}.unlisted").read_bytes() == newer
    assert names_in(tmp_path) == {*ours, f"{FIRST}.unlisted"}


def test_a_base_that_holds_nothing_and_that_no_manifest_names_is_removed(tmp_path: Path) -> None:
    ours = make_rewritten_journal(tmp_path)
    (tmp_path / base_name(6)).write_bytes(START)
    opened(tmp_path)
    assert names_in(tmp_path) == ours


def test_a_backup_copied_over_a_newer_journal_costs_that_no_base(tmp_path: Path) -> None:
    Run(tmp_path).close()
    backup = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    for name in backup:
        (tmp_path / name).unlink()
    make_rewritten_journal(tmp_path)
    newer = START + set_line(b"new", 0, 0, 0, b"1") + line_of(Record("end", at=STARTED, count=2))
    (tmp_path / base_name(5)).write_bytes(newer)
    for name, content in backup.items():
        (tmp_path / name).write_bytes(content)
    with closing(JournalDirectory(tmp_path)) as directory:
        directory.open()
        notes = directory.notes()
    for name, note in zip((base_name(5), increment_name(5)), notes, strict=True):
        assert f"no manifest names the file that is now {name}.unlisted" in note
    assert (tmp_path / f"{base_name(5)}.unlisted").read_bytes() == newer


# What is lost


def test_an_increment_numbered_above_1_without_a_base_is_a_loss(tmp_path: Path) -> None:
    make_journal(tmp_path, START, name=increment_name(5))
    with pytest.raises(JournalCorrupt, match=f"{base_name(5)} is missing"):
        opened(tmp_path)


@pytest.mark.parametrize("name", [increment_name(2), f"{increment_name(2)}.tmp", f"{base_name(2)}.tmp", base_name(2)])
def test_no_empty_journal_is_begun_beside_an_empty_file_of_a_later_time(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(START)
    with pytest.raises(JournalCorrupt, match=f"holds '{name}' but no manifest.json"):
        opened(tmp_path)
    assert names_in(tmp_path) == {name}


def test_a_journal_of_format_1_with_a_later_increment_has_lost_its_manifest(tmp_path: Path) -> None:
    (tmp_path / FORMER_NAME).write_bytes(START)
    (tmp_path / increment_name(2)).write_bytes(START + set_line(b"new", 0, 0, 0, b"1"))
    with pytest.raises(JournalCorrupt, match=r"but no manifest\.json"):
        opened(tmp_path)


# The lock's file


@pytest.mark.parametrize("is_refused", [True, False])
def test_the_lock_file_goes_with_whoever_made_it(tmp_path: Path, is_refused: bool) -> None:
    if is_refused:
        (tmp_path / "photo.jpg").touch()
    directory = JournalDirectory(tmp_path)
    assert (tmp_path / LOCK_NAME).exists()
    if is_refused:
        with pytest.raises(JournalCorrupt):
            directory.open()
    directory.close()
    assert not (tmp_path / LOCK_NAME).exists()


def test_the_lock_file_of_another_is_left_alone(tmp_path: Path) -> None:
    directory = JournalDirectory(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    (tmp_path / LOCK_NAME).write_text("of another")
    directory.close()
    assert (tmp_path / LOCK_NAME).read_text() == "of another"


def test_a_lock_file_that_its_holder_removed_meanwhile_is_not_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JournalDirectory(tmp_path)
    flock = fcntl.flock

    def let_go_first(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.close()  # after the file was opened, and before it was locked
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", let_go_first)
    second = JournalDirectory(tmp_path)
    assert second.is_locked()
    with pytest.raises(JournalLocked):
        JournalDirectory(tmp_path)
    second.close()


def test_an_increment_that_holds_nothing_yet_and_that_no_manifest_names_is_removed(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    (tmp_path / increment_name(2)).write_bytes(START)
    (tmp_path / increment_name(3)).write_bytes(START[:-1])
    with closing(JournalDirectory(tmp_path)) as directory:
        directory.open()
        assert directory.set_aside == []
    assert names_in(tmp_path) == {FIRST, MANIFEST_NAME}


def test_an_increment_with_data_that_no_manifest_names_is_set_aside_and_told_of(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    data = START + set_line(b"a", 0, 0, 0, b"1")
    for aside in (f"{increment_name(2)}.unlisted", f"{increment_name(2)}.unlisted-2"):
        (tmp_path / increment_name(2)).write_bytes(data)
        with closing(JournalDirectory(tmp_path)) as directory:
            directory.open()
            assert directory.set_aside == [aside]
        assert (tmp_path / aside).read_bytes() == data
        assert increment_name(2) not in names_in(tmp_path)


def test_an_increment_with_half_a_record_that_no_manifest_names_is_set_aside(tmp_path: Path) -> None:
    make_journal(tmp_path, START)
    (tmp_path / increment_name(2)).write_bytes(START + b'{"crc":"')
    with closing(JournalDirectory(tmp_path)) as directory:
        directory.open()
        assert directory.set_aside == [f"{increment_name(2)}.unlisted"]


def test_a_directory_that_cannot_be_cleared_is_told_as_an_error_of_the_journal(tmp_path: Path, disk: Disk) -> None:
    make_journal(tmp_path, START)
    (tmp_path / f"{FIRST}.tmp").touch()
    disk.errors["remove"] = broken()
    with pytest.raises(JournalError, match=r"can't write the journal in .*: Input/output error"):
        opened(tmp_path)


class ReadOnlyDisk(SystemDisk):
    """A disk on which no file can be created until `is_read_only` is false."""

    is_read_only = True

    def lock(self, path: Path) -> File:
        """Lock a file, unless it would have to be created."""
        if self.is_read_only:
            raise OSError(errno.EROFS, "Read-only file system")
        return super().lock(path)


def test_a_read_only_directory_without_a_lock_file_is_locked_itself(tmp_path: Path) -> None:
    disk = ReadOnlyDisk()
    with closing(JournalDirectory(tmp_path, disk)) as directory:
        assert not (tmp_path / LOCK_NAME).exists()
        with pytest.raises(JournalLocked):
            JournalDirectory(tmp_path, disk)
        with pytest.raises(OSError, match="Read-only file system"):
            directory.clear(None)
        disk.is_read_only = False
        directory.clear(None)
        assert directory.is_locked()
        with pytest.raises(JournalLocked):
            JournalDirectory(tmp_path, disk)
    assert not (tmp_path / LOCK_NAME).exists()
    JournalDirectory(tmp_path, disk).close()
