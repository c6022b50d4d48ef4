"""The binary protocol: split the input into packets (memcached's doc/protocol-binary.xml).

`fast_path.py` carries out requests in their common form, `commands.py` all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from memcache_kv.clock import monotonic
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.binary.commands import (
    BEFORE_LOGIN,
    NOT_ALLOWED,
    OPCODE_COMMANDS,
    UNKNOWN,
    WITHOUT_DISCOVERY,
    Command,
)
from memcache_kv.protocol.binary.fast_path import BinaryFastPath
from memcache_kv.protocol.binary.frames import (
    HEAD,
    HEAD_BYTES,
    LARGEST_BODY_BYTES,
    REPLY,
    REQUEST_MAGIC,
    TEXTS,
    Request,
    Status,
    packet,
)
from memcache_kv.protocol.binary.sasl import SaslLogin
from memcache_kv.protocol.command_classes import class_in_binary
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES
from memcache_kv.protocol.session import TURN_BYTES
from memcache_kv.store.entry import (
    Entry,
    cas_of,
    flags_of,
    wire_bytes_of,
)
from memcache_kv.store.sizes import FLAGS_BYTES

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials


class BinaryProtocol(BinaryFastPath):
    """The binary protocol of one connection; used like `TextProtocol`. Never raises for anything a client sends.

    users: the users who may log in, and then a login must come first; None if no login is needed.
    """

    __slots__ = ("login", "_request", "_commands")

    _added_end = b"\r\n"

    def __init__(self, context: Context, fd: int = 0, users: Credentials | None = None) -> None:
        super().__init__(context, fd)
        self.login = None if users is None else SaslLogin(users)
        self._commands = OPCODE_COMMANDS if context.cluster is not None else WITHOUT_DISCOVERY
        self._request = Request(0, 0, 0, b"", b"", 0)
        """The request that is being carried out."""

    def receive(self, data: bytes) -> bool:
        """Carry out the complete requests in the input, and keep the rest; see `Session.receive`."""
        if self._held or self._mid_block or self.observers.active or (self.login is not None and not self.is_open):
            return self.observers.observe(partial(self._receive_general, data))
        self.turn_bytes = 0
        requests, position, done = self.context.requests, 0, 0
        if requests is not None:
            position, done = requests.run_binary(self, data, 0, self._requests_per_turn)
            if position == len(data):
                return True
        elif reply := self._answer_fast(data):
            self.out.append(reply)
            return True
        self._run(data, position, done)
        return False

    def _receive_general(self, data: bytes) -> bool:
        """Handle input that continues an incomplete request, or while requests are observed."""
        if self._held:  # no more than a head, extras and a key
            data = bytes(self._held) + data
            self._held = b""
        if self._mid_block:
            position = self._read_block(data, 0)
            if position == len(data) or self._more is not None:
                self._held = data[position:]
                return False
            data = data[position:]
        self.turn_bytes = 0
        self._run(data)
        return False

    @property
    def is_open(self) -> bool:
        """Whether all commands are allowed: no login is needed, or the client has logged in."""
        return self.login is None or self.login.succeeded

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        """Carry out requests until the input or the turn is used up."""
        size, unpack = len(data), HEAD.unpack_from
        self._start_turn()
        for _ in repeat(None, self._requests_per_turn - done):
            if size - position < HEAD_BYTES:
                break
            if self.turn_bytes > TURN_BYTES:
                self.paused = True
                break
            fields = unpack(data, position)
            if not self.observers.takes_lines and self.is_open:
                stop = position + HEAD_BYTES + fields[3]
                reply = self._answer_fast(data[position:stop])
                if reply:
                    self.out.append(reply)
                    self.turn_bytes += len(reply)
                    position = stop
                    continue
            stop = self._carry_out(data, position, fields)
            if not stop:
                break
            position = stop
            if self.paused or self.closing or self._more is not None or monotonic() > self._turn_ends_at:
                self._command = f"opcode 0x{self._request.opcode:02x}"
                if self._is_time_up(self._command) and self._more is None:
                    self.paused = True
                break
        else:
            self.paused = True
        self._keep(data[position:] if position else data)

    def _keep(self, rest: bytes) -> None:
        """Keep an incomplete request, or the input that is left for the next turn."""
        if self._more is None:
            self.paused = self.paused and bool(rest)
        if not self.closing:
            self._held = rest
            self.counters.conn_yields += self.paused and bool(rest)

    def _carry_out(self, data: bytes, position: int, fields: tuple[int, ...]) -> int:
        """Carry out the request whose header has these fields, with as much of its value as has arrived.

        Returns the position after it; 0 if its extras and key are incomplete, or if it closes the connection.
        """
        head, key_bytes, extras_bytes, body_bytes, opaque, cas = fields
        if head >> 8 != REQUEST_MAGIC:
            self.closing = True
            return 0
        key_start = position + HEAD_BYTES + extras_bytes
        stop = key_start + key_bytes
        extras, key = data[position + HEAD_BYTES : key_start], data[key_start:stop]
        request = Request(head & 0xFF, opaque, cas, extras, key, body_bytes - key_bytes - extras_bytes)
        command = self._commands.get(request.opcode, UNKNOWN)
        fault = self._fault(request, command, key_bytes, extras_bytes, body_bytes)
        if fault is not None:
            self.fail(request, fault)
            self.closing = True
            return 0
        if stop > len(data):
            return 0
        if self.context.log.verbosity > 1:
            self.observers.request(self.fd, b"0x%02x %a" % (request.opcode, key))
        if request.opcode in self.checked_commands and command is not UNKNOWN and not self._is_admitted(request):
            command = NOT_ALLOWED
        self._request = request
        try:
            command.carry_out(self, request)
        except WritesRejected:
            self.reject_write()
        return self._read_block(data, stop) if self._mid_block else stop

    def _fault(
        self, request: Request, command: Command, key_bytes: int, extras_bytes: int, body_bytes: int
    ) -> Status | None:
        """Check a request by its header alone, in memcached's order.

        Returns the error's status, after which the connection is closed; None for a valid request.
        """
        if request.value_bytes < 0:
            return Status.UNKNOWN_COMMAND
        if body_bytes > LARGEST_BODY_BYTES:
            return Status.INVALID
        if not self.is_open and request.opcode not in BEFORE_LOGIN:
            return Status.AUTH_ERROR
        if key_bytes > KEY_LIMIT_BYTES or not command.fits(key_bytes, extras_bytes, request.value_bytes):
            return Status.INVALID
        return None

    def go_on_later(self, act: Callable[[], None]) -> None:
        """Carry out nothing more until `resume` is called, and then this first."""
        self._more = partial(self._go_on, act)

    def _go_on(self, act: Callable[[], None]) -> None:
        self._more = None
        act()

    def _is_admitted(self, request: Request) -> bool:
        """Return whether the client may use a command, and write it to the audit log."""
        return self.admits(class_in_binary(request.opcode, request.key), request.described)

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
        """Reply with success, unless the request is a quiet one."""
        if not OPCODE_COMMANDS[request.opcode].is_quiet:
            self.answer(request, Status.SUCCESS, value, cas)

    def fail(self, request: Request, status: Status, text: bytes = b"") -> None:
        """Reply with an error, also to a quiet request. Without `text`, memcached's text for the status is sent."""
        text = text or TEXTS[status]
        self.observers.reply(self.fd, text)
        self.out.append(packet(request, status, value=text))

    def answer(self, request: Request, status: Status, value: bytes, cas: int = 0) -> None:
        """Reply with a status and a value."""
        self.observers.reply(self.fd, b"0x%02x" % status)
        self.out.append(packet(request, status, value=value, cas=cas))

    def answer_hit(self, request: Request, entry: Entry, key: bytes, with_value: bool) -> None:
        """Reply with an item: its client flags and CAS id, `key`, and its value if `with_value`."""
        wire_bytes = wire_bytes_of(entry)
        value = wire_bytes[wire_bytes.index(b"\n") + 1 : -2] if with_value else b""
        self.turn_bytes += len(value)
        self.paused = self.turn_bytes > TURN_BYTES
        self.observers.reply(self.fd, b"0x%02x" % Status.SUCCESS)
        extras = flags_of(wire_bytes).to_bytes(FLAGS_BYTES, "big")
        self.out.append(packet(request, Status.SUCCESS, extras, key, value, cas_of(entry)))


__all__ = ["BinaryProtocol"]
