"""The thread that frees the memory of expired items that no client reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

from memcache_kv.store.shard import Shard
from memcache_kv.store.store import ItemStore
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading

CRAWLED_AT_ONCE = 128
"""How many keys are checked before other threads get their turn."""
SLEEPS_AT_ONCE = 10
"""How many sleeps of the configured length (`lru_crawler sleep`) are joined into one pause. Shorter pauses would cost
more than the keys between them."""
MIN_PAUSE_SECONDS = 0.0005
"""The shortest pause, also with `lru_crawler sleep 0`: without one the thread would keep the interpreter for whole
switch intervals."""
ROUND_SECONDS = 1.0
MAX_ROUND_SECONDS = 30.0


class Crawler(ServerThread):
    """Walk over the shards that hold items with a deadline, and remove the expired ones.

    Reads tables without locks, and takes a shard's lock for each item that it removes. After a round that finds little,
    it waits longer before the next, up to MAX_ROUND_SECONDS. Any thread may call its methods and set `sleep_us` and
    `tocrawl`.

    enabled: whether it works at all. sleep_us: how long it sleeps, in microseconds. tocrawl: how many keys a requested
    round checks, 0 for all.
    """

    def __init__(self, store: ItemStore, enabled: bool = True, sleep_us: int = 100, tocrawl: int = 0) -> None:
        super().__init__("crawler")
        self.enabled = enabled
        self.sleep_us = sleep_us
        self.tocrawl = tocrawl
        self.starts = 0
        """The number of rounds that were started."""
        self.items_checked = 0
        self.reclaimed = 0
        self._store = store
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """Set, while the lock is held, when the thread must stop what it does and look for what is wanted now."""
        self._stopping = False
        self._requested = False
        self._crawling = False

    @property
    def running(self) -> bool:
        """Whether a round is in progress or was requested."""
        return self._requested or self._crawling

    def request(self) -> bool:
        """Request a round at once. Returns False if a requested round is not finished yet."""
        with self._lock:
            if self._requested:
                return False
            self._requested = True
            self._wake.set()
            return True

    def enable(self) -> bool:
        """Enable the crawler. Returns False if it is enabled already."""
        with self._lock:
            was_enabled, self.enabled = self.enabled, True
            self._wake.set()
            return not was_enabled

    def disable(self) -> None:
        """Disable the crawler, and end a round that is in progress."""
        with self._lock:
            self.enabled = False
            self._wake.set()

    def stop(self) -> None:
        """End the thread. Blocks until it has ended, which takes one pause at most."""
        with self._lock:
            self._stopping = True
            self._wake.set()
        self.join()

    def reset(self) -> None:
        """Reset the counts, as `stats reset` does."""
        self.starts = self.items_checked = self.reclaimed = 0

    def work(self) -> None:
        """Crawl until `stop`."""
        wait_seconds = ROUND_SECONDS
        while True:
            self._wake.wait(wait_seconds if self.enabled else None)
            with self._lock:
                self._wake.clear()
                if self._stopping:
                    return
                enabled, requested = self.enabled, self._requested
            if not enabled:
                self._requested = False
                continue
            reclaimed, checked = self._round(self.tocrawl if requested else 0)
            if requested:
                self._requested = False
            rare = reclaimed * 100 < checked
            wait_seconds = min(wait_seconds * 2, MAX_ROUND_SECONDS) if rare else ROUND_SECONDS

    def crawl(self, most: int = 0) -> int:
        """Walk over all shards once, or over `most` keys if it is not 0. Returns the number of items removed."""
        return self._round(most)[0]

    def finish(self) -> None:
        """Walk over all shards at once, without pauses, unless the crawler is disabled. For a clock that was moved."""
        if self.enabled:
            self._round(0, pauses=False)

    def _round(self, most: int, pauses: bool = True) -> tuple[int, int]:
        """Walk over all shards once. Returns the numbers of items removed and checked."""
        self.starts += 1
        self._crawling = True
        reclaimed = checked = 0
        for shard, keys in self._batches(most, pauses):
            removed = shard.reclaim(keys, self._store.clock.now)
            reclaimed += removed
            checked += len(keys)
            self.reclaimed += removed
            self.items_checked += len(keys)
        self._store.forget_flushed()
        self._crawling = False
        return reclaimed, checked

    def _batches(self, most: int, pauses: bool) -> Iterator[tuple[Shard, list[bytes]]]:
        """Yield the keys to check, a few at a time with a pause after each, until the round must end.

        Without pauses nothing else ends it.
        """
        left = most or sys.maxsize
        for shard in self._store.shards:
            keys = iter(list(shard.table) if shard.expiring else ())
            while left > 0 and (batch := list(islice(keys, min(CRAWLED_AT_ONCE, left)))):
                yield shard, batch
                left -= len(batch)
                if pauses and self._wake.wait(max(MIN_PAUSE_SECONDS, self.sleep_us * SLEEPS_AT_ONCE / 1_000_000)):
                    return
