"""Keeping what the items really take near what -m says.

The store's accounting knows what items should take. What they do take also depends on the allocator: when the usual
size of values changes, the holes that the old ones leave don't fit the new ones, and the process could grow to more
than twice the limit. This watches the resident size, gives holes back, and where that isn't enough makes the store
smaller. What others hold in the same process (connections, TLS, queues, a program that the server is a part of) costs
the items nothing.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time

from memcache_kv.server.allocator import Allocator, SystemAllocator
from memcache_kv.store.store import Store
from memcache_kv.threads import ServerThread

CHECK_SECONDS = 0.1
TOLERATED_PART = 1 / 16
"""Away from the limit by more than this part of it, something is done."""
ACT_SECONDS = 0.5
"""How often something is done at most: a trim stops every allocation for as long as it takes, 1 to 10 ms."""
MOST_OF_THE_TIME = 1 / 50
"""And rarer where it takes more than this part of that time."""
LARGEST_RESERVE_PART = 1 / 2
"""The part of the limit that items keep, however large the holes between them are."""

COLLECT_AFTER_OBJECTS = 50_000
MMAP_THRESHOLD_BYTES = 128 * 1024
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def tune_memory() -> None:
    """Set up collector and allocator as a server needs them. Called once, before much is allocated.

    The collector looks for cycles rarely, as serving makes none. glibc's malloc uses one arena and always maps blocks
    over 128 KiB by themselves: by default it raises that threshold to 32 MiB as values are freed, and keeps the holes.
    """
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def freeze_startup_objects() -> None:
    """Take what start-up made out of the collector's sight."""
    gc.collect()
    gc.freeze()


class Others:
    """What is resident in the process and not the items': known at the start, and whenever it is measured.

    A hole is the items', unless what others held before would fill it: what they gave back leaves holes too.
    """

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        usage = allocator.usage()
        self.resident_bytes = allocator.resident()
        """What was found last."""
        in_use = 0 if usage is None else usage.in_use
        self._unknown_bytes = self.resident_bytes - in_use
        """What was resident at the start that no allocator knows as in use."""
        self._held_bytes = in_use
        """What others have in use, and the holes that they left."""

    def items_take(self) -> int:
        """Return what is resident beside what others had when it was measured last."""
        return self._allocator.resident() - self.resident_bytes

    def measure(self, items_bytes: int) -> int:
        """Find out what others have, while the items have so much; return what these take with their holes.

        Where the allocators don't tell, others have what they had at the start.
        """
        before = self._allocator.resident()
        usage = self._allocator.usage()
        # Who allocates or frees in between makes no holes.
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


class MemoryWatch(ServerThread):
    """Look at the resident size ten times a second and hold what is the items' of it near the store's limit.

    Touches nothing but the allocator and the store's `reserve`. What the process holds when this is made is not the
    items'. `stop` ends it within a tenth of a second.
    """

    def __init__(self, store: Store, allocator: Allocator | None = None) -> None:
        super().__init__("memory")
        self._store = store
        self._allocator = allocator if allocator is not None else SystemAllocator()
        self._others = Others(self._allocator)
        self._idle_bytes = self._others.resident_bytes
        self._act_after = 0.0
        self._stop_asked = threading.Event()

    @property
    def max_memory_bytes(self) -> int:
        """What the process is held to: what it had when this was made, and the limit with what is tolerated above."""
        return self._idle_bytes + int(self._store.limit_bytes * (1 + TOLERATED_PART))

    def work(self) -> None:
        """Watch until told to stop."""
        while not self._stop_asked.wait(CHECK_SECONDS):
            self.check()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop_asked.set()
        self.join()

    def check(self) -> None:
        """Compare what the items take with the limit, and act where it is out of the tolerated band.

        What others take was measured when something was done last. So where all seems to be well, it is looked whether
        they have given back so much that the items could take it unseen.
        """
        store = self._store
        limit, tolerated = store.limit_bytes, int(store.limit_bytes * TOLERATED_PART)
        taken = self._others.items_take()
        too_much = taken > limit + tolerated
        too_little = taken < limit - tolerated and store.reserved_bytes > 0
        others_left = taken < store.real_bytes - tolerated
        began = time.monotonic()
        if not (too_much or too_little or others_left) or began < self._act_after:
            return
        self._act(trims=too_much)
        ended = time.monotonic()
        self._act_after = ended + max(ACT_SECONDS, (ended - began) / MOST_OF_THE_TIME)

    def _act(self, trims: bool) -> None:
        """Let the store use the part of the limit that its items fill it with, by what they cost beyond their
        accounting just now.

        That ratio is known as soon as it is measured, where adding up excesses overshoots: what is evicted leaves
        the resident size only later.
        """
        store = self._store
        if trims:
            self._allocator.trim()
        limit, taken = store.limit_bytes, self._others.measure(store.real_bytes)
        if taken > limit:  # what others freed since the trim must not look like holes of the items
            self._allocator.trim()
            taken = min(taken, self._others.measure(store.real_bytes))
        if taken > limit or store.reserved_bytes > 0:
            cost = max(1.0, taken / max(store.used_bytes, 1))
            store.reserve(min(int(limit * LARGEST_RESERVE_PART), limit - int(limit / cost)))
