"""The fast path of the binary protocol: a get that hits and a set, of a small value, one packet at a time.

Whatever has another form is left to the general way (`commands.py`), which answers it alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.binary.commands import STORING
from memcache_kv.protocol.binary.frames import HEAD, HEAD_BYTES, REPLY_MAGIC, REQUEST_MAGIC, Opcode
from memcache_kv.protocol.session import Session
from memcache_kv.store.entry import (
    KEY_LIMIT_BYTES,
    PLAIN_LIMIT_BYTES,
    cas_of,
    flags_of,
    is_text_key,
    make_entry,
    pack,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.sizes import FLAGS_BYTES


class FastGet(NamedTuple):
    """What the first half of a request's head says, and what of its reply's head is known by it.

    key_bytes: length of the request's key; told_bytes: how much of it the reply repeats.
    """

    key_bytes: int
    told_bytes: int
    reply_head: bytes


def _fast_gets(opcode: Opcode, repeats_key: bool) -> Iterator[tuple[bytes, FastGet]]:
    for size in range(1, KEY_LIMIT_BYTES + 1):
        told = size if repeats_key else 0
        reply_head = HALF_HEAD.pack(REPLY_MAGIC, opcode, told, FLAGS_BYTES, 0)[:BODY_AT]
        yield HALF_HEAD.pack(REQUEST_MAGIC, opcode, size, 0, size), FastGet(size, told, reply_head)


HALF_HEAD = Struct("!BBHBxxxI")
"""Of request and reply alike: magic, opcode, lengths of key and extras, (data type, bucket or status), body length."""
BODY_AT, OPAQUE_AT, CAS_AT = 8, 12, 16
FAST_GETS = {
    head: form
    for opcode in (Opcode.GET, Opcode.GETQ, Opcode.GETK, Opcode.GETKQ)
    for head, form in _fast_gets(opcode, opcode in (Opcode.GETK, Opcode.GETKQ))
}
"""One look-up of twelve bytes tells that a get has its common form, which is faster than to unpack and compare them."""
SET_HEAD = bytes([REQUEST_MAGIC, Opcode.SET])
SET_REPLY_HEAD = HALF_HEAD.pack(REPLY_MAGIC, Opcode.SET, 0, 0, 0)
SET_EXTRAS_BYTES = STORING.size
LARGEST_FAST_BYTES = PLAIN_LIMIT_BYTES - 20


class BinaryFastPath(Session):
    """A binary connection, as far as requests in their common form go."""

    __slots__ = ()

    def _answer_fast(self, data: bytes) -> bytes:
        """Carry out a get of a small value with a CAS id, or a set of one; return the reply.

        Returns nothing, and has done nothing, where this is something else, or not exactly one request.
        """
        form = FAST_GETS.get(data[:OPAQUE_AT])
        if form is None:
            return self._set_small(data) if data[:2] == SET_HEAD else b""
        key = data[HEAD_BYTES:]
        entry = self.store.get(key) if len(key) == form.key_bytes else None
        if entry.__class__ is not bytes or not (cas := cas_of(entry)):
            return b""
        self.counters.cmd_get += 1
        self.counters.get_hits += 1
        if self.observers.active:
            self.observers.pass_over(0, 0, 1)
            self.observers.fetched_together((key,), ())
        wire_bytes = wire_bytes_of(entry)
        value = value_of(wire_bytes)
        body_bytes = FLAGS_BYTES + form.told_bytes + len(value)
        head = form.reply_head + body_bytes.to_bytes(4, "big") + data[OPAQUE_AT:CAS_AT] + cas.to_bytes(8, "big")
        return b"".join((head, flags_of(wire_bytes).to_bytes(FLAGS_BYTES, "big"), key[: form.told_bytes], value))

    def _set_small(self, data: bytes) -> bytes:
        """Carry out exactly one set of a small value under a key of the text protocol; return the reply."""
        if len(data) < HEAD_BYTES + SET_EXTRAS_BYTES:
            return b""
        _, key_bytes, extras_bytes, body_bytes, _, cas = HEAD.unpack_from(data)
        value_at = HEAD_BYTES + SET_EXTRAS_BYTES + key_bytes
        key, value, store = data[HEAD_BYTES + SET_EXTRAS_BYTES : value_at], data[value_at:], self.store
        if cas or extras_bytes != SET_EXTRAS_BYTES or len(data) != HEAD_BYTES + body_bytes or len(key) != key_bytes:
            return b""
        if not self._takes_small_sets or len(value) > LARGEST_FAST_BYTES or not is_text_key(key):
            return b""
        flags, exptime = STORING.unpack_from(data, HEAD_BYTES)
        cas = store.next_cas()
        try:
            store.put(key, make_entry(key, pack(flags, value), store.deadline(exptime), cas))
        except WritesRejected:  # the general way finds it too, and answers
            return b""
        self.counters.cmd_set += 1
        if self.observers.active:
            self.observers.pass_over(0, 1, 1)
            if self.observers.prefixes.counting:
                self.observers.prefixes.stored(key)
        return SET_REPLY_HEAD + data[OPAQUE_AT:CAS_AT] + cas.to_bytes(8, "big")
