"""Restoring a journal's items within the limits."""

import sys

import pytest

from memcache_kv.config.memcached_options import MIB
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import make_entry
from memcache_kv.store.entry import pack as wire_bytes
from memcache_kv.store.restoring import LeftOut, Restoring
from tests.fake_clock import FakeClock
from tests.store.calls import put
from tests.store.test_model import check_accounting

VALUE = wire_bytes(0, b"x" * 1000)


def key_of(number: int) -> bytes:
    return b"%08d" % number


def restore(restoring: Restoring, numbers: range) -> None:
    """Restore items of these numbers, and hold the limits after each."""
    for number in numbers:
        restoring.put(key_of(number), VALUE)
        restoring.hold()


def numbers_in(store: ItemStore) -> list[int]:
    return sorted(int(key) for key, _ in store.items())


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("evicts", [True, False])
def test_the_oldest_are_left_out_while_there_is_no_room(shards: int, evicts: bool) -> None:
    clock = FakeClock()
    store = ItemStore(clock, limit_bytes=MIB, evicts=evicts, shards=shards)
    restoring = store.restoring()
    for number in range(4000):
        restoring.put(key_of(number), make_entry(key_of(number), VALUE, clock.now + 10 if number % 3 else 0))
        restoring.hold()
        assert store.used_bytes <= MIB * 65 // 64
    restoring.finish()
    assert restoring.no_room == 4000 - len(store)
    assert MIB * 15 // 16 < store.used_bytes <= MIB
    check_accounting(store)
    for shard in store.shards:
        kept = {int(key) for key in shard.table}
        last = [number for number in range(4000) if store.shards[hash(key_of(number)) & store.mask] is shard]
        assert len(kept - set(last[-len(kept) :])) < 5, "but for a few that are taken for others that came back"
    assert sum(shard.evictions + shard.second_chances for shard in store.shards) == 0


def test_each_table_counts_like_the_largest_once_items_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.store.limits.SLOT_BYTES", 1)  # nearly all of a table is beyond that
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=2)
    restoring = store.restoring()
    first, second = store.shards
    for key in map(key_of, range(20_000)):
        if not hash(key) & store.mask:
            had_left_out = restoring.left_out is not None
            restoring.put(key, wire_bytes(0, b"x"))
            restoring.hold()
            if had_left_out:
                excess = first.table.__sizeof__() - len(first.table)
                assert store.used_bytes + 2 * excess <= MIB * 65 // 64
                assert store.coming_bytes == excess - second.table.__sizeof__()
    assert restoring.left_out is not None
    assert not second.table
    restoring.finish()
    assert store.coming_bytes == 0


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("evicts", [True, False])
def test_no_more_items_are_left_than_there_may_be(evicts: bool, holds: bool) -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, evicts=evicts, shards=4, max_items=100)
    restoring = store.restoring()
    for number in range(1000):
        restoring.put(key_of(number), wire_bytes(0, b"x"))
        if holds:
            restoring.hold()
            assert len(store) <= 101
    restoring.finish()
    assert restoring.no_room == 900
    assert len(store) == 100
    check_accounting(store)


def test_a_table_does_not_grow_by_what_is_left_out() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=1)
    restoring = store.restoring()
    sizes = set()
    for number in range(50_000):
        restoring.put(key_of(number), wire_bytes(0, b"x"))
        restoring.hold()
        sizes.add(sys.getsizeof(store.tables[0]))
    assert max(sizes) < 1_000_000


def test_a_table_gives_back_what_many_small_items_took() -> None:
    store = ItemStore(FakeClock(), limit_bytes=2 * MIB, shards=1)
    restoring = store.restoring()
    table = store.tables[0]
    for number in range(11_000):
        restoring.put(key_of(number), wire_bytes(0, b"x"))
    large = sys.getsizeof(table)
    for number in range(11_000, 11_400):
        restoring.put(key_of(number), wire_bytes(0, b"x" * 5000))
        restoring.hold()
    assert store.tables[0] is table
    assert sys.getsizeof(table) < large / 4
    assert [*table] == sorted(table), "the order stays"
    check_accounting(store)


def test_a_large_eviction_order_counts_once_items_were_left_out() -> None:
    store = ItemStore(FakeClock(), limit_bytes=8 * MIB, shards=1)
    restoring = store.restoring()
    for number in range(60_000):
        restoring.put(key_of(number), wire_bytes(0, b"x"))
        restoring.hold()
    order = store.shards[0].order
    excess = len(order.marks) + 2 * len(order.ghosts) - 5 * len(store)
    assert excess > MIB // 8
    assert store.used_bytes + excess < 8.3 * MIB
    restoring.finish()
    assert store.used_bytes <= 8 * MIB


def test_what_fits_stays_and_evictions_begin_with_what_came_first() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=1)
    restoring = store.restoring()
    restore(restoring, range(800))
    restoring.finish()
    assert restoring.no_room == 0
    assert store.records_access
    for number in range(800, 1000):
        put(store, key_of(number), b"x" * 1000)
    gone = [number for number in range(1000) if store.get(key_of(number)) is None]
    assert gone
    assert gone == list(range(len(gone)))


def test_what_a_running_store_held_without_an_eviction_is_restored_as_a_whole() -> None:
    live = ItemStore(FakeClock(), limit_bytes=MIB, shards=8)
    number = 0
    while not sum(shard.evictions for shard in live.shards):
        before = numbers_in(live)
        put(live, key_of(number), b"x" * 1000)
        number += 1
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=8)
    restoring = store.restoring()
    restore(restoring, range(len(before)))
    restoring.finish()
    assert (numbers_in(store), restoring.no_room) == (before, 0)


def test_what_a_later_record_needs_is_left_out_last() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, shards=2)
    restoring = store.restoring()
    needed = {key_of(number) for number in range(100)}
    for number in range(4000):
        restoring.put(key_of(number), VALUE)
        restoring.hold(needed.__contains__)
    assert numbers_in(store)[:100] == list(range(100))
    restoring.hold(lambda _: True, other_bytes=MIB // 2)
    assert store.used_bytes <= MIB // 2 + MIB // 64
    restoring.hold(other_bytes=2 * MIB)
    assert len(store) == 0


def test_what_was_stored_again_or_removed_is_not_counted_as_left_out() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, max_items=100, shards=1)
    restoring = store.restoring()
    restore(restoring, range(150))
    assert restoring.no_room == 150 - len(store)
    before = restoring.no_room
    restoring.remove(key_of(0))
    restoring.remove(key_of(0))
    restoring.remove(b"never there")
    assert restoring.no_room == before - 1
    restoring.put(key_of(1), VALUE)
    restoring.put(key_of(1), VALUE)
    assert restoring.no_room == before - 2
    restoring.flushed()
    assert restoring.no_room == 0


def test_an_item_that_is_stored_again_outlives_one_that_is_not() -> None:
    store = ItemStore(FakeClock(), limit_bytes=MIB, max_items=100, shards=1)
    restoring = store.restoring()
    restore(restoring, range(102))
    assert restoring.no_room == 2
    restoring.put(key_of(10), VALUE)
    restore(restoring, range(102, 150))
    left = numbers_in(store)
    assert 10 in left
    assert 11 not in left


def test_a_key_that_takes_the_place_of_another_counts_too_much_and_never_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memcache_kv.store.restoring.MIN_PRINTS", 1)
    left_out = LeftOut(1)
    for number in range(50):
        left_out.add(key_of(number))
    for number in range(50):
        left_out.discard(key_of(number))
    assert 0 < left_out.count < 50
