"""The fast path of the binary protocol: a get that hits, or a set, of a small value, one packet at a time.

Requests in any other form take the general path (`commands.py`), which gives the same replies.
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
    WITH_CAS,
    deadline_of,
    is_text_key,
    make_entry,
    pack,
    parts_with_cas,
)
from memcache_kv.store.sizes import FLAGS_BYTES


class FastGet(NamedTuple):
    """The parsed first half of a get's header, and the beginning of its reply's header.

    key_bytes: length of the request's key; reply_key_bytes: length of the key in the reply, 0 if the reply has none;
    reply_head: the reply's header up to the body length.
    """

    key_bytes: int
    reply_key_bytes: int
    reply_head: bytes


def _fast_gets(opcode: Opcode, repeats_key: bool) -> Iterator[tuple[bytes, FastGet]]:
    for size in range(1, KEY_LIMIT_BYTES + 1):
        reply_key_bytes = size if repeats_key else 0
        reply_head = HALF_HEAD.pack(REPLY_MAGIC, opcode, reply_key_bytes, FLAGS_BYTES, 0)[:BODY_AT]
        yield HALF_HEAD.pack(REQUEST_MAGIC, opcode, size, 0, size), FastGet(size, reply_key_bytes, reply_head)


HALF_HEAD = Struct("!BBHBxxxI")
"""The first half of a header, of requests and replies: magic, opcode, lengths of key and extras, (data type, bucket or
status), body length."""
BODY_AT, OPAQUE_AT, CAS_AT = 8, 12, 16
FAST_GETS = {
    head: form
    for opcode in (Opcode.GET, Opcode.GETQ, Opcode.GETK, Opcode.GETKQ)
    for head, form in _fast_gets(opcode, opcode in (Opcode.GETK, Opcode.GETKQ))
}
"""The parsed header of each get in its common form. One look-up is faster than unpacking and checking the fields."""
SET_HEAD = bytes([REQUEST_MAGIC, Opcode.SET])
SET_REPLY_HEAD = HALF_HEAD.pack(REPLY_MAGIC, Opcode.SET, 0, 0, 0)
SET_EXTRAS_BYTES = STORING.size
LARGEST_FAST_BYTES = PLAIN_LIMIT_BYTES - 20


class BinaryFastPath(Session):
    """The fast path of a binary connection."""

    __slots__ = ()

    def _answer_fast(self, data: bytes) -> bytes:
        """Carry out a get of a small value that has a CAS id, or a set of a small value; return the reply.

        data: one packet. Returns b"", without doing anything, for any other request or if it is not exactly one packet.
        """
        form = FAST_GETS.get(data[:OPAQUE_AT])
        if form is None:
            return self._set_small(data) if data[:2] == SET_HEAD else b""
        key, store = data[HEAD_BYTES:], self.store
        entry = store.tables[hash(key) & store.mask].get(key)
        if entry.__class__ is not bytes or entry[-1] != WITH_CAS or len(key) != form.key_bytes:
            return b""
        if 0 < deadline_of(entry) <= store.clock.now:
            return b""
        if store.records_access:
            store.record_access(key, entry)
        self.counters.cmd_get += 1
        self.counters.get_hits += 1
        if self.observers.active:
            self.observers.pass_over(0, 0, 1)
            self.observers.fetched_together((key,), ())
        cas, flags, value = parts_with_cas(entry)
        body_bytes = FLAGS_BYTES + form.reply_key_bytes + len(value)
        head = form.reply_head + body_bytes.to_bytes(4, "big") + data[OPAQUE_AT:CAS_AT] + cas
        return b"".join((head, flags, key[: form.reply_key_bytes], value))

    def _set_small(self, data: bytes) -> bytes:
        """Carry out exactly one set of a small value, whose key the text protocol allows; return the reply, or b""."""
        if len(data) < HEAD_BYTES + SET_EXTRAS_BYTES:
            return b""
        _, key_bytes, extras_bytes, body_bytes, _, cas = HEAD.unpack_from(data)
        value_at = HEAD_BYTES + SET_EXTRAS_BYTES + key_bytes
        key, value, store = data[HEAD_BYTES + SET_EXTRAS_BYTES : value_at], data[value_at:], self.store
        if cas or extras_bytes != SET_EXTRAS_BYTES or len(data) != HEAD_BYTES + body_bytes or len(key) != key_bytes:
            return b""
        if not self.takes_small_sets or len(value) > LARGEST_FAST_BYTES or not is_text_key(key):
            return b""
        flags, exptime = STORING.unpack_from(data, HEAD_BYTES)
        deadline = store.deadline(exptime)
        if 0 < deadline <= store.clock.now:  # the general path counts that
            return b""
        cas = store.next_cas()
        try:
            store.put(key, make_entry(key, pack(flags, value), deadline, cas))
        except WritesRejected:  # the general path raises it again and replies
            return b""
        self.counters.cmd_set += 1
        if self.observers.active:
            self.observers.pass_over_set(key)
        return SET_REPLY_HEAD + data[OPAQUE_AT:CAS_AT] + cas.to_bytes(8, "big")
