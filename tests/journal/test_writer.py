"""The journal while serving: what is written, what is on disk when, and who waits for it."""

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.errors import JournalFailed
from memcache_kv.journal import Fsync, Journal, JournalDirectory, appender, writer
from memcache_kv.journal.record import FORMAT_VERSION, Record
from memcache_kv.journal.writer import SYNC_SECONDS, queue_limit_bytes
from memcache_kv.store.entry import STALE, WON, Item, make_entry, pack
from tests.journal.disk import PATIENCE_SECONDS, Disk, no_space, wait_until
from tests.journal.journals import FIRST, STARTED, Run, keys_in, manifest_in, records_in, serving_journal

POLICIES = list(Fsync)
LAZY = [Fsync.EVERYSEC, Fsync.NEVER]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's directory that is not there yet."""
    return tmp_path / "journal"


def store(journal: Journal, *keys: bytes) -> None:
    for key in keys:
        journal.stored(key, 0, 0, 0, b"value")
    journal.commit()


# What is written


def test_a_run_begins_with_a_start_record_that_is_on_disk(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.NEVER, last_cas=42)
    assert (run.journal.position, run.journal.written, run.journal.synced) == (0, 0, 0)
    assert disk.durable[FIRST] == (path / FIRST).stat().st_size > 0
    assert records_in(path) == [Record("start", cas=42, at=STARTED, version=FORMAT_VERSION, id=manifest_in(path).id)]
    run.close()


def test_every_change_becomes_its_record(path: Path) -> None:
    run = Run(path)
    journal = run.journal
    journal.stored(b"a", 7, 9, 11, b"x")
    journal.stored(b"b", 0, 0, 0, b"\xff", STALE | WON)
    journal.touched(b"a", 12)
    journal.cas_assigned(b"a", 13)
    journal.marked(b"a", 14, 15, WON)
    journal.deleted(b"\xff")
    journal.flushed(16)
    run.close()
    assert records_in(path)[1:] == [
        Record("set", key="a", flags=7, exp=9, cas=11, value="x"),
        Record("set", key="b", value64=b"\xff", stale=True, won=True),
        Record("touch", key="a", exp=12),
        Record("cas", key="a", cas=13),
        Record("mark", key="a", exp=14, cas=15, won=True),
        Record("delete", key64=b"\xff"),
        Record("flush", at=16),
    ]


def test_the_time_is_noted_before_the_first_change_of_a_second(path: Path) -> None:
    run = Run(path)
    run.store(b"a")
    run.journal.new_second(101)
    run.store(b"b", b"c")
    run.journal.new_second(102)
    run.journal.new_second(103)
    run.journal.deleted(b"b")
    run.journal.new_second(104)
    assert run.journal.position == 6
    run.close()
    assert [(record.op, record.key or record.at) for record in records_in(path)[1:]] == [
        ("set", "a"), ("time", 101), ("set", "b"), ("set", "c"), ("time", 103), ("delete", "b"), ("time", 104),
    ]  # fmt: skip


def test_the_time_is_noted_ever_more_rarely_while_nothing_changes(path: Path) -> None:
    run = Run(path, Fsync.EVERYSEC)

    def seconds_noted(seconds: range) -> list[int]:
        for second in seconds:
            run.journal.new_second(STARTED + second)
            run.look()
        return [record.at - STARTED for record in records_in(path) if record.op == "time" and record.at]

    assert seconds_noted(range(1, 200)) == [1, 3, 7, 15, 31, 63, 123, 183]
    run.store(b"a")
    assert seconds_noted(range(200, 210))[8:] == [199, 200, 202, 206]
    run.close()


def test_the_time_is_not_noted_while_the_disk_fails(path: Path, disk: Disk) -> None:
    run = Run(path)
    disk.errors["write"] = no_space()
    run.store(b"a")
    run.step()
    for second in range(1, 10):
        run.journal.new_second(STARTED + second)
        run.look()
    assert run.journal.position == 1
    disk.mend()
    run.look()
    run.close()
    assert [record.op for record in records_in(path) if not record.synced] == ["start", "set", "time"]


def test_entries_become_their_records_between_the_others(path: Path) -> None:
    run = Run(path)
    journal = run.journal
    for number in range(20):
        journal.put(b"plain", pack(0, b"%d" % number))
        journal.new_second(number + 1)
        journal.put(b"expiring", make_entry(b"expiring", pack(7, b"\xff"), 9))
        journal.deleted(b"plain")
    journal.put(b"named", make_entry(b"named", pack(0, b"x"), 9, 11))
    journal.put(b" ", Item(pack(5, b"odd"), 3, 4))
    assert journal.position == journal.own_position() == 82
    run.close()
    assert (journal.written, journal.synced, journal.queued_bytes) == (82, 82, 0)
    rounds = [
        (
            Record("set", key="plain", value=f"{number}"),
            Record("time", at=number + 1),
            Record("set", key="expiring", flags=7, exp=9, value64=b"\xff"),
            Record("delete", key="plain"),
        )
        for number in range(20)
    ]
    assert records_in(path)[1:] == [
        *(record for records in rounds for record in records),
        Record("set", key="named", exp=9, cas=11, value="x"),
        Record("set", key=" ", flags=5, exp=3, cas=4, value="odd"),
    ]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which the writer has let others run, which it does not really."""
    found: list[float] = []
    monkeypatch.setattr("memcache_kv.unpatched.time.sleep", found.append)
    return found


@pytest.mark.parametrize("is_worker", [False, True])
def test_many_entries_are_encoded_with_pauses_unless_the_worker_does_it(
    path: Path, is_worker: bool, pauses: list[float]
) -> None:
    run = Run(path)
    run.journal.average_sync_seconds = 0.0
    keys = [b"%d" % number for number in range(3 * appender.RECORDS_AT_ONCE + 1)]
    for key in keys:
        run.journal.put(key, pack(0, b"value"))
    if is_worker:
        run.journal.commit()
    else:
        run.step()
    assert pauses == [appender.ENCODE_PAUSE_SECONDS] * (0 if is_worker else 3)
    assert keys_in(path) == keys
    run.close()


def test_fewer_large_entries_are_encoded_at_once(path: Path, pauses: list[float]) -> None:
    run = Run(path, Fsync.EVERYSEC)
    for number in range(320):
        run.journal.put(b"%d" % number, pack(0, bytes(4000)))
    run.step()
    assert 320 * 4000 / appender.ENCODE_SLICE_BYTES - 1 <= len(pauses) < 320 / 16
    run.close()


def test_what_could_not_be_encoded_stays_queued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(path)

    def fail(queue: list[object], wall_ahead: int, chain: int) -> tuple[bytes, int]:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(appender, "encode_queue", fail)
        run.journal.put(b"a", pack(0, b"1"))
        with pytest.raises(MemoryError):
            run.step()
    run.journal.put(b"b", pack(0, b"2"))
    run.close()
    assert keys_in(path) == [b"a", b"b"]
    assert (run.journal.position, run.journal.written, run.journal.queued_bytes) == (2, 2, 0)


def test_a_second_run_appends_to_the_first(path: Path) -> None:
    for key in (b"a", b"b"):
        run = Run(path)
        run.store(key)
        run.close()
    assert [record.op for record in records_in(path)] == ["start", "set", "start", "set"]


def test_the_files_are_for_their_owner_alone(path: Path) -> None:
    Run(path).close()
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}


@pytest.mark.parametrize("fsync", POLICIES)
def test_close_writes_and_syncs_all_that_is_queued(path: Path, disk: Disk, fsync: Fsync) -> None:
    run = Run(path, fsync)
    journal = run.journal
    journal.start()
    disk.stall_writes()
    run.store(b"a", b"b", b"c")
    closer = threading.Thread(target=run.close)
    closer.start()
    disk.may_write.set()
    closer.join(PATIENCE_SECONDS)
    assert not closer.is_alive()
    assert keys_in(path) == [b"a", b"b", b"c"]
    assert disk.durable[FIRST] == (path / FIRST).stat().st_size
    assert (journal.position, journal.written, journal.synced, journal.queued_bytes) == (3, 3, 3, 0)


def test_records_of_many_threads_are_all_there_each_thread_s_in_order(path: Path) -> None:
    with serving_journal(path, Fsync.ALWAYS) as journal:

        def write(name: bytes) -> None:
            store(journal, *(b"%b-%d" % (name, number) for number in range(300)))

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c", b"d")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    keys = keys_in(path)
    assert len(keys) == 1200
    for name in (b"a", b"b", b"c", b"d"):
        assert [key for key in keys if key.startswith(name)] == [b"%b-%d" % (name, number) for number in range(300)]


@pytest.mark.parametrize("largest", [1, 7, 64])
def test_a_short_write_is_continued(path: Path, disk: Disk, largest: int) -> None:
    disk.largest_write = largest
    with serving_journal(path, Fsync.ALWAYS) as journal:
        store(journal, b"a", b"b")
    assert keys_in(path) == [b"a", b"b"]
    assert max(disk.write_sizes) == largest


def test_what_gathers_while_the_disk_is_busy_goes_out_in_one_write_and_one_sync(path: Path, disk: Disk) -> None:
    with serving_journal(path, Fsync.ALWAYS) as journal:
        disk.stall_syncs()
        store(journal, b"first")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        store(journal, *(b"%d" % number for number in range(1000)))
        disk.may_sync.set()
        wait_until(lambda: not journal.must_wait(journal.position), "all is on disk")
        assert len(disk.write_sizes) == 3  # the start record, the first, all others
        assert (disk.syncs, journal.syncs) == (3, 2)
    assert len(keys_in(path)) == 1001


# Who waits for what


def test_always_holds_a_change_until_it_is_synced(path: Path, disk: Disk) -> None:
    with serving_journal(path, Fsync.ALWAYS) as journal:
        disk.stall_syncs()
        store(journal, b"a")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        assert (journal.position, journal.written, journal.synced) == (1, 1, 0)
        assert journal.must_wait(1)
        assert not journal.must_wait(0)
        assert journal.lag_records == 1
        disk.may_sync.set()
        wait_until(lambda: not journal.must_wait(1), "the change is released")
        assert disk.durable[FIRST] == (path / FIRST).stat().st_size
        assert journal.lag_records == 0


def test_always_does_not_release_what_was_written_during_a_sync(path: Path, disk: Disk) -> None:
    with serving_journal(path, Fsync.ALWAYS) as journal:
        disk.stall_syncs()
        store(journal, b"a")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        store(journal, b"b")
        disk.at_sync.clear()
        released: list[tuple[bool, int]] = []
        journal.watch(lambda: released.append((journal.must_wait(journal.position), journal.synced)))
        disk.may_sync.set()
        wait_until(lambda: not journal.must_wait(2), "both are released")
        assert released[0] == (True, 1)


@pytest.mark.parametrize("fsync", LAZY)
def test_everysec_and_never_hold_a_change_until_it_is_written(path: Path, disk: Disk, fsync: Fsync) -> None:
    run = Run(path, fsync)
    run.store(b"a")
    assert run.journal.must_wait(1)
    assert run.journal.append()
    assert not run.journal.must_wait(1)
    assert keys_in(path) == [b"a"]
    assert (run.journal.synced, disk.syncs) == (0, 1)
    run.close()


def test_what_is_written_is_not_enough_for_always(path: Path) -> None:
    run = Run(path)
    run.store(b"a")
    assert not run.journal.append()
    assert run.journal.written == 0
    run.close()


def test_others_write_while_an_fsync_is_under_way(path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.01)
    with serving_journal(path, Fsync.EVERYSEC) as journal:
        disk.stall_syncs()
        store(journal, b"a")
        assert disk.at_sync.wait(PATIENCE_SECONDS)
        store(journal, b"b")
        assert not journal.must_wait(2)
        assert keys_in(path) == [b"a", b"b"]
        synced: list[int] = []
        journal.watch(lambda: synced.append(journal.synced))
        disk.may_sync.set()
        wait_until(lambda: journal.synced == 2, "both are on disk")
        assert synced[0] == 1


@pytest.mark.parametrize("fsync", LAZY)
def test_where_another_thread_writes_a_worker_leaves_the_rest_to_the_journal(
    path: Path, disk: Disk, fsync: Fsync
) -> None:
    with serving_journal(path, fsync) as journal:
        disk.stall_writes()
        first = threading.Thread(target=store, args=(journal, b"a"))
        first.start()
        assert disk.at_write.wait(PATIENCE_SECONDS)
        journal.stored(b"b", 0, 0, 0, b"value")
        assert not journal.append()
        assert journal.must_wait(2)
        disk.may_write.set()
        wait_until(lambda: not journal.must_wait(2), "the journal has written both")
        first.join(PATIENCE_SECONDS)
        assert keys_in(path) == [b"a", b"b"]


def test_a_worker_leaves_much_to_the_journal_unless_that_is_busy(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "HAND_OVER_BYTES", 1000)
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.01)
    run = Run(path, Fsync.EVERYSEC)
    run.journal.stored(b"a", 0, 0, 0, bytes(1000))
    assert not run.journal.append()
    run.step()
    assert not run.journal.must_wait(1)
    disk.stall_syncs()
    run.ticks.now += 1
    run.journal.start()
    assert disk.at_sync.wait(PATIENCE_SECONDS)
    run.journal.stored(b"b", 0, 0, 0, bytes(1000))
    assert run.journal.append()
    disk.may_sync.set()
    run.close()


def test_clients_wait_while_too_much_is_not_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT_BYTES", 500)
    run = Run(path, Fsync.EVERYSEC)
    run.store(*(b"%d" % number for number in range(20)))
    assert run.journal.append()
    run.store(b"a")
    assert not run.journal.append()
    assert run.journal.must_wait(21)
    run.step()  # syncs before it appends, so that no more is kept
    assert (run.journal.written, run.journal.synced) == (21, 20)
    run.close()


def test_the_journal_is_behind_until_what_waits_is_written(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.ALWAYS)
    run.journal.queue_limit_bytes = 500
    run.store(b"a")
    assert not run.journal.is_behind
    run.store(*(b"%d" % number for number in range(20)))
    assert run.journal.is_behind
    disk.stall_writes()
    writing = threading.Thread(target=run.step)
    writing.start()
    assert disk.at_write.wait(PATIENCE_SECONDS)
    assert run.journal.queued_bytes == 0
    assert run.journal.is_behind, "what is being written is still in memory"
    disk.may_write.set()
    writing.join()
    assert not run.journal.is_behind
    run.close()


def test_a_journal_that_takes_no_writes_is_not_waited_for(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.ALWAYS)
    run.journal.queue_limit_bytes = 500
    disk.errors["write"] = no_space()
    run.store(*(b"%d" % number for number in range(20)))
    run.step()
    assert run.journal.refuses
    assert not run.journal.is_behind
    disk.mend()
    run.close()


def test_many_records_are_written_in_pieces(path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "LINES_AT_ONCE_BYTES", 10_000)
    monkeypatch.setattr(appender, "ENCODE_SLICE_BYTES", 1000)
    run, keys = Run(path, Fsync.EVERYSEC), [b"%03d" % number for number in range(100)]
    for key in keys[:50]:
        run.journal.stored(key, 0, 0, 0, b"v" * 2000)
    run.step()
    assert len(disk.write_sizes) > 5
    assert max(disk.write_sizes) < 15_000
    disk.room = 45_000  # some pieces are written, one in part, and others not
    for key in keys[50:]:
        run.journal.stored(key, 0, 0, 0, b"v" * 2000)
    run.step()
    assert run.journal.refuses
    assert disk.room == 0
    disk.mend()
    run.look()
    assert (run.journal.written, run.journal.is_behind) == (run.journal.position, False)
    run.close()
    assert keys_in(path) == keys


@pytest.mark.parametrize(("items_mib", "queue_mib"), [(1, 4), (64, 4), (128, 8), (1024, 64), (1 << 20, 64)])
def test_the_queue_is_a_sixteenth_of_the_items_memory_within_bounds(items_mib: int, queue_mib: int) -> None:
    assert queue_limit_bytes(items_mib << 20) == queue_mib << 20


@pytest.mark.parametrize("fsync", LAZY)
def test_what_a_failed_disk_does_not_take_is_kept_and_written_later(path: Path, disk: Disk, fsync: Fsync) -> None:
    run = Run(path, fsync)
    run.store(b"a")
    disk.errors["write"] = no_space()
    assert not run.journal.append()
    assert run.journal.refuses
    assert "No space left" in run.said[0]
    disk.mend()
    assert not run.journal.append()
    run.look()
    assert not run.journal.refuses
    assert keys_in(path) == [b"a"]
    run.close()


def test_each_thread_waits_for_its_own_changes_alone(path: Path) -> None:
    run = Run(path)
    journal = run.journal
    assert journal.own_position() == 0
    run.store(b"a")
    others: list[tuple[int, int]] = []

    def store_two() -> None:
        before = journal.own_position()
        run.store(b"b", b"c")
        others.append((before, journal.own_position()))

    other = threading.Thread(target=store_two)
    other.start()
    other.join()
    assert journal.position == 3
    assert journal.own_position() == 1
    [(_, after)] = others
    assert after == 3
    run.close()


def test_a_time_record_belongs_to_the_change_behind_it(path: Path) -> None:
    run = Run(path)
    run.journal.new_second(100)
    assert run.journal.own_position() == 0
    run.store(b"a")
    assert run.journal.own_position() == run.journal.position == 2
    run.close()


def test_watchers_are_told_after_the_sync(path: Path, disk: Disk) -> None:
    with serving_journal(path, Fsync.ALWAYS) as journal:
        seen: list[tuple[int, int]] = []
        journal.watch(lambda: seen.append((journal.synced, disk.syncs)))
        store(journal, b"a")
        wait_until(lambda: bool(seen), "the watcher is told")
        assert seen[0] == (1, 2)


def test_where_an_fsync_is_short_whoever_waits_does_it_itself(path: Path) -> None:
    run = Run(path)
    run.journal.average_sync_seconds = 0.0
    run.store(b"a")
    run.journal.commit()
    assert run.journal.synced == 1
    run.journal.average_sync_seconds = 1.0
    run.store(b"b")
    run.journal.commit()
    assert run.journal.synced == 1
    run.close()


# When it is synced


def test_everysec_syncs_by_itself_although_nothing_more_is_written(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.05)
    with serving_journal(path, Fsync.EVERYSEC) as journal:
        store(journal, b"a")
        wait_until(lambda: journal.lag_records == 0, "the record is synced")
        assert disk.durable[FIRST] == (path / FIRST).stat().st_size


def test_everysec_syncs_when_the_oldest_record_is_old_enough(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.EVERYSEC)
    journal = run.journal
    run.store(b"a")
    run.step()
    run.store(b"b")
    run.step(SYNC_SECONDS - 0.1)
    assert (journal.written, journal.synced, journal.lag_records, disk.syncs) == (2, 0, 2, 1)
    assert journal.lag_seconds == pytest.approx(SYNC_SECONDS - 0.1)
    run.step(0.2)
    assert (journal.synced, journal.lag_records, journal.lag_seconds, disk.syncs) == (2, 0, 0.0, 2)
    run.store(b"c")
    run.step(0.1)
    assert (journal.written, journal.synced) == (3, 2)
    assert journal.lag_seconds == 0.0
    run.close()


def test_everysec_counts_what_is_queued_and_what_is_written_as_lag(path: Path) -> None:
    run = Run(path, Fsync.EVERYSEC)
    run.store(b"a")
    run.step()
    run.store(b"b", b"c")
    assert run.journal.lag_records == 3
    run.close()
    assert run.journal.lag_records == 0


def test_everysec_syncs_at_once_when_it_keeps_too_much_in_memory(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT_BYTES", 500)
    run = Run(path, Fsync.EVERYSEC)
    run.store(b"a")
    run.step()
    assert run.journal.synced == 0
    run.store(*(b"%d" % number for number in range(10)))
    run.step()
    assert run.journal.synced == 11
    run.close()


def test_never_counts_what_is_written_as_done_and_syncs_at_the_end_only(path: Path, disk: Disk) -> None:
    run = Run(path, Fsync.NEVER)
    for number in range(3):
        run.store(b"%d" % number)
        assert run.journal.lag_records == 1
        run.look()
        assert run.journal.lag_records == 0
    assert disk.syncs == 1
    run.close()
    assert disk.syncs == 2
    assert disk.durable[FIRST] == (path / FIRST).stat().st_size


def test_syncs_and_what_they_took_are_counted(path: Path) -> None:
    run = Run(path)
    for number in range(3):
        run.store(b"%d" % number)
        run.step()
    journal = run.journal
    assert journal.syncs == 3
    assert 0 < journal.longest_sync_seconds <= journal.sync_seconds
    assert sum(journal.sync_times.counts) == journal.syncs
    assert journal.sync_times.sum == pytest.approx(journal.sync_seconds)
    run.close()


# What can't be begun


def test_a_disk_that_fails_at_once_is_refused_with_the_directory_named(path: Path, disk: Disk) -> None:
    disk.errors["write"] = no_space()
    with pytest.raises(JournalFailed, match=f"{path}: No space left"):
        Run(path)


def test_a_directory_that_is_gone_is_refused_with_its_name(path: Path) -> None:
    with closing(JournalDirectory(path)) as directory:
        shutil.rmtree(path)
        with pytest.raises(JournalFailed, match=f"{path}: No such file"):
            Journal(directory, Fsync.NEVER)


# A fault of ours


def test_a_fault_in_the_thread_is_told_of_and_nothing_is_taken_any_more(path: Path) -> None:
    ended = threading.Event()
    told: list[BaseException] = []

    def note(name: str, error: BaseException) -> None:
        told.append(error)
        ended.set()

    run = Run(path, on_fault=note)
    fault = ValueError("ours")

    def fail() -> None:
        if not ended.is_set():
            raise fault

    run.journal.watch(fail)
    run.journal.start()
    run.store(b"a")
    run.journal.commit()
    assert ended.wait(PATIENCE_SECONDS)
    assert run.journal.fault is fault
    assert run.journal.refuses
    assert told[0] is fault
    run.close()
    assert keys_in(path) == [b"a"]


# How much is on disk


def claims_in(path: Path) -> list[int]:
    """What the records say about how much was on disk."""
    return [record.synced for record in records_in(path) if record.synced]


def test_under_always_each_batch_says_what_was_on_disk_before_it_in_few_bytes(path: Path) -> None:
    run = Run(path, Fsync.ALWAYS)
    sizes = []
    for _ in range(4):
        run.store(b"a")
        run.step()
        sizes.append((path / FIRST).stat().st_size)
    assert claims_in(path) == sizes[:-1]
    lines = (path / FIRST).read_bytes().splitlines(keepends=True)
    assert max(len(line) for line in lines if b'"synced":' in line) <= 60
    run.close()


def test_under_everysec_the_first_write_after_an_fsync_says_what_is_on_disk(path: Path) -> None:
    run = Run(path, Fsync.EVERYSEC)
    run.store(b"a")
    run.step()
    run.store(b"b")
    run.step()
    assert claims_in(path) == []
    size = (path / FIRST).stat().st_size
    run.step(1.0)
    for _ in range(3):
        run.store(b"c")
        run.step()
    assert claims_in(path) == [size]
    run.close()


def test_under_never_no_record_says_that_anything_is_on_disk(path: Path) -> None:
    run = Run(path, Fsync.NEVER)
    for _ in range(3):
        run.store(b"a")
        run.look()
    run.close()
    assert claims_in(path) == []
