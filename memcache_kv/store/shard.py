"""One part of the table, with the lock of its keys and its own eviction order."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice

from memcache_kv.store.entry import ENTRY_COST_BYTES, Entry, Item, deadline_of, wire_bytes_of
from memcache_kv.store.s3fifo import S3Fifo
from memcache_kv.store.sizes import DEFAULT_SIZES, ClassCounts, SizeClasses

Evicted = Callable[[bytes, Entry], None]
"""Told of a key and its entry that had to make room, with the shard's lock held: it must return at once."""


class Shard:
    """A dict of entries, oldest first, and the item lock of every key in it.

    `table` may be read by any thread without the lock. Everything else, and every change, needs `lock`
    (methods that expect it held end in `_locked`). Nothing here takes another lock.

    Which items make room is up to `order`, which is kept only while memory is scarce (`Store.scarce`).
    """

    __slots__ = (
        "table", "lock", "order", "used_bytes", "check_at_bytes", "expiring", "total_items",
        "get_expired", "get_flushed", "flush_freed", "on_eviction", "flushed", "classes", "_sizes",
    )  # fmt: skip

    def __init__(self, sizes: SizeClasses = DEFAULT_SIZES) -> None:
        self.table: dict[bytes, Entry] = {}
        self.lock = threading.Lock()
        self.order = S3Fifo()
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
        self.on_eviction: Evicted | None = None
        self.flushed: set[bytes] = set()
        """Keys that the last flush took and nobody has looked for since, until the crawler comes by."""
        self.classes: defaultdict[int, ClassCounts] = defaultdict(ClassCounts)
        """What happened, by size class; what a flush took is not there, as nobody looks at each of its keys."""
        self._sizes = sizes

    @property
    def second_chances(self) -> int:
        """How often one was passed over by an eviction because it had been read."""
        return self.order.second_chances

    @second_chances.setter
    def second_chances(self, count: int) -> None:
        self.order.second_chances = count

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
            if self.order.is_kept:
                self.order.add(key)
        else:
            self.used_bytes += len(entry) - len(old)
            if deadline_of(old):
                self.expiring -= 1
        if deadline_of(entry):
            self.expiring += 1
        return old is not None

    def remove_locked(self, key: bytes) -> Entry | None:
        """Forget a key and return what was kept for it."""
        old = self._take_locked(key)
        order = self.order
        if old is not None and order.is_kept:
            order.unmark(key)
            order.tidy(self.table)
        return old

    def _take_locked(self, key: bytes) -> Entry | None:
        old = self.table.pop(key, None)
        if old is None:
            return None
        self.used_bytes -= len(key) + len(old) + ENTRY_COST_BYTES
        if deadline_of(old):
            self.expiring -= 1
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
                self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))].reclaimed += 1
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
                        unseen = not self.order.is_marked(key)
                        self.remove_locked(key)
                        counts = self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))]
                        counts.expired_unseen += unseen
                        counts.crawled += 1
                        count += 1
        return count

    def count_no_memory_locked(self, key: bytes, wire_bytes: bytes) -> None:
        """Count that nothing could be kept for a key, as there is no room and nothing may be evicted."""
        self.classes[self._sizes.class_of_item(key, wire_bytes)].no_memory += 1

    def clear_locked(self) -> None:
        """Forget everything; only of which keys there were something is kept for a while."""
        self.flush_freed += len(self.table)
        self.flushed = set(self.table)
        self.table.clear()
        if self.order.is_kept:
            self.order.start(self.table)
        self.used_bytes = 0
        self.expiring = 0

    def drop_oldest(self, wanted_bytes: int, wanted_items: int) -> None:
        """Take out what came first, until so many bytes and items are gone, before any order of eviction is kept.

        The table gives back the room of what it held; nobody may be reading it.
        """
        target, count = self.used_bytes - wanted_bytes, 0
        for key, entry in self.table.items():
            if self.used_bytes <= target and count >= wanted_items:
                break
            self.used_bytes -= len(key) + len(entry) + ENTRY_COST_BYTES
            self.expiring -= deadline_of(entry) > 0
            count += 1
        kept = dict(islice(self.table.items(), count, None))
        self.table.clear()
        self.table.update(kept)

    def order_evictions(self, is_under_pressure: bool) -> None:
        """Keep an order of eviction from now on, or no longer. Takes the lock."""
        if is_under_pressure is not self.order.is_kept:
            with self.lock:
                self._order_evictions_locked(is_under_pressure)

    def _order_evictions_locked(self, is_under_pressure: bool) -> None:
        order = self.order
        if not is_under_pressure:
            order.stop()
        elif order.is_kept:
            order.fit(len(self.table))
        else:
            order.start(self.table)

    def evict(self, wanted_bytes: int, now: int, spare: bytes) -> int:
        """Take out items in the order of eviction until this many bytes are gained, or none is left.

        `spare` is the key for which room is made; it is never the one to go. Returns the bytes gained.
        """
        gained = 0
        with self.lock:
            self._order_evictions_locked(is_under_pressure=True)
            while gained < wanted_bytes and (key := self.order.next_victim(self.table, now, spare)) is not None:
                gained += self._evict_key_locked(key, now)
        return gained

    def _evict_key_locked(self, key: bytes, now: int) -> int:
        before, order = self.used_bytes, self.order
        unseen = not order.is_marked(key)
        entry = self._take_locked(key)
        assert entry is not None
        if not unseen:
            order.unmark(key)
        counts = self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))]
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
