"""memcached's size classes, and the class that an item would have there.

This server has no slabs. Tools and users read statistics by size class, so each item is counted in the class that
memcached 1.6.45 would give it with the same flags.
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
"""The bytes after key and data: a NUL and a line end."""
FLAGS_BYTES = 4
"""Client flags need memory only if they are not 0."""


class SizeClasses:
    """The size classes, smallest first; their numbers begin at 1. Immutable, so any thread may use them.

    growth_factor, smallest_bytes, chunk_max_bytes: memcached's -f, -n and -o slab_chunk_max. given: its -o slab_sizes,
    as "100-200-300", instead of a growth factor. has_cas: whether items hold a CAS id (not with -C).
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
        """The chunk size of each class in bytes, from class 1 on."""
        self._last = len(self.chunks)
        self._header_bytes = ITEM_STRUCT_BYTES + TAIL_BYTES + (CAS_BYTES if has_cas else 0)

    def class_of(self, item_bytes: int) -> int:
        """Return the class of an item of this size. Items larger than all chunks are split, and in the last class."""
        return min(bisect_left(self.chunks, item_bytes) + 1, len(self.chunks))

    def item_bytes(self, key: bytes, wire_bytes: bytes) -> int:
        """Return an item's size in memcached: key, data and header."""
        data_bytes = len(wire_bytes) - wire_bytes.find(b"\n") - 3
        return self.bytes_with_header(len(key) + data_bytes, has_flags=not wire_bytes.startswith(b" 0 "))

    def bytes_with_header(self, key_and_data_bytes: int, has_flags: bool) -> int:
        """Return the same from the lengths."""
        return key_and_data_bytes + self._header_bytes + (FLAGS_BYTES if has_flags else 0)

    def is_chunked(self, key: bytes, wire_bytes: bytes) -> bool:
        """Tell whether memcached would split this item into chunks, because it is larger than the largest of them."""
        return self.item_bytes(key, wire_bytes) > self.chunks[-1]

    def class_of_item(self, key: bytes, wire_bytes: bytes) -> int:
        """Return the class of a key and its value's wire bytes: that of their `item_bytes`.

        Both are written out here, because every eviction calls this.
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
    """Return the sizes of all classes but the last. Each is larger than the one before by this factor."""
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
    """Return the size classes that these settings ask for."""
    return SizeClasses(
        settings.slab_growth_factor,
        settings.slab_min_size,
        settings.extended.slab_chunk_max,
        settings.extended.slab_sizes,
        has_cas=not settings.disable_cas,
    )


@dataclass(slots=True)
class ClassCounts:
    """Counts of one class, with the names that a shard uses for their sums over all classes."""

    evictions: int = 0
    evicted_unseen: int = 0
    evicted_nonzero: int = 0
    expired_unseen: int = 0
    reclaimed: int = 0
    crawled: int = 0
    """The number of expired items that the crawler removed."""
    no_memory: int = 0
    """The number of values that were not stored because eviction is disabled."""
    evicted_idle_seconds: int = 0

    def add(self, other: ClassCounts) -> None:
        """Add another shard's counts. Of the two idle times, the longer one is kept."""
        idle_seconds = max(self.evicted_idle_seconds, other.evicted_idle_seconds)
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        self.evicted_idle_seconds = idle_seconds


@dataclass(slots=True)
class ClassContents:
    """The present contents of one class."""

    accessed_at: int
    """The unix time at which the item that has been idle longest was last read or stored."""
    number: int = 0
    item_bytes: int = 0
    """The memory that the items would take in memcached, without the unused rest of their chunks."""
    chunks: int = 0


DEFAULT_SIZES = SizeClasses()
"""The size classes of a server without flags."""
