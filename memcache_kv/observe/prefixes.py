"""Counts of commands per key prefix, for `stats detail`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from memcache_kv.unpatched import threading

MAX_PREFIXES = 1 << 16
"""The number of prefixes that are counted. Clients choose them and each takes memory, so further ones are ignored."""
PREFIX_BYTES = 448
"""The most that one of them takes in memory, with its counts."""
PREFIXES_AT_ONCE = 256
"""The number of prefixes in one piece of the dump."""

GET, HIT, SET, DELETE = range(4)


class Prefixes:
    """Counts of commands by the part of their key before the delimiter. Keys without it are not counted.

    delimiter: the character that ends a prefix; counting: whether the counts are on.

    Any thread may call any method: each takes a lock. `Observers.count_prefixes` changes `counting`.
    """

    def __init__(self, delimiter: str = ":", counting: bool = False) -> None:
        self.counting = counting
        self.delimiter = delimiter.encode()
        self._counts: dict[bytes, list[int]] = {}
        self._names: list[bytes] = []
        """The prefixes, in the order in which they came. Dumps that go on for long share this list."""
        self._lock = threading.Lock()

    def fetched(self, key: bytes, found: bool) -> None:
        """Count a lookup of a key, and whether it was found."""
        with self._lock:
            counts = self._of_locked(key)
            counts[GET] += 1
            counts[HIT] += found

    def stored(self, key: bytes) -> None:
        """Count a storage command, whatever its outcome."""
        with self._lock:
            self._of_locked(key)[SET] += 1

    def deleted(self, key: bytes) -> None:
        """Count a delete, whether it found the key or not."""
        with self._lock:
            self._of_locked(key)[DELETE] += 1

    def count_keys(self, keys: Iterable[bytes], missed: Iterable[bytes], stored: Iterable[bytes]) -> None:
        """Count lookups of many keys, those of them that found nothing, and storage commands."""
        self.count(
            *(
                [key.partition(self.delimiter)[0] for key in each if self.delimiter in key]
                for each in (keys, missed, stored)
            )
        )

    def count(self, looked_up: Iterable[bytes], missed: Iterable[bytes], stored: Iterable[bytes] = ()) -> None:
        """Count lookups of keys with these prefixes, those of them that found nothing, and storage commands."""
        gets, misses, sets = Counter(looked_up), Counter(missed), Counter(stored)
        with self._lock:
            for prefix, number in gets.items():
                counts = self._of_prefix_locked(prefix)
                counts[GET] += number
                counts[HIT] += number - misses[prefix]
            for prefix, number in sets.items():
                self._of_prefix_locked(prefix)[SET] += number

    def clear(self) -> None:
        """Remove all counts, as `stats reset` does."""
        with self._lock:
            self._counts.clear()
            self._names = []

    def __len__(self) -> int:
        """Return the number of prefixes that are counted."""
        return len(self._counts)

    def first(self, most: int) -> list[tuple[bytes, list[int]]]:
        """Return the prefixes that were counted first, and their counts, which are indexed by GET, HIT, SET, DELETE."""
        with self._lock:
            return [(prefix, list(counts)) for prefix, counts in islice(self._counts.items(), most)]

    def dump(self) -> Iterator[bytes]:
        """Yield the reply to `stats detail dump` in pieces: a line for each prefix, then END."""
        with self._lock:
            names, count = self._names, len(self._names)
        for start in range(0, count, PREFIXES_AT_ONCE):
            yield b"".join(map(self._line, names[start : min(start + PREFIXES_AT_ONCE, count)]))
        yield b"END\r\n"

    def _line(self, prefix: bytes) -> bytes:
        counts = self._counts.get(prefix)
        if counts is None:  # cleared meanwhile
            return b""
        gets, hits, sets, deletes = counts
        return b"PREFIX %b get %d hit %d set %d del %d\r\n" % (prefix, gets, hits, sets, deletes)

    def _of_locked(self, key: bytes) -> list[int]:
        """Return the counts of a key's prefix, or counts that nobody reads for a key that is not counted."""
        prefix, delimiter, _ = key.partition(self.delimiter)
        return self._of_prefix_locked(prefix) if delimiter else [0, 0, 0, 0]

    def _of_prefix_locked(self, prefix: bytes) -> list[int]:
        """Return the counts of a prefix, or counts that nobody reads if there are too many prefixes."""
        counts = self._counts.get(prefix)
        if counts is None:
            counts = [0, 0, 0, 0]
            if len(self._counts) < MAX_PREFIXES:
                self._counts[prefix] = counts
                self._names.append(prefix)
        return counts
