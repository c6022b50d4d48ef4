"""memcached's size classes: which of them an item would be in there.

There are no slabs here. Tools and people know an item's class, though, and read statistics by it; so each item is
counted in the class that memcached 1.6.45 would give it, started with the same flags.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from memcache_kv.config.memcached_options import CHUNK_ALIGN_BYTES

if TYPE_CHECKING:
    from memcache_kv.config.settings import Settings

PAGE_BYTES = 1 << 20
CHUNK_MAX_BYTES = PAGE_BYTES // 2
MOST_CLASSES = 63
ITEM_STRUCT_BYTES = 48
CAS_BYTES = 8
TAIL_BYTES = 3
"""The ends of key and data: a NUL and a line end."""
FLAGS_BYTES = 4
"""Client flags take room only where they are not 0."""


class SizeClasses:
    """The classes by their chunks' sizes, smallest first; numbers begin with 1. Never changed, so any thread may ask.

    growth_factor, smallest_bytes, chunk_max_bytes: memcached's -f, -n and -o slab_chunk_max; given: its
    -o slab_sizes, "100-200-300", in place of the growth; has_cas: whether items hold a CAS id (not with -C).
    """

    __slots__ = ("chunks", "_header_bytes", "_last")

    def __init__(
        self,
        growth_factor: float = 1.25,
        smallest_bytes: int = 48,
        chunk_max_bytes: int = CHUNK_MAX_BYTES,
        given: str = "",
        has_cas: bool = True,
    ) -> None:
        if given:
            sizes = [_aligned(int(word)) for word in given.split("-") if word][: MOST_CLASSES - 1]
        else:
            sizes = _grown(growth_factor, smallest_bytes, chunk_max_bytes)
        self.chunks = (*sizes, chunk_max_bytes)
        """The chunk size of class 1, 2 and so on."""
        self._last = len(self.chunks)
        self._header_bytes = ITEM_STRUCT_BYTES + TAIL_BYTES + (CAS_BYTES if has_cas else 0)

    def class_of(self, item_bytes: int) -> int:
        """Return the class of an item of this size; what no chunk can hold is cut up, and in the last class."""
        return min(bisect_left(self.chunks, item_bytes) + 1, len(self.chunks))

    def item_bytes(self, key: bytes, wire_bytes: bytes) -> int:
        """Return the size of an item in memcached: key, data and header."""
        data_bytes = len(wire_bytes) - wire_bytes.find(b"\n") - 3
        return len(key) + data_bytes + self._header_bytes + (0 if wire_bytes.startswith(b" 0 ") else FLAGS_BYTES)

    def class_of_item(self, key: bytes, wire_bytes: bytes) -> int:
        """Return the class of a key and its ready value: `class_of` their `item_bytes`.

        Written out, as every eviction asks for it: that takes 0.15 microseconds off the 3 that one costs.
        """
        size = len(key) + len(wire_bytes) - wire_bytes.find(b"\n") - 3 + self._header_bytes
        if not wire_bytes.startswith(b" 0 "):
            size += FLAGS_BYTES
        number = bisect_left(self.chunks, size) + 1
        return number if number < self._last else self._last

    def chunks_of(self, item_bytes: int) -> int:
        """Return how many chunks of its class an item of this size fills."""
        return -(-item_bytes // self.chunks[-1])


def _grown(factor: float, smallest_bytes: int, chunk_max_bytes: int) -> list[int]:
    """Return the sizes of all classes but the last: each is larger than the one before by this factor."""
    sizes: list[int] = []
    size = ITEM_STRUCT_BYTES + smallest_bytes
    while len(sizes) < MOST_CLASSES - 1 and size < chunk_max_bytes / factor:
        size = _aligned(size)
        sizes.append(size)
        size = int(size * factor)
    return sizes


def _aligned(size: int) -> int:
    return -(-size // CHUNK_ALIGN_BYTES) * CHUNK_ALIGN_BYTES


def size_classes(settings: Settings) -> SizeClasses:
    """Make the size classes that these settings ask for."""
    return SizeClasses(
        settings.slab_growth_factor,
        settings.slab_min_size,
        settings.extended.slab_chunk_max,
        settings.extended.slab_sizes,
        has_cas=not settings.disable_cas,
    )


@dataclass(slots=True)
class ClassCounts:
    """What happened to items of one class, by the names that a shard has for the sums over all classes."""

    evictions: int = 0
    evicted_unseen: int = 0
    evicted_nonzero: int = 0
    expired_unseen: int = 0
    reclaimed: int = 0
    crawled: int = 0
    """How many the crawler found expired."""
    no_memory: int = 0
    """How many found no memory, where nothing may be evicted."""
    evicted_idle_seconds: int = 0

    def add(self, other: ClassCounts) -> None:
        """Add what happened in another shard; of how long the last evicted were idle the longest stays."""
        idle_seconds = max(self.evicted_idle_seconds, other.evicted_idle_seconds)
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.evicted_idle_seconds = idle_seconds


@dataclass(slots=True)
class ClassContents:
    """What there is of one class."""

    accessed_at: int
    """When the item that was longest neither read nor stored was, in unix time."""
    number: int = 0
    item_bytes: int = 0
    """What they would take in memcached, less than their chunks."""
    chunks: int = 0


DEFAULT_SIZES = SizeClasses()
"""Those of a server that was started without flags."""
