"""The store against a plain dict, by any sequence of commands; and its journal against both."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of, mark_record, put_key, set_line
from memcache_kv.journal.recovery import recover
from memcache_kv.store import Entry, Item, ItemStore, Mode, Outcome
from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    ITEM_COST_BYTES,
    PLAIN_LIMIT_BYTES,
    cas_of,
    deadline_of,
    flags_of,
    is_plain_key,
    make_entry,
    pack,
    value_of,
    wire_bytes_of,
)
from tests.commands.asking import add_to
from tests.fake_clock import FakeClock
from tests.journal.journals import make_journal, manifest_in

KEYS = (b"a", b"b", b"\xff\xfe\x80", b"k" * 250, b"with space", "grüße".encode())
MONTH = 30 * 24 * 3600

keys = st.sampled_from(KEYS)
flags = st.sampled_from((0, 1, 255, 256, 2**32 - 1))
numbers = st.integers(0, 2**64 + 1).map(lambda number: b"%d" % number) | st.sampled_from(
    (b"10", b"0", b"007", b"5 x", b"9  ")
)
small_values = st.binary(max_size=30)
large_values = st.builds(
    lambda size, byte: byte * size,
    st.sampled_from((PLAIN_LIMIT_BYTES - 30, PLAIN_LIMIT_BYTES, 5000, 20_000)),
    st.sampled_from((b"x", b"\xff")),
)
values = numbers | small_values | large_values
exptimes = st.sampled_from((0, 0, 0, 0, 1, 2, 5, 20, MONTH, -1, MONTH + 1))
amounts = st.sampled_from((0, 1, 7, 2**64 - 1, -1, -7, -(2**64 - 1)))
modes = st.sampled_from((Mode.SET, Mode.SET, Mode.ADD, Mode.REPLACE, Mode.APPEND, Mode.PREPEND))


class Kept(NamedTuple):
    """What the model keeps for a key."""

    flags: int
    value: bytes
    deadline: int


Visible = dict[bytes, tuple[int, bytes]]


class JournalLines:
    """A WriteLog that keeps the lines which a journal would write."""

    refuses = False

    def __init__(self, now: int) -> None:
        self.lines = [line_of(Record("start", at=now, version=FORMAT_VERSION))]

    def put(self, key: bytes, entry: Entry) -> None:
        wire_bytes = wire_bytes_of(entry)
        self.stored(key, flags_of(wire_bytes), deadline_of(entry), 0, value_of(wire_bytes))

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        self.lines.append(set_line(key, flags, deadline, cas, value, state))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        self.lines.append(line_of(put_key(mark_record(deadline, cas, state), key)))

    def deleted(self, key: bytes) -> None:
        self.lines.append(line_of(put_key(Record("delete"), key)))

    def touched(self, key: bytes, deadline: int) -> None:
        self.lines.append(line_of(put_key(Record("touch", exp=deadline), key)))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        self.lines.append(line_of(put_key(Record("cas", cas=cas), key)))

    def flushed(self, at: int) -> None:
        self.lines.append(line_of(Record("flush", at=at)))

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        raise AssertionError("no test of a model steps the wall clock")

    def new_second(self, now: int) -> None:
        self.lines.append(line_of(Record("time", at=now)))

    def replayed(self, clock: FakeClock) -> ItemStore:
        """The store that a recovery at this time makes of the lines."""
        store = ItemStore(clock, limit_bytes=1 << 30, shards=2)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            make_journal(path, b"".join(self.lines))
            recover(path, SystemDisk(), manifest_in(path), store)
        store.new_second()
        return store


def visible(store: ItemStore) -> Visible:
    """Keys, flags and values that a client can see."""
    return {key: (flags_of(wire_bytes_of(entry)), value_of(wire_bytes_of(entry))) for key, entry in store.items()}


def known_ids(store: ItemStore) -> dict[bytes, int]:
    """The CAS ids that were given for what is visible."""
    return {key: cas_of(entry) for key, entry in store.items() if cas_of(entry)}


def cost(key: bytes, entry: Entry) -> int:
    """Memory of an entry, counted anew."""
    if isinstance(entry, Item):
        object_cost = ITEM_COST_BYTES
    else:
        object_cost = 11 if cas_of(entry) else 3 if deadline_of(entry) else 0
    return len(key) + len(wire_bytes_of(entry)) + object_cost + ENTRY_COST_BYTES


def check_accounting(store: ItemStore) -> None:
    entries = [(key, entry) for table in store.tables for key, entry in table.items()]
    assert store.used_bytes == sum(cost(key, entry) for key, entry in entries)
    assert len(store) == len(entries)
    expiring = sum(deadline_of(entry) > 0 for _, entry in entries)
    assert sum(shard.expiring for shard in store.shards) == expiring


def number_of(value: bytes) -> int | None:
    """The number in one of the model's values."""
    digits = value.split(maxsplit=1)[0] if value.strip() else b""
    if value[:1].isspace() or b"\0" in value:
        return None  # left to the tests of number_in
    number = int(digits) if digits.isdigit() else None
    return number if number is not None and number < 2**64 else None


class DictMachine(RuleBasedStateMachine):
    """Every command on a roomy store and on a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.log = JournalLines(self.clock.now)
        self.store = ItemStore(self.clock, limit_bytes=1 << 30, item_limit_bytes=50_000, shards=2, log=self.log)
        self.model: dict[bytes, Kept] = {}
        self.ids: dict[bytes, int] = {}
        """The id of a key's present value, where one was asked for."""
        self.given: list[int] = [12345]
        self.flush_at = 0

    # What the model says

    def live(self, key: bytes) -> Kept | None:
        kept = self.model.get(key)
        return None if kept is None or 0 < kept.deadline <= self.clock.now else kept

    def deadline(self, exptime: int) -> int:
        if exptime == 0:
            return 0
        if exptime < 0 or exptime > MONTH:
            return 1
        return self.clock.now + exptime

    def keep(self, key: bytes, kept: Kept) -> None:
        self.model[key] = kept
        self.ids.pop(key, None)

    def check_entry(self, key: bytes, entry: Entry | None) -> None:
        kept = self.live(key)
        if kept is None:
            assert entry is None
        else:
            assert entry is not None
            assert wire_bytes_of(entry) == b" %d %d\r\n%b\r\n" % (kept.flags, len(kept.value), kept.value)

    def check_id(self, key: bytes, item: Entry) -> None:
        if key in self.ids:
            assert cas_of(item) == self.ids[key]
        else:
            assert cas_of(item) > 0
            assert cas_of(item) not in self.given
            self.ids[key] = cas_of(item)
            self.given.append(cas_of(item))

    # Commands

    @rule(mode=modes, key=keys, flags=flags, value=values, exptime=exptimes)
    def store_value(self, mode: Mode, key: bytes, flags: int, value: bytes, exptime: int) -> None:
        old, deadline = self.live(key), self.deadline(exptime)
        assert self.store.deadline(exptime) == deadline
        outcome = self.store.store(mode, key, pack(flags, value), deadline)
        kept: Kept | None = Kept(flags, value, deadline)
        if (mode is Mode.ADD and old is not None) or (mode is not Mode.ADD and mode is not Mode.SET and old is None):
            kept = None
        elif old is not None and mode in (Mode.APPEND, Mode.PREPEND):
            joined = old.value + value if mode is Mode.APPEND else value + old.value
            too_large = len(key) + len(joined) + 59 + (4 if old.flags else 0) > 50_000
            kept = None if too_large else Kept(old.flags, joined, old.deadline)
        assert outcome is (Outcome.NOT_STORED if kept is None else Outcome.STORED)
        if kept is not None:
            self.keep(key, kept)

    @rule(key=keys.filter(is_plain_key), flags=flags, value=small_values, exptime=exptimes)
    def store_small(self, key: bytes, flags: int, value: bytes, exptime: int) -> None:
        deadline, wire_bytes = self.deadline(exptime), pack(flags, value)
        self.store.put(key, make_entry(key, wire_bytes, deadline))
        self.keep(key, Kept(flags, value, deadline))

    @rule(key=keys, value=values, exptime=exptimes, which=st.integers(0, 3))
    def compare_and_store(self, key: bytes, value: bytes, exptime: int, which: int) -> None:
        cas = self.ids.get(key, 0) if which < 2 else self.given[-which + 1] if len(self.given) > which else 0
        old = self.live(key)
        outcome = self.store.store(Mode.CAS, key, pack(0, value), self.deadline(exptime), cas)
        if old is None:
            assert outcome is Outcome.NOT_FOUND
        elif cas and self.ids.get(key) == cas:
            assert outcome is Outcome.STORED
            self.keep(key, Kept(0, value, self.deadline(exptime)))
        else:
            assert outcome is Outcome.EXISTS

    @rule(key=keys, amount=amounts)
    def add_to(self, key: bytes, amount: int) -> None:
        old = self.live(key)
        if old is not None and (old.value[:1].isspace() or b"\0" in old.value or old.value[:1] == b"+"):
            return
        result = add_to(self.store, key, amount)
        if old is None:
            assert result is Outcome.NOT_FOUND
            return
        number = number_of(old.value)
        if number is None:
            assert result is Outcome.NON_NUMERIC
            return
        number = (number + amount) % 2**64 if amount >= 0 else max(0, number + amount)
        assert result == number
        self.keep(key, Kept(old.flags, (b"%d" % number).ljust(len(old.value)), old.deadline))

    @rule(key=keys, exptime=exptimes, with_cas=st.booleans())
    def touch(self, key: bytes, exptime: int, with_cas: bool) -> None:
        entry = self.store.touch(key, self.deadline(exptime), with_cas)
        self.check_entry(key, entry)
        old = self.live(key)
        if old is not None:
            if with_cas:
                assert entry is not None
                self.check_id(key, entry)
            self.model[key] = old._replace(deadline=self.deadline(exptime))

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        self.check_entry(key, self.store.get(key))

    @rule(key=keys)
    def gets(self, key: bytes) -> None:
        item = self.store.gets(key)
        self.check_entry(key, item)
        if item is not None:
            self.check_id(key, item)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        before = self.store.peek(key)
        assert (before is not None) is (self.live(key) is not None)
        assert self.store.delete(key) is before
        self.model.pop(key, None)
        self.ids.pop(key, None)

    @rule(delay=st.sampled_from((0, 0, 1, 3, 10)))
    def flush(self, delay: int) -> None:
        self.store.flush(self.clock.now + delay if delay else 0)
        self.flush_at = self.clock.now + delay if delay else 0
        if not delay:
            self.forget_all()

    def forget_all(self) -> None:
        self.model.clear()
        self.ids.clear()

    @rule(seconds=st.sampled_from((1, 1, 2, 5, 30, MONTH)))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        if self.clock.tick():
            self.store.new_second()
        if 0 < self.flush_at <= self.clock.now:
            self.flush_at = 0
            self.forget_all()

    # What always holds

    def seen_by_the_model(self) -> Visible:
        return {key: (kept.flags, kept.value) for key in self.model if (kept := self.live(key)) is not None}

    @invariant()
    def store_and_dict_show_the_same(self) -> None:
        assert visible(self.store) == self.seen_by_the_model()

    @invariant()
    def accounting_is_right(self) -> None:
        check_accounting(self.store)

    def teardown(self) -> None:
        """Replay the journal at once; then remove everything."""
        replayed = self.log.replayed(FakeClock(self.clock.now))
        assert visible(replayed) == visible(self.store)
        assert known_ids(replayed) == known_ids(self.store)
        check_accounting(replayed)
        for table in self.store.tables:
            for key in list(table):
                self.store.delete(key)
        assert (len(self.store), self.store.used_bytes) == (0, 0)


class LaterReplayMachine(DictMachine):
    """The same, with the journal replayed after the server was down for a while."""

    down_seconds = 1

    @rule(seconds=st.sampled_from((1, 3, 10, 100)))
    def choose_how_long_it_is_down(self, seconds: int) -> None:
        self.down_seconds = seconds

    def teardown(self) -> None:
        """Replay the journal later."""
        self.pass_time(self.down_seconds)
        assert visible(self.log.replayed(FakeClock(self.clock.now))) == self.seen_by_the_model()


MANY_KEYS = tuple(b"%03d" % number for number in range(120))
many_keys = st.sampled_from(MANY_KEYS)
sizes = st.sampled_from((0, 10, 300, 1000, 4000, 9000))


class ScarceMachine(RuleBasedStateMachine):
    """Commands on a store with little room, of which only the bounds and the values found can be foretold."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.log = JournalLines(self.clock.now)
        self.last_written: dict[bytes, bytes] = {}
        self.deleted: set[bytes] = set()
        self.last_size = 0
        self.grown = 0
        """Bytes by which touches and CAS ids may have enlarged what is there since the last set."""
        self.counter = 0

    @initialize(
        limit=st.sampled_from((20_000, 40_000, 100_000)),
        shards=st.sampled_from((1, 2, 8)),
        max_items=st.sampled_from((0, 0, 1, 5, 40)),
    )
    def choose_limits(self, limit: int, shards: int, max_items: int) -> None:
        self.store = ItemStore(self.clock, limit_bytes=limit, max_items=max_items, shards=shards, log=self.log)

    def new_value(self, size: int) -> bytes:
        self.counter += 1
        return (b"%d " % self.counter).ljust(size, b"x")

    def written(self, key: bytes, value: bytes) -> None:
        self.last_written[key] = value
        self.deleted.discard(key)
        self.last_size = len(key) + len(value) + 400
        self.grown = 0
        entry = self.store.get(key)
        assert entry is not None, "what was just stored is there"
        assert value_of(wire_bytes_of(entry)) == value

    @rule(key=many_keys, size=sizes, expires=st.booleans())
    def set(self, key: bytes, size: int, expires: bool) -> None:
        value = self.new_value(size)
        outcome = self.store.store(Mode.SET, key, pack(0, value), self.clock.now + 1000 if expires else 0)
        assert outcome is Outcome.STORED
        self.written(key, value)

    @rule(first=st.integers(0, 100), size=sizes)
    def set_many(self, first: int, size: int) -> None:
        for key in MANY_KEYS[first : first + 20]:
            value = self.new_value(min(size, 1000))
            self.store.put(key, pack(0, value))
            self.written(key, value)
            self.limits_hold()

    @rule(key=many_keys)
    def append(self, key: bytes) -> None:
        if self.store.store(Mode.APPEND, key, pack(0, b"more")) is Outcome.STORED:
            self.written(key, self.last_written[key] + b"more")

    @rule(key=many_keys)
    def get(self, key: bytes) -> None:
        entry = self.store.get(key)
        if entry is not None:
            assert value_of(wire_bytes_of(entry)) == self.last_written[key]

    @rule(key=many_keys)
    def gets(self, key: bytes) -> None:
        item = self.store.gets(key)
        if item is not None:
            assert value_of(wire_bytes_of(item)) == self.last_written[key]
            self.grown += ITEM_COST_BYTES

    @rule(key=many_keys)
    def touch(self, key: bytes) -> None:
        if self.store.touch(key, self.clock.now + 500) is not None:
            self.grown += ITEM_COST_BYTES

    @rule(key=many_keys)
    def delete(self, key: bytes) -> None:
        self.store.delete(key)
        assert self.store.get(key) is None
        self.deleted.add(key)

    @rule()
    def flush(self) -> None:
        self.store.flush()
        self.deleted.update(MANY_KEYS)

    @precondition(lambda self: self.counter > 0)
    @rule(limit=st.sampled_from((15_000, 50_000)))
    def change_limit(self, limit: int) -> None:
        self.store.set_limit(limit)
        self.set(b"000", 10, False)

    @invariant()
    def limits_hold(self) -> None:
        limit = self.store.limit_bytes
        assert self.store.used_bytes <= limit * 33 // 32 + self.last_size + self.grown
        if self.store.max_items:
            assert len(self.store) <= self.store.max_items

    @invariant()
    def accounting_is_right(self) -> None:
        check_accounting(self.store)

    def teardown(self) -> None:
        """Replay the journal into a store with room for all."""
        if not hasattr(self, "store"):
            return
        replayed = visible(self.log.replayed(FakeClock(self.clock.now)))
        assert visible(self.store).items() <= replayed.items()
        assert not self.deleted & replayed.keys(), "what was deleted stays away, even if it had been evicted before"


TestAgainstADict = DictMachine.TestCase
TestReplayedLater = LaterReplayMachine.TestCase
TestWithLittleRoom = ScarceMachine.TestCase


def test_a_touch_that_came_in_time_keeps_a_key_whose_first_deadline_passed_while_the_server_was_down() -> None:
    clock = FakeClock()
    log = JournalLines(clock.now)
    store = ItemStore(clock, log=log)
    store.store(Mode.SET, b"k", pack(0, b"v"), clock.now + 10)
    store.touch(b"k", clock.now + 1000)
    clock.advance(500)
    assert visible(store) == visible(log.replayed(clock)) == {b"k": (0, b"v")}


@pytest.mark.parametrize("seconds", [5, 50])
def test_a_flush_that_waited_while_the_server_was_down_is_carried_out(seconds: int) -> None:
    clock = FakeClock()
    log = JournalLines(clock.now)
    store = ItemStore(clock, log=log)
    store.store(Mode.SET, b"k", pack(0, b"v"))
    store.flush(clock.now + 5)
    clock.advance(seconds)
    assert visible(log.replayed(clock)) == {}
