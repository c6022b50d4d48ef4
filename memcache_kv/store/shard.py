"""One part of the table, with its lock and its own eviction order."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

from memcache_kv.histogram import Histogram
from memcache_kv.store.entry import ENTRY_COST_BYTES, FETCHED, Entry, Item, deadline_of, wire_bytes_of
from memcache_kv.store.garbage import cleared, emptied
from memcache_kv.store.s3fifo import S3Fifo
from memcache_kv.store.sizes import DEFAULT_SIZES, ClassCounts, SizeClasses
from memcache_kv.unpatched import threading

SPARSE_SLOT_BYTES = 130
"""A table that takes more per item is rebuilt where that is worth the time. One that has just grown takes up to 120."""
MIN_SLOTS = 64
AGE_BOUNDS = (1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)
"""The bounds of the ages of evicted items, in seconds."""

Evicted = Callable[[bytes, Entry, bool], None]
"""Called with a key and its entry that were evicted, and whether the entry was read as far as that is known, while the
shard's lock is held: it must return at once."""


class Shard:
    """A dict of entries, oldest first, with the lock for all its keys.

    Any thread may read `table` without the lock; a flush puts another dict in its place. Everything else, and every
    change, needs `lock`; methods that expect it held end in `_locked`. No method takes another lock.

    `order` chooses the items to evict. It is kept only while memory is scarce (`Limits.under_pressure`).
    """

    __slots__ = (
        "table", "lock", "order", "used_bytes", "check_at_bytes", "expiring", "total_items",
        "get_expired", "get_flushed", "flush_freed", "on_eviction", "flushed", "classes", "evicted_ages",
        "evicted_unread", "_sizes", "_evicted",
    )  # fmt: skip

    def __init__(self, sizes: SizeClasses = DEFAULT_SIZES) -> None:
        self.table: dict[bytes, Entry] = {}
        self.lock = threading.Lock()
        self.order = S3Fifo()
        self.used_bytes = 0
        self.check_at_bytes = 0
        """When more is used than this, the store checks its limits."""
        self.expiring = 0
        """The number of entries with a deadline. If it is 0, there is nothing to crawl."""
        self.total_items = 0
        """The number of items that commands have stored here."""
        self.get_expired = 0
        """The number of items that a command looked for and found expired."""
        self.get_flushed = 0
        """The number of items that a command looked for after a flush had removed them."""
        self.flush_freed = 0
        """The number of items that flushes removed."""
        self.on_eviction: Evicted | None = None
        self.flushed: dict[bytes, Entry] = {}
        """The table that the last flush replaced: its keys that no command has looked for since, until the crawler's
        next round. Their entries are freed in the background (`garbage.emptied`)."""
        self.classes: defaultdict[int, ClassCounts] = defaultdict(ClassCounts)
        """Counts by size class. Items that a flush removed are not counted, as their classes are not known."""
        self.evicted_unread = 0
        """The number of items that were evicted before they were ever read, as far as reads were recorded."""
        self.evicted_ages = Histogram(AGE_BOUNDS)
        """How long evicted items had been in their queues, in seconds, as far as that is known."""
        self._sizes = sizes
        self._evicted = 0
        """How many items the present call of `evict` has evicted that had not expired."""

    @property
    def second_chances(self) -> int:
        """How many times an eviction skipped an item because it had been read."""
        return self.order.second_chances

    @second_chances.setter
    def second_chances(self, count: int) -> None:
        """Set the number, as `stats reset` does."""
        self.order.second_chances = count

    @property
    def evictions(self) -> int:
        """The number of evicted items."""
        return sum(counts.evictions for counts in tuple(self.classes.values()))

    @property
    def evicted_unseen(self) -> int:
        """The number of items that were evicted without a recorded read."""
        return sum(counts.evicted_unseen for counts in tuple(self.classes.values()))

    @property
    def expired_unseen(self) -> int:
        """The number of items that expired without a recorded read."""
        return sum(counts.expired_unseen for counts in tuple(self.classes.values()))

    @property
    def reclaimed(self) -> int:
        """The number of items that had expired when their memory was needed, or that a flush removed."""
        return self.flush_freed + sum(counts.reclaimed for counts in tuple(self.classes.values()))

    def put_locked(self, key: bytes, entry: Entry) -> bool:
        """Store an entry. Returns True if it replaced another."""
        table = self.table
        old = table.get(key)
        table[key] = entry
        if old is None:
            if self.flushed:
                self.flushed.pop(key, None)
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
        """Remove a key, and return its entry; None if there was none."""
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
        """Return the live entry of a key, or None. Removes an expired entry.

        reclaims: whether the expired entry's memory is needed for a new value.
        """
        entry = self.table.get(key)
        if entry is not None and 0 < deadline_of(entry) <= now:
            self.remove_locked(key)
            self.get_expired += 1
            if reclaims:
                self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))].reclaimed += 1
            return None
        if key in self.flushed:
            del self.flushed[key]
            self.get_flushed += 1
        return entry

    def reclaim(self, keys: Iterable[bytes], now: int) -> int:
        """Remove those of these keys that have expired, locking for each. Returns the number removed."""
        count = 0
        for key in keys:
            entry = self.table.get(key)
            if entry is not None and 0 < deadline_of(entry) <= now:
                with self.lock:
                    if self.table.get(key) is entry:
                        unseen = not self.order.is_marked(key)
                        self.remove_locked(key)
                        counts = self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))]
                        counts.expired_unseen += unseen
                        counts.crawled += 1
                        count += 1
        return count

    def count_no_memory_locked(self, key: bytes, wire_bytes: bytes) -> None:
        """Count a value that was not stored, because there is no room and eviction is disabled."""
        self.classes[self._sizes.class_of_item(key, wire_bytes)].no_memory += 1

    def clear_locked(self) -> list[Iterator[int]]:
        """Replace the table by an empty one; the old one's keys are remembered for a while, in `flushed`.

        Returns what must be freed little by little (`Garbage.add`): nothing where there is nothing, so that a packet
        full of flushes makes no work.
        """
        piles = [emptied(self.table, self.used_bytes, self.lock)] if self.table else []
        piles += [cleared(self.flushed)] if self.flushed else []
        self.flush_freed += len(self.table)
        self.flushed, self.table = self.table, {}
        if self.order.is_kept:
            piles += [cleared(order) for order in (self.order.small, self.order.main) if order]
            self.order.start(self.table)
        self.used_bytes = self.expiring = self.check_at_bytes = 0
        return piles

    def forget_flushed(self) -> Iterator[int]:
        """Forget the keys that the last flush removed. Takes the lock. Returns what must be freed little by little."""
        with self.lock:
            flushed, self.flushed = self.flushed, {}
            return cleared(flushed)

    def next_to_leave_out(self, now: int) -> bytes | None:
        """Remove the next key to evict from the eviction order, but not from the table. None if the order has none.

        For a restoring store, which no other thread may use.
        """
        self._order_evictions_locked(is_under_pressure=True)
        try:
            return self.order.next_victim(self.table, now, b"")
        except IndexError:  # nothing but places of removed keys was left
            return None

    def leave_out(self, key: bytes) -> None:
        """Remove a key that `next_to_leave_out` returned. It does not count as evicted."""
        self._take_locked(key)

    def fit_table(self) -> None:
        """Give back the memory of a table that has far more room than items. The dict itself stays the same one."""
        table = self.table
        if table.__sizeof__() > SPARSE_SLOT_BYTES * (len(table) + MIN_SLOTS):
            items = [*table.items()]
            table.clear()
            table.update(items)

    def order_evictions(self, is_under_pressure: bool) -> bool:
        """Start or stop keeping an eviction order. Takes the lock. Returns True if that was a change."""
        if is_under_pressure is self.order.is_kept:
            return False
        with self.lock:
            self._order_evictions_locked(is_under_pressure)
        return True

    def _order_evictions_locked(self, is_under_pressure: bool) -> None:
        order = self.order
        if not is_under_pressure:
            order.stop()
        elif order.is_kept:
            order.fit(len(self.table))
        else:
            order.start(self.table)

    def evict(self, wanted_bytes: int, now: int, spare: bytes, most: int = sys.maxsize) -> int:
        """Evict items in order until this many bytes are freed or no item is left. Takes the lock.

        spare: the key that needs the room; it is never evicted. most: how many items may be evicted. Returns the number
        of bytes freed.
        """
        gained = self._evicted = 0
        with self.lock:
            self._order_evictions_locked(is_under_pressure=True)
            for _ in repeat(None, most):
                if gained >= wanted_bytes or (key := self.order.next_victim(self.table, now, spare)) is None:
                    break
                gained += self._evict_key_locked(key, now)
            self._count_ages_locked(now)
        return gained

    def evict_key(self, key: bytes, now: int) -> bool:
        """Evict this key, whatever its place in the order; return whether it had an item. Takes the lock."""
        with self.lock:
            if key not in self.table:
                return False
            order = self.order
            order.was_promoted, order.was_marked = False, order.is_marked(key)
            self._evict_key_locked(key, now)
            if order.is_kept:
                order.unmark(key)
                order.tidy(self.table)
            return True

    def _count_ages_locked(self, now: int) -> None:
        """Count what was just evicted with the age of the last of them: they were neighbours in the queue."""
        age = self.order.victim_age(now) if self._evicted else None
        if age is not None:
            self.evicted_ages.observe(age, self._evicted)

    def _evict_key_locked(self, key: bytes, now: int) -> int:
        order, entry = self.order, self.table.pop(key)
        deadline, freed = deadline_of(entry), len(key) + len(entry) + ENTRY_COST_BYTES
        self.used_bytes -= freed
        counts = self.classes[self._sizes.class_of_item(key, wire_bytes_of(entry))]
        if deadline:
            self.expiring -= 1
            if deadline <= now:
                counts.reclaimed += 1
                return freed
            counts.evicted_nonzero += 1
        was_read = order.was_promoted or order.was_marked
        if isinstance(entry, Item):
            was_read = was_read or bool(entry.state & FETCHED)
            counts.evicted_idle_seconds = now - entry.accessed
        counts.evictions += 1
        self._evicted += 1
        counts.evicted_unseen += not order.was_marked
        self.evicted_unread += not was_read
        if self.on_eviction is not None:
            if isinstance(entry, Item):
                was_read = bool(entry.state & FETCHED)
            self.on_eviction(key, entry, was_read)
        return freed
