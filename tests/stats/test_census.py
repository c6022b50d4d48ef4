"""Counts of items by size."""

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.stats.census import SMALL_STORE_ITEMS, Census, Counts
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import pack, wire_bytes_of
from memcache_kv.store.sizes import ClassContents
from memcache_kv.store.writes import Mode
from tests.fake_clock import FakeClock
from tests.protocol.context_factory import Conversation, Surroundings


@pytest.fixture
def store() -> ItemStore:
    return ItemStore(FakeClock(), shards=2)


def counted(census: Census) -> tuple[Counts, int]:
    """The counts, and how many steps they took."""
    steps = list(census.count())
    assert isinstance(steps[-1], Counts)
    return steps[-1], len(steps) - 1


def fill(store: ItemStore, count: int) -> None:
    for number in range(count):
        store.put(b"key%d" % number, pack(0, b"x"))


def test_every_kind_of_entry_is_in_the_class_of_its_size(store: ItemStore) -> None:
    store.store(Mode.SET, b"plain", pack(0, b"x" * 100))
    store.store(Mode.SET, b"flags", pack(77, b"x" * 100))
    store.store(Mode.SET, b"expiring", pack(0, b"x" * 300), store.clock.now + 100)
    store.store(Mode.SET, b"with cas", pack(5, b"x" * 700), store.clock.now + 100)
    store.store(Mode.SET, b"cas", pack(5, b"x" * 1000))
    store.gets(b"cas")
    store.store(Mode.SET, b"large", pack(1, b"x" * 9000))
    expected: dict[int, ClassContents] = {}
    for key, entry in store.items():
        item_bytes = store.sizes.item_bytes(key, wire_bytes_of(entry))
        here = expected.setdefault(store.class_of(key, entry), ClassContents(store.clock.now))
        here.number += 1
        here.item_bytes += item_bytes
        here.chunks += 1
    assert counted(Census(store))[0].classes == expected


def test_sizes_add_up_to_what_is_used(store: ItemStore) -> None:
    for number in range(100):
        store.store(Mode.SET, b"k%d" % number, pack(0, bytes(number * 20)))
    sizes = counted(Census(store, with_sizes=True))[0].sizes
    assert sum(sizes.values()) == 100
    total = sum(size * count for size, count in sizes.items())
    assert store.used_bytes <= total < store.used_bytes + 32 * 100


def test_nothing_is_counted_again_while_nothing_changes(store: ItemStore) -> None:
    fill(store, 10)
    census = Census(store)
    assert counted(census)[1] > 0
    assert counted(census)[1] == 0
    store.put(b"other", pack(0, b"x"))
    assert counted(census)[0].classes[1].number == 11


def test_counts_of_many_items_serve_for_a_moment_whatever_changes(
    store: ItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcache_kv.stats.census.SHORTEST_AGE_SECONDS", 1e9)
    fill(store, SMALL_STORE_ITEMS + 1)
    census = Census(store)
    assert counted(census)[1] > 0
    store.put(b"other", pack(0, b"x"))
    assert counted(census)[1] == 0


def test_all_who_ask_take_part_in_one_count(store: ItemStore) -> None:
    fill(store, SMALL_STORE_ITEMS * 2)
    alone = counted(Census(store))[1]
    census = Census(store)
    askers = [census.count() for _ in range(4)]
    steps, results = 0, 0
    while results < len(askers):
        for asker in askers:
            for counts in asker:
                steps += counts is None
                results += counts is not None
                break
    assert steps <= alone + len(askers)


def test_a_count_that_nobody_waits_for_is_given_up_and_begun_anew(store: ItemStore) -> None:
    fill(store, SMALL_STORE_ITEMS * 2)
    census = Census(store)
    asker = census.count()
    next(asker)
    next(asker)
    del asker
    assert counted(census)[0].classes[1].number == SMALL_STORE_ITEMS * 2


def test_a_packet_full_of_stats_counts_the_items_once() -> None:
    around = Surroundings(Settings(track_sizes=True))
    fill(around.store, 50 * SMALL_STORE_ITEMS // 10)
    conversation = Conversation(around)
    words = (b"stats items\r\n", b"stats slabs\r\n", b"stats sizes\r\n")
    replies = conversation.feed(b"".join(words) * 300)
    assert replies.count(b"END\r\n") == 900
    assert replies.count(b"items:1:number %d" % len(around.store)) == 300
