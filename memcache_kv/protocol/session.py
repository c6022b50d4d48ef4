"""The base class of all protocols: it reads data blocks, collects replies and continues long ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, ClassVar

from memcache_kv.auth.access import HERE, CommandClass, Origin, highest_class
from memcache_kv.clock import monotonic
from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.command_classes import TO_CHECK
from memcache_kv.protocol.context import Context

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

READ_BYTES = 16 * 1024
"""How much one read asks for, as in memcached; more while a large value arrives."""
FIRST_READ_BYTES = 470
"""How much a read asks for until a client sends more at once. The interpreter allocates a result of this size faster
than a larger one, which needs malloc."""
LARGEST_READ_BYTES = 1 << 17
"""How much a read asks for at most: the other connections wait while that much is copied."""
LINE_END_BYTES = 2
TURN_BYTES = 1 << 20
"""Once the replies have this many bytes, they are sent before the next request is carried out."""
TURN_SECONDS = 0.002
"""After this time a turn ends with the request or the part of a reply that is being produced."""
REPLY_PART = 1 / 8
"""A reply that goes on for many turns takes this part of the time of each: every other request may wait for it."""


POINTER_BYTES = 8
SPARE_BLOCK_PART = 8
"""The buffer of an unfinished data block grows by this part more than is needed."""


def _nothing(wire_bytes: bytes) -> None:
    """Do nothing: the value of `_store_wire_bytes` while no data block is expected."""


class Session:
    """One connection's protocol state. Used by one thread at a time.

    context: the server; fd: the connection's number in the log.
    """

    __slots__ = (
        "context", "store", "counters", "observers", "fd", "out", "closing", "paused", "want", "watcher",
        "close_reason", "turn_bytes", "origin", "user", "highest_class", "checked_commands",
        "_list_bytes", "takes_small_sets", "_held", "_more", "_chunks", "_requests_per_turn", "_time_part",
        "_turn_ends_at", "_command", "_mid_block", "_swallow_bytes", "_missing_bytes", "_head", "_block",
        "_store_wire_bytes",
    )  # fmt: skip

    _added_end: ClassVar[bytes] = b""
    """The line end to append to a data block in protocols that send it without one."""

    def __init__(self, context: Context, fd: int = 0) -> None:
        self.context = context
        self.store = context.store
        self.counters = context.counters
        self.fd = fd
        self.out: list[bytes] = []
        """The replies, for the caller to send and clear."""
        self.closing = False
        """Whether to close the connection once the replies are sent."""
        self.paused = False
        """Whether the session has more to do without new input."""
        self.want = FIRST_READ_BYTES
        """How many bytes the next read should ask for."""
        self.watcher: Watcher | None = None
        """Collects the lines for `watch`; a connection that has one accepts no more commands."""
        self.close_reason = "error"
        """Why the connection is closed, in the words of `watch connevents`."""
        self.turn_bytes = 0
        """Bytes of large values in this turn's replies."""
        self._list_bytes = 0
        """Bytes of the list of keys that a reply longer than a turn goes through."""
        self.observers = context.observers
        self._held: bytes | bytearray = b""
        """Input that is not a complete request yet, or that waits for the next turn. The beginning of a text line is a
        bytearray, to which the rest is appended as it arrives."""
        self._more: Callable[[], None] | None = None
        """Continues a reply that takes more than one turn."""
        self._chunks: Iterator[bytes] = iter(())
        self._requests_per_turn, self._time_part = context.settings.max_reqs_per_event, 1.0
        self._turn_ends_at = 0.0
        """The monotonic time at which this turn's time is used up. A turn of the fast path alone does not set it."""
        self._command = ""
        """The name of the command that `_more` goes on with."""
        self._mid_block = False
        """Whether the next bytes belong to a data block, which is read or discarded."""
        self._swallow_bytes = 0
        self._missing_bytes = 0
        """How many bytes of the current data block are missing, including its line end."""
        self._head = b""
        self._block = BytesIO()
        """A data block that arrives in pieces, after the head of its wire bytes. Its buffer becomes the wire bytes
        without a copy."""
        self._store_wire_bytes: Callable[[bytes], None] = _nothing
        """Stores the current data block."""
        self.origin = HERE
        self.user: bytes | None = None
        """The user that is logged in."""
        self.permit()

    def permit(
        self, origin: Origin | None = None, user: bytes | None = None, user_class: CommandClass | None = None
    ) -> None:
        """Set which commands the client may use, by its origin and by the user that it has logged in as.

        origin: None leaves it as it is. Without the class write, no set takes the fast path, so that the fast path
        has nothing to check.
        """
        self.origin = origin or self.origin
        self.user = user
        context = self.context
        self.highest_class = highest_class(context.settings.admin_commands, self.origin, user_class)
        self.checked_commands = TO_CHECK[self.highest_class, context.audit is not None]
        """The commands that need a check of their class."""
        self.takes_small_sets = context.store.takes_small_sets and self.highest_class > CommandClass.READ

    def admits(self, command_class: CommandClass, describe: Callable[[], bytes]) -> bool:
        """Return whether the client may use a command of this class.

        Write it to the audit log if the class is admin. describe: returns the command with its arguments, for that log.
        """
        is_allowed = command_class <= self.highest_class
        audit = self.context.audit
        if audit is not None and command_class is CommandClass.ADMIN:
            audit.command(self.origin.address, self.user, describe(), is_allowed)
        return is_allowed

    def audit_login(self, name: bytes | None, users: Credentials, is_known: bool) -> None:
        """Write a login to the audit log. The name of a failed one is written only if there is a user of that name.

        Otherwise it may be a password that was typed into the wrong field.
        """
        audit = self.context.audit
        if audit is not None:
            audit.login(self.origin.address, name if name is not None and users.has_user(name) else None, is_known)

    def receive(self, data: bytes) -> bool:
        """Carry out the complete requests in the input, and keep the rest.

        data: at least one byte. The replies are in `out`. Returns True if the fast path carried out everything: the
        replies are then small, and the caller only has to send them. After False, the caller must check `paused` and
        `closing` too. Never raises for anything a client sends.
        """
        raise NotImplementedError

    def receive_rest(self, data: bytes, done: int) -> None:
        """Carry out the rest of an input whose first `done` requests were carried out elsewhere.

        Their replies are in `out`, and `turn_bytes` is set. Call it only where `receive` would find nothing held.
        """
        self._run(data, 0, done)

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        """Carry out requests from `position` on until the input or the turn is used up.

        done: how many requests of this turn were carried out already.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release incomplete requests and unsent replies. Call it when no more input follows.

        The stored callbacks refer to this session. Clearing them frees its memory at once, without the garbage
        collector.
        """
        self._store_wire_bytes, self._more, self._chunks = _nothing, None, iter(())
        self._held, self._block = b"", BytesIO()
        self.out.clear()

    def resume(self) -> None:
        """Continue where the last turn ended."""
        if self.observers.active:
            self.observers.observe(self._resume)
        else:
            self._resume()

    def _resume(self) -> bool:
        """Continue; return False, as `_receive_general` does."""
        data, self._held = bytes(self._held), b""
        self.paused = False
        self.turn_bytes = 0
        if self._more is not None:
            self._start_turn()
            try:
                self._more()
            except WritesRejected:
                self._more = None
                self.reject_write()
            self._is_time_up(self._command)
            if self.paused:
                self._held = data
                self.paused = self._more is not None or bool(data)
                return False
        if data:
            self._run(data)
        return False

    def limit_turn(self, requests: int, time_part: float) -> None:
        """Carry out at most this many requests in one turn, in this part of TURN_SECONDS, from the next turn on."""
        self._requests_per_turn, self._time_part = requests, time_part

    def answer_chunks(self, chunks: Iterator[bytes]) -> None:
        """Reply with these chunks, which are produced one by one: in each turn as many as it has time and room for.

        The turn ends with the last of them, so that they are sent before the next request is carried out.
        """
        self._chunks = chunks
        self._list_bytes = POINTER_BYTES * (len(self.store) // len(self.store.tables))  # the keys of one shard
        self._send_chunks()

    def _send_chunks(self) -> None:
        self.paused, self._more = True, None
        ends_at = self._turn_ends_at - TURN_SECONDS * self._time_part * (1 - REPLY_PART)
        for chunk in self._chunks:
            if chunk:
                self.out.append(chunk)
                self.turn_bytes += len(chunk)
            if self.turn_bytes > TURN_BYTES or monotonic() > ends_at:
                self._more = self._send_chunks
                return
        self._chunks = iter(())

    def _start_turn(self) -> None:
        self._turn_ends_at = monotonic() + TURN_SECONDS * self._time_part

    def _is_time_up(self, command: str) -> bool:
        """Tell whether this turn's time is used up; if so, report the command that was carried out last."""
        overrun = monotonic() - self._turn_ends_at
        if overrun < 0:
            return False
        self.context.turns.overran(self.fd, command, overrun + TURN_SECONDS * self._time_part)
        return True

    # Writes that the journal rejects

    def reject_write(self) -> None:
        """Reply to the current request with an error, as the journal can't be written."""
        if self.context.journal is not None:
            self.context.journal.refusals += 1
        self._answer_refused()

    def _answer_refused(self) -> None:
        raise NotImplementedError

    def take_back(self) -> None:
        """Replace the unsent reply in `out` with an error, as its write could not be saved.

        If `out` holds several replies, the connection is closed instead: the client could not tell which of its
        requests failed.
        """
        refusal = self._refusal_of(b"".join(self.out))
        self.out.clear()
        if refusal is None:
            self.closing = True
        elif not refusal:
            self.counters.hidden_errors += 1
        else:
            self.out.append(refusal)
        if self.context.journal is not None:
            self.context.journal.refusals += 1

    def _refusal_of(self, reply: bytes) -> bytes | None:
        """Return the error that replaces a reply, b"" for no reply; None if there are several replies."""
        raise NotImplementedError

    # Data blocks

    @property
    def state(self) -> str:
        """The state of a connection that reads requests, in the words of `stats conns`."""
        if self._swallow_bytes:
            return "conn_swallow"
        return "conn_nread" if self._mid_block else "conn_read"

    @property
    def is_amid_request(self) -> bool:
        """Whether the session holds an incomplete request."""
        return bool(self._held) or self._mid_block

    @property
    def held_bytes(self) -> int:
        """How many bytes of an incomplete request the session holds."""
        return len(self._held) + self._block.tell()

    @property
    def kept_bytes(self) -> int:
        """How many bytes it keeps between its turns: input, replies, lists of keys, and the buffer of a watcher.

        A watcher's buffer counts as if it were full, as other threads fill it.
        """
        kept = self.held_bytes + self._block.tell() // SPARE_BLOCK_PART + sum(map(len, self.out))
        if self._more is not None:
            kept += self._list_bytes
        return kept if self.watcher is None else kept + self.watcher.limit_bytes

    @property
    def block_bytes_left(self) -> int:
        """How many bytes of the current data block are missing, stored or discarded; 0 if none is expected."""
        return self._swallow_bytes or (self._missing_bytes if self._mid_block else 0)

    def expect_block(self, flags: int, length: int, store: Callable[[bytes], None]) -> None:
        """Read a data block of `length` bytes next, and call `store` with its wire bytes."""
        self._store_wire_bytes = store
        self._head = b" %d %d\r\n" % (flags, length)
        self._missing_bytes = length + LINE_END_BYTES - len(self._added_end)
        self._mid_block = True

    def swallow(self, length: int) -> None:
        """Discard the data block of a rejected command, so that it is not read as commands."""
        self._swallow_bytes = length + LINE_END_BYTES - len(self._added_end)
        self._mid_block = self._swallow_bytes > 0

    def _read_block(self, data: bytes, position: int) -> int:
        """Read as much of the data block as has arrived; store it once it is complete.

        Returns the position after it.
        """
        there = len(data) - position
        if self._swallow_bytes:
            taken = min(there, self._swallow_bytes)
            self._swallow_bytes -= taken
            self._mid_block = self._swallow_bytes > 0
            return position + taken
        missing = self._missing_bytes
        rest = memoryview(data)[position : position + missing]
        if there >= missing:
            self._store_block(rest)
            return position + missing
        if not self._block.tell():
            self._block.write(self._head)
        self._block.write(rest)
        self._missing_bytes -= there
        self.want = max(READ_BYTES, min(self._missing_bytes, LARGEST_READ_BYTES))
        return len(data)

    def _store_block(self, rest: memoryview) -> None:
        """Store the data block that ends with `rest`."""
        if not self._block.tell():
            wire_bytes = b"".join((self._head, rest, self._added_end))
        else:
            self._block.write(rest)
            self._block.write(self._added_end)
            wire_bytes = self._block.getvalue()
            self._block = BytesIO()
        self._mid_block = False
        self.want = READ_BYTES
        store, self._store_wire_bytes = self._store_wire_bytes, _nothing
        if not wire_bytes.endswith(b"\r\n"):
            self._refuse_block()
            return
        try:
            store(wire_bytes)
        except WritesRejected:
            self.reject_write()

    def _refuse_block(self) -> None:
        """Reply that the data block does not end with a line end."""
        raise NotImplementedError
