"""The thread that gives back the memory of items that expired and that nobody reads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from itertools import islice

from memcache_kv.store.shard import Shard
from memcache_kv.store.store import Store
from memcache_kv.threads import ServerThread

CRAWLED_AT_ONCE = 256
"""Keys looked at before the interpreter is given up."""
SLEEPS_AT_ONCE = 10
"""How many of the sleeps that are set (`lru_crawler sleep`) make one pause: by default a millisecond, in which the
others run; shorter ones would cost more than the keys between them."""
ROUND_SECONDS = 1.0
MAX_ROUND_SECONDS = 30.0


class Crawler(ServerThread):
    """Walk over the shards that hold items with a deadline, and remove those that have passed.

    Reads tables without locks and takes a shard's lock for each item that it removes; owns nothing else.
    A round that finds little makes it wait longer before the next, up to half a minute. Any thread may call its
    methods, and set `sleep_us` and `tocrawl`; `stop` ends it within one pause.

    enabled: whether it works at all; sleep_us: how long it sleeps, in microseconds; tocrawl: how many keys a round
    that was asked for looks at, 0 for all.
    """

    def __init__(self, store: Store, enabled: bool = True, sleep_us: int = 100, tocrawl: int = 0) -> None:
        super().__init__("crawler")
        self.enabled = enabled
        self.sleep_us = sleep_us
        self.tocrawl = tocrawl
        self.starts = 0
        """How many rounds were begun."""
        self.items_checked = 0
        self.reclaimed = 0
        self._store = store
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """Set, with the lock held, when something else is wanted than what the thread is at."""
        self._stopping = False
        self._requested = False
        self._crawling = False

    @property
    def running(self) -> bool:
        """Whether a round is under way, or asked for."""
        return self._requested or self._crawling

    def request(self) -> bool:
        """Ask for a round at once; False where one that was asked for is not over yet."""
        with self._lock:
            if self._requested:
                return False
            self._requested = True
            self._wake.set()
            return True

    def enable(self) -> bool:
        """Let it work; False where it does already."""
        with self._lock:
            was_enabled, self.enabled = self.enabled, True
            self._wake.set()
            return not was_enabled

    def disable(self) -> None:
        """Let it rest; a round that is under way ends."""
        with self._lock:
            self.enabled = False
            self._wake.set()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        with self._lock:
            self._stopping = True
            self._wake.set()
        self.join()

    def reset(self) -> None:
        """Start its counts anew, as `stats reset` does."""
        self.starts = self.items_checked = self.reclaimed = 0

    def work(self) -> None:
        """Crawl until told to stop."""
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
        """Walk over all shards once, or over so many keys; return how many items were removed."""
        return self._round(most)[0]

    def _round(self, most: int) -> tuple[int, int]:
        """Walk over all shards once; return how many items were removed, and how many looked at."""
        self.starts += 1
        self._crawling = True
        reclaimed = checked = 0
        for shard, keys in self._batches(most):
            removed = shard.reclaim(keys, self._store.clock.now)
            reclaimed += removed
            checked += len(keys)
            self.reclaimed += removed
            self.items_checked += len(keys)
        self._store.forget_flushed()
        self._crawling = False
        return reclaimed, checked

    def _batches(self, most: int) -> Iterator[tuple[Shard, list[bytes]]]:
        """Give the keys to look at, a few at a time with a pause behind them, until something else is wanted."""
        left = most or sys.maxsize
        for shard in self._store.shards:
            keys = iter(list(shard.table) if shard.expiring else ())
            while left > 0 and (batch := list(islice(keys, min(CRAWLED_AT_ONCE, left)))):
                yield shard, batch
                left -= len(batch)
                if self._wake.wait(self.sleep_us * SLEEPS_AT_ONCE / 1_000_000):
                    return
