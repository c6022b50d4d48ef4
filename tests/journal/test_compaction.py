"""Rewriting the journal while it is served: it comes to the same store, whatever happens meanwhile."""

import io
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from memcache_kv.journal import Compactor, Fsync, Journal, JournalDirectory, compaction
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.compaction import Compaction
from memcache_kv.journal.manifest import MANIFEST_NAME, base_name, increment_name
from memcache_kv.journal.record import Record, line_of, queue_lines, stated_crc
from memcache_kv.journal.tools.verify import verify
from memcache_kv.observe.log import Log
from memcache_kv.store import ItemStore, Mode
from memcache_kv.store.entry import FETCHED, STALE, WON, Entry, deadline_of, make_entry, pack
from tests.commands.asking import add_to
from tests.fake_clock import FakeClock
from tests.journal.disk import PATIENCE_SECONDS, Disk, broken, wait_until
from tests.journal.history import History, Step, Visible, replay, shown, steps, two_record_steps
from tests.journal.journals import FIRST, STARTED, Ticks, manifest_in, names_in, records_in

HUGE = 1 << 40


class Kept:
    """A store with a journal that is stepped by hand, and its rewrites."""

    def __init__(self, path: Path, fsync: Fsync = Fsync.NEVER, shards: int = 2) -> None:
        self.path = path
        self.clock = FakeClock(STARTED)
        self.store = ItemStore(self.clock, shards=shards)
        self.directory = JournalDirectory(path)
        self.ticks = Ticks()
        self.journal = Journal(self.directory, fsync, self.directory.open(), monotonic=self.ticks, now=self.clock.now)
        self.store.log = self.journal
        self.is_closed = self.has_left = False

    def delta(self, key: bytes, amount: int) -> None:
        add_to(self.store, key, amount)

    def set(self, key: bytes, value: bytes = b"value", ttl: int = 0) -> None:
        self.store.store(Mode.SET, key, pack(0, value), self.clock.now + ttl if ttl else 0)

    def rewrite(self) -> Compaction:
        """Rewrite the journal with nothing done meanwhile."""
        work = Compaction(self.journal, self.store)
        for _ in work.steps():
            pass
        return work

    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.store.new_second()

    def close(self) -> ItemStore:
        """End it, and return the store that a start makes of the journal."""
        self.is_closed = True
        self.journal.close()
        self.leave()
        return replay(self.path, self.clock.now)[0]

    def crash(self) -> ItemStore:
        """Return the store that a start finds when all is written, and nothing more done."""
        self.journal.step()
        self.leave()
        return replay(self.path, self.clock.now)[0]

    def leave(self) -> None:
        """Give all descriptors back."""
        if not self.is_closed:
            self.journal.files.file.close()
        if not self.has_left:
            self.directory.close()
        self.is_closed = self.has_left = True


@pytest.fixture
def kept(tmp_path: Path, disk: Disk) -> Iterator[Kept]:
    """A store with a journal."""
    kept = Kept(tmp_path / "journal")
    yield kept
    disk.mend()
    kept.leave()


@pytest.fixture(autouse=True, scope="module")
def _one_at_a_time() -> Iterator[None]:
    """Let something happen between any two items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "ITEMS_AT_ONCE", 1)
        yield


def value_of_key(store: ItemStore, key: bytes) -> bytes | None:
    found = shown(store).get(key)
    return None if found is None else found[0]


# What a base is


def test_the_base_is_what_is_kept_and_nothing_else(kept: Kept) -> None:
    for number in range(500):
        kept.set(b"%d" % (number % 50), b"%d" % number)
    for number in range(10):
        kept.store.delete(b"%d" % number)
    kept.journal.step()
    before = kept.journal.files.total_bytes
    work = kept.rewrite()
    assert work.items == 40
    assert kept.journal.files.total_bytes < before / 5
    assert names_in(kept.path) == {MANIFEST_NAME, base_name(2), increment_name(2)}
    ops = [record.op for record in records_in(kept.path)]
    assert ops == ["start", *["set"] * 40, "end", "start"]
    assert shown(kept.close()) == shown(kept.store)


PIECES = st.text(max_size=20).map(str.encode) | st.binary(max_size=20)
DEADLINES = st.just(0) | st.integers(STARTED - 5, STARTED + 5) | st.integers(0, 2**62 - 1)


@st.composite
def items(draw: st.DrawFn) -> tuple[bytes, Entry]:
    """A key and its entry of any form."""
    key, value = draw(PIECES), draw(PIECES | st.just(b"long" * 2000))
    cas, state = (
        draw(st.just(0) | st.integers(0, 2**64 - 1)),
        draw(st.sampled_from([0, 0, FETCHED, STALE, STALE | WON])),
    )
    wire_bytes = pack(draw(st.just(0) | st.integers(0, 2**32 - 1)), value)
    return key, make_entry(key, wire_bytes, draw(DEADLINES), cas, STARTED, state)


@settings(deadline=None, max_examples=50)
@given(st.lists(items(), max_size=40).map(dict), st.sampled_from([0, 3600, -3600]), st.sampled_from([1, 3, 500]))
def test_the_base_has_the_lines_of_the_python_encoder_in_the_order_of_the_table(
    table: dict[bytes, Entry], wall_ahead: int, items_at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "ITEMS_AT_ONCE", items_at_once)
        kept = Kept(Path(directory, "journal"))
        kept.journal.follow_wall(STARTED, wall_ahead)
        lines = []
        for key, entry in table.items():
            shard = kept.store.shards[len(key) % 2]
            with shard.lock:
                shard.put_locked(key, entry)
        for shard in kept.store.shards:
            live = [pair for pair in shard.table.items() if not 0 < deadline_of(pair[1]) <= STARTED]
            lines.append(queue_lines([each for pair in live for each in pair], wall_ahead)[0])
        work = kept.rewrite()
        start, *sets, _ = (kept.path / base_name(2)).read_bytes().splitlines(keepends=True)
        assert b"".join(sets) == rechained(b"".join(lines), stated_crc(start))[0]
        assert work.items == len(sets)
        kept.close()


@pytest.mark.parametrize("items_at_once", [1, 7, 500])
def test_what_happens_to_later_items_between_two_slices_is_in_the_base(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, items_at_once: int
) -> None:
    """Only the listed keys are in it, each with the entry of the time at which its slice is taken."""
    monkeypatch.setattr(compaction, "ITEMS_AT_ONCE", items_at_once)
    for number in range(40):
        kept.set(b"%02d" % number)
    order = [key for shard in kept.store.shards for key in shard.table]
    first = len(kept.store.shards[0].table)
    taken = min(items_at_once, first)
    work = Compaction(kept.journal, kept.store).steps()
    next(work)
    for key in order[::3]:
        kept.store.delete(key)
    for key in order[1::3]:
        kept.set(key, b"new")
    for _ in work:
        pass
    expected = [
        (key, b"value" if place < taken or place % 3 == 2 else b"new")
        for place, key in enumerate(order)
        if place < taken or place % 3
    ]
    records = records_in(kept.path)
    base = [(record.key_bytes(), record.value_bytes()) for record in records[: len(expected) + 1] if record.op == "set"]
    assert base == expected
    assert records[len(expected) + 1].op == "end"
    assert shown(kept.close()) == shown(kept.store)


def test_the_base_has_the_length_that_the_manifest_says(kept: Kept) -> None:
    kept.set(b"a", b"x" * 100_000)
    work = kept.rewrite()
    base = manifest_in(kept.path).base
    assert base is not None
    assert work.bytes == base.bytes == (kept.path / base.name).stat().st_size


def test_an_empty_store_makes_an_empty_base(kept: Kept) -> None:
    kept.set(b"a")
    kept.store.delete(b"a")
    kept.rewrite()
    assert [record.op for record in records_in(kept.path)] == ["start", "end", "start"]
    assert shown(kept.close()) == {}


def test_rare_facts_are_kept(kept: Kept) -> None:
    store = kept.store
    kept.set(b"deadline", ttl=1000)
    kept.set(b"named")
    store.gets(b"named")
    store.store(Mode.SET, b"flags", pack(2**32 - 1, b"1"))
    kept.set(b"\xff\xfe", b"\x00\xff")
    kept.set("grün".encode(), "Käse\r\n".encode())
    kept.set(b"empty", b"")
    kept.set(b"stale")
    store.update(b"stale", lambda old: make_entry(b"stale", pack(0, b"old"), STARTED + 5, 77, STARTED, STALE | WON))
    expected = shown(store)
    assert expected[b"stale"] == (b"old", 0, STARTED + 5, 77, STALE | WON)
    kept.rewrite()
    assert shown(kept.close()) == expected


def test_that_somebody_read_an_item_is_not_kept(kept: Kept) -> None:
    kept.set(b"a")
    kept.store.get_tracked(b"a")
    kept.set(b"a")
    kept.store.get(b"a")
    kept.rewrite()
    assert [record for record in records_in(kept.path) if record.op == "set"] == [Record("set", "a", value="value")]
    assert isinstance(kept.close().kept(b"a"), bytes)


def test_what_has_expired_is_left_out(kept: Kept) -> None:
    kept.set(b"brief", ttl=10)
    kept.set(b"long", ttl=100)
    kept.clock.advance(10)
    assert kept.rewrite().items == 1
    assert set(shown(kept.close())) == {b"long"}


def test_the_ids_of_the_run_before_are_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    History(path).play([("plain", b"a", 0, b"1"), ("gets", b"a")])
    resumed = History.resume(path, STARTED)
    resumed.play([("plain", b"b", 0, b"1"), ("gets", b"b"), ("delete", b"b"), ("compact",)])
    _, found = replay(path, STARTED)
    assert found.last_cas == resumed.journal.last_cas
    assert found.next_run() > resumed.journal.last_cas


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_delayed_flush_is_kept(kept: Kept, when: str) -> None:
    kept.set(b"a")
    if when == "before":
        kept.store.flush(STARTED + 10)
    work = Compaction(kept.journal, kept.store).steps()
    next(work)
    if when == "during":
        kept.store.flush(STARTED + 10)
    for _ in work:
        pass
    if when == "after":
        kept.store.flush(STARTED + 10)
    store = kept.close()
    assert store.flush_at == STARTED + 10
    assert set(shown(store)) == {b"a"}
    assert shown(replay(kept.path, STARTED + 10)[0]) == {}


def test_a_delayed_flush_that_falls_due_during_the_rewrite_takes_all_before_it(kept: Kept) -> None:
    kept.set(b"a")
    kept.store.flush(STARTED + 10)
    work = Compaction(kept.journal, kept.store).steps()
    next(work)
    kept.advance(10)
    kept.set(b"b")
    for _ in work:
        pass
    assert set(shown(kept.close())) == {b"b"}


def test_many_items_are_written_a_few_at_a_time(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "ITEMS_AT_ONCE", 100)
    for number in range(1000):
        kept.set(b"%d" % number)
    assert len(list(Compaction(kept.journal, kept.store).steps())) in (12, 13)  # in two shards, and the last two
    assert len(shown(kept.close())) == 1000


def test_large_items_are_written_one_at_a_time_and_synced_in_between(
    kept: Kept, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "REWRITE_SLICE_BYTES", 64 * 1024)
    monkeypatch.setattr(compaction, "SYNC_BYTES", 150_000)
    for number in range(10):
        kept.set(b"%d" % number, b"x" * 70_000)
    before = len(disk.operations)
    assert len(list(Compaction(kept.journal, kept.store).steps())) >= 10
    syncs = [operation for operation in disk.operations[before:] if operation == ("sync", f"{base_name(2)}.tmp")]
    assert len(syncs) == 4  # one for each three, and that of the end
    assert len(shown(kept.close())) == 10


# What is done meanwhile


def with_changes(kept: Kept, change: Step) -> Visible:
    """Rewrite a journal of two keys, with a change at each moment in turn; return the store that was at the end."""
    work = Compaction(kept.journal, kept.store)
    for number, _ in enumerate(work.steps()):
        name, *arguments = change
        getattr(kept if name == "delta" else kept.store, str(name))(*arguments)
        kept.set(b"moment", b"%d" % number)
        kept.journal.step()
    return shown(kept.store)


@pytest.mark.parametrize(
    "change",
    [
        ("delete", b"a"),
        ("store", Mode.SET, b"a", pack(0, b"new")),
        ("store", Mode.APPEND, b"a", pack(0, b"more")),
        ("touch", b"a", STARTED + 100),
        ("gets", b"a"),
        ("delta", b"n", 1),
        ("flush",),
        ("flush", STARTED + 50),
        ("store", Mode.SET, b"new key", pack(0, b"new")),
    ],
    ids=str,
)
def test_changes_during_a_rewrite_win(kept: Kept, change: Step) -> None:
    kept.set(b"a")
    kept.set(b"n", b"1")
    expected = with_changes(kept, change)
    store = kept.close()
    assert shown(store) == expected
    assert store.flush_at == kept.store.flush_at


@pytest.mark.parametrize("moment", range(6))
def test_what_is_deleted_during_a_rewrite_does_not_come_back(kept: Kept, moment: int) -> None:
    for key in (b"a", b"b", b"c", b"d"):
        kept.set(key)
    for number, _ in enumerate(Compaction(kept.journal, kept.store).steps()):
        if number == moment:
            kept.store.delete(b"a")
    assert set(shown(kept.close())) == set(shown(kept.store))


@pytest.mark.parametrize("moment", range(6))
def test_a_flush_during_a_rewrite_leaves_what_was_stored_after_it(kept: Kept, moment: int) -> None:
    for key in (b"a", b"b", b"c", b"d"):
        kept.set(key)
    for number, _ in enumerate(Compaction(kept.journal, kept.store).steps()):
        if number == moment:
            kept.store.flush()
            kept.set(b"b", b"new")
    assert shown(kept.close()) == shown(kept.store)


def test_an_item_that_a_touch_kept_alive_during_a_rewrite_is_there(kept: Kept) -> None:
    kept.set(b"a", ttl=10)
    work = Compaction(kept.journal, kept.store).steps()
    next(work)
    kept.store.touch(b"a", STARTED + 1000)
    kept.clock.advance(100)
    for _ in work:
        pass
    assert set(shown(kept.close())) == {b"a"}


def test_a_second_increment_may_be_begun_during_a_rewrite(kept: Kept) -> None:
    kept.set(b"a")
    work = Compaction(kept.journal, kept.store).steps()
    next(work)
    kept.set(b"b")
    kept.journal.rotate()
    kept.set(b"c")
    for _ in work:
        pass
    names = [part.name for part in manifest_in(kept.path).parts]
    assert names == [base_name(2), increment_name(2), increment_name(3)]
    assert set(shown(kept.close())) == {b"a", b"b", b"c"}


class Rewriting(History):
    """A history during which the journal is rewritten again and again, a slice with each step."""

    _work: Iterator[None] | None = None

    def do(self, name: object, *arguments: object) -> None:
        super().do(name, *arguments)
        self._slice()

    def _slice(self) -> None:
        if self._work is None:
            self._work = Compaction(self.journal, self.store).steps()
        if next(self._work, self) is self:
            self._work = None


@settings(deadline=None)
@given(st.lists(steps | two_record_steps, max_size=40), st.integers(0, 5))
def test_any_history_gives_the_store_that_was_though_it_is_rewritten_all_the_time(
    history_steps: list[Step], seconds_down: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = Rewriting(Path(directory, "journal")).play(history_steps)
        now = history.clock.now + seconds_down
        assert shown(replay(history.path, now)[0]) == history.moments[-1].seen_at(now)


# What goes wrong


@pytest.mark.parametrize("moment", range(8))
def test_a_crash_in_the_middle_of_a_rewrite_leaves_a_valid_journal(kept: Kept, moment: int) -> None:
    for key in (b"a", b"b", b"c"):
        kept.set(key)
    work = Compaction(kept.journal, kept.store).steps()
    for _ in range(moment):
        next(work, None)
    kept.set(b"after")
    assert set(shown(kept.crash())) == {b"a", b"b", b"c", b"after"}
    assert not any(name.endswith(".tmp") for name in names_in(kept.path))


@pytest.mark.parametrize("moment", range(6))
def test_a_rewrite_that_is_given_up_leaves_nothing_behind(kept: Kept, moment: int) -> None:
    for key in (b"a", b"b", b"c"):
        kept.set(key)
    compaction = Compaction(kept.journal, kept.store)
    work = compaction.steps()
    for _ in range(moment):
        next(work, None)
    compaction.discard()
    assert names_in(kept.path) == {MANIFEST_NAME, *(part.name for part in manifest_in(kept.path).parts)}
    kept.rewrite()
    assert len(manifest_in(kept.path).parts) == 2
    assert set(shown(kept.close())) == {b"a", b"b", b"c"}


def test_too_little_room_is_refused_before_anything_is_written(kept: Kept, disk: Disk) -> None:
    kept.set(b"a", b"x" * 10_000)
    kept.journal.step()
    disk.free = 5_000
    before = len(disk.operations)
    with pytest.raises(OSError, match="not enough room for a new base"):
        kept.rewrite()
    assert disk.operations[before:] == []
    disk.free = 50_000
    assert kept.rewrite().items == 1


def test_a_base_that_must_be_shorter_than_the_journal_needs_no_more_room(kept: Kept, disk: Disk) -> None:
    for number in range(100):
        kept.set(b"a", b"%d" % number * 1000)
    kept.journal.step()
    disk.free = 20_000
    assert kept.rewrite().items == 1


def test_whatever_fails_in_a_rewrite_the_journal_is_valid_and_the_next_succeeds(tmp_path: Path, disk: Disk) -> None:
    for operation in range(60):
        kept = Kept(tmp_path / str(operation), Fsync.ALWAYS)
        kept.set(b"a")
        kept.journal.step()
        work = Compaction(kept.journal, kept.store)
        disk.fails_in = operation
        failed = False
        try:
            for _ in work.steps():
                kept.set(b"b")
        except OSError:
            failed = True
        work.discard()
        has_failed, disk.fails_in = disk.fails_in is None, None
        if failed and operation % 2:
            kept.rewrite()
            assert len(manifest_in(kept.path).parts) == 2
        assert set(shown(kept.crash())) == {b"a", b"b"} & set(shown(kept.store))
        if not has_failed:
            return
    pytest.fail("a rewrite never ends")


# The thread


@contextmanager
def compacting(
    kept: Kept, ratio: float = 0, min_bytes: int = 0, verbosity: int = 0
) -> Iterator[tuple[Compactor, io.StringIO]]:
    """Run a compactor; gives it, and what it said."""
    said = io.StringIO()
    compactor = Compactor(kept.journal, kept.store, ratio, Log(verbosity, said), min_bytes)
    compactor.start()
    try:
        yield compactor, said
    finally:
        compactor.stop()
        assert not compactor.is_alive()


def test_a_rewrite_that_is_asked_for_is_done_and_told_of(kept: Kept) -> None:
    kept.set(b"a")
    with compacting(kept) as (compactor, said):
        assert compactor.request()
        wait_until(lambda: not compactor.running, "the rewrite is over")
    assert (compactor.done, compactor.failures) == (1, 0)
    assert compactor.last_seconds > 0
    records = records_in(kept.path)
    records.insert(0, replace(records[0], follows="", serial=0))
    first, start, item, end, begun = map(len, map(line_of, records))
    line = said.getvalue().splitlines()[0]
    assert line.startswith(f"rewrote the journal: 1 items, {first + item} bytes before and {start + item + end} after,")
    assert line.endswith(f" s; {begun} bytes were added meanwhile")
    assert set(shown(kept.close())) == {b"a"}


def test_a_rewrite_that_is_asked_for_while_one_is_under_way_is_refused(kept: Kept, disk: Disk) -> None:
    with compacting(kept) as (compactor, _):
        disk.stall_writes()
        assert compactor.request()
        assert not compactor.request()
        assert disk.at_write.wait(PATIENCE_SECONDS)
        assert compactor.running
        assert not compactor.request()
        disk.may_write.set()
        wait_until(lambda: not compactor.running, "the rewrite is over")
        assert compactor.request()
        wait_until(lambda: not compactor.running, "the second is over")
    assert compactor.done == 2


class Overtaken(Compactor):
    """A compactor that is asked by another thread, once, in the moment in which somebody sees whether it runs."""

    def __init__(self, kept: Kept) -> None:
        self.answers: list[bool] = []
        self._other: threading.Thread | None = threading.Thread(target=lambda: self.answers.append(self.request()))
        super().__init__(kept.journal, kept.store, 0, Log())

    @property
    def running(self) -> bool:
        running, other, self._other = self._running, self._other, None
        if other is not None:
            self.other = other
            other.start()
            other.join(0.1)
        return running

    @running.setter
    def running(self, running: bool) -> None:
        self._running = running


def test_of_two_who_ask_for_a_rewrite_at_once_one_is_refused(kept: Kept) -> None:
    compactor = Overtaken(kept)
    compactor.answers.append(compactor.request())
    compactor.other.join()
    assert sorted(compactor.answers) == [False, True]


def test_a_journal_that_has_grown_is_rewritten_by_itself(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "DUE_CHECK_SECONDS", 0.001)
    with compacting(kept, ratio=2, min_bytes=1000) as (compactor, _):
        for number in range(100):
            kept.set(b"a", b"%d" % number)
        kept.journal.step()
        wait_until(lambda: compactor.done > 0, "it is rewritten")
    assert kept.journal.files.total_bytes < 2000


def is_due(kept: Kept, ratio: float, min_bytes: int) -> bool:
    return Compactor(kept.journal, kept.store, ratio, Log(), min_bytes).is_due()


def test_a_rewrite_is_due_by_the_ratio_to_the_base_or_to_the_least_that_matters(kept: Kept) -> None:
    kept.set(b"a", b"x" * 1000)
    kept.rewrite()
    base = manifest_in(kept.path).base
    assert base is not None
    total = kept.journal.files.total_bytes
    assert total > base.bytes
    assert is_due(kept, 1, 0)
    assert not is_due(kept, 2, 0)
    kept.set(b"b", b"x" * base.bytes)
    kept.journal.step()
    assert is_due(kept, 2, 0)
    assert not is_due(kept, 2, HUGE)
    assert is_due(kept, 2, kept.journal.files.total_bytes // 2 - 1)
    assert not is_due(kept, 2, kept.journal.files.total_bytes // 2 + 1)


def test_a_ratio_of_zero_leaves_the_journal_as_it_is(kept: Kept) -> None:
    kept.set(b"a", b"x" * 10_000)
    kept.journal.step()
    assert not is_due(kept, 0, 0)


def test_a_disk_that_fails_is_no_reason_for_a_rewrite(kept: Kept, disk: Disk) -> None:
    kept.set(b"a", b"x" * 10_000)
    kept.journal.step()
    assert is_due(kept, 1, 0)
    disk.errors["write"] = broken()
    kept.set(b"b")
    kept.journal.step()
    assert not is_due(kept, 1, 0)


def test_a_rewrite_that_failed_is_put_off_twice_as_long_each_time(
    kept: Kept, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(compaction, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    said = io.StringIO()
    compactor = Compactor(kept.journal, kept.store, 1, Log(0, said), 0)
    kept.set(b"a", b"x" * 1000)
    kept.journal.step()
    disk.free = 0
    waits = []
    for _ in range(8):
        assert compactor.is_due()
        compactor.rewrite()
        assert not compactor.is_due()
        waits.append(compactor.not_before - now)
        now = compactor.not_before
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert compactor.failures == 8
    first = said.getvalue().splitlines()[0]
    assert "not enough room" in first
    assert "it is used as it is; the next rewrite starts in 60 s at the earliest" in first
    disk.mend()
    compactor.rewrite()
    assert compactor.done == 1
    disk.free = 0
    compactor.rewrite()
    assert compactor.not_before - now == 60


@pytest.mark.parametrize("verbosity", [0, 1])
def test_a_fault_in_a_rewrite_is_told_of_with_its_place_and_under_v_its_traceback(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, verbosity: int
) -> None:
    def fail(queue: list[object], wall_ahead: int, chain: int) -> tuple[bytes, int]:
        raise ValueError("ours")

    monkeypatch.setattr(compaction, "encode_queue", fail)
    kept.set(b"a")
    with compacting(kept, verbosity=verbosity) as (compactor, said):
        assert compactor.request()
        wait_until(lambda: not compactor.running, "it fails")
    assert compactor.failures == 1
    first, *rest = said.getvalue().splitlines()
    assert re.search(r": ValueError: ours \(at memcache_kv\.journal\.compaction:\d+\); it is used as it is", first)
    assert rest[:1] == ["Traceback (most recent call last):"] * verbosity
    assert ("ValueError: ours" in rest) == bool(verbosity)


def test_a_request_does_not_wait_for_the_time_after_a_failure(kept: Kept, disk: Disk) -> None:
    kept.set(b"a")
    with compacting(kept) as (compactor, _):
        disk.free = 0
        assert compactor.request()
        wait_until(lambda: compactor.failures == 1 and not compactor.running, "it fails")
        disk.mend()
        assert compactor.request()
        wait_until(lambda: compactor.done == 1, "it is done")


@pytest.mark.parametrize("name", [FIRST, MANIFEST_NAME, base_name(2), increment_name(2), increment_name(3)])
def test_a_lost_file_makes_a_rewrite_that_makes_the_journal_whole_again(
    kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "DUE_CHECK_SECONDS", 0.001)
    kept.set(b"a")
    if name != FIRST:
        kept.rewrite()
        kept.set(b"b")
        kept.journal.rotate()
    kept.set(b"c")
    kept.journal.step()
    (kept.path / name).unlink()
    kept.ticks.now += 10
    kept.journal.step()
    assert kept.journal.refuses
    with compacting(kept) as (compactor, _):
        wait_until(lambda: compactor.done > 0, "it is rewritten")
    kept.ticks.now += 10
    kept.journal.step()
    assert not kept.journal.refuses
    assert shown(kept.close()) == shown(kept.store)


def test_a_journal_that_another_process_may_have_by_now_is_not_rewritten(kept: Kept) -> None:
    kept.set(b"a")
    kept.journal.step()
    (kept.path / "lock").unlink()
    kept.ticks.now += 10
    kept.journal.step()
    assert not is_due(kept, 1, 0)
    with compacting(kept) as (compactor, said):
        assert compactor.request()
        wait_until(lambda: not compactor.running, "it is refused")
    assert compactor.failures == 1
    assert "lock was deleted or replaced" in said.getvalue()
    assert names_in(kept.path) == {MANIFEST_NAME, FIRST}


def test_a_stop_in_the_middle_of_a_rewrite_leaves_a_valid_journal(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        kept.set(b"%d" % number)
    compactor = Compactor(kept.journal, kept.store, 0, Log())

    def stop_soon(seconds: float) -> None:
        compactor.request_stop()

    monkeypatch.setattr(compaction, "time", SimpleNamespace(monotonic=time.monotonic, sleep=stop_soon))
    compactor.start()
    compactor.request()
    compactor.join(PATIENCE_SECONDS)
    assert not compactor.is_alive()
    assert compactor.done == compactor.failures == 0
    assert names_in(kept.path) == {MANIFEST_NAME, FIRST, increment_name(2)}
    assert len(shown(kept.close())) == 100


def test_another_thread_that_rotates_too_does_not_mislead_a_rewrite(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.set(b"a")
    rotate = kept.journal.rotate
    others: list[threading.Thread] = []

    def rotate_beside_another() -> int:
        number = rotate()
        others.append(threading.Thread(target=rotate))
        others[0].start()
        others[0].join(0.3)  # it must wait, or has long been done
        return number

    monkeypatch.setattr(kept.journal, "rotate", rotate_beside_another)
    kept.rewrite()
    others[0].join()
    kept.set(b"b")
    assert sorted(shown(kept.close())) == [b"a", b"b"]
    assert verify(kept.path).is_sound
