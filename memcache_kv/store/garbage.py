"""What a flush removed, freed in small pieces: to free a million items at once would stop all threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from memcache_kv.store.entry import ENTRY_COST_BYTES, Entry
from memcache_kv.unpatched import threading

FREED_AT_ONCE = 256
"""How many items are freed before other threads get their turn."""
FREED_BYTES_AT_ONCE = 1 << 20
"""Fewer are freed at once if they are larger than this together."""
EMPTIED = b""
"""Stands in a flushed table for an entry that is freed. No entry of a store is empty."""


class Garbage:
    """Items that nobody can read any more, and the memory that they still take. Any thread may call any method."""

    def __init__(self) -> None:
        self.bytes = 0
        """The memory that the items take, as the store accounts for it."""
        self._piles: deque[Iterator[int]] = deque()
        self._count_lock = threading.Lock()
        """Held while `bytes` is changed. A flush takes it while it holds the locks of shards."""
        self._release_lock = threading.Lock()
        """Held during a step, which takes the lock of a shard. So nobody who holds one may take this."""

    def __bool__(self) -> bool:
        return bool(self._piles)

    def add(self, size: int, *piles: Iterator[int]) -> None:
        """Add work to `release`: each step of a pile frees a few items and yields their size.

        size: what all of them take. The caller may hold the locks of shards.
        """
        with self._count_lock:
            self.bytes += size
        self._piles.extend(piles)

    def release(self) -> None:
        """Do one step of the oldest pile. The caller must hold no lock of a shard."""
        with self._release_lock:
            while self._piles:
                freed = next(self._piles[0], None)
                if freed is not None:
                    with self._count_lock:
                        self.bytes -= freed
                    return
                self._piles.popleft()


def emptied(table: dict[bytes, Entry], size: int, lock: threading.Lock) -> Iterator[int]:
    """Free the entries of a flushed table but not its keys, a few at a time, with the lock held for each step.

    size: what all of them take. The last step yields what commands that looked for a key have freed.
    """
    keys = iter(list(table))
    while batch := list(islice(keys, FREED_AT_ONCE)):
        while batch:
            with lock:
                freed = _empty_some(table, batch)
            size -= freed
            yield freed
    yield size


def _empty_some(table: dict[bytes, Entry], keys: list[bytes]) -> int:
    """Free the entries of keys from the end of this list, until they are many bytes. Returns their size."""
    freed = 0
    while keys and freed < FREED_BYTES_AT_ONCE:
        key = keys.pop()
        entry = table.get(key)
        if entry is not None:  # otherwise a command has looked for the key and taken it out
            freed += len(key) + len(entry) + ENTRY_COST_BYTES
            table[key] = EMPTIED
    return freed


def cleared(pile: dict[bytes, Entry] | deque[bytes]) -> Iterator[int]:
    """Free the keys of an emptied table or of an eviction order, a few at a time."""
    pop = pile.popitem if isinstance(pile, dict) else pile.pop
    while pile:
        for _ in range(min(len(pile), FREED_AT_ONCE)):
            pop()
        yield 0
