"""The journal while serving: what is on disk when, who waits, and what happens when the disk fails."""

import errno
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from memcache_kv.errors import JournalFailed
from memcache_kv.journal import Fsync, Journal, writer
from memcache_kv.journal.record import Record, parse_line
from tests.journal.disk import PATIENCE_SECONDS, Disk, wait_until

POLICIES = list(Fsync)
LAZY = [Fsync.EVERYSEC, Fsync.NEVER]
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
Made: TypeAlias = Iterator[Journal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's file that is not there yet."""
    return tmp_path / "journal"


def records_of(path: Path) -> list[Record]:
    return [parse_line(line) for line in path.read_bytes().splitlines()]


def keys_of(path: Path) -> list[bytes]:
    return [record.key_bytes() for record in records_of(path) if record.op == "set"]


def store(journal: Journal, *keys: bytes) -> None:
    for key in keys:
        journal.stored(key, 0, 0, 0, b"value")


# What is written


def test_a_run_begins_with_a_start_record_that_is_on_disk(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.NEVER, last_cas=42)) as journal:
        assert (journal.position, journal.written, journal.synced) == (1, 1, 1)
        assert disk.durable_bytes == path.stat().st_size > 0
        [start] = records_of(path)
        assert (start.op, start.cas, start.version) == ("start", 42, 1)
        assert start.at > 0


def test_every_change_becomes_its_record(path: Path) -> None:
    with closing(Journal(path, Fsync.NEVER)) as journal:
        journal.stored(b"a", 7, 9, 11, b"x")
        journal.touched(b"a", 12)
        journal.named(b"a", 13)
        journal.deleted(b"\xff")
        journal.flushed(14)
    assert records_of(path)[1:] == [
        Record("set", key="a", flags=7, exp=9, cas=11, value="x"),
        Record("touch", key="a", exp=12),
        Record("cas", key="a", cas=13),
        Record("delete", key64=b"\xff"),
        Record("flush", at=14),
    ]


def test_a_second_run_appends_to_the_first(path: Path) -> None:
    for key in (b"a", b"b"):
        with closing(Journal(path, Fsync.NEVER)) as journal:
            store(journal, key)
    assert [record.op for record in records_of(path)] == ["start", "set", "start", "set"]


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    Journal(path, Fsync.NEVER).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fsync", POLICIES)
def test_close_writes_and_syncs_all_that_is_queued(path: Path, disk: Disk, fsync: Fsync) -> None:
    journal = Journal(path, fsync)
    disk.stall_writes()
    store(journal, b"a", b"b", b"c")
    closer = threading.Thread(target=journal.close)
    closer.start()
    disk.may_write.set()
    closer.join(PATIENCE_SECONDS)
    assert not closer.is_alive()
    assert keys_of(path) == [b"a", b"b", b"c"]
    assert disk.durable_bytes == path.stat().st_size
    assert (journal.position, journal.written, journal.synced, journal.queued_bytes) == (4, 4, 4, 0)


def test_records_of_many_threads_are_all_there_each_thread_s_in_order(path: Path) -> None:
    with closing(Journal(path, Fsync.ALWAYS)) as journal:

        def write(name: bytes) -> None:
            store(journal, *(b"%b-%d" % (name, number) for number in range(300)))

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c", b"d")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    keys = keys_of(path)
    assert len(keys) == 1200
    for name in (b"a", b"b", b"c", b"d"):
        assert [key for key in keys if key.startswith(name)] == [b"%b-%d" % (name, number) for number in range(300)]


@pytest.mark.parametrize("largest", [1, 7, 64])
def test_a_short_write_is_continued(path: Path, disk: Disk, largest: int) -> None:
    disk.largest_write = largest
    with closing(Journal(path, Fsync.ALWAYS)) as journal:
        store(journal, b"a", b"b")
    assert keys_of(path) == [b"a", b"b"]
    assert max(disk.write_sizes) == largest


def test_what_gathers_while_the_disk_is_busy_goes_out_in_one_write_and_one_sync(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.ALWAYS)) as journal:
        disk.stall_syncs()
        store(journal, b"first")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        store(journal, *(b"%d" % number for number in range(1000)))
        disk.may_sync.set()
        wait_until(lambda: not journal.holds(journal.position), "all is on disk")
        assert len(disk.write_sizes) == 3  # the start record, the first, all others
        assert disk.syncs == journal.syncs == 3
    assert len(keys_of(path)) == 1001


# Who waits for what


def test_always_holds_a_change_until_it_is_synced(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.ALWAYS)) as journal:
        disk.stall_syncs()
        store(journal, b"a")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        assert (journal.position, journal.written, journal.synced) == (2, 2, 1)
        assert journal.holds(2)
        assert not journal.holds(1)
        assert journal.lag_records == 1
        disk.may_sync.set()
        wait_until(lambda: not journal.holds(2), "the change is released")
        assert disk.durable_bytes == path.stat().st_size
        assert journal.lag_records == 0


def test_always_does_not_release_what_was_written_during_a_sync(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.ALWAYS)) as journal:
        disk.stall_syncs()
        store(journal, b"a")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        store(journal, b"b")
        disk.at_sync.clear()
        released: list[tuple[bool, int]] = []
        journal.watch(lambda: released.append((journal.holds(journal.position), journal.synced)))
        disk.may_sync.set()
        wait_until(lambda: not journal.holds(3), "both are released")
        assert released[0] == (True, 2)


@pytest.mark.parametrize("fsync", LAZY)
def test_everysec_and_never_hold_nobody_while_the_disk_is_slow(path: Path, disk: Disk, fsync: Fsync) -> None:
    with closing(Journal(path, fsync)) as journal:
        disk.stall_writes()
        store(journal, b"a")
        assert disk.at_write.wait(PATIENCE_SECONDS)
        assert not journal.holds(journal.position)
        assert journal.lag_records == 1
        disk.may_write.set()


@pytest.mark.parametrize("fsync", LAZY)
def test_more_than_the_queue_may_hold_makes_clients_wait_until_it_is_written(
    path: Path, disk: Disk, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT_BYTES", 500)
    with closing(Journal(path, fsync)) as journal:
        told = threading.Event()
        journal.watch(told.set)
        disk.stall_writes()
        store(journal, b"a")
        assert not journal.holds(journal.position)
        store(journal, *(b"%d" % number for number in range(20)))
        assert journal.queued_bytes > 500
        assert journal.holds(journal.position)
        told.clear()
        disk.may_write.set()
        wait_until(lambda: journal.queued_bytes == 0, "the queue is written")
        assert not journal.holds(journal.position)
        assert told.wait(PATIENCE_SECONDS)


def test_watchers_are_told_after_the_sync(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.ALWAYS)) as journal:
        seen: list[tuple[int, int]] = []
        journal.watch(lambda: seen.append((journal.synced, disk.syncs)))
        store(journal, b"a")
        wait_until(lambda: bool(seen), "the watcher is told")
        assert seen[0] == (2, 2)


# When it is synced


def test_everysec_syncs_by_itself_although_nothing_more_is_written(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.05)
    with closing(Journal(path, Fsync.EVERYSEC)) as journal:
        store(journal, b"a")
        wait_until(lambda: journal.lag_records == 0, "the record is synced")
        assert disk.durable_bytes == path.stat().st_size


def test_everysec_writes_without_a_sync_until_one_is_due(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 1000.0)
    with closing(Journal(path, Fsync.EVERYSEC)) as journal:
        for number in range(3):
            store(journal, b"%d" % number)
            wait_until(lambda: journal.written == journal.position, "the record is written")
        assert disk.syncs == 1
        assert (journal.synced, journal.lag_records) == (1, 3)
    assert disk.syncs == 2


def test_never_counts_what_is_written_as_done_and_syncs_at_the_end_only(path: Path, disk: Disk) -> None:
    with closing(Journal(path, Fsync.NEVER)) as journal:
        for number in range(3):
            store(journal, b"%d" % number)
            wait_until(lambda: journal.lag_records == 0, "the record is written")
        assert disk.syncs == 1
    assert disk.syncs == 2
    assert disk.durable_bytes == path.stat().st_size


# When the disk fails


@pytest.mark.parametrize("fsync", POLICIES)
def test_after_a_failed_write_nothing_is_released_any_more(path: Path, disk: Disk, fsync: Fsync) -> None:
    failures: list[JournalFailed] = []
    with closing(Journal(path, fsync, on_failure=failures.append)) as journal:
        told: list[bool] = []
        journal.watch(lambda: told.append(True))
        disk.write_error = NO_SPACE
        store(journal, b"a")
        wait_until(lambda: bool(failures), "the failure is reported")
        disk.write_error = None
        store(journal, b"b")
        assert journal.holds(2)
        assert journal.holds(3)
        assert not told
    assert failures == [journal.failure]
    assert str(path) in str(journal.failure)
    assert "No space left on device" in str(journal.failure)
    assert keys_of(path) == []


def test_after_a_failed_sync_nothing_is_released_although_a_later_one_would_succeed(path: Path, disk: Disk) -> None:
    failures: list[JournalFailed] = []
    with closing(Journal(path, Fsync.ALWAYS, on_failure=failures.append)) as journal:
        disk.sync_error = BROKEN
        store(journal, b"a")
        wait_until(lambda: bool(failures), "the failure is reported")
        disk.sync_error = None
        store(journal, b"b")
    assert journal.holds(2)
    assert journal.holds(3)
    assert len(failures) == 1
    assert disk.syncs == 1


def test_a_failed_sync_under_everysec_holds_all_who_change_something_from_then_on(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.01)
    failures: list[JournalFailed] = []
    with closing(Journal(path, Fsync.EVERYSEC, on_failure=failures.append)) as journal:
        disk.sync_error = BROKEN
        store(journal, b"a")
        wait_until(lambda: bool(failures), "the failure is reported")
        store(journal, b"b")
        assert journal.holds(journal.position)


def test_a_disk_that_fails_at_once_is_refused_with_the_file_named(path: Path, disk: Disk) -> None:
    disk.write_error = NO_SPACE
    with pytest.raises(JournalFailed, match=f"{path}: No space left"):
        Journal(path, Fsync.NEVER)


def test_a_directory_that_is_gone_is_refused_with_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "journal"
    with pytest.raises(JournalFailed, match=f"{path}: No such file"):
        Journal(path, Fsync.NEVER)
