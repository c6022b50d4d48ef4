"""What a client is answered in place of the server: errors and misses, in the protocol that it speaks."""

from __future__ import annotations

from collections.abc import Collection

from memcache_kv.protocol.binary.frames import HEAD, HEAD_BYTES, REPLY, REPLY_MAGIC, REQUEST_MAGIC, TEXTS, Status
from memcache_kv.protocol.binary.frames import Opcode as Op
from memcache_kv.protocol.meta.flags import BadFlags, read_flags
from memcache_kv.traffic.text_requests import LISTING_COMMANDS, META_COMMANDS
from memcache_kv.traffic.wire import WireRequest

INTERNAL_ERROR = 0x84
"""The binary protocol's status for an error of the server that has no other one."""
NO_VIVIFY = b"\xff\xff\xff\xff"
"""The exptime of a binary incr or decr that stores nothing on a miss."""
_WITH_KEY = frozenset((Op.GETK, Op.GETKQ, Op.GATK, Op.GATKQ))
_SILENT_MISSES = frozenset((Op.GETQ, Op.GETKQ, Op.GATQ, Op.GATKQ))
_MISSING_COMMANDS = frozenset(("get", "gat", "touch", "delete", "incr", "decr"))
_META_MISSES = {b"mg": b"EN", b"md": b"NF", b"ma": b"NF"}


def error_for(request: WireRequest, text: bytes, status: int) -> bytes | None:
    """Return the reply that says `SERVER_ERROR` and a text, or, in the binary protocol, that has a status and the text.

    Empty for a request that gets no reply even then. None for one that nothing can be answered to.
    """
    if request.command == "quit":
        return None
    if _is_binary(request):
        return _packet(request, status, text)
    if not request.has_reply and request.data.split(None, 1)[0] not in META_COMMANDS:
        return b""
    return b"SERVER_ERROR " + text + b"\r\n"


def miss_for(request: WireRequest, missing: Collection[bytes]) -> tuple[bytes | None, bytes]:
    """Return the reply as if there were no items with some of a request's keys, and what to send the server.

    The first one is None if the server must reply, and then the second one may ask it for fewer keys. Commands that
    store something, and those that would on a miss, are for the server.
    """
    if not missing:
        return None, request.data
    if _is_binary(request):
        return _binary_miss(request), request.data
    word, *words = request.data.split()
    if word in LISTING_COMMANDS:
        first = 1 if word in (b"gat", b"gats") else 0
        left = [key for key in words[first:] if key not in missing]
        if not left:
            return b"END\r\n", request.data
        return None, b" ".join([word, *words[:first], *left]) + b"\r\n"
    if word in _META_MISSES:
        return _meta_miss(word, words), request.data
    if request.command in _MISSING_COMMANDS:
        return (b"NOT_FOUND\r\n" if request.has_reply else b""), request.data
    return None, request.data


def _is_binary(request: WireRequest) -> bool:
    return request.data[:1] == bytes([REQUEST_MAGIC])


def _meta_miss(word: bytes, words: list[bytes]) -> bytes | None:
    """Return the reply to a meta request that misses; None if it is invalid, or stores something on a miss."""
    tokens = words[1:]
    try:
        flags = read_flags(words[0], tokens, len(words) + 1)
        identity = flags.identity()
    except BadFlags:
        return None
    if word != b"md" and flags.has(b"N"):
        return None
    return b"" if flags.quiet and word == b"mg" else _META_MISSES[word] + identity + b"\r\n"


def _binary_miss(request: WireRequest) -> bytes | None:
    """Return the reply to a binary request that misses; None if it stores something on a miss."""
    if request.command not in _MISSING_COMMANDS:
        return None
    opcode, extras = request.data[1], request.data[HEAD_BYTES:][: request.data[4]]
    if request.command in ("incr", "decr") and extras[-4:] != NO_VIVIFY:
        return None
    if opcode in _SILENT_MISSES:
        return b""
    if opcode in _WITH_KEY:
        return _packet(request, Status.NOT_FOUND, key=request.keys[0])
    return _packet(request, Status.NOT_FOUND, TEXTS[Status.NOT_FOUND])


def _packet(request: WireRequest, status: int, text: bytes = b"", key: bytes = b"") -> bytes:
    _, _, _, _, opaque, _ = HEAD.unpack_from(request.data)
    body = key + text
    return REPLY.pack(REPLY_MAGIC, request.data[1], len(key), 0, status, len(body), opaque, 0) + body
