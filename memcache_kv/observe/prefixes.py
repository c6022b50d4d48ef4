"""Counts per prefix of the key, for `stats detail`."""

from __future__ import annotations

import threading
from collections.abc import Iterator

MAX_PREFIXES = 1 << 16
"""Keys of further prefixes are not counted, as in memcached: clients choose the names, and each takes memory."""
PREFIXES_AT_ONCE = 256
"""How many are told of in one piece of the dump."""

GET, HIT, SET, DELETE = range(4)


class Prefixes:
    """Count commands by what the keys begin with, up to the delimiter; keys without it are not counted.

    Any thread may call; one lock keeps the sums true. Whoever turns `counting` on or off tells `Observers`.

    delimiter: the character that ends a prefix; counting: whether to begin at once.
    """

    def __init__(self, delimiter: str = ":", counting: bool = False) -> None:
        self.counting = counting
        self._delimiter = delimiter.encode()
        self._counts: dict[bytes, list[int]] = {}
        self._lock = threading.Lock()

    def fetched(self, key: bytes, found: bool) -> None:
        """Count a key that was looked for."""
        with self._lock:
            counts = self._of_locked(key)
            counts[GET] += 1
            counts[HIT] += found

    def stored(self, key: bytes) -> None:
        """Count a storage command, whatever became of it."""
        with self._lock:
            self._of_locked(key)[SET] += 1

    def deleted(self, key: bytes) -> None:
        """Count a delete, whether it found something or not."""
        with self._lock:
            self._of_locked(key)[DELETE] += 1

    def clear(self) -> None:
        """Forget all counts, as `stats reset` does."""
        with self._lock:
            self._counts.clear()

    def dump(self) -> Iterator[bytes]:
        """Tell of every prefix in memcached's form, in pieces, and END."""
        with self._lock:
            prefixes = list(self._counts)
        for start in range(0, len(prefixes), PREFIXES_AT_ONCE):
            yield b"".join(map(self._line, prefixes[start : start + PREFIXES_AT_ONCE]))
        yield b"END\r\n"

    def _line(self, prefix: bytes) -> bytes:
        counts = self._counts.get(prefix)
        if counts is None:  # forgotten meanwhile
            return b""
        gets, hits, sets, deletes = counts
        return b"PREFIX %b get %d hit %d set %d del %d\r\n" % (prefix, gets, hits, sets, deletes)

    def _of_locked(self, key: bytes) -> list[int]:
        """Return the counts to add to; those of a key that is not counted are thrown away."""
        prefix, delimiter, _ = key.partition(self._delimiter)
        counts = self._counts.get(prefix) if delimiter else None
        if counts is None:
            counts = [0, 0, 0, 0]
            if delimiter and len(self._counts) < MAX_PREFIXES:
                self._counts[prefix] = counts
        return counts
