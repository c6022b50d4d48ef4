"""What an item, all items, and the number of items may take; and into how many shards they go."""

import itertools

import pytest

from memcache_kv.config.memcached_options import MIB
from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.entry import pack as wire_bytes
from memcache_kv.store.entry import value_of as value_in
from memcache_kv.store.entry import wire_bytes_of
from memcache_kv.store.limits import MAX_SHARDS, choose_shards
from memcache_kv.store.store import ITEM_HEADER_BYTES
from tests.fake_clock import FakeClock
from tests.store.calls import cas_of, found, put

# Limits: one item


def test_the_limit_of_an_item_counts_key_header_and_flags() -> None:
    store = ItemStore(FakeClock(), item_limit_bytes=1024)
    fits = 1024 - ITEM_HEADER_BYTES - 3
    assert not store.exceeds_limit(3, fits, flags=0)
    assert store.exceeds_limit(3, fits + 1, flags=0)
    assert store.exceeds_limit(3, fits, flags=1)
    assert not store.exceeds_limit(3, fits - 4, flags=1)
    assert store.is_too_large(b"key", wire_bytes(0, b"x" * (fits + 1)))
    assert not store.is_too_large(b"key", wire_bytes(0, b"x" * fits))


def test_an_item_without_an_id_may_be_larger_by_that() -> None:
    store = ItemStore(FakeClock(), item_limit_bytes=1024, gives_cas=False)
    fits = 1024 - ITEM_HEADER_BYTES - 3 + 8
    assert not store.exceeds_limit(3, fits, flags=0)
    assert store.exceeds_limit(3, fits + 1, flags=0)


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.PREPEND])
def test_what_would_grow_over_the_limit_is_not_stored_and_the_old_stays(mode: Mode) -> None:
    store = ItemStore(FakeClock(), item_limit_bytes=1024)
    put(store, b"k", b"x" * 900)
    assert store.store(mode, b"k", wire_bytes(0, b"y" * 100)) is Outcome.NOT_STORED
    assert found(store, b"k") == wire_bytes(0, b"x" * 900)


# Limits: all items


def test_large_values_evict_as_much_as_they_add_once_less_than_the_limit_is_free() -> None:
    store = ItemStore(FakeClock(), limit_bytes=8 * MIB)
    for number in range(20_000):
        put(store, b"%d" % number, b"x" * 100)
    before = store.used_bytes
    assert 4 * MIB < before < 7 * MIB
    store.reserve(4 * MIB)
    for number in range(30):
        put(store, b"large%d" % number, b"x" * 200_000)
        assert store.used_bytes <= before + 300_000


def test_growth_is_told_once_it_is_a_part_of_the_limit() -> None:
    store = ItemStore(FakeClock(), limit_bytes=8 * MIB)
    put(store, b"k", b"x" * 1000)
    assert not store.has_grown.is_set()
    for number in range(1000):
        put(store, b"%d" % number, b"x" * 1000)
    assert store.has_grown.is_set()


def fill_until_full(store: ItemStore, size: int = 1000) -> int:
    """Store items until one is refused; return how many were stored."""
    for number in itertools.count():
        if store.store(Mode.SET, b"%08d" % number, wire_bytes(0, b"x" * size)) is Outcome.NO_MEMORY:
            return number
    raise AssertionError


def test_without_evictions_a_full_store_refuses_and_keeps_what_it_has() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, evicts=False)
    count = fill_until_full(store)
    assert count > 700
    assert store.used_bytes <= MIB * 33 // 32
    assert len(store) == count
    assert all(store.get(b"%08d" % number) is not None for number in range(count))
    assert sum(shard.evictions for shard in store.shards) == 0


def test_without_evictions_deleting_makes_room() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, evicts=False)
    fill_until_full(store)
    assert store.delete(b"%08d" % 0)
    assert store.delete(b"%08d" % 1)
    put(store, b"new", b"x" * 1000)


def test_without_evictions_a_refused_set_leaves_no_stale_value() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, evicts=False)
    fill_until_full(store)
    assert store.store(Mode.SET, b"%08d" % 0, wire_bytes(0, b"y" * 3000)) is Outcome.NO_MEMORY
    assert found(store, b"%08d" % 0) is None


@pytest.mark.parametrize("mode", [Mode.ADD, Mode.REPLACE, Mode.APPEND, Mode.PREPEND, Mode.CAS])
def test_without_evictions_other_refused_commands_leave_the_old_value(mode: Mode) -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, evicts=False)
    fill_until_full(store)
    key = b"absent" if mode is Mode.ADD else b"%08d" % 0
    before = found(store, key)
    cas = cas_of(store, key) if mode is Mode.CAS else 0
    assert store.store(mode, key, wire_bytes(0, b"y" * 3000), cas=cas) is Outcome.NO_MEMORY
    assert found(store, key) == before


def test_without_evictions_a_limit_of_items_still_lets_those_there_be_changed() -> None:
    store = ItemStore(FakeClock(), max_items=3, evicts=False)
    for key in (b"a", b"b", b"c"):
        put(store, key, b"old")
    assert store.store(Mode.SET, b"d", wire_bytes(0, b"v")) is Outcome.NO_MEMORY
    put(store, b"a", b"new")
    assert store.store(Mode.APPEND, b"b", wire_bytes(0, b"er")) is Outcome.STORED
    assert {key: value_in(wire_bytes_of(entry)) for key, entry in store.items()} == {
        b"a": b"new",
        b"b": b"older",
        b"c": b"old",
    }


def test_with_evictions_memory_stays_within_its_limit() -> None:
    store = ItemStore(FakeClock(), limit_bytes=4 * MIB, shards=4)
    for number in range(8000):
        put(store, b"%08d" % number, b"x" * 1000)
        assert store.used_bytes <= 4 * MIB * 33 // 32 + 1300
    assert store.used_bytes > 3 * MIB
    assert sum(shard.evictions for shard in store.shards) == 8000 - len(store)
    assert found(store, b"%08d" % 7999) is not None


def keys_of_shard(store: ItemStore, index: int, count: int) -> list[bytes]:
    """Keys that all live in one shard."""
    return list(
        itertools.islice((key for n in itertools.count() if hash(key := b"%08d" % n) & store.mask == index), count)
    )


def test_memory_stays_within_its_limit_when_the_load_moves_between_shards() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=4)
    for index in (0, 1, 2, 3, 0, 1):
        for key in keys_of_shard(store, index, 1200):
            store.put(key, wire_bytes(0, b"x" * 1000))
            assert store.used_bytes <= MIB * 33 // 32 + 1300


def test_growing_items_in_few_big_shards_do_not_outgrow_the_limit() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=64)
    for number in range(200):
        put(store, b"%d" % number, b"x" * (100_000 + number))
        assert store.used_bytes <= MIB * 33 // 32 + 101_000


def test_reads_keep_an_item_while_others_go() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=1)
    put(store, b"read", b"v")
    for number in range(5000):
        put(store, b"%08d" % number, b"x" * 1000)
        assert found(store, b"read") == wire_bytes(0, b"v")
    assert found(store, b"%08d" % 0) is None


def test_a_lower_limit_takes_effect_with_the_next_set() -> None:
    store = ItemStore(FakeClock(), limit_bytes=4 * MIB)
    for number in range(3000):
        put(store, b"%08d" % number, b"x" * 1000)
    store.set_limit(MIB)
    assert store.limit_bytes == MIB
    put(store, b"last", b"v")
    while store.free_some():
        pass
    assert store.used_bytes <= MIB
    assert found(store, b"last") == wire_bytes(0, b"v")


def test_a_higher_limit_lets_more_in() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB)
    store.set_limit(4 * MIB)
    for number in range(3000):
        put(store, b"%08d" % number, b"x" * 1000)
    assert len(store) == 3000


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("limit", [1, 2, 10, 100])
def test_the_number_of_items_never_passes_its_limit(limit: int, shards: int) -> None:
    store = ItemStore(FakeClock(), max_items=limit, shards=shards)
    for number in range(300):
        if number % 2:
            store.put(b"%d" % number, wire_bytes(0, b"v"))
        else:
            put(store, b"%d" % number, b"v")
        assert len(store) == min(limit, number + 1)
        assert found(store, b"%d" % number) is not None


def test_overwriting_at_the_limit_of_items_evicts_nobody() -> None:
    store = ItemStore(FakeClock(), max_items=3, shards=1)
    for key in (b"a", b"b", b"c", b"a", b"b", b"c"):
        put(store, key, b"v")
    assert sum(shard.evictions for shard in store.shards) == 0
    assert len(store) == 3


def test_an_item_larger_than_the_whole_limit_is_alone() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=1)
    for number in range(100):
        put(store, b"%d" % number, b"v")
    put(store, b"huge", b"x" * (2 * MIB))
    assert [key for key, _ in store.items()] == [b"huge"]


# Shards


@pytest.mark.parametrize(
    ("limit_mib", "item_limit_mib", "max_items", "shards"),
    [
        (64, 1, 0, 8),
        (1024, 1, 0, MAX_SHARDS),
        (512, 1, 0, 64),
        (511, 1, 0, 32),
        (1 << 20, 1, 0, MAX_SHARDS),
        (2, 1, 0, 1),
        (64, 32, 0, 1),
        (1024, 1, 100, 1),
        (1024, 1, 255, 1),
        (1024, 1, 256, 2),
        (1024, 1, 1 << 30, MAX_SHARDS),
        (64, 1, 1 << 30, 8),
    ],
)
def test_shards_are_as_many_as_the_limits_let_be_of_use(
    limit_mib: int, item_limit_mib: int, max_items: int, shards: int
) -> None:
    assert choose_shards(limit_mib * MIB, item_limit_mib * MIB, max_items) == shards


def test_a_store_spreads_keys_over_all_its_shards() -> None:
    store = ItemStore(FakeClock(), limit_bytes=64 * MIB, shards=16)
    assert (len(store.shards), store.mask) == (16, 15)
    for number in range(2000):
        put(store, b"key-%d" % number, b"v")
    assert all(len(table) > 40 for table in store.tables)
