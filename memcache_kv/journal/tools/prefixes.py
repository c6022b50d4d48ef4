"""Counting the items of each key prefix, however many prefixes there are."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from heapq import nsmallest
from zlib import crc32

import msgspec

from memcache_kv.journal.tools.spill import Spill

MOST_PREFIXES = 50_000
"""When more are counted, the counts are written to a temporary file, divided by their prefixes."""
PREFIX_SHARES = 256

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, int, int]]).decode


@dataclass(slots=True)
class Prefix:
    """The live items whose keys share a prefix."""

    items: int = 0
    bytes: int = 0


class PrefixCounts:
    """Counts of items by prefix. Use it as a context, whose end frees temporary disk space."""

    def __init__(self) -> None:
        self._counts: dict[bytes, Prefix] = {}
        self._spill = Spill()
        self._extents = [array("Q") for _ in range(PREFIX_SHARES)]

    def count(self, prefix: bytes, items: int, size: int) -> None:
        """Add so many items with this prefix, of this length together. Raises JournalError."""
        self._add(prefix, items, size)
        if len(self._counts) > MOST_PREFIXES:
            self._write_out()

    def top(self, most: int) -> list[tuple[bytes, Prefix]]:
        """Return the prefixes with the most bytes, largest first. Call it once. Raises JournalError."""
        if not any(self._extents):
            return _largest(self._counts, most)
        self._write_out()
        found: dict[bytes, Prefix] = {}
        for extents in self._extents:
            for piece in self._spill.read(extents):
                for prefix, items, size in _decode(piece):
                    self._add(prefix, items, size)
            found = dict(_largest(found | self._counts, most))
            self._counts = {}
        return _largest(found, most)

    def _add(self, prefix: bytes, items: int, size: int) -> None:
        counted = self._counts.get(prefix)
        if counted is None:
            counted = self._counts[prefix] = Prefix()
        counted.items += items
        counted.bytes += size

    def _write_out(self) -> None:
        shares: list[list[tuple[bytes, int, int]]] = [[] for _ in range(PREFIX_SHARES)]
        for prefix, counted in self._counts.items():
            shares[crc32(prefix) % PREFIX_SHARES].append((prefix, counted.items, counted.bytes))
        self._counts = {}
        for share, extents in zip(shares, self._extents, strict=True):
            if share:
                self._spill.write(_encode(share), extents)

    def __enter__(self) -> PrefixCounts:
        return self

    def __exit__(self, *_: object) -> None:
        self._spill.close()


def _largest(counts: dict[bytes, Prefix], most: int) -> list[tuple[bytes, Prefix]]:
    return nsmallest(most, counts.items(), key=lambda pair: (-pair[1].bytes, pair[0]))
