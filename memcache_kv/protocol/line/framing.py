r"""The line protocol: split the input into lines, and answer each with one line that ends as the request did.

A line that is too long is discarded up to its end, so that the next one is read correctly.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.auth.access import Origin
from memcache_kv.clock import monotonic
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.line import commands
from memcache_kv.protocol.line.fast_path import LineFastPath
from memcache_kv.protocol.session import READ_BYTES
from memcache_kv.store.entry import LINE_FEED

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

LONGEST_LINE_BYTES = 1024
"""The longest line without its line feed. The longest valid one has 529 bytes."""
LOGGED_WORD_BYTES = 24
"""So much of the first word of a line is logged of a slow request."""
TOO_LONG = b"ERROR line too long; allowed: %d bytes" % LONGEST_LINE_BYTES


class LineProtocol(LineFastPath):
    """The line protocol of one connection; see `Session` for how to use it."""

    __slots__ = ("_discards", "_line_end")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._discards = False
        """Whether the present line is too long. Only its last byte is kept until its end arrives."""
        self._line_end = b"\n"
        """The line end of the present request, and of its reply."""

    def receive(self, data: bytes) -> bool:
        """Carry out the complete requests in the input, and keep the rest; see `Session.receive`."""
        if self._held or self.observers.active:
            return self.observers.observe(partial(self._receive_general, data))
        self.turn_bytes = 0
        position, done = self._run_fast(data, 0, self._requests_per_turn)
        if position == len(data):
            return True
        self._run(data, position, done)
        return False

    def _receive_general(self, data: bytes) -> bool:
        """Handle input that continues an incomplete line, or while requests are observed."""
        if self._held:
            held = bytearray(self._held) if isinstance(self._held, bytes) else self._held
            held += data
            if b"\n" not in data:
                self._hold(held)
                return False
            data, self._held = bytes(held), b""
        self.turn_bytes = position = done = 0
        if not self._discards and not self.observers.takes_lines:
            position, done = self._run_fast(data, 0, self._requests_per_turn)
        if position == len(data):
            return True
        self._run(data, position, done)
        return False

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        """Carry out requests until the input or the turn is used up.

        After one request on the general path, the fast path is tried again. done: how many requests of this turn were
        carried out already.
        """
        left = self._requests_per_turn - done
        self._start_turn()
        while left > 0 and (feed := data.find(b"\n", position)) >= 0:
            line, position = data[position:feed], feed + 1
            self._carry_out(line)
            left -= 1
            if self.closing:
                return
            if monotonic() > self._turn_ends_at:
                self._is_time_up(line.partition(b" ")[0][:LOGGED_WORD_BYTES].decode("ascii", "backslashreplace"))
                break
            if left > 0 and position < len(data) and not self.observers.takes_lines:
                position, done = self._run_fast(data, position, left)
                left -= done
        if position < len(data):
            self._keep(data[position:] if position else data)

    def _carry_out(self, line: bytes) -> None:
        """Carry out one line, given without its line feed, and reply."""
        is_too_long = len(line) > LONGEST_LINE_BYTES or self._discards
        self._discards, self._line_end = False, b"\n"
        if line[-1:] == b"\r":
            line, self._line_end = line[:-1], b"\r\n"
        self.observers.request(self.fd, b"(too long)" if is_too_long else line)
        try:
            self.reply(TOO_LONG if is_too_long else self._answer(line))
        except WritesRejected:
            self.reject_write()

    def _answer(self, line: bytes) -> bytes:
        return commands.carry_out(self, line, self.highest_class)

    def _keep(self, rest: bytes) -> None:
        """Keep an incomplete line, or the input that is left for the next turn."""
        if LINE_FEED in rest:
            self._held = rest
            self.paused = True
            self.counters.conn_yields += 1
        elif rest:
            self._hold(bytearray(rest))

    def _hold(self, line: bytearray) -> None:
        """Keep the beginning of a line; of one that is too long, the last byte."""
        self.want = READ_BYTES
        if len(line) > LONGEST_LINE_BYTES:
            self._discards = True
        self._held = line[-1:] if self._discards else line

    # Replies

    def reply(self, line: bytes) -> None:
        """Reply with one line, given without its line end; with nothing if the line is empty."""
        if line:
            self.observers.reply(self.fd, line)
            self.out += (line, self._line_end)

    def _answer_refused(self) -> None:
        self.reply(commands.NOT_SAVED)

    def _refusal_of(self, reply: bytes) -> bytes | None:
        if reply.find(b"\n") != len(reply) - 1:
            return None
        return commands.NOT_SAVED + (b"\r\n" if reply.endswith(b"\r\n") else b"\n") if reply else b""


class ClosedLineProtocol(LineProtocol):
    """The line protocol where a login would be needed, which it does not have."""

    __slots__ = ()

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        return position, 0

    def _answer(self, line: bytes) -> bytes:
        if line == b"QUIT":
            return commands.quit_connection(self, [line])
        return commands.LOGIN_REQUIRED


def open_line(context: Context, fd: int, users: Credentials | None, origin: Origin) -> LineProtocol:
    """Return the session of a connection to a listener of the line protocol."""
    protocol = LineProtocol(context, fd) if users is None else ClosedLineProtocol(context, fd)
    protocol.permit(origin)
    return protocol


LINE = Dialect("line", open_line, "new line client connection", has_login=False)
