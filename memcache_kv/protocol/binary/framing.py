"""The binary protocol: packets in, packets out (memcached's doc/protocol-binary.xml).

`BinaryProtocol` frames the stream and has the fast path for what most requests are; `binary_commands.py` carries out
the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.binary.commands import BEFORE_LOGIN, COMMANDS, STORING, UNKNOWN, Command
from memcache_kv.protocol.binary.frames import (
    HEAD,
    HEAD_BYTES,
    LARGEST_BODY_BYTES,
    REPLY,
    REPLY_MAGIC,
    REQUEST_MAGIC,
    TEXTS,
    Opcode,
    Request,
    Status,
    packet,
)
from memcache_kv.protocol.binary.sasl import SaslLogin
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.store.entry import (
    PLAIN_LIMIT_BYTES,
    WITH_CAS,
    WITH_CAS_BYTES,
    Entry,
    cas_of,
    flags_of,
    is_plain_key,
    make_entry,
    pack,
    wire_bytes_of,
)
from memcache_kv.store.sizes import FLAGS_BYTES

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials


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
    head: usual
    for opcode in (Opcode.GET, Opcode.GETQ, Opcode.GETK, Opcode.GETKQ)
    for head, usual in _fast_gets(opcode, opcode in (Opcode.GETK, Opcode.GETKQ))
}
"""One look-up of twelve bytes, 70 ns, tells that nothing about a get is unusual, where unpacking its head and comparing
the fields takes 350."""
SET_HEAD = bytes([REQUEST_MAGIC, Opcode.SET])
SET_REPLY_HEAD = HALF_HEAD.pack(REPLY_MAGIC, Opcode.SET, 0, 0, 0)
SET_EXTRAS_BYTES = STORING.size
NO_FLAGS, NEVER = b" 0 ", bytes(4)
LARGEST_FAST_BYTES = PLAIN_LIMIT_BYTES - 20


class BinaryProtocol(Session):
    """One connection's stream of packets, to be used as a `TextProtocol` is. Never raises for anything a client sends.

    users: those who may log in, which then has to come first; None asks for no login.
    """

    __slots__ = ("login", "_request")

    _added_end = b"\r\n"

    def __init__(self, context: Context, fd: int = 0, users: Credentials | None = None) -> None:
        super().__init__(context, fd)
        self.login = None if users is None else SaslLogin(users)
        self._request = Request(0, 0, 0, b"", b"", 0)
        """What is carried out."""

    def receive(self, data: bytes) -> bool:
        """Take what arrived, carry out the requests that are whole, and keep the rest."""
        reply = self._answer_lone(data)
        if reply:
            self.out.append(reply)
            return True
        self._receive_general(data)
        return False

    def _receive_general(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        if self._mid_block:
            position = self._read_block(data, 0)
            if position == len(data):
                return
            data = data[position:]
        self._run(data)

    @property
    def is_open(self) -> bool:
        """Whether any command may be carried out: no login is asked for, or there was one."""
        return self.login is None or self.login.succeeded

    def _answer_lone(self, data: bytes) -> bytes:
        """Carry out input that is one get that hits or one set of a small value; return the reply, or nothing.

        It takes 1.3 microseconds, and a set 3, where the general way takes 5 and 8.
        """
        if self._held or self._mid_block or self._observers.active or not self.is_open:
            return b""
        return self._answer_fast(data)

    def _answer_fast(self, data: bytes) -> bytes:
        """Carry out a get of a small value with a CAS id, or a set of one; return the reply.

        Returns nothing where this is something else, or not exactly one request.
        """
        usual = FAST_GETS.get(data[:OPAQUE_AT])
        if usual is None:
            return self._set_small(data) if data[:2] == SET_HEAD else b""
        key, store = data[HEAD_BYTES:], self.store
        entry = store.tables[hash(key) & store.mask].get(key)
        if entry.__class__ is not bytes or entry[-1] != WITH_CAS or len(key) != usual.key_bytes:
            return b""
        if entry[-5:-1] != NEVER and store.get(key) is not entry:
            return b""
        if store.records_access:
            store.record_access(key, entry)
        self.counters.cmd_get += 1
        self.counters.get_hits += 1
        value = entry[entry.index(b"\n") + 1 : -WITH_CAS_BYTES]
        body_bytes = FLAGS_BYTES + usual.told_bytes + len(value)
        flags = NEVER if entry[:3] == NO_FLAGS else flags_of(entry).to_bytes(FLAGS_BYTES, "big")
        head = usual.reply_head + body_bytes.to_bytes(4, "big") + data[OPAQUE_AT:CAS_AT]
        return b"".join((head, entry[-WITH_CAS_BYTES:-5], flags, key[: usual.told_bytes], value))

    def _set_small(self, data: bytes) -> bytes:
        """Carry out exactly one set of a small value under a key that has nothing odd in it; return the reply."""
        if len(data) < HEAD_BYTES + SET_EXTRAS_BYTES:
            return b""
        _, key_bytes, extras_bytes, body_bytes, _, cas = HEAD.unpack_from(data)
        value_at = HEAD_BYTES + SET_EXTRAS_BYTES + key_bytes
        key, value, store = data[HEAD_BYTES + SET_EXTRAS_BYTES : value_at], data[value_at:], self.store
        if cas or extras_bytes != SET_EXTRAS_BYTES or len(data) != HEAD_BYTES + body_bytes or len(key) != key_bytes:
            return b""
        if not self._takes_small_sets or len(value) > LARGEST_FAST_BYTES or not 0 < key_bytes <= KEY_LIMIT_BYTES:
            return b""
        if not is_plain_key(key):
            return b""
        flags, exptime = STORING.unpack_from(data, HEAD_BYTES)
        cas = store.next_cas()
        try:
            store.put(key, make_entry(key, pack(flags, value), store.deadline(exptime), cas))
        except WritesRejected:
            return b""
        self.counters.cmd_set += 1
        return SET_REPLY_HEAD + data[OPAQUE_AT:CAS_AT] + cas.to_bytes(8, "big")

    def _run(self, data: bytes) -> None:
        """Carry out requests until the input or the turn is used up."""
        position, size, unpack = 0, len(data), HEAD.unpack_from
        self.turn_bytes = 0
        for _ in repeat(None, self._requests_per_turn):
            if size - position < HEAD_BYTES:
                break
            fields = unpack(data, position)
            if not self._observers.active and self.is_open:
                stop = position + HEAD_BYTES + fields[3]
                reply = self._answer_fast(data[position:stop])
                if reply:
                    self.out.append(reply)
                    self.turn_bytes += len(reply)
                    position = stop
                    if self.turn_bytes > TURN_BYTES:
                        self.paused = True
                        break
                    continue
            stop = self._carry_out(data, position, fields)
            if not stop:
                break
            position = stop
            if self.paused or self.closing:
                break
        else:
            self.paused = True
        self._keep(data[position:] if position else data)

    def _keep(self, rest: bytes) -> None:
        """Hold back what is not whole yet, or what the turn had no more room for."""
        if self._more is None:
            self.paused = self.paused and bool(rest)
        if not self.closing:
            self._held = rest
            self.counters.conn_yields += self.paused and bool(rest)

    def _carry_out(self, data: bytes, position: int, fields: tuple[int, ...]) -> int:
        """Carry out the request whose head has these fields, with as much of its value as is there.

        Returns the position behind it, or 0 where it is not there up to its value, or ends the connection.
        """
        head, key_bytes, extras_bytes, body_bytes, opaque, cas = fields
        if head >> 8 != REQUEST_MAGIC:
            self.closing = True
            return 0
        key_start = position + HEAD_BYTES + extras_bytes
        stop = key_start + key_bytes
        extras, key = data[position + HEAD_BYTES : key_start], data[key_start:stop]
        request = Request(head & 0xFF, opaque, cas, extras, key, body_bytes - key_bytes - extras_bytes)
        command = COMMANDS.get(request.opcode, UNKNOWN)
        fault = self._fault(request, command, key_bytes, extras_bytes, body_bytes)
        if fault is not None:
            self.fail(request, fault)
            self.closing = True
            return 0
        if stop > len(data):
            return 0
        if self._log.verbosity > 1:
            self._log.request(self.fd, b"0x%02x %a" % (request.opcode, key))
        self._request = request
        try:
            command.carry_out(self, request)
        except WritesRejected:
            self.reject_write()
        return self._read_block(data, stop) if self._mid_block else stop

    def _fault(
        self, request: Request, command: Command, key_bytes: int, extras_bytes: int, body_bytes: int
    ) -> Status | None:
        """Find what is wrong with a request by its head alone, in memcached's order: such a one ends the connection."""
        if request.value_bytes < 0:
            return Status.UNKNOWN_COMMAND
        if body_bytes > LARGEST_BODY_BYTES:
            return Status.INVALID
        if not self.is_open and request.opcode not in BEFORE_LOGIN:
            return Status.AUTH_ERROR
        if key_bytes > KEY_LIMIT_BYTES or not command.fits(key_bytes, extras_bytes, request.value_bytes):
            return Status.INVALID
        return None

    # Replies

    def _answer_refused(self) -> None:
        self.fail(self._request, Status.NO_MEMORY)

    def _refusal_of(self, reply: bytes) -> bytes | None:
        if not reply:
            return b""
        _, opcode, _, _, _, body_bytes, opaque, _ = REPLY.unpack_from(reply)
        if len(reply) != HEAD_BYTES + body_bytes:
            return None
        answered = Request(opcode, opaque, 0, b"", b"", 0)
        return packet(answered, Status.NO_MEMORY, value=TEXTS[Status.NO_MEMORY])

    def succeed(self, request: Request, value: bytes = b"", cas: int = 0) -> None:
        """Answer that all went well, unless the request asked for silence then."""
        if not COMMANDS[request.opcode].is_quiet:
            self.answer(request, Status.SUCCESS, value, cas)

    def fail(self, request: Request, status: Status, text: bytes = b"") -> None:
        """Answer with an error, in memcached's words where no others are given; silence covers none."""
        text = text or TEXTS[status]
        self._log.reply(self.fd, text)
        self.out.append(packet(request, status, value=text))

    def answer(self, request: Request, status: Status, value: bytes, cas: int = 0) -> None:
        """Answer with a status and a value."""
        self._log.reply(self.fd, b"0x%02x" % status)
        self.out.append(packet(request, status, value=value, cas=cas))

    def answer_hit(self, request: Request, entry: Entry, key: bytes, with_value: bool) -> None:
        """Answer with an item: its flags and CAS id, this key, and its value where that is asked for."""
        wire_bytes = wire_bytes_of(entry)
        value = wire_bytes[wire_bytes.index(b"\n") + 1 : -2] if with_value else b""
        self.turn_bytes += len(value)
        self.paused = self.turn_bytes > TURN_BYTES
        self._log.reply(self.fd, b"0x%02x" % Status.SUCCESS)
        extras = flags_of(wire_bytes).to_bytes(FLAGS_BYTES, "big")
        self.out.append(packet(request, Status.SUCCESS, extras, key, value, cas_of(entry)))


__all__ = ["BinaryProtocol"]
