"""The limits of the store: the memory and the number of items, and the evictions that hold them."""

from __future__ import annotations

from memcache_kv.store.entry import SLOT_BYTES
from memcache_kv.store.garbage import FREED_BYTES_AT_ONCE, Garbage
from memcache_kv.store.shard import Evicted, Shard
from memcache_kv.store.time import Time
from memcache_kv.unpatched import threading

MAX_SHARDS = 64
LARGEST_ITEMS_PER_SHARD = 8
"""A shard has room for at least this many items of the largest size, so that one of them does not evict all others."""
ITEMS_PER_SHARD = 128
"""With --max-items, a shard holds at least this many items, or its eviction order would mean little."""
CHECKS = 64
"""The memory limit is checked when a shard has grown by its share divided by this. As much of the limit is kept
free."""
LARGEST_STEP_BYTES = 32 * 1024
"""The limit is checked at least when a shard has grown by this, so that few items must be evicted at once."""
WATCHED_PART = 1 / 64
"""The watch over the process's memory looks again once the items have grown by this part of the limit."""
EVICTED_AT_ONCE = 256
"""How many items one write evicts. Only above the room that items have it evicts more: as many bytes as it added."""


def choose_shards(limit_bytes: int, item_limit_bytes: int, max_items: int) -> int:
    """Return the number of shards, a power of two, for these limits; 0 items is no limit."""
    shards = min(MAX_SHARDS, limit_bytes // (LARGEST_ITEMS_PER_SHARD * item_limit_bytes))
    if max_items:
        shards = min(shards, max_items // ITEMS_PER_SHARD)
    return 1 << max(0, shards.bit_length() - 1)


class Limits:
    """Holds a store's shards to its limits. Any thread may call any method, but none while it holds a shard's lock.

    What must go is evicted and freed in slices: by the writes, which call `hold`, and by the thread that `backlog`
    wakes, which calls `free_some`. So the limit may be exceeded for a while after it was lowered, never after growing.
    """

    def __init__(self, shards: list[Shard], clock: Time, limit_bytes: int, max_items: int, evicts: bool) -> None:
        self.limit_bytes = limit_bytes
        self.reserved_bytes = 0
        """The part of the limit that stays free because the allocator needs it for holes between items."""
        self.target_bytes = 0
        """Items are evicted while they take more than this."""
        self.kept_apart_bytes = 0
        """What is in memory beside the tables while a journal is read: expired entries, and a part of the order."""
        self.expired_bytes = 0
        """What the expired entries among that take."""
        self.leaves_out = False
        """Whether a journal is read of which items are left out."""
        self.max_items = max_items
        self.under_pressure = False
        """Whether memory is so scarce that the eviction order is kept."""
        self.has_evicted = False
        self.garbage = Garbage()
        self.backlog = threading.Event()
        """Set when there is something to free in the background."""
        self.has_grown = threading.Event()
        """Set when the items have grown, before evictions, by a part of the limit since it was last set."""
        self._unwatched_bytes = 0
        self._shards = shards
        self._clock = clock
        self._evicts = evicts
        self._tells_evictions = False
        self._check_every_bytes = 0
        self._held_bytes = 0
        """What was used after the last check, or when the limit was changed."""
        self.set_limit(limit_bytes)

    @property
    def used_bytes(self) -> int:
        """The memory that all items take, by the accounting of `entry.py`."""
        return sum(shard.used_bytes for shard in self._shards)

    @property
    def table_excess_bytes(self) -> int:
        """What the tables take beyond the accounted slots of their items; negative if it is less."""
        return sum(shard.table.__sizeof__() - SLOT_BYTES * len(shard.table) for shard in self._shards)

    @property
    def full_excess_bytes(self) -> int:
        """The same as if each table took as much as the one that takes most: they double, all at about the same time.

        Never negative.
        """
        largest = max(shard.table.__sizeof__() - SLOT_BYTES * len(shard.table) for shard in self._shards)
        return max(0, largest * len(self._shards))

    @property
    def coming_bytes(self) -> int:
        """What the tables will need soon beyond what they have, while items of a journal are left out."""
        return self.full_excess_bytes - self.table_excess_bytes if self.leaves_out else 0

    @property
    def items(self) -> int:
        """The number of items, including expired ones that are not removed yet."""
        return sum(len(shard.table) for shard in self._shards)

    def set_limit(self, limit_bytes: int) -> None:
        """Change the memory limit. If it is exceeded, items are evicted from now on, a few at a time.

        What was stored before the change is not evicted at the cost of the next write.
        """
        self.limit_bytes = limit_bytes
        self._held_bytes = self.used_bytes
        self.reserve(0)
        self._check_soon()

    def reserve(self, reserved_bytes: int) -> None:
        """Keep this many bytes of the limit free, for memory that the allocator can't give back."""
        self.reserved_bytes = reserved_bytes
        self.target_bytes = self.limit_bytes * (CHECKS - 1) // CHECKS - reserved_bytes
        if self.used_bytes > self.target_bytes:
            self.backlog.set()

    def watch_evictions(self, tell: Evicted | None) -> None:
        """Call `tell` for each eviction from now on; None ends that.

        Meanwhile every write evicts what it needs at once, and not some writes later.
        """
        self._tells_evictions = tell is not None
        for shard in self._shards:
            shard.on_eviction = tell
        self._check_soon()

    def _check_soon(self) -> None:
        """Check the limits at the next write, and then as often as needed."""
        step = min(self.limit_bytes // (CHECKS * len(self._shards)), LARGEST_STEP_BYTES)
        self._check_every_bytes = 0 if self._tells_evictions else step
        for shard in self._shards:
            shard.check_at_bytes = 0

    def is_full(self, needed_bytes: int, is_new: bool) -> bool:
        """Tell whether there is no room for so many bytes more, or for one more item."""
        if is_new and self.max_items and self.items >= self.max_items:
            return True
        return self.used_bytes + needed_bytes > self.target_bytes

    def hold(self, spare: bytes) -> None:
        """Free what a flush left, and evict items, until all limits hold or enough is done for one write.

        Called when a shard has grown by a step (`_check_every_bytes`). spare: the key that needs the room; it is never
        evicted.
        """
        grown = max(0, self.used_bytes - self._held_bytes)
        self._tell_growth(grown)
        self._free_garbage(grown)
        used = self._evict_bytes(spare) if self._evicts else self.used_bytes
        if self._evicts:
            self._evict_items(spare)
        self.follow_pressure(used)
        self._held_bytes = used
        is_over = bool(self.max_items) or used + self.garbage.bytes > self.target_bytes
        for shard in self._shards:
            shard.check_at_bytes = 0 if is_over else shard.used_bytes + self._check_every_bytes
        if used + self.garbage.bytes > self.limit_bytes:
            self.backlog.set()

    def _tell_growth(self, grown_bytes: int) -> None:
        self._unwatched_bytes += grown_bytes
        if self._unwatched_bytes > self.limit_bytes * WATCHED_PART:
            self._unwatched_bytes = 0
            self.has_grown.set()

    def _free_garbage(self, grown: int) -> None:
        """Free some of what a flush left while it is in the way, and at least as much as was added since.

        grown: how many bytes were added.
        """
        for _ in range(1 + 2 * grown // FREED_BYTES_AT_ONCE):
            if self.garbage.bytes and self.used_bytes + self.garbage.bytes > self.target_bytes:
                self.garbage.release()

    def _evict_bytes(self, spare: bytes) -> int:
        """Evict a few items while more memory is used than may be. Returns the bytes that are used then.

        The fullest shard evicts first: keys are spread evenly, so it is the one that keeps items for longest.
        """
        used, target, shards = self.used_bytes, self.target_bytes, self._shards
        if used <= target:
            return used
        self.has_evicted = True
        givers, fair, left = list(shards), target // len(shards), EVICTED_AT_ONCE
        due = used - self._held_bytes if used > self.room_bytes else 0
        while used > target and givers and (left > 0 or due > 0):
            fullest = max(givers, key=lambda shard: shard.used_bytes)
            wanted, count = min(used - target, max(1, fullest.used_bytes - fair)), len(fullest.table)
            gained = fullest.evict(wanted, self._clock.now, spare, left if left > 0 else EVICTED_AT_ONCE)
            used -= gained
            due -= gained
            left -= max(1, count - len(fullest.table))
            if not gained:  # nothing left but `spare`
                givers.remove(fullest)
        return used

    def _evict_items(self, spare: bytes) -> None:
        """Evict items while there are more than may be."""
        givers = list(self._shards)
        while self.max_items and self.items > self.max_items and givers:
            fullest = max(givers, key=lambda shard: len(shard.table))
            self.has_evicted = True
            if not fullest.evict(1, self._clock.now, spare):
                givers.remove(fullest)

    def follow_pressure(self, used_bytes: int) -> None:
        """Begin to keep the eviction order, or cease to: in one shard at a time, as that walks over its keys."""
        self.under_pressure = used_bytes > self.target_bytes // 2 or bool(self.max_items)
        for shard in self._shards:
            if shard.order_evictions(self.under_pressure):
                return

    def free_some(self) -> bool:
        """Do a slice of what waits to be freed or evicted. Returns whether there is more."""
        if self.garbage:
            self.garbage.release()
        elif self._is_over():
            self.hold(b"")
        return bool(self.garbage) or self._is_over()

    def _is_over(self) -> bool:
        return self._evicts and self.used_bytes > self.target_bytes and self.items > 0

    @property
    def room_bytes(self) -> int:
        """The memory that items may take. Evictions begin before it is used up."""
        return self.limit_bytes - self.reserved_bytes

    @property
    def now(self) -> int:
        """The present unix time."""
        return self._clock.now

    def begin(self, has_evicted: bool) -> None:
        """Hold the limits from the next write on, after a journal was restored.

        has_evicted: whether items were left out, which the journal may still have.
        """
        self.has_evicted = self.has_evicted or has_evicted
        self._held_bytes = self.used_bytes
        self.follow_pressure(self._held_bytes)
        self._check_soon()
