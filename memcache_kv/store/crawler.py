"""The thread that gives back the memory of items that expired and that nobody reads."""

from __future__ import annotations

import threading
from itertools import islice

from memcache_kv.store.store import Store

KEYS_AT_ONCE = 256
"""Keys looked at before the interpreter is given up."""
PAUSE_SECONDS = 0.001
ROUND_SECONDS = 1.0
LONGEST_ROUND_SECONDS = 30.0


class Crawler(threading.Thread):
    """Walk over the shards that hold items with a deadline, and remove those that have passed.

    Reads tables without locks and takes a shard's lock for each item that it removes; owns nothing else.
    A round that finds little makes it wait longer before the next, up to half a minute. `stop` ends it within
    one pause.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="crawler", daemon=True)
        self._store = store
        self._stop_asked = threading.Event()
        self.items_checked = 0
        self.rounds = 0

    def run(self) -> None:
        """Crawl until told to stop."""
        wait_seconds = ROUND_SECONDS
        while not self._stop_asked.wait(wait_seconds):
            checked = self.items_checked
            reclaimed = self.crawl()
            rare = reclaimed * 100 < self.items_checked - checked
            wait_seconds = min(wait_seconds * 2, LONGEST_ROUND_SECONDS) if rare else ROUND_SECONDS

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop_asked.set()
        self.join()

    def crawl(self) -> int:
        """Walk over all shards once; return how many items were removed."""
        reclaimed = 0
        for shard in self._store.shards:
            if not shard.expiring:
                continue
            keys = iter(list(shard.table))
            while batch := list(islice(keys, KEYS_AT_ONCE)):
                reclaimed += shard.reclaim(batch, self._store.clock.now)
                self.items_checked += len(batch)
                if self._stop_asked.wait(PAUSE_SECONDS):
                    return reclaimed
        self.rounds += 1
        return reclaimed
