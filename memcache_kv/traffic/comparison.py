"""Whether two replies to one request say the same, by the rules of docs/reference/recordings.md.

A reply is taken apart into parts: bytes, which must be equal, and numbers, for which there are rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

from memcache_kv.protocol.binary.frames import HEAD_BYTES, REPLY, REQUEST_MAGIC, Opcode
from memcache_kv.traffic.adaptation import CasIds
from memcache_kv.traffic.text_replies import ERROR_HEADS, block_bytes, head_of
from memcache_kv.traffic.wire import WireRequest

SLACK_SECONDS = 1
"""Seconds left may differ by the length of the recording or of the replay, and by this: servers round them."""


class NumberRule(Enum):
    """The rule for a number."""

    CAS = "CAS id"
    SECONDS_LEFT = "seconds until the item expires"
    ANY = "a number of the server's own"


class Figure(NamedTuple):
    """A number in a reply, and the key that it is about."""

    rule: NumberRule
    number: int
    key: bytes = b""


ReplyPiece: TypeAlias = bytes | Figure


def are_alike(request: WireRequest, recorded: bytes, other: bytes, ids: CasIds, seconds: float) -> bool:
    """Tell whether two replies say the same, and note which CAS ids they have.

    recorded, other: the two replies; ids: those that both servers gave so far; seconds: how much time has passed since
    the beginning of the recording, or of its replay if that is more.
    """
    pairs = zip_longest(pieces_of(request, recorded), pieces_of(request, other))
    fits = [_fit(one, two, ids, seconds) for one, two in pairs]  # of all pairs, as each CAS id is to be noted
    return all(fits)


def _fit(recorded: ReplyPiece | None, other: ReplyPiece | None, ids: CasIds, seconds: float) -> bool:
    if not isinstance(recorded, Figure) or not isinstance(other, Figure):
        return recorded == other
    if recorded.rule is not other.rule or recorded.key != other.key:
        return False
    if recorded.rule is NumberRule.CAS:
        return ids.match(recorded.key, recorded.number, other.number)
    if recorded.rule is NumberRule.SECONDS_LEFT:
        if min(recorded.number, other.number) < 0:
            return recorded.number == other.number
        return abs(recorded.number - other.number) <= seconds + SLACK_SECONDS
    return True


def pieces_of(request: WireRequest, reply: bytes) -> list[ReplyPiece]:
    """Take a reply apart."""
    if request.data[:1] == bytes([REQUEST_MAGIC]):
        return list(_packets(request, reply))
    line = reply.partition(b"\n")[0]
    take_apart = _APART.get(request.command)
    if take_apart is None or head_of(line) in ERROR_HEADS:
        return [reply]
    return list(take_apart(request, reply))


# Text


def _values(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Take the reply to a get apart: only CAS ids have a rule."""
    position = 0
    while position < len(reply):
        stop = reply.find(b"\n", position) + 1 or len(reply)
        line = reply[position:stop]
        words = line.split()
        position = stop + block_bytes(line)
        if words[:1] == [b"VALUE"] and len(words) > 4 and words[4].isdigit():
            yield b" ".join(words[:4])
            yield Figure(NumberRule.CAS, int(words[4]), words[1])
            yield reply[stop:position]
        else:
            yield reply[stop - len(line) : position]


FIELD_RULES = {b"c": NumberRule.CAS, b"t": NumberRule.SECONDS_LEFT, b"l": NumberRule.ANY}
NAMED_RULES = {
    b"cas": NumberRule.CAS,
    b"exp": NumberRule.SECONDS_LEFT,
    b"la": NumberRule.ANY,
    b"cls": NumberRule.ANY,
    b"size": NumberRule.ANY,
}


def _meta(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Take the reply to a meta command apart, field by field."""
    line, end, block = reply.partition(b"\n")
    words = line.split()
    fields_at = 2 if words[:1] == [b"VA"] else 1
    yield b" ".join(words[:fields_at])
    for word in words[fields_at:]:
        yield _figure(FIELD_RULES.get(word[:1]), word[:1], word[1:], request, word)
    yield end + block


def _metadata(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Take the reply to `me` apart."""
    for word in reply.split():
        name, _, number = word.partition(b"=")
        if name == b"fetch":  # servers record it of some items only
            continue
        yield _figure(NAMED_RULES.get(name), name, number, request, word)


def _figure(rule: NumberRule | None, name: bytes, number: bytes, request: WireRequest, word: bytes) -> ReplyPiece:
    """Return a number with its rule; the whole word if there is none."""
    if rule is None or not number.removeprefix(b"-").isdigit():
        return word
    return Figure(rule, int(number), request.keys[0] if rule is NumberRule.CAS and request.keys else name)


def _report(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Look at whether there is a report at all: servers count different things."""
    yield b"a report" if reply.endswith(b"END\r\n") else reply


def _version(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    yield b"a version"


def _dump(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Look at whether there is a dump at all: memcached leaves out what it is just using, or has no time for one."""
    is_dump = reply.endswith((b"END\r\n", b"EN\r\n")) or head_of(reply) == b"BUSY"
    yield b"a dump" if is_dump else reply


_APART: dict[str, Callable[[WireRequest, bytes], Iterator[ReplyPiece]]] = {
    **dict.fromkeys(("gets", "gats"), _values),
    **dict.fromkeys(("mg", "ms", "md", "ma"), _meta),
    "me": _metadata,
    "stats": _report,
    "version": _version,
    "lru_crawler": _dump,
}


# Binary


def _packets(request: WireRequest, reply: bytes) -> Iterator[ReplyPiece]:
    """Take packets apart: the CAS id of each has a rule; statistics and versions are not compared."""
    position = 0
    key = request.keys[0] if request.keys else b""
    while len(reply) - position >= HEAD_BYTES:
        magic, opcode, key_bytes, extras_bytes, status, body_bytes, opaque, cas = REPLY.unpack_from(reply, position)
        stop = position + HEAD_BYTES + int(body_bytes)
        if not status and opcode in (Opcode.STAT, Opcode.VERSION):
            yield b"a report"
            return
        yield REPLY.pack(magic, opcode, key_bytes, extras_bytes, status, body_bytes, opaque, 0)
        yield Figure(NumberRule.CAS, int(cas), key)
        yield reply[position + HEAD_BYTES : stop]
        position = stop
    yield reply[position:]
