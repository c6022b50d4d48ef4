"""Keeping what the process really takes near what -m says.

The store's accounting knows what items should take. What they do take also depends on the allocator: when the
usual size of values changes, the holes that the old ones leave don't fit the new ones, and the process could grow
to more than twice the limit. This watches the resident size, gives holes back, and where that isn't enough makes the
store smaller.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable

from memcache_kv.store.store import Store
from memcache_kv.threads import ServerThread

CHECK_SECONDS = 0.1
TOLERATED_PART = 1 / 16
"""Away from the limit by more than this part of it, something is done."""
ACT_SECONDS = 0.5
"""How often something is done at most: a trim stops every allocation for as long as it takes, 1 to 10 ms."""
LARGEST_RESERVE_PART = 1 / 2
"""The part of the limit that items keep, whatever else (connections, say) takes memory."""

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


def resident_bytes() -> int:
    """Return the resident size of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def trim_allocator() -> None:
    """Give the allocator's free pages back to the system, where it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryWatch(ServerThread):
    """Look at the resident size ten times a second and hold it near the store's limit.

    Touches nothing but the allocator and the store's `reserve`. idle_bytes: what the process took before
    it held items. `stop` ends it within a tenth of a second.
    """

    def __init__(
        self,
        store: Store,
        idle_bytes: int,
        resident: Callable[[], int] = resident_bytes,
        trim: Callable[[], None] = trim_allocator,
    ) -> None:
        super().__init__("memory")
        self._store = store
        self._idle_bytes = idle_bytes
        self._resident = resident
        self._trim = trim
        self._act_after = 0.0
        self._stop_asked = threading.Event()

    def work(self) -> None:
        """Watch until told to stop."""
        while not self._stop_asked.wait(CHECK_SECONDS):
            self.check()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop_asked.set()
        self.join()

    def check(self) -> None:
        """Compare once what is resident with the limit, and act where it is out of the tolerated band.

        The store gets the part of the limit that its items fill it with, by what they cost beyond their accounting
        just now. That ratio is known as soon as it is measured, where adding up excesses overshoots: what is
        evicted leaves the resident size only later.
        """
        store = self._store
        limit, tolerated = store.limit_bytes, int(store.limit_bytes * TOLERATED_PART)
        taken = self._resident() - self._idle_bytes
        too_much = taken > limit + tolerated
        too_little = taken < limit - tolerated and store.reserved_bytes > 0
        now = time.monotonic()
        if not (too_much or too_little) or now < self._act_after:
            return
        self._act_after = now + ACT_SECONDS
        if too_much:
            self._trim()
            taken = self._resident() - self._idle_bytes
        cost = max(1.0, taken / max(store.used_bytes, 1))
        store.reserve(min(int(limit * LARGEST_RESERVE_PART), limit - int(limit / cost)))
