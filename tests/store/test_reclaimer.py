"""Freeing in slices: a flush, a lower limit and large values do a bounded part of the work at a time."""

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

from memcache_kv.store import Entry, ItemStore
from memcache_kv.store.entry import pack
from memcache_kv.store.garbage import FREED_AT_ONCE, FREED_BYTES_AT_ONCE, Garbage
from memcache_kv.store.limits import EVICTED_AT_ONCE
from memcache_kv.store.reclaimer import Reclaimer
from tests.fake_clock import FakeClock
from tests.program import PATIENCE_SECONDS

MIB = 1 << 20
ITEMS = 20_000


def filled(store: ItemStore, items: int = ITEMS, value: bytes = b"v") -> ItemStore:
    for number in range(items):
        store.put(b"%d" % number, pack(0, value))
    return store


@pytest.fixture
def store() -> ItemStore:
    return filled(ItemStore(FakeClock(), shards=4))


def free_all(store: ItemStore) -> int:
    """Free what waits; return the number of slices."""
    slices = 1
    while store.free_some():
        slices += 1
    return slices


def blocks_freed(store: ItemStore) -> Iterator[int]:
    """How many blocks of memory each slice frees."""
    more = True
    while more:
        before = sys.getallocatedblocks()
        more = store.free_some()
        yield before - sys.getallocatedblocks()


def test_a_flush_does_not_wait_for_a_step_that_waits_for_a_shard() -> None:
    """A flush holds the locks of all shards when it adds its work."""
    garbage, has_begun, has_lock, freed = Garbage(), threading.Event(), threading.Event(), list[bool]()

    def step() -> Iterator[int]:
        has_begun.set()
        freed.append(has_lock.wait(PATIENCE_SECONDS))
        yield 5

    garbage.add(5, step())
    release = threading.Thread(target=garbage.release)
    release.start()
    assert has_begun.wait(PATIENCE_SECONDS)
    flush = threading.Thread(target=garbage.add, args=(7,))
    flush.start()
    flush.join(PATIENCE_SECONDS)
    assert (garbage.bytes, freed) == (12, [])
    has_lock.set()
    release.join()
    assert (garbage.bytes, freed) == (7, [True])


def test_a_flush_itself_frees_nothing_and_hides_everything(store: ItemStore) -> None:
    before = sys.getallocatedblocks()
    store.flush()
    assert before - sys.getallocatedblocks() < 100
    assert store.get(b"7") is None
    assert (len(store), store.used_bytes, list(store.items())) == (0, 0, [])


@pytest.mark.parametrize("memory", [MIB, 1 << 30], ids=["with an eviction order", "without"])
def test_flushes_of_an_empty_store_make_no_work(memory: int) -> None:
    store = filled(ItemStore(FakeClock(), shards=4, limit_bytes=memory))
    for _ in range(3):
        store.flush()
    free_all(store)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        store.flush()
    assert sys.getallocatedblocks() - before < 100
    assert free_all(store) == 1


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Let the garbage collector free nothing of other tests meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_a_flush_removed_is_freed_a_few_items_at_a_time(store: ItemStore) -> None:
    store.flush()
    before = sys.getallocatedblocks()
    assert max(blocks_freed(store)) <= FREED_AT_ONCE + 100
    assert before - sys.getallocatedblocks() > ITEMS - 100


def test_large_values_are_freed_fewer_at_a_time() -> None:
    store = filled(ItemStore(FakeClock(), shards=1), 40, b"x" * 500_000)
    store.flush()
    assert free_all(store) >= 40 * 500_000 / (FREED_BYTES_AT_ONCE + 500_000)


def test_memory_counts_until_it_is_freed(store: ItemStore) -> None:
    tables, used = store.table_bytes, store.used_bytes
    store.flush()
    assert store.real_bytes >= used
    free_all(store)
    assert store.real_bytes < tables


def test_the_keys_are_known_as_flushed_until_they_are_forgotten(store: ItemStore) -> None:
    store.flush()
    free_all(store)
    assert store.was_flushed(b"7")
    store.get(b"7")
    store.put(b"8", pack(0, b"new"))
    assert not store.was_flushed(b"7")
    assert not store.was_flushed(b"8")
    assert sum(shard.get_flushed for shard in store.shards) == 1
    store.forget_flushed()
    assert not store.was_flushed(b"9")
    free_all(store)
    assert store.get(b"8") == pack(0, b"new")


def test_what_commands_took_out_meanwhile_is_accounted_for_too(store: ItemStore) -> None:
    store.flush()
    for number in range(0, ITEMS, 2):
        store.get(b"%d" % number)
    store.flush()
    free_all(store)
    assert store.real_bytes == store.table_bytes


def test_a_write_that_needs_room_takes_it_from_what_was_flushed() -> None:
    store = ItemStore(FakeClock(), limit_bytes=8 * MIB, item_limit_bytes=MIB, shards=2)
    filled(store, 30, b"x" * 250_000)
    store.flush()
    for number in range(60):
        store.put(b"new%d" % number, pack(0, b"x" * 250_000))
        assert store.real_bytes - store.table_bytes <= 8 * MIB + 250_000 + FREED_BYTES_AT_ONCE
    assert len(store) >= 25


def test_a_lower_limit_costs_one_write_a_few_evictions(store: ItemStore) -> None:
    before = len(store)
    store.set_limit(MIB)
    store.put(b"new", pack(0, b"v"))
    assert before - 2 * EVICTED_AT_ONCE < len(store) < before
    slices = free_all(store)
    assert slices > (before - len(store)) / (2 * EVICTED_AT_ONCE)
    assert store.used_bytes <= MIB
    assert store.get(b"new") == pack(0, b"v")


def test_what_was_stored_under_a_high_limit_is_not_evicted_by_the_next_write() -> None:
    store = filled(ItemStore(FakeClock(), shards=64, limit_bytes=1 << 30), 5 * ITEMS)
    store.set_limit(MIB)
    store.put(b"one more", pack(0, b"v"))
    assert len(store) > 5 * ITEMS - 2 * EVICTED_AT_ONCE


def test_a_lower_limit_holds_by_writes_alone(store: ItemStore) -> None:
    store.set_limit(MIB)
    for number in range(ITEMS):
        store.put(b"new%d" % number, pack(0, b"v"))
    assert store.used_bytes <= MIB


def test_large_values_never_outgrow_the_limit_by_more_than_one() -> None:
    store = filled(ItemStore(FakeClock(), limit_bytes=8 * MIB, shards=4), 60_000)
    for number in range(40):
        store.put(b"large%d" % number, pack(0, b"x" * 900_000))
        assert store.used_bytes <= 8 * MIB + 1_000_000


def test_the_eviction_order_begins_in_one_shard_at_a_time(store: ItemStore) -> None:
    store.set_limit(store.used_bytes * 3 // 2)
    kept = []
    for number in range(4):
        store.put(b"0", pack(0, b"v" * (number + 2)))
        for shard in store.shards:
            shard.check_at_bytes = 0
        kept.append(sum(shard.order.is_kept for shard in store.shards))
    assert kept == [1, 2, 3, 4]


def test_nothing_waits_in_a_store_that_may_not_evict() -> None:
    store = filled(ItemStore(FakeClock(), evicts=False), 10_000)
    store.set_limit(MIB)
    assert not store.free_some()
    assert len(store) == 10_000


def test_the_thread_frees_what_waits_and_holds_a_lowered_limit(store: ItemStore) -> None:
    done = threading.Event()

    class Watched(ItemStore):
        def free_some(self) -> bool:
            has_more = super().free_some()
            if not has_more:
                done.set()
            return has_more

    watched = Watched(FakeClock(), shards=4)
    thread = Reclaimer(watched)
    thread.start()
    try:
        filled(watched)
        done.clear()
        watched.set_limit(MIB)
        assert done.wait(30)
        assert 0 < watched.used_bytes <= MIB
        done.clear()
        watched.flush()
        assert done.wait(30)
        assert watched.real_bytes == watched.table_bytes
    finally:
        thread.stop()
    assert not thread.is_alive()


def test_a_reader_sees_an_old_table_or_the_new_one() -> None:
    store = ItemStore(FakeClock(), shards=1)
    seen: list[Entry | None] = []
    store.put(b"k", pack(0, b"old"))
    tables = store.tables
    store.flush()
    store.put(b"k", pack(0, b"new"))
    free_all(store)
    seen.append(tables[0].get(b"k"))
    assert seen == [pack(0, b"new")]
