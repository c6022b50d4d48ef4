"""What meta commands ask of the store: to look and change in one, chosen CAS ids, and facts about access."""

import pytest

from memcache_kv.store import Entry, Item, ItemStore, Mode, Outcome
from memcache_kv.store.entry import (
    FETCHED,
    STALE,
    TRACKED,
    cas_of,
    deadline_of,
    make_entry,
    pack,
    state_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.writes import Write
from tests.fake_clock import FakeClock
from tests.store.test_store import HeardLog

BIG = 40_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log() -> HeardLog:
    return HeardLog()


@pytest.fixture
def store(clock: FakeClock, log: HeardLog) -> ItemStore:
    return ItemStore(clock, shards=2, log=log)


def wire_bytes(value: bytes) -> bytes:
    return pack(0, value)


def kept(store: ItemStore, key: bytes) -> Entry:
    entry = store.kept(key)
    assert entry is not None
    return entry


# update


def test_an_update_sees_what_is_live_and_keeps_what_it_returns(
    store: ItemStore, clock: FakeClock, log: HeardLog
) -> None:
    seen: list[Entry | None] = []

    def decide(old: Entry | None) -> Entry | None:
        seen.append(old)
        return store.renewed(b"k", wire_bytes(b"1"), clock.now + 5, 0, 0)

    assert store.update(b"k", decide)
    clock.advance(5)
    assert store.update(b"k", decide)
    assert seen == [None, None]
    assert log.heard == [("stored", b"k", 0, at, 0, b"1") for at in (clock.now, clock.now + 5)]


def test_an_update_that_returns_nothing_forgets_the_key(store: ItemStore, log: HeardLog) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.update(b"k", lambda old: None)
    store.update(b"k", lambda old: None)
    assert store.kept(b"k") is None
    assert log.heard[1:] == [("deleted", b"k")]


@pytest.mark.parametrize("forgets", [True, False])
def test_only_an_update_that_forgets_is_told_of_where_the_key_was_evicted(
    clock: FakeClock, log: HeardLog, forgets: bool
) -> None:
    store = ItemStore(clock, max_items=1, shards=1, log=log)
    store.put(b"k", wire_bytes(b"1"))
    store.put(b"new", wire_bytes(b"1"))
    assert store.update(b"k", lambda old: None, forgets)
    assert log.heard[2:] == [("deleted", b"k")] * forgets
    assert store.update(b"new", lambda old: old, forgets)
    assert len(log.heard) == 2 + forgets


def test_an_update_that_changes_nothing_is_not_told_of(store: ItemStore, log: HeardLog) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.update(b"k", lambda old: old)
    assert len(log.heard) == 1


def test_only_the_rare_facts_of_an_unchanged_value_are_told_of(store: ItemStore, log: HeardLog) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.update(b"k", lambda old: store.renewed(b"k", wire_bytes_of(kept(store, b"k")), 0, 9, STALE, old))
    assert log.heard[1:] == [("marked", b"k", 0, 9, STALE)]
    assert (cas_of(kept(store, b"k")), state_of(kept(store, b"k"))) == (9, STALE)


def test_that_somebody_read_it_is_not_told_of(store: ItemStore, log: HeardLog) -> None:
    store.put(b"k", Item(wire_bytes(b"1"), 0, 3))
    store.update(b"k", lambda old: store.renewed(b"k", wire_bytes_of(kept(store, b"k")), 0, 3, FETCHED, old))
    assert len(log.heard) == 1


def test_a_full_store_that_may_not_evict_refuses_a_new_item_but_changes_an_old_one(clock: FakeClock) -> None:
    store = ItemStore(clock, limit_bytes=1 << 20, item_limit_bytes=1 << 16, evicts=False, shards=1)
    number = 0
    while store.store(Mode.ADD, b"%d" % number, wire_bytes(b"x" * BIG)) is Outcome.STORED:
        number += 1
    assert not store.update(b"new", lambda old: wire_bytes(b"y" * BIG))
    assert store.kept(b"new") is None
    assert store.update(b"0", lambda old: wire_bytes(b"y"))
    assert value_of(wire_bytes_of(kept(store, b"0"))) == b"y"


# write


def written(store: ItemStore, mode: Mode, value: bytes, **how: object) -> tuple[Outcome, bytes]:
    outcome, entry = store.write(Write(mode, b"k", wire_bytes(value), **how))  # type: ignore[arg-type]
    return outcome, b"" if entry is None else value_of(wire_bytes_of(entry))


@pytest.mark.parametrize(("mode", "joined"), [(Mode.APPEND, b"12"), (Mode.PREPEND, b"21")])
def test_joining_can_make_what_is_missing(store: ItemStore, mode: Mode, joined: bytes) -> None:
    assert written(store, mode, b"1") == (Outcome.NOT_STORED, b"")
    assert written(store, mode, b"1", makes_missing=True) == (Outcome.STORED, b"1")
    assert written(store, mode, b"2", makes_missing=True) == (Outcome.STORED, joined)


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.PREPEND, Mode.CAS])
def test_a_wrong_id_keeps_the_value(store: ItemStore, mode: Mode) -> None:
    store.write(Write(Mode.SET, b"k", wire_bytes(b"1"), new_cas=5))
    assert written(store, mode, b"2", cas=6) == (Outcome.EXISTS, b"")
    assert written(store, mode, b"2", cas=5)[0] is Outcome.STORED


def test_an_item_is_named_only_for_those_who_ask(store: ItemStore) -> None:
    _, silent = store.write(Write(Mode.SET, b"a", wire_bytes(b"1")))
    _, named = store.write(Write(Mode.SET, b"b", wire_bytes(b"1"), needs_cas=True))
    assert silent is not None
    assert named is not None
    assert (cas_of(silent), cas_of(named)) == (0, 1)


@pytest.mark.parametrize(("cas", "stored"), [(4, True), (5, True), (6, False)])
def test_an_earlier_id_stores_a_stale_value_where_that_is_wanted(store: ItemStore, cas: int, stored: bool) -> None:
    store.write(Write(Mode.SET, b"k", wire_bytes(b"1"), store.deadline(60), new_cas=5))
    outcome, _ = written(store, Mode.CAS, b"2", cas=cas, takes_older=True)
    assert outcome is (Outcome.STORED if stored else Outcome.EXISTS)
    assert bool(state_of(kept(store, b"k")) & STALE) is (cas == 4)
    assert deadline_of(kept(store, b"k")) == (0 if cas == 5 else store.deadline(60))


def test_a_value_without_an_id_is_later_than_every_id_that_was_given(store: ItemStore) -> None:
    _, first = store.write(Write(Mode.SET, b"k", wire_bytes(b"1"), needs_cas=True))
    assert first is not None
    store.put(b"k", wire_bytes(b"2"))
    assert written(store, Mode.CAS, b"3", cas=cas_of(first), takes_older=True) == (Outcome.STORED, b"3")
    assert written(store, Mode.CAS, b"4", cas=1000, takes_older=True) == (Outcome.EXISTS, b"")


# Access metadata


def test_nothing_is_recorded_of_the_read_of_an_item_that_is_not_tracked(store: ItemStore) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.get(b"k")
    assert isinstance(kept(store, b"k"), bytes)


@pytest.mark.parametrize("entry", [wire_bytes(b"1"), Item(wire_bytes(b"1"), 0, 0, 1_000)])
def test_a_tracked_item_says_when_it_was_read(store: ItemStore, clock: FakeClock, entry: Entry) -> None:
    clock.advance(10)
    store.put(b"k", entry)
    store.get_tracked(b"k")
    began = store.accessed_at(kept(store, b"k"))
    assert began == (entry.accessed if isinstance(entry, Item) else clock.started)
    clock.advance(3)
    store.get_tracked(b"k")
    store.peek(b"k")
    assert (store.accessed_at(kept(store, b"k")), state_of(kept(store, b"k"))) == (began, TRACKED)
    store.get(b"k")
    assert (store.accessed_at(kept(store, b"k")), state_of(kept(store, b"k"))) == (clock.now, TRACKED | FETCHED)


def test_nothing_tracks_a_missing_key(store: ItemStore) -> None:
    assert store.get_tracked(b"k") is None
    store.put(b"k", wire_bytes(b"1"))
    assert isinstance(kept(store, b"k"), bytes)


def replaced(store: ItemStore, how: str) -> None:
    """Put another value in the place of a tracked one, or change what it has."""
    if how == "put":
        store.put(b"k", wire_bytes(b"2"))
    elif how == "put longer":
        store.put(b"k", make_entry(b"k", wire_bytes(b"22"), store.clock.now + 50))
    else:
        store.store(Mode[how], b"k", wire_bytes(b"2"), cas=cas_of(kept(store, b"k")))


@pytest.mark.parametrize("how", ["put", "put longer", "SET", "REPLACE", "APPEND", "PREPEND", "CAS"])
def test_a_value_that_replaces_a_tracked_one_is_tracked_and_was_not_read(
    store: ItemStore, clock: FakeClock, how: str
) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.get_tracked(b"k")
    store.get(b"k")
    clock.advance(3)
    replaced(store, how)
    assert (store.accessed_at(kept(store, b"k")), state_of(kept(store, b"k"))) == (clock.now, TRACKED)


def test_a_touch_is_a_read_of_a_tracked_item(store: ItemStore, clock: FakeClock) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.get_tracked(b"k")
    clock.advance(3)
    store.touch(b"k", clock.now + 50)
    assert (store.accessed_at(kept(store, b"k")), state_of(kept(store, b"k"))) == (clock.now, TRACKED | FETCHED)


def test_a_deleted_key_is_not_tracked_any_more(store: ItemStore) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.get_tracked(b"k")
    store.delete(b"k")
    store.put(b"k", wire_bytes(b"1"))
    assert isinstance(kept(store, b"k"), bytes)


def test_the_log_hears_nothing_of_tracking(store: ItemStore, log: HeardLog) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.gets(b"k")
    before = list(log.heard)
    store.get_tracked(b"k")
    store.get(b"k")
    store.update(b"k", lambda old: store.renewed(b"k", wire_bytes(b"1"), 0, 1, TRACKED | FETCHED, old))
    assert log.heard == before
    store.store(Mode.SET, b"k", wire_bytes(b"2"))
    store.update(b"k", lambda old: store.renewed(b"k", wire_bytes(b"2"), 0, 7, TRACKED | FETCHED | STALE, old))
    assert log.heard[len(before) :] == [("stored", b"k", 0, 0, 0, b"2"), ("marked", b"k", 0, 7, STALE)]


def test_under_pressure_a_read_before_the_first_request_is_known(clock: FakeClock) -> None:
    store = ItemStore(clock, limit_bytes=1 << 20, item_limit_bytes=1 << 16, shards=1)
    number = 0
    while not store.records_access:
        store.put(b"%d" % number, wire_bytes(b"x" * 4000))
        number += 1
    store.put(b"read", wire_bytes(b"1"))
    store.put(b"unread", wire_bytes(b"1"))
    store.get(b"read")
    assert [state_of(entry) for key in (b"read", b"unread") if (entry := store.get_tracked(key))] == [
        TRACKED | FETCHED,
        TRACKED,
    ]


# What a flush took


def test_who_looks_for_what_a_flush_took_is_counted_once(store: ItemStore) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.put(b"again", wire_bytes(b"1"))
    store.flush()
    store.put(b"again", wire_bytes(b"2"))
    for key in (b"k", b"k", b"again", b"other"):
        store.get(key)
    assert sum(shard.get_flushed for shard in store.shards) == 1


def test_it_is_forgotten_what_a_flush_took(store: ItemStore) -> None:
    store.put(b"k", wire_bytes(b"1"))
    store.flush()
    store.forget_flushed()
    store.get(b"k")
    assert sum(shard.get_flushed for shard in store.shards) == 0


# Evictions


def test_whoever_watches_is_told_of_each_eviction_with_the_write_that_made_it(clock: FakeClock) -> None:
    store = ItemStore(clock, limit_bytes=1 << 20, item_limit_bytes=1 << 16, shards=2)
    for number in range(100):
        store.store(Mode.SET, b"%d" % number, wire_bytes(b"x" * BIG))
    evicted: list[bytes] = []
    store.watch_evictions(lambda key, entry, was_read: evicted.append(key))
    store.store(Mode.SET, b"one more", wire_bytes(b"x" * BIG))
    assert evicted
    assert all(store.kept(key) is None for key in evicted)
    store.watch_evictions(None)
    before = len(evicted)
    for number in range(100):
        store.store(Mode.SET, b"%d" % number, wire_bytes(b"x" * BIG))
    assert len(evicted) == before
