"""The crawler: it gives back the memory of what expired unread."""

import threading
import time

import pytest

from memcache_kv.store import Mode, Store, crawler
from memcache_kv.store.crawler import KEYS_AT_ONCE, Crawler
from memcache_kv.store.item import pack
from tests.fake_clock import FakeClock

TTL = 10


def fill(store: Store, count: int, ttl: int, prefix: bytes = b"k") -> None:
    for number in range(count):
        store.store(Mode.SET, b"%b%d" % (prefix, number), pack(0, b"v" * 100), store.deadline(ttl))


def test_what_expired_unread_gives_its_memory_back() -> None:
    clock = FakeClock()
    store = Store(clock, shards=4)
    fill(store, 1000, TTL)
    clock.advance(TTL)
    assert len(store) == 1000
    assert Crawler(store).crawl() == 1000
    assert (len(store), store.used_bytes) == (0, 0)
    assert sum(shard.reclaimed for shard in store.shards) == 1000
    assert sum(shard.expiring for shard in store.shards) == 0


def test_what_lives_stays() -> None:
    clock = FakeClock()
    store = Store(clock, shards=4)
    fill(store, 100, TTL, b"dying")
    fill(store, 100, TTL + 1, b"living")
    fill(store, 100, 0, b"immortal")
    clock.advance(TTL)
    assert Crawler(store).crawl() == 100
    assert {key[:3] for key, _ in store.items()} == {b"liv", b"imm"}
    assert len(store) == 200


def test_shards_without_deadlines_are_skipped() -> None:
    store = Store(FakeClock(), shards=4)
    fill(store, 100, 0)
    crawler_of_it = Crawler(store)
    assert crawler_of_it.crawl() == 0
    assert (crawler_of_it.items_checked, crawler_of_it.rounds) == (0, 1)
    store.store(Mode.SET, b"one", pack(0, b"v"), store.deadline(TTL))
    crawler_of_it.crawl()
    assert crawler_of_it.items_checked == max(len(shard.table) for shard in store.shards if shard.expiring)


def test_one_round_checks_every_key_of_a_large_shard() -> None:
    clock = FakeClock()
    store = Store(clock, shards=1)
    fill(store, 2 * KEYS_AT_ONCE + 1, TTL)
    clock.advance(TTL)
    crawler_of_it = Crawler(store)
    assert crawler_of_it.crawl() == 2 * KEYS_AT_ONCE + 1
    assert crawler_of_it.items_checked == 2 * KEYS_AT_ONCE + 1


def test_the_thread_reclaims_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.001)
    clock = FakeClock()
    store = Store(clock)
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
    thread = Crawler(Store(FakeClock()))
    thread.start()
    thread.stop()
    assert not thread.is_alive()
    assert thread.rounds == 0


def test_stop_in_the_middle_of_a_round_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler, "PAUSE_SECONDS", 100_000.0)
    monkeypatch.setattr(crawler, "ROUND_SECONDS", 0.0)
    clock = FakeClock()
    store = Store(clock, shards=1)
    fill(store, 2 * KEYS_AT_ONCE, TTL)
    clock.advance(TTL)
    thread = Crawler(store)
    thread.start()
    stopper = threading.Thread(target=thread.stop)
    while not thread.items_checked:
        time.sleep(0.001)
    stopper.start()
    stopper.join()
    assert not thread.is_alive()
    assert len(store) == KEYS_AT_ONCE
