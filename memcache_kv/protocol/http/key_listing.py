"""GET /v1/kv: the keys with a prefix, page by page.

A page goes over the shards in order, and over the keys of each in the order of their bytes. So a key that exists all
the time is listed exactly once, whatever else changes between two pages. The cursor says where the next page begins.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from heapq import nsmallest

from memcache_kv.auth.access import CommandClass
from memcache_kv.protocol.http.content_types import type_for
from memcache_kv.protocol.http.keys import check_names, encoded_key, number_of
from memcache_kv.protocol.http.message import JSON_TYPE, HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.protocol.http.site import HttpClient
from memcache_kv.store.entry import deadline_of, flags_of, length_of, wire_bytes_of
from memcache_kv.store.store import ItemStore

PAGE_LIMIT, PAGE_DEFAULT = 1000, 100
EXAMINED_LIMIT = 100_000
"""A page ends at the end of a shard once so many keys were looked at, however few of them it lists."""
EXAMINED_AT_ONCE = 1024
CURSOR_LIMIT_CHARACTERS = 512
CURSOR_CHECK_BYTES = 4
SHARD_BYTES = 2


def list_keys(client: HttpClient, request: HttpRequest) -> HttpReply:
    """Return a page of keys. Raises HttpProblem."""
    parameters = request.parameters
    check_names(parameters, ("prefix", "cursor", "limit"))
    if not client.admits(CommandClass.ADMIN, lambda: b"GET /v1/kv?" + request.query):
        raise HttpProblem(403, "Only clients of the class admin may list keys.")
    if client.context.settings.disable_dumping:
        raise HttpProblem(403, "Listing keys is turned off by --disable-dumping.")
    limit = number_of(parameters, "limit", 1, PAGE_LIMIT, PAGE_DEFAULT)
    prefix = parameters.get("prefix", "").encode("latin-1")
    shard, last = _position(client.store, parameters.get("cursor", ""))
    return HttpReply(200, content_type=JSON_TYPE, chunks=_page(client.store, prefix, shard, last, limit))


def _page(store: ItemStore, prefix: bytes, shard: int, last: bytes, limit: int) -> Iterator[bytes]:
    """Yield the pieces of a page, empty ones between the steps of the search."""
    listed = examined = 0
    separator = b'{"keys": ['
    while shard < len(store.tables):
        best: list[bytes] = []
        keys = list(store.tables[shard])
        examined += len(keys)
        for start in range(0, len(keys), EXAMINED_AT_ONCE):
            part = keys[start : start + EXAMINED_AT_ONCE]
            best += [key for key in part if key > last and key.startswith(prefix)]
            best = nsmallest(limit - listed, best)
            yield b""
        for key in best:
            row = _row(store, key)
            if row:
                yield separator + row
                separator = b", "
        listed += len(best)
        if listed == limit:
            last = best[-1]
            break
        shard, last = shard + 1, b""
        if examined >= EXAMINED_LIMIT:
            break
    cursor = _cursor(store, shard, last) if shard < len(store.tables) else None
    yield (b"" if separator == b", " else separator) + b'], "cursor": %b}\n' % json.dumps(cursor).encode()


def _row(store: ItemStore, key: bytes) -> bytes:
    """Return what the page says of a key; nothing if it has no item any more."""
    entry = store.peek(key)
    if entry is None:
        return b""
    wire_bytes = wire_bytes_of(entry)
    row = {
        "key": encoded_key(key),
        "bytes": length_of(wire_bytes),
        "type": type_for(flags_of(wire_bytes)).decode(),
        "expires": deadline_of(entry) or None,
    }
    return json.dumps(row).encode()


def _check_of(store: ItemStore) -> bytes:
    """Return what a cursor of this store begins with: it depends on how keys are divided among the shards."""
    return (hash(b"cursor") + len(store.tables) & 0xFFFFFFFF).to_bytes(CURSOR_CHECK_BYTES, "big")


def _cursor(store: ItemStore, shard: int, last: bytes) -> str:
    return urlsafe_b64encode(_check_of(store) + shard.to_bytes(SHARD_BYTES, "big") + last).decode().rstrip("=")


def _position(store: ItemStore, cursor: str) -> tuple[int, bytes]:
    """Return the shard and the last key of a cursor. Raises HttpProblem."""
    if not cursor:
        return 0, b""
    try:
        data = urlsafe_b64decode(cursor[:CURSOR_LIMIT_CHARACTERS] + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        data = b""
    check, shard, last = data[:CURSOR_CHECK_BYTES], data[CURSOR_CHECK_BYTES:][:SHARD_BYTES], data[6:]
    if (
        check != _check_of(store)
        or len(shard) != SHARD_BYTES
        or _cursor(store, shard[0] << 8 | shard[1], last) != cursor
    ):
        raise HttpProblem(400, "The cursor is not valid; a restart of the server ends all cursors.")
    return int.from_bytes(shard, "big"), last
