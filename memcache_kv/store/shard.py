"""One part of the table, with the lock of its keys and its own eviction order."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from itertools import islice

from memcache_kv.store.item import ENTRY_COST_BYTES, PLAIN, Entry, Item, deadline_of, ready_of
from memcache_kv.store.sizes import DEFAULT_SIZES, ClassCounts, SizeClasses

Evicted = Callable[[bytes, Entry], None]
"""Told of a key and its entry that had to make room, with the shard's lock held: it must return at once."""

CHANCES_PER_EVICTION = 8
"""How many items that were read may be passed over to find one to evict, so that no write waits for a long scan."""

CANDIDATES_AT_ONCE = 256
"""How many of the oldest keys are looked up at once: finding the first live slot of a dict from which the oldest were
taken costs a scan over the empty ones."""
CANDIDATES_PART = 16
"""But no more than this part of the shard: one that is deleted and stored anew meanwhile keeps its old place.
Two at least, as the oldest may be the one that is spared."""


class Shard:
    """A dict of entries, oldest first, and the item lock of every key in it.

    `table` may be read by any thread without the lock. Everything else, and every change, needs `lock`
    (methods that expect it held end in `_locked`). Nothing here takes another lock.

    Eviction is CLOCK: the dict's own order is the order of arrival, and an item that was read or overwritten since
    the hand last passed is moved to the end instead of evicted. Reads need no lock for that: they add
    the key to `seen`, and only while memory is scarce (`Store.scarce`).
    """

    __slots__ = (
        "table", "lock", "seen", "used_bytes", "check_at_bytes", "expiring", "total_items",
        "get_expired", "get_flushed", "flush_freed", "second_chances", "on_eviction", "flushed", "classes", "_sizes",
        "_candidates",
    )  # fmt: skip

    def __init__(self, sizes: SizeClasses = DEFAULT_SIZES) -> None:
        self.table: dict[bytes, Entry] = {}
        self.lock = threading.Lock()
        self.seen: set[bytes] = set()
        self.used_bytes = 0
        self.check_at_bytes = 0
        """Above this the store looks whether its limits still hold."""
        self.expiring = 0
        """How many entries have a deadline: where none has, there is nothing to crawl."""
        self.total_items = 0
        """How many items were ever stored here by a command."""
        self.get_expired = 0
        """How many were found expired by a command that looked for them."""
        self.get_flushed = 0
        """How many were looked for after a flush had taken them."""
        self.flush_freed = 0
        """How many gave their memory back to a flush."""
        self.second_chances = 0
        """How often one was passed over by an eviction because it had been read."""
        self.on_eviction: Evicted | None = None
        self.flushed: set[bytes] = set()
        """Keys that the last flush took and nobody has looked for since, until the crawler comes by."""
        self.classes: defaultdict[int, ClassCounts] = defaultdict(ClassCounts)
        """What happened, by size class; what a flush took is not there, as nobody looks at each of its keys."""
        self._sizes = sizes
        self._candidates: deque[bytes] = deque()

    @property
    def evictions(self) -> int:
        """How many were taken out to make room."""
        return sum(counts.evictions for counts in tuple(self.classes.values()))

    @property
    def evicted_unseen(self) -> int:
        """How many of those nobody had read since it is noted who reads."""
        return sum(counts.evicted_unseen for counts in tuple(self.classes.values()))

    @property
    def expired_unseen(self) -> int:
        """How many expired that nobody had read since then."""
        return sum(counts.expired_unseen for counts in tuple(self.classes.values()))

    @property
    def reclaimed(self) -> int:
        """How many gave their memory back because they had expired when room was wanted, or to a flush."""
        return self.flush_freed + sum(counts.reclaimed for counts in tuple(self.classes.values()))

    def put_locked(self, key: bytes, entry: Entry) -> bool:
        """Keep this entry for this key; True when it replaces another."""
        table = self.table
        old = table.get(key)
        table[key] = entry
        if old is None:
            if self.flushed:
                self.flushed.discard(key)
            self.used_bytes += len(key) + len(entry) + ENTRY_COST_BYTES
        else:
            self.used_bytes += len(entry) - len(old)
            if deadline_of(old):
                self.expiring -= 1
        if deadline_of(entry):
            self.expiring += 1
        return old is not None

    def remove_locked(self, key: bytes) -> Entry | None:
        """Forget a key and return what was kept for it."""
        old = self.table.pop(key, None)
        if old is None:
            return None
        self.used_bytes -= len(key) + len(old) + ENTRY_COST_BYTES
        if deadline_of(old):
            self.expiring -= 1
        self.seen.discard(key)
        return old

    def live_locked(self, key: bytes, now: int, reclaims: bool = False) -> Entry | None:
        """Return what is kept for a key; an expired entry is removed and counts as nothing.

        reclaims: whether its memory is wanted for what is stored instead.
        """
        entry = self.table.get(key)
        if entry is not None and 0 < deadline_of(entry) <= now:
            self.remove_locked(key)
            self.get_expired += 1
            if reclaims:
                self.classes[self._sizes.class_of_item(key, ready_of(entry))].reclaimed += 1
            return None
        if key in self.flushed:
            self.flushed.discard(key)
            self.get_flushed += 1
        return entry

    def reclaim(self, keys: Iterable[bytes], now: int) -> int:
        """Remove those of these keys whose entries have expired; return how many. Takes the lock for each."""
        table, count = self.table, 0
        for key in keys:
            entry = table.get(key)
            if entry is not None and 0 < deadline_of(entry) <= now:
                with self.lock:
                    if table.get(key) is entry:
                        unseen = key not in self.seen
                        self.remove_locked(key)
                        counts = self.classes[self._sizes.class_of_item(key, ready_of(entry))]
                        counts.expired_unseen += unseen
                        counts.crawled += 1
                        count += 1
        return count

    def clear_locked(self) -> None:
        """Forget everything; only of which keys there were something is kept for a while."""
        self.flush_freed += len(self.table)
        self.flushed = set(self.table)
        self.table.clear()
        self.seen.clear()
        self._candidates.clear()
        self.used_bytes = 0
        self.expiring = 0

    def evict(self, wanted_bytes: int, now: int, spare: bytes) -> int:
        """Take out the oldest items that were not read lately until this many bytes are gained, or none is left.

        `spare` is the key for which room is made; it is never the one to go. Returns the bytes gained.
        """
        gained = 0
        with self.lock:
            while gained < wanted_bytes:
                step = self._evict_one_locked(now, spare)
                if not step:
                    break
                gained += step
        return gained

    def _evict_one_locked(self, now: int, spare: bytes) -> int:
        for chance in range(CHANCES_PER_EVICTION + 1):
            key = self._oldest_locked(spare)
            if key is None:
                return 0
            if chance < CHANCES_PER_EVICTION and key in self.seen and self._second_chance_locked(key, now):
                continue
            return self._evict_key_locked(key, now)
        return 0

    def _second_chance_locked(self, key: bytes, now: int) -> bool:
        self.seen.discard(key)
        entry = self.table[key]
        if 0 < deadline_of(entry) <= now:
            return False
        del self.table[key]
        self.table[key] = entry
        self.second_chances += 1
        return True

    def _evict_key_locked(self, key: bytes, now: int) -> int:
        before = self.used_bytes
        unseen = key not in self.seen
        entry = self.remove_locked(key)
        assert entry is not None
        counts = self.classes[self._sizes.class_of_item(key, ready_of(entry))]
        deadline = deadline_of(entry)
        if 0 < deadline <= now:
            counts.reclaimed += 1
            return before - self.used_bytes
        counts.evicted_nonzero += deadline > 0
        if isinstance(entry, Item):
            counts.evicted_idle_seconds = now - entry.accessed
        counts.evictions += 1
        counts.evicted_unseen += unseen
        if self.on_eviction is not None:
            self.on_eviction(key, entry)
        return before - self.used_bytes

    def _oldest_locked(self, spare: bytes) -> bytes | None:
        """Take the next key in order of arrival that is still there and is not `spare`."""
        table = self.table
        while len(table) > (spare in table):
            if not self._candidates:
                self._candidates.extend(islice(table, min(CANDIDATES_AT_ONCE, 2 + len(table) // CANDIDATES_PART)))
            key = self._candidates.popleft()
            if key in table and key != spare:
                return key
        return None
