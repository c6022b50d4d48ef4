"""Keep the memory that items really take near the limit of -m.

The store estimates the size of each item. Their real size also depends on the allocator: when the sizes of values
change, new values do not fit into the holes that old ones leave, and the process could grow to more than twice the
limit. So a thread watches the resident size, returns holes to the system, and makes the store smaller if that is not
enough. Other memory of the process (connections, TLS, queues, a program that embeds the server) does not count.
"""

from __future__ import annotations

import ctypes
import gc
from typing import NamedTuple

from memcache_kv.compiled import ACCELERATED
from memcache_kv.server.allocator import Allocator, SystemAllocator
from memcache_kv.store.store import ItemStore
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import time

MEMORY_CHECK_SECONDS = 0.1
TOLERATED_PART = 1 / 16
"""The deviation from the limit, as a part of it, that is tolerated."""
ACT_SECONDS = 0.5
"""The minimum time between two corrections, as a trim blocks every allocation."""
LARGEST_TIME_PART = 1 / 50
"""The largest part of the time that corrections may take."""
STEP_PART = 1 / 32
"""A correction comes earlier when the items take more than after the last one, by this part of the limit."""
RESTORE_TOLERATED_PART = 1 / 64
"""The deviation that is tolerated while a journal is read: blocks of it take memory too."""
RESTORE_SPARE_PART = 1 / 32
"""The part of the limit that stays free then, once items took more than all of it."""
RESTORE_HOLES_PART = 1 / 16
"""Once something is reserved then, holes of this part of the limit are given back before that is reached. All tables
double at about the same time, and can't be where small blocks were."""
RESTORE_RESERVE_PART = 7 / 16 if ACCELERATED else 3 / 4
"""The largest part of the limit that is reserved for holes then. The interpreter's allocator, which has most items
without the compiled modules, gives fewer holes back."""
RESTORE_STEP_PART = 1 / 128
"""While a journal is read, a correction follows the last one when the items take so much more or less, as a part of the
limit. Items come faster than from clients, so that none may wait for time to pass."""
LARGEST_RESERVE_PART = 3 / 4
"""The largest part of the limit that may be reserved for holes."""

MOST_HOLES_PART = 1 / 2
"""The most that the process has beyond the limit of the items, as a part of it: while the sizes of values change, until
fewer of them are kept. The long tests hold this figure."""

COLLECT_AFTER_OBJECTS = 50_000
MMAP_THRESHOLD_BYTES = 128 * 1024
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def tune_memory() -> None:
    """Tune the garbage collector and malloc for a server. To be called once, before much is allocated.

    The collector runs rarely, as requests make no cycles. glibc's malloc uses one arena, and always gives blocks above
    128 KiB a mapping of their own. By default it would raise that threshold up to 32 MiB and keep the holes.
    """
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def freeze_startup_objects() -> None:
    """Exclude the objects that exist after the start from garbage collection."""
    gc.collect()
    gc.freeze()


def most_holes_bytes(limit_bytes: int) -> int:
    """Return the most that items may take beyond a limit, for holes between them."""
    return int(limit_bytes * MOST_HOLES_PART)


class Others:
    """The resident memory of the process that does not belong to items, as measured at the start and by `measure`.

    Holes count as the items', except for as much as others have freed since the last measurement.
    """

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        usage = allocator.usage()
        self.resident_bytes = allocator.resident()
        """The resident bytes that did not belong to items at the last measurement."""
        in_use = 0 if usage is None else usage.in_use
        self._unknown_bytes = self.resident_bytes - in_use
        """The bytes that were resident at the start, and that no allocator reports as in use."""
        self._held_bytes = in_use
        """The bytes that others have in use, with the holes that they left."""

    def items_take(self) -> int:
        """Return the resident bytes beyond those that others had at the last measurement."""
        return self._allocator.resident() - self.resident_bytes

    def measure(self, items_bytes: int) -> int:
        """Measure the memory of others, and return the bytes that the items take with their holes.

        items_bytes: the bytes that the items have in use. If the allocators report nothing, others are taken to have
        what they had at the start.
        """
        before = self._allocator.resident()
        usage = self._allocator.usage()
        # What is allocated or freed between the two readings must not look like holes.
        resident = min(before, self._allocator.resident())
        if usage is None:
            return resident - self.resident_bytes
        holes = min(max(0, resident - usage.in_use - self._unknown_bytes), usage.free)
        in_use = usage.in_use - items_bytes
        holes_of_others = min(max(0, self._held_bytes - in_use), holes)
        self._held_bytes = in_use + holes_of_others
        taken = items_bytes + holes - holes_of_others
        self.resident_bytes = resident - taken
        return taken


class Aim(NamedTuple):
    """What a correction aims at."""

    goal_bytes: int
    """What the items are to take, if they take more than the limit and what is tolerated."""
    tolerated_bytes: int
    """What others took since the last measurement may be why it seemed more. That costs no items."""
    reserve_part: float
    """The largest part of the limit to reserve for holes."""
    counted_bytes: int
    """What the items take by the store's accounting. While a journal is read, expired entries do not count: they come
    and go with records, so more must be reserved beside them."""
    only_eases: bool
    """Whether no more is reserved than before, unless the items take more than the limit and what is tolerated."""


class MemoryWatch(ServerThread):
    """The thread that keeps the memory of items near the store's limit.

    It checks ten times a second, and each time when the items have grown by a part of the limit.

    store: the items; allocator: the allocators of the process, which tests replace. Memory that the process has when
    this is made does not count as the items'. The thread only uses the allocator and the store's `reserve`.
    """

    def __init__(self, store: ItemStore, allocator: Allocator | None = None) -> None:
        super().__init__("memory")
        self._store = store
        self._allocator = allocator if allocator is not None else SystemAllocator()
        self._others = Others(self._allocator)
        self.idle_bytes = self._others.resident_bytes
        """What the process had when this was made."""
        self._act_after = 0.0
        self._corrected = (0, 0)
        """What the items took, and what they should have taken, after the last correction."""
        self._is_stopping = False

    def work(self) -> None:
        """Check until `stop` is called."""
        has_grown = self._store.has_grown
        while not self._is_stopping:
            has_grown.wait(MEMORY_CHECK_SECONDS)
            has_grown.clear()
            if not self._is_stopping:
                self.check()

    def stop(self) -> None:
        """Make the thread end, and wait until it has. Blocks as long as a check takes."""
        self._is_stopping = True
        self._store.has_grown.set()
        self.join()

    def check_often(self) -> None:
        """Do the same as `check` while a journal is read, which nobody waits for."""
        limit, taken = self._store.limit_bytes, self._others.items_take()
        if taken < limit and not self._store.reserved_bytes:
            return
        now, step = (taken, self._store.used_bytes), int(limit * RESTORE_STEP_PART)
        has_changed = any(abs(one - other) > step for one, other in zip(now, self._corrected, strict=True))
        holes = int(limit * RESTORE_HOLES_PART)
        is_near = taken > limit - holes and taken > self._store.real_bytes + holes
        if has_changed and (is_near or taken > limit or self._is_off(RESTORE_TOLERATED_PART)):
            goal, tolerated = limit - int(limit * RESTORE_SPARE_PART), int(limit * RESTORE_TOLERATED_PART)
            aim = Aim(goal, tolerated, RESTORE_RESERVE_PART, self._store.real_item_bytes, True)
            self._act(is_near or taken > limit, aim)
            self._corrected = self._others.items_take(), self._store.used_bytes

    def check(self) -> None:
        """Compare the memory of the items with the limit, and correct it if the deviation is not tolerated.

        The memory of others was measured at the last correction. If they have freed much since, the items seem to take
        less than they do, so that is corrected too.
        """
        began, limit, taken = time.monotonic(), self._store.limit_bytes, self._others.items_take()
        has_grown = taken > limit and taken > self._corrected[0] + int(limit * STEP_PART)
        if (began < self._act_after and not has_grown) or not self._is_off(TOLERATED_PART):
            return
        tolerated = int(limit * TOLERATED_PART)
        self._act(taken > limit, Aim(limit, tolerated, LARGEST_RESERVE_PART, self._store.used_bytes, False))
        self._corrected = self._others.items_take(), self._store.used_bytes
        ended = time.monotonic()
        self._act_after = ended + max(ACT_SECONDS, (ended - began) * (1 / LARGEST_TIME_PART - 1))

    def _is_off(self, tolerated_part: float) -> bool:
        """Tell whether the items take too much, or too little, or what others have left seems to be theirs."""
        store = self._store
        limit, tolerated = store.limit_bytes, int(store.limit_bytes * tolerated_part)
        taken = self._others.items_take()
        if taken > limit + tolerated or (taken < limit - tolerated and store.reserved_bytes > 0):
            return True
        return taken < store.real_bytes - tolerated

    def _act(self, trims: bool, aim: Aim) -> None:
        """Trim the allocator, and reserve the part of the limit that the items' holes take.

        That part follows from the ratio of the items' real size to what the store counts, which is their estimated
        size, and with the tables' while a journal is read. Adding up what is over the limit would overshoot, as evicted
        items leave the resident size only later.
        """
        store = self._store
        if trims:
            self._allocator.trim()
        limit, taken = store.limit_bytes, self._others.measure(store.real_bytes)
        if taken > limit:  # what others freed since the trim must not count as holes of the items
            self._allocator.trim()
            taken = min(taken, self._others.measure(store.real_bytes))
        if taken > limit + aim.tolerated_bytes or store.reserved_bytes > 0:
            coming = store.coming_bytes
            cost = max(1.0, (taken + coming) / max(aim.counted_bytes + coming, 1))
            is_over = taken > limit + aim.tolerated_bytes
            goal = aim.goal_bytes if is_over else max(aim.goal_bytes, min(taken, limit))
            reserved = min(int(limit * aim.reserve_part), limit - int(goal / cost))
            if aim.only_eases and not is_over:
                reserved = min(reserved, store.reserved_bytes)
            store.reserve(reserved)
