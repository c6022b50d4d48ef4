"""A store by itself: an LRU and TTL cache of one program, with a journal, for many threads."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from memcache_kv import JournalCorrupt, JournalLocked, NotRunning, Server, Store
from tests.api.left_behind import has_proc, nothing_left_behind
from tests.fake_clock import FakeClock

THREADS, TURNS = 8, 150


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


# Least recently used, and expired


def test_what_is_read_stays_when_the_memory_is_full() -> None:
    with Store(memory_limit=2 << 20, max_item_size=100_000, shards=1) as store:
        store.set("read", b"value")
        for number in range(1_000):
            store.set(str(number), bytes(10_000))
            assert store.get("read") == b"value"
        assert (store.get("0"), store.get("999")) == (None, bytes(10_000))
        assert 50 < len(store) < 250


def test_the_number_of_items_may_be_limited() -> None:
    with Store(max_items=100, shards=1) as store:
        for number in range(1_000):
            store.set(str(number), b"value")
        assert 90 <= len(store) <= 100


def test_items_expire_by_the_stores_clock() -> None:
    clock = FakeClock()
    with Store(clock=clock) as store:
        store.set("short", b"value", ttl=10)
        store.set("long", b"value", ttl=100)
        clock.advance(10)
        assert (store.get("short"), store.get("long")) == (None, b"value")
        assert [key for key, _ in store.items()] == [b"long"]


# Opening again


def test_a_journal_keeps_items_flags_and_expiry_times(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Store(journal=tmp_path, clock=clock)
    with store:
        store.set("for-good", b"value", flags=7)
        store.set("for-now", b"value", ttl=100)
        store.set("deleted", b"value")
        store.delete("deleted")
    clock.advance(60)
    with store:
        assert [(each.value, each.flags, each.expires) for _, each in sorted(store.items())] == [
            (b"value", 7, 0),
            (b"value", 0, clock.now + 40),
        ]
        store.set("again", b"value")
    clock.advance(40)
    with Store(journal=tmp_path, clock=clock) as other:
        assert sorted(key for key, _ in other.items()) == [b"again", b"for-good"]


def test_a_server_and_a_store_read_each_others_journals(tmp_path: Path) -> None:
    with Server(journal=tmp_path) as server:
        server.store.set("key", b"value")
    with Store(journal=tmp_path) as store:
        assert store.get("key") == b"value"
        with pytest.raises(JournalLocked):
            Server(journal=tmp_path).start()
        store.set("key", b"other")
    with Server(journal=tmp_path) as server:
        assert server.store.get("key") == b"other"


def test_what_is_open_may_be_opened_and_what_is_closed_may_be_closed(tmp_path: Path) -> None:
    with nothing_left_behind() if has_proc else ExitStack():
        store = Store(journal=tmp_path / "journal")
        store.close()
        with pytest.raises(NotRunning):
            store.get("key")
        assert store.open() is store.open()
        store.set("key", b"value")
        store.close()
        store.close()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "foreign").write_text("data")
        for path, error in ((tmp_path / "journal", JournalLocked), (tmp_path / "other", JournalCorrupt)):
            with store, pytest.raises(error):
                Store(journal=path).open()


# Many threads


@pytest.mark.parametrize("fsync", [None, "everysec", "always"])
def test_no_change_of_many_threads_is_lost(tmp_path: Path, pool: ThreadPoolExecutor, fsync: str | None) -> None:
    store = Store(journal=tmp_path, fsync=fsync) if fsync else Store()
    turns = TURNS if fsync != "always" else TURNS // 10
    with store:
        store.set("sum", b"0")
        store.set("compared", b"0")

        def change(number: int) -> int:
            for turn in range(turns):
                store.incr("sum")
                store.set(f"{number}-{turn}", b"%d" % turn)
                assert store.get(f"{number}-{turn}") == b"%d" % turn
                while not compared_and_set():
                    pass
                if turn % 2:
                    assert store.delete(f"{number}-{turn}")
            return turns

        def compared_and_set() -> bool | None:
            found = store.gets("compared")
            assert found is not None
            return store.cas("compared", b"%d" % (int(found.value) + 1), found.cas)

        total = sum(pool.map(change, range(THREADS)))
        expected = (b"%d" % total, b"%d" % total, 2 + THREADS * -(-turns // 2))
        assert (store.get("sum"), store.get("compared"), len(store)) == expected
    if fsync:
        with store:
            assert (store.get("sum"), store.get("compared"), len(store)) == expected


def test_one_of_many_threads_adds_a_key_and_one_deletes_it(pool: ThreadPoolExecutor) -> None:
    with Store() as store:
        barrier = threading.Barrier(THREADS)

        def race(_: int) -> tuple[bool, bool]:
            barrier.wait(60)
            added = store.add("key", b"value")
            barrier.wait(60)
            return added, store.delete("key")

        for _ in range(20):
            outcomes = list(pool.map(race, range(THREADS)))
            assert (sum(added for added, _ in outcomes), sum(deleted for _, deleted in outcomes)) == (1, 1)


def test_threads_that_fill_the_memory_see_whole_values_only(pool: ThreadPoolExecutor) -> None:
    with Store(memory_limit=2 << 20, max_item_size=100_000) as store:

        def fill(number: int) -> None:
            rnd = random.Random(number)
            for _ in range(TURNS):
                name = rnd.randrange(400)
                store.set(str(name), b"%d" % (name % 10) * rnd.randrange(1, 20_000))
                other = rnd.randrange(400)
                value = store.get(str(other))
                assert value is None or value == b"%d" % (other % 10) * len(value)

        list(pool.map(fill, range(THREADS)))
        assert 0 < sum(len(value.value) for _, value in store.items()) < 2 << 20


def test_a_close_beside_other_threads_ends_them_with_not_running(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    store = Store(journal=tmp_path).open()
    began = threading.Barrier(THREADS + 1)

    def write(number: int) -> int:
        began.wait(60)
        for turn in range(1 << 30):
            try:
                store.set(f"{number}-{turn}", b"value")
            except NotRunning:
                return turn
        raise AssertionError("the store is never closed")

    writers = [pool.submit(write, number) for number in range(THREADS)]
    began.wait(60)
    store.close()
    written = sum(writer.result(60) for writer in writers)
    with store:
        assert written <= len(store) <= written + THREADS
