"""What the protocols of a connection have in common: how they read data blocks, and what they gather."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import ClassVar

from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.context import Context

READ_BYTES = 16 * 1024
"""What one read of a connection asks for, as in memcached; more when a large value is on its way."""
FIRST_READ_BYTES = 470
"""Until a client sends more at once, so little is asked for: what is read then is a small object, which takes 0.1
microseconds less than one that goes through malloc."""
LARGEST_READ_BYTES = 1 << 20
LINE_END_BYTES = 2
TURN_BYTES = 1 << 20
"""Replies of this many bytes leave before the connection's next request is looked at."""


def _nothing(wire_bytes: bytes) -> None:
    """Store no data block: none is awaited."""


class Session:
    """One connection's side of the server, whatever the form of its requests. Not for two threads at once.

    fd: the number that stands for the connection in the log.
    """

    __slots__ = (
        "context", "store", "counters", "observers", "fd", "out", "closing", "paused", "want", "watcher",
        "close_reason", "turn_bytes", "_takes_small_sets", "_held", "_more", "_chunks",
        "_requests_per_turn", "_mid_block", "_swallow_bytes", "_missing_bytes", "_head", "_block", "_store_wire_bytes",
    )  # fmt: skip

    _added_end: ClassVar[bytes] = b""
    """The line end that a ready value has, where data blocks come without."""

    def __init__(self, context: Context, fd: int = 0) -> None:
        self.context = context
        self.store = context.store
        self.counters = context.counters
        self.fd = fd
        self.out: list[bytes] = []
        """Replies, for the caller to send and clear."""
        self.closing = False
        """Whether the connection is to be closed once they are sent."""
        self.paused = False
        """Whether there is more to do without new input."""
        self.want = FIRST_READ_BYTES
        """How many bytes the next read should ask for."""
        self.watcher: Watcher | None = None
        """What it watches with; such a connection takes no more commands."""
        self.close_reason = "error"
        """Why it is to be closed, in the words of `watch connevents`."""
        self.turn_bytes = 0
        """Bytes of large values that were answered in this turn."""
        self._takes_small_sets = context.store.takes_small_sets
        self.observers = context.observers
        self._held = b""
        """Input that is not a whole request yet, or waits for the next turn."""
        self._more: Callable[[], None] | None = None
        """Goes on with a reply that is longer than a turn."""
        self._chunks: Iterator[bytes] = iter(())
        self._requests_per_turn = context.settings.max_reqs_per_event
        self._mid_block = False
        """Whether the next bytes belong to a data block, to be read or passed over."""
        self._swallow_bytes = 0
        self._missing_bytes = 0
        """What is still to come of the data block that is being read, with its line end."""
        self._head = b""
        self._block = BytesIO()
        """What there is of one that comes in pieces, behind the head of a ready value: it becomes that uncopied."""
        self._store_wire_bytes: Callable[[bytes], None] = _nothing
        """What stores the data block that is being read."""

    def receive(self, data: bytes) -> bool:
        """Take what arrived, which is at least a byte: carry out the requests that are whole, and keep the rest.

        The replies gather in `out`. Returns True where the fast path has carried out all of it: then the caller has
        only these to send, and they are small. Else it looks at `paused` and `closing` too.
        """
        raise NotImplementedError

    def _run(self, data: bytes) -> None:
        """Carry out requests until the input or the turn is used up."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is half done, as no more input comes.

        What is to be called next refers to this session: with it in place, megabytes would stay until the collector
        comes by.
        """
        self._store_wire_bytes, self._more, self._chunks = _nothing, None, iter(())
        self._held, self._block = b"", BytesIO()
        self.out.clear()

    def resume(self) -> None:
        """Go on where a turn ended."""
        if self.observers.active:
            self.observers.observe(self._resume)
        else:
            self._resume()

    def _resume(self) -> bool:
        """Go on; return False, as `_receive_general` does."""
        data, self._held = self._held, b""
        self.paused = False
        if self._more is not None:
            self.turn_bytes = 0
            try:
                self._more()
            except WritesRejected:
                self._more = None
                self.reject_write()
            if self.paused:
                self._held = data
                return False
        if data:
            self._run(data)
        return False

    def answer_chunks(self, chunks: Iterator[bytes]) -> None:
        """Answer with what this gives, a chunk a turn, until it has no more: for a reply that takes long to make."""
        self._chunks = chunks
        self._send_chunk()

    def _send_chunk(self) -> None:
        chunk = next(self._chunks, None)
        self.paused = chunk is not None
        self._more = None if chunk is None else self._send_chunk
        if chunk:
            self.out.append(chunk)

    # Changes that the journal does not take

    def reject_write(self) -> None:
        """Answer the present request that it changed nothing, as the journal can't be written."""
        if self.context.journal is not None:
            self.context.journal.refusals += 1
        self._answer_refused()

    def _answer_refused(self) -> None:
        raise NotImplementedError

    def take_back(self) -> None:
        """Answer instead of what is in `out`, which no client has seen, that the disk did not take the change.

        Where that is more than one reply, nothing can be said that a client would not take for another's answer: the
        connection is closed.
        """
        refusal = self._refusal_of(b"".join(self.out))
        self.out.clear()
        if refusal is None:
            self.closing = True
        else:
            self.out.append(refusal)
        if self.context.journal is not None:
            self.context.journal.refusals += 1

    def _refusal_of(self, reply: bytes) -> bytes | None:
        """Return what takes the place of a reply; None where it is more than one."""
        raise NotImplementedError

    # Data blocks

    @property
    def state(self) -> str:
        """Name what it waits for, in the words of `stats conns`."""
        if self._swallow_bytes:
            return "conn_swallow"
        return "conn_nread" if self._mid_block else "conn_read"

    @property
    def held_bytes(self) -> int:
        """How many bytes of a request that is not whole yet it keeps."""
        return len(self._held) + self._block.tell()

    @property
    def block_bytes_left(self) -> int:
        """How many bytes of a data block, to be stored or ignored, are still to come; 0 where none is awaited."""
        return self._swallow_bytes or (self._missing_bytes if self._mid_block else 0)

    def expect_block(self, flags: int, length: int, store: Callable[[bytes], None]) -> None:
        """Read a data block of this length next, and hand it to `store` as a ready value."""
        self._store_wire_bytes = store
        self._head = b" %d %d\r\n" % (flags, length)
        self._missing_bytes = length + LINE_END_BYTES - len(self._added_end)
        self._mid_block = True

    def swallow(self, length: int) -> None:
        """Pass over the data block of a refused command, so that it is not taken for commands."""
        self._swallow_bytes = length + LINE_END_BYTES - len(self._added_end)
        self._mid_block = self._swallow_bytes > 0

    def _read_block(self, data: bytes, position: int) -> int:
        """Take what there is of the data block; store it once it is whole. Returns the position behind it."""
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
        """Store the data block of which this is the rest."""
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
        """Answer that a data block does not end with its line end."""
        raise NotImplementedError
