"""Replies that walk over all items, made in small pieces so that other connections are served in between.

Each copies a shard's keys and looks them up a few at a time, without a lock. A key that exists all the time is listed
once, with its value at that moment. A key that is added or removed meanwhile may be listed or not. Nothing is changed.
Expired items are left out.
"""

from __future__ import annotations

import re
import sys
from binascii import b2a_base64
from collections.abc import Callable, Container, Iterator
from itertools import islice

from memcache_kv.store.entry import (
    Entry,
    cas_of,
    deadline_of,
    flags_of,
    is_plain_key,
    length_of,
    wire_bytes_of,
)
from memcache_kv.store.store import ItemStore

LISTED_AT_ONCE = 64
"""How many items are listed in one piece."""
CACHEDUMP_LIMIT_BYTES = 2 << 20
UNSAFE = re.compile(rb"[^A-Za-z0-9._~-]")
"""The bytes that are percent-encoded in the keys of a metadump."""

Line = Callable[[ItemStore, bytes, Entry], bytes]
Classes = Container[int] | None
"""The numbers of the size classes to list; None for all."""


def metadump(store: ItemStore, classes: Classes = None) -> Iterator[bytes]:
    """Yield a metadump of all items of these classes (protocol.txt, "LRU_Crawler")."""
    return _dump(store, classes, _meta_line, b"END\r\n")


def mgdump(store: ItemStore, classes: Classes = None) -> Iterator[bytes]:
    """Yield a line for each key, in the form of a meta get, and EN."""
    return _dump(store, classes, _mg_line, b"EN\r\n")


def cachedump(store: ItemStore, most: int, classes: Classes = None) -> Iterator[bytes]:
    """Yield the keys, lengths and deadlines of `most` items (0 for all) as `stats cachedump` does, and END.

    The newest items of a shard come first. As in memcached, keys that are invalid in the text protocol are left out,
    and the reply is cut off at CACHEDUMP_LIMIT_BYTES.
    """
    left, room = most or sys.maxsize, CACHEDUMP_LIMIT_BYTES - len(b"END\r\n")
    for items in _slices(store, classes):
        lines = [_cache_line(key, entry) for key, entry in items if is_plain_key(key)][:left]
        left -= len(lines)
        piece = b"".join(lines)
        if len(piece) > room:
            piece = piece[: piece.rfind(b"\n", 0, room) + 1]
            left = 0
        room -= len(piece)
        yield piece
        if left <= 0:
            break
    yield b"END\r\n"


def _dump(store: ItemStore, classes: Classes, line: Line, end: bytes) -> Iterator[bytes]:
    yield b"OK\r\n"
    for items in _slices(store, classes):
        yield b"".join([line(store, key, entry) for key, entry in items])
    yield end


def _slices(store: ItemStore, classes: Classes = None) -> Iterator[list[tuple[bytes, Entry]]]:
    """Yield the live items of these classes, the newest of each shard first, a few at a time."""
    for items in _kept(store):
        now = store.clock.now
        live = [(key, entry) for key, entry in items if not 0 < deadline_of(entry) <= now]
        if classes is not None:
            live = [(key, entry) for key, entry in live if store.class_of(key, entry) in classes]
        yield live


def _kept(store: ItemStore) -> Iterator[list[tuple[bytes, Entry]]]:
    """Yield all items, the newest of each shard first, a few at a time."""
    for shard in store.shards:
        keys = reversed(list(shard.table))
        while batch := list(islice(keys, LISTED_AT_ONCE)):
            table = shard.table  # a flush puts another in its place
            yield [(key, entry) for key in batch if (entry := table.get(key)) is not None]


def _meta_line(store: ItemStore, key: bytes, entry: Entry) -> bytes:
    return b"key=%b exp=%d la=%d cas=%d fetch=%b cls=%d size=%d flags=%d \n" % (
        UNSAFE.sub(_escape, key),
        deadline_of(entry) or -1,
        store.accessed_at(entry),
        cas_of(entry),
        b"yes" if store.was_read(key, entry) else b"no",
        store.class_of(key, entry),
        store.size_of(key, entry),
        flags_of(wire_bytes_of(entry)),
    )


def _escape(unsafe: re.Match[bytes]) -> bytes:
    return b"%%%02X" % unsafe[0][0]


def _mg_line(store: ItemStore, key: bytes, entry: Entry) -> bytes:
    if is_plain_key(key):
        return b"mg %b\r\n" % key
    return b"mg %b b\r\n" % b2a_base64(key, newline=False)


def _cache_line(key: bytes, entry: Entry) -> bytes:
    return b"ITEM %b [%d b; %d s]\r\n" % (key, length_of(wire_bytes_of(entry)), deadline_of(entry))
