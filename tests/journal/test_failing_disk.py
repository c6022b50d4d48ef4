"""A disk that fails while serving: nothing is acknowledged that is not safe, and all goes on once the disk works."""

import errno
import threading
from pathlib import Path

import pytest

from memcache_kv.errors import JournalFailed, JournalLost
from memcache_kv.journal import Fsync, writer
from memcache_kv.journal.directory import LOCK_NAME
from memcache_kv.journal.manifest import MANIFEST_NAME, base_name, increment_name
from memcache_kv.journal.record import set_line
from memcache_kv.journal.writer import FILE_CHECK_SECONDS
from memcache_kv.store.entry import pack
from tests.journal.disk import PATIENCE_SECONDS, Disk, broken, no_space, wait_until
from tests.journal.history import replay, shown
from tests.journal.journals import FIRST, STARTED, Run, keys_in, manifest_in, names_in, serving_journal
from tests.journal.test_files import write_base

POLICIES = list(Fsync)
SYNCED = [Fsync.ALWAYS, Fsync.EVERYSEC]
LONG = 10.0
"""Longer than a sync or a look at the files is put off."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's directory that is not there yet."""
    return tmp_path / "journal"


def found_in(path: Path) -> set[bytes]:
    """Return the keys that a start finds."""
    return set(shown(replay(path, STARTED)[0]))


def start(path: Path, fsync: Fsync = Fsync.ALWAYS) -> Run:
    """Make a journal that has one value on disk."""
    run = Run(path, fsync)
    run.store(b"before")
    run.step()
    run.step(LONG)
    return run


# Writes


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("error", [no_space(), broken(), OSError(errno.EDQUOT, "Disk quota exceeded")], ids=str)
def test_a_write_that_fails_refuses_changes_until_the_disk_takes_it(
    path: Path, disk: Disk, fsync: Fsync, error: OSError
) -> None:
    run = start(path, fsync)
    disk.errors["write"] = error
    run.store(b"a")
    run.step()
    journal = run.journal
    assert journal.refuses
    assert isinstance(journal.failure, JournalFailed)
    assert f"can't write the journal in {path}: {error.strerror}" in str(journal.failure)
    assert journal.failures == 1
    assert (journal.position, journal.written) == (2, 1)
    disk.mend()
    run.look()
    assert not journal.refuses
    assert journal.failure is None
    assert journal.synced == journal.written == journal.position
    assert keys_in(path) == [b"before", b"a"]
    run.close()


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_what_a_full_disk_took_of_a_write_is_undone(path: Path, disk: Disk, room: int) -> None:
    run = start(path)
    before = (path / FIRST).read_bytes()
    disk.room = room
    run.store(b"a", b"b", b"c")
    run.step()
    assert (path / FIRST).read_bytes() == before
    assert run.journal.refuses
    disk.mend()
    run.look()
    assert keys_in(path) == [b"before", b"a", b"b", b"c"]
    run.close()


def test_what_could_not_be_undone_is_a_torn_end_for_a_start_after_a_crash(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.room = 30
    disk.errors["truncate"] = broken()
    run.store(b"a")
    run.step()
    run.crash()
    disk.mend()
    assert found_in(path) == {b"before"}


def test_nothing_is_tried_before_it_is_time_again(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    run.store(b"a")
    run.step(LONG)
    disk.mend()
    run.step(FILE_CHECK_SECONDS / 2)
    assert run.journal.refuses
    assert keys_in(path) == [b"before"]
    run.step(FILE_CHECK_SECONDS / 2)
    assert not run.journal.refuses
    run.close()


def test_what_was_queued_while_the_disk_failed_keeps_its_order(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    for key in (b"1", b"2", b"3"):
        run.store(key)
        run.look()
    run.store(b"4")
    disk.mend()
    run.look()
    assert keys_in(path) == [b"before", b"1", b"2", b"3", b"4"]
    assert run.journal.queued_bytes == 0
    run.close()


def test_entries_that_were_queued_while_the_disk_failed_keep_their_order(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    for number in range(4):
        run.journal.put(b"%d" % number, pack(0, b"value"))
        run.store(b"%d stored" % number)
        run.look()
        assert run.journal.queued_bytes > 0
    assert (run.journal.position, run.journal.written) == (9, 1)
    disk.mend()
    run.look()
    assert keys_in(path) == [b"before", *(b"%d%b" % (n, end) for n in range(4) for end in (b"", b" stored"))]
    assert (run.journal.written, run.journal.queued_bytes) == (9, 0)
    run.close()


def test_the_same_trouble_is_told_once_and_its_end_too(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    run.store(b"a")
    for _ in range(3):
        run.look()
    disk.errors["write"] = broken()
    run.look()
    disk.mend()
    run.look()
    full, other, again = run.said
    assert "No space left on device; writes are rejected until it can be written; reads go on" in full
    assert "Input/output error; writes are rejected" in other
    assert "written again, after 4 s" in again
    assert run.journal.failures == 1
    run.close()


def test_an_id_that_a_read_gives_while_the_disk_fails_is_not_noted(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    run.store(b"a")
    run.step()
    run.journal.cas_assigned(b"a", 7)
    assert run.journal.position == 2
    disk.mend()
    run.look()
    run.journal.cas_assigned(b"a", 8)
    assert run.journal.position == 3
    run.close()


@pytest.mark.parametrize("failing", ["write", "sync"])
def test_under_always_nothing_is_released_while_the_disk_fails(path: Path, disk: Disk, failing: str) -> None:
    run = start(path)
    disk.errors[f"{failing} increment"] = broken()
    released: list[bool] = []
    run.store(b"a")
    run.journal.watch(lambda: released.append(not run.journal.must_wait(run.journal.position)))
    for _ in range(3):
        run.look()
    assert released == [False, False, False]
    disk.mend()
    run.look()
    assert released[3:] == [True]
    run.close()


@pytest.mark.parametrize("fsync", POLICIES)
def test_the_thread_goes_on_by_itself_when_the_disk_works(
    path: Path, disk: Disk, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FILE_CHECK_SECONDS", 0.01)
    with serving_journal(path, fsync) as journal:
        told = threading.Event()
        journal.watch(told.set)
        disk.errors["write"] = no_space()
        journal.stored(b"a", 0, 0, 0, b"value")
        journal.commit()
        wait_until(lambda: journal.refuses, "changes are refused")
        told.clear()
        assert told.wait(PATIENCE_SECONDS)
        disk.mend()
        wait_until(lambda: not journal.refuses, "changes are taken again")
        assert journal.written == 1
    assert keys_in(path) == [b"a"]


# Syncs


@pytest.mark.parametrize("fsync", SYNCED)
def test_what_a_failed_sync_may_have_lost_is_written_to_a_new_increment(path: Path, disk: Disk, fsync: Fsync) -> None:
    run = start(path, fsync)
    disk.errors["sync increment"], disk.forgets = broken(), True
    run.store(b"a", b"b")
    run.step()
    run.step(LONG)
    journal = run.journal
    assert journal.refuses
    assert (journal.written, journal.synced) == (3, 1)
    run.store(b"c")
    disk.mend()
    run.look()
    assert not journal.refuses
    assert journal.synced == journal.position == 5  # the last one says that the new manifest is on disk
    assert [part.name for part in manifest_in(path).parts] == [FIRST, increment_name(2)]
    assert keys_in(path) == [b"before", b"a", b"b", b"c"]
    assert b'"a"' not in (path / FIRST).read_bytes()
    run.crash()
    assert found_in(path) == {b"before", b"a", b"b", b"c"}


def test_a_later_sync_of_the_same_file_is_not_believed(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["sync increment"] = broken()
    run.store(b"a")
    run.step()
    disk.mend()
    before = len(disk.operations)
    run.look()
    assert ("sync", FIRST) not in disk.operations[before:]
    assert ("sync", increment_name(2)) in disk.operations[before:]
    run.close()


def test_a_disk_that_goes_on_failing_leaves_no_row_of_increments(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["sync"] = broken()
    run.store(b"a")
    for _ in range(5):
        run.look()
    assert names_in(path) == {MANIFEST_NAME, FIRST}
    disk.mend()
    run.look()
    assert names_in(path) == {MANIFEST_NAME, FIRST, increment_name(2)}
    run.close()


@pytest.mark.parametrize("failing", ["create", "write", "sync", "rename", "sync_directory"])
def test_a_new_increment_that_cannot_be_made_is_tried_again(path: Path, disk: Disk, failing: str) -> None:
    run = start(path)
    disk.errors["sync increment"] = broken()
    run.store(b"a")
    run.step()
    disk.mend()
    disk.errors[failing] = broken()
    for _ in range(3):
        run.look()
        assert run.journal.refuses
        assert run.journal.synced == 1
    disk.mend()
    run.look()
    assert not run.journal.refuses
    run.crash()
    assert found_in(path) == {b"before", b"a"}


@pytest.mark.parametrize("fsync", SYNCED)
def test_a_crash_after_a_failed_sync_loses_no_more_than_was_not_acknowledged(
    path: Path, disk: Disk, fsync: Fsync
) -> None:
    run = start(path, fsync)
    disk.errors["sync increment"], disk.forgets = broken(), True
    run.store(b"a")
    run.step()
    run.step(LONG)
    run.crash()
    disk.mend()
    assert found_in(path) == {b"before"}


def test_never_takes_no_notice_of_syncs_but_at_the_end(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.NEVER)
    disk.errors["sync increment"] = broken()
    run.store(b"a")
    run.step(LONG)
    assert not run.journal.refuses
    with pytest.raises(
        JournalFailed, match="Input/output error; 1 records were written and may not be on disk at the end"
    ):
        run.close()


def test_a_rotation_writes_again_what_a_failed_sync_may_have_lost(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["sync increment"], disk.forgets = broken(), True
    run.store(b"a")
    run.step()
    disk.mend()
    assert run.journal.rotate() == 3
    run.look()
    assert not run.journal.refuses
    assert keys_in(path) == [b"before", b"a"]
    run.close()


def test_what_is_appended_during_the_fsync_of_a_rewrite_is_kept_until_it_is_on_disk(path: Path, disk: Disk) -> None:
    run = start(path, Fsync.EVERYSEC)
    journal = run.journal
    number = journal.rotate()
    size = write_base(journal.files, number, b"before")
    run.store(b"a")
    file = journal.files.file
    sync = file.sync

    def append_meanwhile() -> None:
        sync()
        run.store(b"meanwhile")
        assert journal.append()

    file.sync = append_meanwhile  # type: ignore[method-assign]
    journal.adopt(number, size)
    file.sync = sync  # type: ignore[method-assign]
    assert journal.lag_records == 1
    disk.errors["sync increment"], disk.forgets = broken(), True
    run.step(LONG)
    assert journal.refuses
    disk.mend()
    run.look()
    run.close()
    assert found_in(path) == {b"before", b"a", b"meanwhile"}


# The end


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("in_two_files", [False, True])
def test_an_end_writes_to_a_new_file_what_a_failed_fsync_may_have_lost(
    path: Path, disk: Disk, fsync: Fsync, in_two_files: bool
) -> None:
    run = start(path, fsync)
    run.step(LONG)
    if fsync is Fsync.NEVER:
        run.journal.files.sync()
    run.store(b"a")
    if in_two_files:
        run.journal.rotate()
    run.store(b"b")
    is_read_back = fsync is Fsync.NEVER  # the kernel still has it
    disk.fails_in, disk.forgets = 1, not is_read_back
    run.close()
    assert run.said[0] == (
        f"can't write the journal in {path}: Input/output error; writes are rejected until it can be written; "
        "reads go on"
    )
    assert run.said[1:] == ["the journal is written again, after 0 s"]
    assert found_in(path) == {b"before", b"a", b"b"}
    last = max(file.name for file in path.glob("increment-*"))
    assert disk.durable[last] == (path / last).stat().st_size


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("failing", ["write", "sync"])
def test_an_end_on_a_disk_that_fails_says_how_much_is_lost(path: Path, disk: Disk, fsync: Fsync, failing: str) -> None:
    run = start(path, fsync)
    before = 0 if fsync is not Fsync.NEVER else 1  # as nothing was synced before
    if failing == "sync":
        said = f"{before + 3} records were written and may not be on disk at the end"
    elif before:
        said = "3 records could not be written, and 1 records were written and may not be on disk at the end"
    else:
        said = "3 records could not be written at the end"
    run.store(b"a", b"b", b"c")
    disk.errors[f"{failing} increment"] = no_space()
    with pytest.raises(JournalFailed, match=rf"{path}: No space left on device; {said}$"):
        run.close()
    disk.mend()
    assert b"before" in found_in(path)


def test_records_that_a_failed_fsync_lost_and_nobody_keeps_are_reported(path: Path, disk: Disk) -> None:
    """Under `never` no lines are kept in memory, so they are read back from the file."""
    run = start(path, Fsync.NEVER)
    run.store(b"a")
    run.journal.rotate()
    disk.errors["sync increment"], disk.forgets = broken(), True
    with pytest.raises(OSError, match="Input/output error"):
        run.journal.files.sync()
    disk.mend()
    with pytest.raises(JournalFailed, match="2 records were written and may not be on disk at the end"):
        run.close()
    assert any(f"{path}: records of {FIRST} can't be read back; writes are rejected" in line for line in run.said)


@pytest.mark.parametrize("fsync", POLICIES)
def test_an_end_writes_a_second_time_what_a_full_disk_refused_once(path: Path, disk: Disk, fsync: Fsync) -> None:
    run = start(path, fsync)
    run.store(b"a")
    disk.fails_in = 0
    run.close()
    assert found_in(path) == {b"before", b"a"}


def test_an_end_that_cannot_note_the_lengths_says_so(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["rename"] = broken()
    with pytest.raises(JournalFailed, match="Input/output error; all records are on disk at the end"):
        run.close()
    disk.mend()
    assert found_in(path) == {b"before"}


def test_an_end_tries_once_more_what_failed_before(path: Path, disk: Disk) -> None:
    run = start(path)
    disk.errors["write"] = no_space()
    run.store(b"a")
    run.step()
    disk.mend()
    run.close()
    assert found_in(path) == {b"before", b"a"}


# Files that are deleted or replaced


def with_base(path: Path) -> Run:
    """Make a journal of a base and two increments."""
    run = start(path)
    journal = run.journal
    assert journal.rotate() == 2
    base = (path / FIRST).read_bytes()
    (path / base_name(2)).write_bytes(base)
    journal.adopt(2, len(base))
    assert journal.rotate() == 3
    return run


LOSABLE = [MANIFEST_NAME, LOCK_NAME, base_name(2), increment_name(2), increment_name(3)]


@pytest.mark.parametrize("name", LOSABLE)
def test_a_file_that_was_deleted_is_noticed_at_the_next_look(path: Path, name: str) -> None:
    run = with_base(path)
    (path / name).unlink()
    run.step(FILE_CHECK_SECONDS / 2)
    assert not run.journal.refuses
    run.step(FILE_CHECK_SECONDS / 2)
    failure = run.journal.failure
    assert run.journal.refuses
    assert isinstance(failure, JournalLost)
    assert failure.is_ours is (name != LOCK_NAME)
    assert f"{path / name} was deleted" in run.said[0]
    run.crash()


@pytest.mark.parametrize("name", LOSABLE)
def test_a_file_that_is_put_back_is_noticed_too(path: Path, name: str) -> None:
    run = with_base(path)
    (path / name).rename(path.parent / "away")
    run.look()
    assert run.journal.refuses
    run.store(b"a")
    (path.parent / "away").rename(path / name)
    run.look()
    assert not run.journal.refuses
    assert keys_in(path)[-1] == b"a"
    run.close()


@pytest.mark.parametrize("name", [increment_name(3), LOCK_NAME])
def test_a_file_that_was_replaced_is_noticed_at_the_next_look(path: Path, name: str) -> None:
    run = with_base(path)
    (path / "copy").write_bytes((path / name).read_bytes())
    (path / "copy").rename(path / name)
    run.look()
    assert run.journal.refuses
    assert f"{path / name} was deleted or replaced" in run.said[0]
    run.crash()


def test_a_directory_that_was_deleted_is_noticed(path: Path) -> None:
    run = start(path)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    run.store(b"a")
    run.look()
    assert run.journal.refuses
    with pytest.raises(JournalFailed, match=f"{path / LOCK_NAME} was deleted or replaced"):
        run.close()


def test_nothing_is_written_into_a_journal_that_another_process_has_by_now(path: Path) -> None:
    run = start(path)
    path.rename(path.parent / "away")
    other = start(path)
    other.store(b"other")
    other.step()
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    run.store(b"ours")
    run.look()
    with pytest.raises(JournalFailed, match=f"{path / LOCK_NAME} was deleted or replaced; 1 records"):
        run.close()
    assert {name: (path / name).read_bytes() for name in names_in(path)} == before
    assert found_in(path.parent / "away") == {b"before"}
    other.close()


def test_nothing_is_swapped_in_a_journal_that_another_process_has_by_now(path: Path) -> None:
    run = start(path)
    path.rename(path.parent / "away")
    other = start(path)
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    run.store(b"ours")
    with pytest.raises(JournalLost, match="was deleted or replaced"):
        run.journal.rotate()
    assert {name: (path / name).read_bytes() for name in names_in(path)} == before
    run.crash()
    other.close()


def test_a_lost_manifest_is_back_after_a_swap(path: Path) -> None:
    run = start(path)
    (path / MANIFEST_NAME).unlink()
    run.look()
    assert run.journal.refuses
    number = run.journal.rotate()
    run.journal.adopt(number, write_base(run.journal.files, number, b"before"))
    run.look()
    assert not run.journal.refuses
    run.close()
    assert found_in(path) == {b"before"}


def test_half_a_file_is_not_mistaken_for_a_lost_one(path: Path) -> None:
    """What others append or cut off is found out at the next start."""
    run = start(path)
    with (path / FIRST).open("ab") as file:
        file.write(set_line(b"other", 0, 0, 0, b"x"))
    run.look()
    assert not run.journal.refuses
    run.crash()
