r"""The fast path of the meta commands: mg and ms in their common form, one or many at once.

The common form has only flags that say what to return or how to store: v, f, k, s, t, q and O of mg; F, T, k, q and O
of ms. Requests in any other form take the general path (`commands.py`), which gives the same replies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from memcache_kv.protocol.meta.flags import OPAQUE_LIMIT_BYTES
from memcache_kv.store.entry import (
    LINE_FEED,
    PLAIN_LIMIT_BYTES,
    STALE,
    WON,
    Item,
    after_flags,
    deadline_of,
    is_text_key,
    wire_bytes_of,
)

if TYPE_CHECKING:
    from memcache_kv.protocol.responder import FormReader

PLANS_KEPT = 256
"""How many parsed flag combinations are cached, for mg and for ms each."""
LONGEST_PLAN_BYTES = 128
"""Longer flags are not cached, as the client controls their length."""
_FAST_FLAGS = frozenset(b"vfkstqO")
_O, _v, _f, _k, _s, _t = b"Ovfkst"
NO_BLOCK = bytes(PLAIN_LIMIT_BYTES)
"""Stands for a missing line or data block. It is longer than any value of the fast path."""
KEY_PLACE = -2
"""The index in `out` of the piece that the key replaces."""


def store_ms(protocol: FormReader, rest: bytes, block: bytes) -> bool:
    """Store a small value with ms. Return False, without doing anything, if the request is not in its common form.

    rest: the line after the command; block: the data block without its line end. Raises WritesRejected.
    """
    key, _, words = rest.partition(b" ")
    classic, reply = ms_form(words) if len(words) <= LONGEST_PLAN_BYTES else (b"", ())
    head, value_bytes, value_end, _ = protocol.form_now(classic)
    if len(block) != value_bytes or not is_text_key(key) or LINE_FEED in words:
        return False  # a line feed would end the line, even within an opaque
    protocol.store.put(key, b"".join((head, block, value_end)))
    protocol.out += reply
    if len(reply) > 1:
        protocol.out[KEY_PLACE] = key
    return True


@lru_cache(PLANS_KEPT)
def ms_form(words: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Translate the words after a ms's key into those of a classic set; return them and the reply's pieces.

    The words are b"" if the request is not in its common form. A reply of three pieces includes the key, which replaces
    the second.
    """
    length, *flags = words.split(b" ")
    client_flags, ttl, answer = b"0", b"0", [b"HD"]
    letters = [token[:1] for token in flags]
    for letter, token in zip(letters, flags, strict=True):
        if letter == b"T":
            ttl = token[1:]
        elif letter == b"F":
            client_flags = token[1:]
        elif letter == b"O" and len(token) <= OPAQUE_LIMIT_BYTES:
            answer[-1] += b" " + token
        elif token == b"k":
            answer[-1] += b" k"
            answer += (b"", b"")
        elif token != b"q":
            return b"", ()
    if len(set(letters)) < len(letters):
        return b"", ()
    answer[-1] += b"\r\n"
    return b"%b %b %b" % (client_flags, ttl, length), () if b"q" in letters else tuple(answer)


def answer_mg(protocol: FormReader, rest: bytes) -> bool:
    """Reply to a mg that hits.

    rest: the line after the command. Returns False, without replying, on a miss, for a large value, or if the request
    is not in its common form.
    """
    key, _, asked = rest.partition(b" ")
    if asked == b"v" and (entry := protocol.store.get(key)).__class__ is bytes and is_text_key(key):
        protocol.out += (b"VA ", after_flags(wire_bytes_of(entry)))
        return True
    opaque = b""
    if _O in asked:
        opaque, asked = _without_opaque(asked)
        if len(opaque) > OPAQUE_LIMIT_BYTES:
            return False
    plan = mg_plan(asked) if len(asked) <= LONGEST_PLAN_BYTES else None
    if plan is None or LINE_FEED in rest or not is_text_key(key):
        return False
    entry = protocol.store.get(key)
    if entry is None:
        return False
    if isinstance(entry, Item) and (len(entry) > PLAIN_LIMIT_BYTES or entry.state & (STALE | WON)):
        return False
    wire_bytes = wire_bytes_of(entry)
    size_at, line_end = wire_bytes.index(b" ", 1), wire_bytes.index(b"\r")
    fields = b""
    for letter in plan:
        if letter == _O:
            fields += b" " + opaque
        elif letter == _k:
            fields += b" k" + key
        elif letter == _f:
            fields += b" f" + wire_bytes[1:size_at]
        elif letter == _s:
            fields += b" s" + wire_bytes[size_at + 1 : line_end]
        elif letter == _t:
            deadline = deadline_of(entry)
            fields += b" t%d" % (max(0, deadline - protocol.store.clock.now) if deadline else -1)
    if _v in plan:
        protocol.out += (b"VA", wire_bytes[size_at:line_end], fields, wire_bytes[line_end:])
    else:
        protocol.out += (b"HD", fields, b"\r\n")
    return True


def _without_opaque(asked: bytes) -> tuple[bytes, bytes]:
    """Return the opaque flag, and the flags with O alone in its place."""
    start = asked.index(b"O")
    end = asked.find(b" ", start)
    if end < 0:
        end = len(asked)
    return asked[start:end], asked[: start + 1] + asked[end:]


@lru_cache(PLANS_KEPT)
def mg_plan(asked: bytes) -> bytes | None:
    """Return the letters of a mg's flags in their order; None if one is repeated or not in the common form."""
    letters = asked.replace(b" ", b"")
    if asked and (asked != b" ".join(bytes([each]) for each in letters)):
        return None
    return letters if len(set(letters)) == len(letters) and _FAST_FLAGS.issuperset(letters) else None
