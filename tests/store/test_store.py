"""The store's commands: each on every state that a key can be in."""

from collections.abc import Callable

import pytest

from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.entry import PLAIN_LIMIT_BYTES, Entry, deadline_of, flags_of, value_of, wire_bytes_of
from memcache_kv.store.entry import pack as wire_bytes
from tests.commands.asking import add_to
from tests.fake_clock import FakeClock
from tests.store.calls import FOREVER, cas_of, found, put

TTL = 10


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> ItemStore:
    return ItemStore(clock)


# Storage commands

STATES = ("absent", "plain", "with deadline", "expired", "large", "deleted")
LIVE = ("plain", "with deadline", "large")
OLD = {"plain": b"old", "with deadline": b"old", "expired": b"old", "large": b"o" * 5000, "deleted": b"old"}


def prepare(store: ItemStore, clock: FakeClock, state: str) -> None:
    """Bring the key `k` into a state."""
    if state == "absent":
        return
    put(store, b"k", OLD[state], 5, clock.now + TTL if state in ("with deadline", "expired") else FOREVER)
    if state == "expired":
        clock.advance(TTL)
    elif state == "deleted":
        assert store.delete(b"k")


@pytest.mark.parametrize("state", STATES)
def test_set_stores_whatever_was_there(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    assert store.store(Mode.SET, b"k", wire_bytes(7, b"new")) is Outcome.STORED
    assert found(store, b"k") == wire_bytes(7, b"new")
    clock.advance(2 * TTL)
    assert found(store, b"k") == wire_bytes(7, b"new")


@pytest.mark.parametrize("state", STATES)
def test_add_stores_only_where_nothing_is(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    outcome = store.store(Mode.ADD, b"k", wire_bytes(7, b"new"))
    if state in LIVE:
        assert outcome is Outcome.NOT_STORED
        assert found(store, b"k") == wire_bytes(5, OLD[state])
    else:
        assert outcome is Outcome.STORED
        assert found(store, b"k") == wire_bytes(7, b"new")


@pytest.mark.parametrize("state", STATES)
def test_replace_stores_only_where_something_is(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    outcome = store.store(Mode.REPLACE, b"k", wire_bytes(7, b"new"))
    if state in LIVE:
        assert outcome is Outcome.STORED
        assert found(store, b"k") == wire_bytes(7, b"new")
    else:
        assert outcome is Outcome.NOT_STORED
        assert found(store, b"k") is None


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.PREPEND])
@pytest.mark.parametrize("state", STATES)
def test_append_and_prepend_join_and_keep_flags(store: ItemStore, clock: FakeClock, state: str, mode: Mode) -> None:
    prepare(store, clock, state)
    outcome = store.store(mode, b"k", wire_bytes(7, b"new"), deadline=clock.now + 1000)
    if state in LIVE:
        assert outcome is Outcome.STORED
        joined = OLD[state] + b"new" if mode is Mode.APPEND else b"new" + OLD[state]
        assert found(store, b"k") == wire_bytes(5, joined)
    else:
        assert outcome is Outcome.NOT_STORED
        assert found(store, b"k") is None


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.PREPEND])
def test_append_and_prepend_keep_the_deadline(store: ItemStore, clock: FakeClock, mode: Mode) -> None:
    prepare(store, clock, "with deadline")
    store.store(mode, b"k", wire_bytes(0, b"new"))
    clock.advance(TTL - 1)
    assert found(store, b"k") is not None
    clock.advance(1)
    assert found(store, b"k") is None


@pytest.mark.parametrize("state", STATES)
def test_cas_with_an_id_that_was_never_given(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    outcome = store.store(Mode.CAS, b"k", wire_bytes(7, b"new"), cas=12345)
    assert outcome is (Outcome.EXISTS if state in LIVE else Outcome.NOT_FOUND)
    assert found(store, b"k") == (wire_bytes(5, OLD[state]) if state in LIVE else None)


@pytest.mark.parametrize("state", STATES)
def test_cas_with_zero_never_stores(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    outcome = store.store(Mode.CAS, b"k", wire_bytes(7, b"new"), cas=0)
    assert outcome is (Outcome.EXISTS if state in LIVE else Outcome.NOT_FOUND)


@pytest.mark.parametrize("state", LIVE)
def test_cas_with_the_present_id_stores_once(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    cas = cas_of(store, b"k")
    assert store.store(Mode.CAS, b"k", wire_bytes(7, b"new"), cas=cas) is Outcome.STORED
    assert found(store, b"k") == wire_bytes(7, b"new")
    assert store.store(Mode.CAS, b"k", wire_bytes(7, b"newer"), cas=cas) is Outcome.EXISTS
    assert found(store, b"k") == wire_bytes(7, b"new")


def test_cas_on_a_key_that_expired_or_went_since_is_not_found(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"k", b"old", deadline=clock.now + TTL)
    put(store, b"l", b"old")
    cas, other = cas_of(store, b"k"), cas_of(store, b"l")
    clock.advance(TTL)
    store.delete(b"l")
    assert store.store(Mode.CAS, b"k", wire_bytes(0, b"new"), cas=cas) is Outcome.NOT_FOUND
    assert store.store(Mode.CAS, b"l", wire_bytes(0, b"new"), cas=other) is Outcome.NOT_FOUND


# CAS ids


def test_an_id_stays_with_the_value(store: ItemStore) -> None:
    put(store, b"k", b"v")
    cas = cas_of(store, b"k")
    store.get(b"k")
    store.touch(b"k", FOREVER)
    assert cas_of(store, b"k") == cas
    entry = store.touch(b"k", FOREVER, with_cas=True)
    assert entry is not None
    assert cas_of(store, b"k") == cas


def test_ids_are_unique_over_keys_and_shards() -> None:
    store = ItemStore(FakeClock(), shards=8)
    keys = [b"%d" % number for number in range(100)]
    for key in keys:
        put(store, key, b"v")
    ids = [cas_of(store, key) for key in keys]
    assert len(set(ids)) == 100
    assert all(0 < cas < 2**64 for cas in ids)


def change_by_set(store: ItemStore) -> None:
    put(store, b"k", b"10")


def change_by_small_set(store: ItemStore) -> None:
    store.put(b"k", wire_bytes(0, b"10"))


def change_by_append(store: ItemStore) -> None:
    store.store(Mode.APPEND, b"k", wire_bytes(0, b""))


def change_by_cas(store: ItemStore) -> None:
    store.store(Mode.CAS, b"k", wire_bytes(0, b"10"), cas=cas_of(store, b"k"))


def change_by_replace(store: ItemStore) -> None:
    store.store(Mode.REPLACE, b"k", wire_bytes(0, b"10"))


def change_by_incr(store: ItemStore) -> None:
    assert add_to(store, b"k", 0) == 10


def change_by_delete_and_set(store: ItemStore) -> None:
    store.delete(b"k")
    put(store, b"k", b"10")


def change_by_flush_and_set(store: ItemStore) -> None:
    store.flush()
    put(store, b"k", b"10")


@pytest.mark.parametrize(
    "change",
    [
        change_by_set,
        change_by_small_set,
        change_by_append,
        change_by_cas,
        change_by_replace,
        change_by_incr,
        change_by_delete_and_set,
        change_by_flush_and_set,
    ],
)
def test_every_change_even_to_the_same_bytes_has_another_id(store: ItemStore, change: object) -> None:
    assert callable(change)
    put(store, b"k", b"10")
    before = cas_of(store, b"k")
    change(store)
    assert found(store, b"k") == wire_bytes(0, b"10")
    assert cas_of(store, b"k") != before
    assert store.store(Mode.CAS, b"k", wire_bytes(0, b"x"), cas=before) is Outcome.EXISTS


def test_ids_can_start_above_those_of_an_earlier_run(store: ItemStore) -> None:
    store.start_cas_at(1 << 32)
    put(store, b"k", b"v")
    assert cas_of(store, b"k") == 1 << 32


def test_gets_keeps_value_flags_and_deadline(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"k", b"v", flags=9, deadline=clock.now + TTL)
    item = store.gets(b"k")
    assert item is not None
    assert (wire_bytes_of(item), deadline_of(item)) == (wire_bytes(9, b"v"), clock.now + TTL)
    assert store.gets(b"other") is None
    clock.advance(TTL)
    assert store.gets(b"k") is None


# Expiry


def test_an_item_is_found_until_the_second_of_its_deadline(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"k", b"v", deadline=store.deadline(TTL))
    clock.advance(TTL - 1)
    assert found(store, b"k") == wire_bytes(0, b"v")
    clock.advance(1)
    assert found(store, b"k") is None


def test_looking_for_an_expired_item_gives_its_memory_back(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"k", b"v", deadline=store.deadline(TTL))
    clock.advance(TTL)
    assert (len(store), store.used_bytes > 0) == (1, True)
    assert store.get(b"k") is None
    assert (len(store), store.used_bytes) == (0, 0)


def test_a_negative_exptime_is_stored_and_never_found(store: ItemStore) -> None:
    put(store, b"k", b"old")
    put(store, b"k", b"v", deadline=store.deadline(-1))
    assert found(store, b"k") is None


@pytest.mark.parametrize("state", STATES)
def test_touch_gives_what_is_there_a_new_deadline(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    entry = store.touch(b"k", clock.now + 100)
    if state not in LIVE:
        assert entry is None
        assert found(store, b"k") is None
        return
    assert entry is not None
    assert wire_bytes_of(entry) == wire_bytes(5, OLD[state])
    clock.advance(99)
    assert found(store, b"k") == wire_bytes(5, OLD[state])
    clock.advance(1)
    assert found(store, b"k") is None


def test_touch_with_zero_lets_it_live_for_ever(store: ItemStore, clock: FakeClock) -> None:
    prepare(store, clock, "with deadline")
    store.touch(b"k", FOREVER)
    clock.advance(1 << 30)
    assert found(store, b"k") == wire_bytes(5, b"old")


def test_touch_with_the_past_returns_it_a_last_time(store: ItemStore, clock: FakeClock) -> None:
    prepare(store, clock, "plain")
    entry = store.touch(b"k", store.deadline(-1))
    assert entry is not None
    assert wire_bytes_of(entry) == wire_bytes(5, b"old")
    assert found(store, b"k") is None


# Delete and flush


@pytest.mark.parametrize("state", STATES)
def test_delete_tells_what_was_there(store: ItemStore, clock: FakeClock, state: str) -> None:
    prepare(store, clock, state)
    before = store.peek(b"k")
    assert (before is not None) is (state in LIVE)
    assert store.delete(b"k") is before
    assert found(store, b"k") is None
    assert (len(store), store.used_bytes) == (0, 0)


def test_a_flush_forgets_everything_at_once(store: ItemStore) -> None:
    for number in range(100):
        put(store, b"%d" % number, b"v")
    store.flush()
    assert (len(store), store.used_bytes, list(store.items())) == (0, 0, [])
    put(store, b"1", b"new")
    assert found(store, b"1") == wire_bytes(0, b"new")


def test_a_delayed_flush_takes_what_is_there_when_its_second_comes(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"before", b"v")
    store.flush(clock.now + 5)
    put(store, b"after", b"v")
    clock.advance(4)
    store.new_second()
    assert found(store, b"before") is not None
    clock.advance(1)
    store.new_second()
    assert (found(store, b"before"), found(store, b"after")) == (None, None)
    put(store, b"later", b"v")
    clock.advance(1)
    store.new_second()
    assert found(store, b"later") is not None


def test_a_second_that_is_skipped_does_not_skip_the_flush(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"k", b"v")
    store.flush(clock.now + 5)
    clock.advance(60)
    store.new_second()
    assert found(store, b"k") is None


def test_the_later_flush_command_replaces_one_that_waits(store: ItemStore, clock: FakeClock) -> None:
    store.flush(clock.now + 5)
    store.flush(clock.now + 50)
    put(store, b"k", b"v")
    clock.advance(10)
    store.new_second()
    assert found(store, b"k") is not None
    store.flush()
    put(store, b"k", b"v")
    clock.advance(100)
    store.new_second()
    assert found(store, b"k") is not None


class InterruptedClock(FakeClock):
    """A clock whose reader is interrupted by something else once."""

    def __init__(self) -> None:
        self.interrupt: Callable[[], None] = lambda: None
        super().__init__()

    @property
    def now(self) -> int:
        interrupt, self.interrupt = self.interrupt, lambda: None
        interrupt()
        return self._now

    @now.setter
    def now(self, seconds: int) -> None:
        self._now = seconds


@pytest.mark.parametrize("later", [0, 100])
def test_a_due_flush_that_another_thread_carries_out_meanwhile_leaves_what_was_stored_since(later: int) -> None:
    clock = InterruptedClock()
    store = ItemStore(clock)
    store.flush(clock.now + 5)
    clock.advance(5)

    def be_faster() -> None:
        store.new_second()
        if later:
            store.flush(clock.now + later)
        put(store, b"new", b"v")

    clock.interrupt = be_faster
    store.new_second()
    assert found(store, b"new") is not None
    assert store.flush_at == (clock.now + later if later else 0)


@pytest.mark.parametrize("seconds", [0, -1, -1000])
def test_a_flush_at_a_time_that_has_come_is_immediate(store: ItemStore, clock: FakeClock, seconds: int) -> None:
    put(store, b"k", b"v")
    store.flush(clock.now + seconds)
    assert found(store, b"k") is None
    assert store.flush_at == 0


def test_items_walks_over_the_live_ones(store: ItemStore, clock: FakeClock) -> None:
    put(store, b"a", b"1")
    put(store, b"b", b"2", deadline=clock.now + TTL)
    put(store, b"c", b"3", deadline=clock.now + 2 * TTL)
    clock.advance(TTL)
    assert {key: wire_bytes_of(entry) for key, entry in store.items()} == {
        b"a": wire_bytes(0, b"1"),
        b"c": wire_bytes(0, b"3"),
    }


# Small sets


def test_a_small_set_is_a_set(store: ItemStore) -> None:
    put(store, b"k", b"x" * 5000)
    store.put(b"k", wire_bytes(3, b"v"))
    assert found(store, b"k") == wire_bytes(3, b"v")
    assert len(store) == 1
    assert sum(shard.total_items for shard in store.shards) == 2


# What the log hears


class HeardLog:
    """Note every call."""

    refuses = False

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        self.heard.append(("wall", now, wall_ahead))

    def new_second(self, now: int) -> None:
        """Take no note of the time."""

    def put(self, key: bytes, entry: Entry) -> None:
        wire_bytes = wire_bytes_of(entry)
        self.stored(key, flags_of(wire_bytes), deadline_of(entry), 0, value_of(wire_bytes))

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        self.heard.append(("stored", key, flags, deadline, cas, value))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        self.heard.append(("marked", key, deadline, cas, state))

    def deleted(self, key: bytes) -> None:
        self.heard.append(("deleted", key))

    def touched(self, key: bytes, deadline: int) -> None:
        self.heard.append(("touched", key, deadline))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        self.heard.append(("named", key, cas))

    def flushed(self, at: int) -> None:
        self.heard.append(("flushed", at))


def test_the_log_hears_every_change_once_in_order(clock: FakeClock) -> None:
    log = HeardLog()
    store = ItemStore(clock, log=log)
    put(store, b"k", b"5", flags=2, deadline=clock.now + TTL)
    store.put(b"p", wire_bytes(1, b"v"))
    add_to(store, b"k", 1)
    store.touch(b"k", FOREVER)
    cas = cas_of(store, b"k")
    cas_of(store, b"k")
    store.store(Mode.APPEND, b"k", wire_bytes(9, b"0"))
    store.delete(b"k")
    store.flush(clock.now + 5)
    clock.advance(5)
    store.new_second()
    assert log.heard == [
        ("stored", b"k", 2, clock.now - 5 + TTL, 0, b"5"),
        ("stored", b"p", 1, 0, 0, b"v"),
        ("stored", b"k", 2, clock.now - 5 + TTL, 0, b"6"),
        ("touched", b"k", 0),
        ("named", b"k", cas),
        ("stored", b"k", 2, 0, 0, b"60"),
        ("deleted", b"k"),
        ("flushed", clock.now),
        ("flushed", 0),
    ]


def test_the_log_hears_nothing_of_what_changes_nothing(clock: FakeClock) -> None:
    log = HeardLog()
    store = ItemStore(clock, log=log)
    store.get(b"k")
    store.gets(b"k")
    store.delete(b"k")
    store.touch(b"k", 5)
    add_to(store, b"k", 1)
    for mode in (Mode.REPLACE, Mode.APPEND, Mode.PREPEND, Mode.CAS):
        store.store(mode, b"k", wire_bytes(0, b"v"), cas=1)
    assert log.heard == []


def test_the_log_hears_of_the_delete_of_a_key_that_was_evicted(clock: FakeClock) -> None:
    log = HeardLog()
    store = ItemStore(clock, max_items=1, shards=1, log=log)
    put(store, b"evicted", b"v")
    put(store, b"new", b"v")
    assert not store.delete(b"evicted")
    assert log.heard[-1] == ("deleted", b"evicted")


@pytest.mark.parametrize(("deadline", "tells"), [(1, True), (TTL, True), (FOREVER, False), (2_000_000_000, False)])
def test_the_log_hears_of_a_touch_that_expires_a_key_that_was_evicted(deadline: int, tells: bool) -> None:
    log = HeardLog()
    store = ItemStore(FakeClock(), max_items=1, shards=1, log=log)
    put(store, b"evicted", b"v")
    put(store, b"new", b"v")
    assert store.touch(b"evicted", deadline) is None
    assert log.heard[2:] == [("deleted", b"evicted")] * tells


def test_large_and_plain_values_are_kept_alike(store: ItemStore) -> None:
    for size in (PLAIN_LIMIT_BYTES - 20, PLAIN_LIMIT_BYTES, PLAIN_LIMIT_BYTES + 1, 100_000):
        put(store, b"k", b"x" * size, flags=1)
        assert found(store, b"k") == wire_bytes(1, b"x" * size)
        assert (len(store), store.used_bytes > size) == (1, True)


def test_restoring_is_not_logged(clock: FakeClock) -> None:
    log = HeardLog()
    store = ItemStore(clock, log=log)
    restoring = store.restoring()
    restoring.put(b"a", wire_bytes(0, b"1"))
    restoring.put(b"b", wire_bytes(0, b"2"))
    restoring.remove(b"b")
    restoring.remove(b"absent")
    restoring.finish()
    assert [key for key, _ in store.items()] == [b"a"]
    assert log.heard == []
