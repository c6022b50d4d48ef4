"""The crawler: it gives back the memory of what expired unread."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from memcache_kv.store import ItemStore, Mode, crawler
from memcache_kv.store.crawler import CRAWLED_AT_ONCE, Crawler
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock

TTL = 10
FOREVER_US = 1_000_000 * 10_000


@pytest.fixture
def expired() -> ItemStore:
    """A store of one shard full of items that have expired, more than are looked at at once."""
    clock = FakeClock()
    store = ItemStore(clock, shards=1)
    fill(store, 2 * CRAWLED_AT_ONCE, TTL)
    clock.advance(TTL)
    return store


@pytest.fixture
def started(expired: ItemStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crawler]:
    """A crawler of it that rests until asked."""
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 100_000.0)
    thread = Crawler(expired, sleep_us=0)
    thread.start()
    yield thread
    thread.stop()
    assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def fill(store: ItemStore, count: int, ttl: int, prefix: bytes = b"k") -> None:
    for number in range(count):
        store.store(Mode.SET, b"%b%d" % (prefix, number), pack(0, b"v" * 100), store.deadline(ttl))


def test_what_expired_unread_gives_its_memory_back() -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=4)
    fill(store, 1000, TTL)
    clock.advance(TTL)
    assert len(store) == 1000
    assert Crawler(store).crawl() == 1000
    assert (len(store), store.used_bytes) == (0, 0)
    assert sum(shard.reclaimed for shard in store.shards) == 0, "what the crawler takes counts as its own"
    assert sum(shard.expiring for shard in store.shards) == 0


def test_what_lives_stays() -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=4)
    fill(store, 100, TTL, b"dying")
    fill(store, 100, TTL + 1, b"living")
    fill(store, 100, 0, b"immortal")
    clock.advance(TTL)
    assert Crawler(store).crawl() == 100
    assert {key[:3] for key, _ in store.items()} == {b"liv", b"imm"}
    assert len(store) == 200


def test_shards_without_deadlines_are_skipped() -> None:
    store = ItemStore(FakeClock(), shards=4)
    fill(store, 100, 0)
    crawler_of_it = Crawler(store)
    assert crawler_of_it.crawl() == 0
    assert (crawler_of_it.items_checked, crawler_of_it.starts) == (0, 1)
    store.store(Mode.SET, b"one", pack(0, b"v"), store.deadline(TTL))
    crawler_of_it.crawl()
    assert crawler_of_it.items_checked == max(len(shard.table) for shard in store.shards if shard.expiring)


def test_one_round_checks_every_key_of_a_large_shard() -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=1)
    fill(store, 2 * CRAWLED_AT_ONCE + 1, TTL)
    clock.advance(TTL)
    crawler_of_it = Crawler(store)
    assert crawler_of_it.crawl() == 2 * CRAWLED_AT_ONCE + 1
    assert crawler_of_it.items_checked == 2 * CRAWLED_AT_ONCE + 1


def test_the_thread_reclaims_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.001)
    clock = FakeClock()
    store = ItemStore(clock)
    fill(store, 100, TTL)
    thread = Crawler(store)
    thread.start()
    try:
        clock.advance(TTL)
        give_up_at = time.monotonic() + 30
        while len(store) and time.monotonic() < give_up_at:
            time.sleep(0.001)
        assert len(store) == 0
    finally:
        thread.stop()
    assert not thread.is_alive()


def test_stop_does_not_wait_for_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 100_000.0)
    thread = Crawler(ItemStore(FakeClock()))
    thread.start()
    thread.stop()
    assert not thread.is_alive()
    assert thread.starts == 0


def test_stop_in_the_middle_of_a_round_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.0)
    clock = FakeClock()
    store = ItemStore(clock, shards=1)
    fill(store, 2 * CRAWLED_AT_ONCE, TTL)
    clock.advance(TTL)
    thread = Crawler(store, sleep_us=FOREVER_US)
    thread.start()
    stopper = threading.Thread(target=thread.stop)
    while not thread.items_checked:
        time.sleep(0.001)
    stopper.start()
    stopper.join()
    assert not thread.is_alive()
    assert len(store) == CRAWLED_AT_ONCE


def test_a_round_that_is_asked_for_comes_at_once(started: Crawler, expired: ItemStore) -> None:
    assert not started.running
    assert started.request()
    wait_until(lambda: not started.running)
    assert len(expired) == 0
    assert (started.starts, started.reclaimed, started.items_checked) == (1, 2 * CRAWLED_AT_ONCE, 2 * CRAWLED_AT_ONCE)


def test_a_second_round_is_refused_while_the_first_runs_and_taken_after_it(started: Crawler) -> None:
    started.sleep_us = FOREVER_US
    assert started.request()
    assert started.running
    assert not started.request()
    wait_until(lambda: started.items_checked > 0)
    assert not started.request()
    started.disable()
    wait_until(lambda: not started.running)
    started.enable()
    assert started.request()


def test_a_request_ends_the_round_under_way_and_is_carried_out_whole(
    expired: ItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.0)
    thread = Crawler(expired, sleep_us=FOREVER_US)
    thread.start()
    wait_until(lambda: thread.items_checked > 0)
    thread.sleep_us = 0
    assert thread.request()
    wait_until(lambda: not thread.running or thread.starts > 2)
    thread.stop()
    assert len(expired) == 0


@pytest.mark.parametrize("most", [1, CRAWLED_AT_ONCE, CRAWLED_AT_ONCE + 1])
def test_a_round_looks_at_no_more_keys_than_it_is_told(expired: ItemStore, most: int) -> None:
    thread = Crawler(expired, sleep_us=0)
    assert thread.crawl(most) == most
    assert thread.items_checked == most
    assert len(expired) == 2 * CRAWLED_AT_ONCE - most


def test_the_number_of_keys_is_that_of_the_round_and_not_of_a_shard() -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=4)
    fill(store, 100, TTL)
    clock.advance(TTL)
    assert Crawler(store, sleep_us=0).crawl(60) == 60


def test_a_round_that_is_asked_for_obeys_tocrawl(started: Crawler, expired: ItemStore) -> None:
    started.tocrawl = 7
    started.request()
    wait_until(lambda: not started.running)
    assert len(expired) == 2 * CRAWLED_AT_ONCE - 7


def test_a_disabled_crawler_rests(expired: ItemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.0)
    thread = Crawler(expired, enabled=False, sleep_us=0)
    thread.start()
    time.sleep(0.05)
    assert (thread.starts, len(expired)) == (0, 2 * CRAWLED_AT_ONCE)
    assert thread.enable()
    wait_until(lambda: len(expired) == 0)
    assert not thread.enable()
    thread.stop()


def test_to_disable_it_ends_the_round_under_way(started: Crawler, expired: ItemStore) -> None:
    started.sleep_us = FOREVER_US
    started.request()
    wait_until(lambda: started.items_checked > 0)
    started.disable()
    wait_until(lambda: not started.running)
    assert len(expired) == CRAWLED_AT_ONCE


def test_a_reset_starts_its_counts_anew(expired: ItemStore) -> None:
    thread = Crawler(expired, sleep_us=0)
    thread.crawl()
    thread.reset()
    assert (thread.starts, thread.items_checked, thread.reclaimed) == (0, 0, 0)


def test_a_round_lets_go_of_what_a_flush_left() -> None:
    store = ItemStore(FakeClock(), shards=2)
    fill(store, 100, 0)
    store.flush()
    assert sum(len(shard.flushed) for shard in store.shards) == 100
    Crawler(store, sleep_us=0).crawl()
    assert sum(len(shard.flushed) for shard in store.shards) == 0


def test_after_a_round_a_miss_takes_no_lock_any_more() -> None:
    store = ItemStore(FakeClock(), shards=1)
    fill(store, 100, 0)
    store.flush()
    Crawler(store, sleep_us=0).crawl()
    with store.shards[0].lock:
        reader = threading.Thread(target=store.get, args=(b"k1",), daemon=True)
        reader.start()
        reader.join(10)
        assert not reader.is_alive()


class Intruder:
    """A lock, before the first taking of which something else happens."""

    def __init__(self, lock: threading.Lock, happens: Callable[[], None]) -> None:
        self._lock = lock
        self._happens: Callable[[], None] | None = happens

    def acquire(self) -> None:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_flush_in_the_middle_of_forgetting_the_last_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    store = ItemStore(FakeClock(), shards=4)

    def fill_and_flush() -> None:
        for number in range(100):
            store.put(b"k%d" % number, pack(0, b"v"))
        store.flush()

    fill_and_flush()
    shard = store.shards[place]
    monkeypatch.setattr(shard, "lock", Intruder(shard.lock, fill_and_flush))
    store.forget_flushed()
    left = [key for shard in store.shards for key in shard.flushed]
    assert bool(left) is (place > 0)
    for number in range(100):
        store.get(b"k%d" % number)
    assert sum(shard.get_flushed for shard in store.shards) == len(left)
