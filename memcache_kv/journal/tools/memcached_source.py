"""Copying the items of a running memcached: `metadump` gives keys and expiry times, `get` flags and values."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from memcache_kv.config.settings import DEFAULT_PORT
from memcache_kv.datafile.lines import key_problem
from memcache_kv.errors import MemcacheKVError
from memcache_kv.journal.tools.load import SourceItem
from memcache_kv.unpatched import socket, time

SOURCE_TIMEOUT_SECONDS = 30.0
FETCHED_AT_ONCE = 64
BUSY_ATTEMPTS = 60
BUSY_SECONDS = 1.0


class SourceFailed(MemcacheKVError):
    """A memcached can't be reached, or its reply is invalid."""


class MemcachedSource:
    """The items of a running memcached. Can be iterated over once; raises SourceFailed.

    An item that changes meanwhile is copied with its value at the time of the fetch and its expiry time at the time of
    the listing.

    address: HOST:PORT or HOST. progress: called with the items copied so far, the items in all, and the items copied
    again.
    """

    def __init__(self, address: str, progress: Callable[[int, int, int], None] | None = None) -> None:
        self.gone = 0
        """The number of items that were listed but removed before they were fetched."""
        self._address = address
        self._progress = progress
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            host, port = address, str(DEFAULT_PORT)
        self._where = (host.strip("[]"), int(port))

    def __iter__(self) -> Iterator[SourceItem]:
        try:
            with closing(_Client(self._where)) as listing, closing(_Client(self._where)) as fetching:
                yield from self._items(listing, fetching)
        except (OSError, ValueError, OverflowError) as error:
            raise SourceFailed(f"can't copy from memcached at {self._address}: {error}") from None

    def _items(self, listing: _Client, fetching: _Client) -> Iterator[SourceItem]:
        total = fetching.count_items()
        done = 0
        batch: dict[bytes, int] = {}
        for key, exp in listing.listed():
            batch[key] = exp
            if len(batch) >= FETCHED_AT_ONCE:
                done += len(batch)
                yield from self._fetched(fetching, batch)
                batch = {}
                if self._progress is not None:
                    self._progress(done, max(done, total), done)
        yield from self._fetched(fetching, batch)

    def _fetched(self, fetching: _Client, batch: dict[bytes, int]) -> Iterator[SourceItem]:
        plain = [key for key in batch if not key_problem(key)]
        self.gone += len(batch)
        for key, flags, value in fetching.get(plain) if plain else ():
            self.gone -= 1
            yield SourceItem(key, value, flags, batch[key])
        for key in batch.keys() - set(plain):
            for _, flags, value in fetching.get_binary_key(key):
                self.gone -= 1
                yield SourceItem(key, value, flags, batch[key])


class _Client:
    """One connection. Its methods raise OSError and ValueError."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._connection = socket.create_connection(where, SOURCE_TIMEOUT_SECONDS)
        self._replies: BinaryIO = self._connection.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._connection.close()

    def _line(self) -> bytes:
        line = self._replies.readline()
        if not line.endswith(b"\n"):
            raise ValueError("the connection was closed")
        return line.rstrip(b"\r\n ")

    def count_items(self) -> int:
        """Return the number of items that memcached reports."""
        self._connection.sendall(b"stats\r\n")
        count = 0
        while (line := self._line()) != b"END":
            words = line.split()
            if words[:1] != [b"STAT"]:
                raise ValueError(f"stats was answered by {line!r}")
            if words[1:2] == [b"curr_items"]:
                count = int(words[2])
        return count

    def listed(self) -> Iterator[tuple[bytes, int]]:
        """Yield all keys, each with the unix time of its expiry, 0 for never."""
        line = self._begin_dump()
        while line != b"END":
            if line.startswith(b"key="):
                fields = dict(word.partition(b"=")[::2] for word in line.split(b" "))
                yield unquote_to_bytes(fields[b"key"]), max(0, int(fields.get(b"exp", b"0")))
            elif line != b"OK":
                raise ValueError(f"lru_crawler metadump was answered by {line!r}")
            line = self._line()

    def _begin_dump(self) -> bytes:
        """Request the dump, again while memcached makes another; return its first line."""
        for _ in range(BUSY_ATTEMPTS):
            self._connection.sendall(b"lru_crawler metadump all\r\n")
            line = self._line()
            if not line.startswith((b"BUSY", b"LOCKED")):
                return line
            time.sleep(BUSY_SECONDS)
        raise ValueError("its crawler is busy; try again later")

    def get(self, keys: list[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        """Fetch keys that are valid in the text protocol. Yields key, flags and value of those that exist."""
        self._connection.sendall(b"get " + b" ".join(keys) + b"\r\n")
        while (line := self._line()) != b"END":
            words = line.split(b" ")
            if words[0] != b"VALUE" or len(words) < 4:
                raise ValueError(f"get was answered by {line!r}")
            yield words[1], int(words[2]), self._data(int(words[3]))

    def get_binary_key(self, key: bytes) -> list[tuple[bytes, int, bytes]]:
        """Fetch a key that only a meta command can send."""
        self._connection.sendall(b"mg " + b2a_base64(key, newline=False) + b" b f v\r\n")
        words = self._line().split(b" ")
        if words[0] == b"EN":
            return []
        if words[0] != b"VA":
            raise ValueError(f"mg was answered by {b' '.join(words)!r}")
        flags = next(int(word[1:]) for word in words[2:] if word.startswith(b"f"))
        return [(key, flags, self._data(int(words[1])))]

    def _data(self, length: int) -> bytes:
        data = self._replies.read(length + 2)
        if len(data) != length + 2:
            raise ValueError("the connection was closed")
        return data[:-2]
