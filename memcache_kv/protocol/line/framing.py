r"""The line protocol: split the input into lines, and answer each with one line that ends as the request did.

A line that is too long is discarded up to its end, so that the next one is read correctly.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from memcache_kv.auth.access import Origin
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.line import commands
from memcache_kv.protocol.line.fast_path import LINE_BYTES, LineFastPath
from memcache_kv.protocol.session import READ_BYTES
from memcache_kv.store.entry import LINE_FEED

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

CARRIAGE_RETURN = ord("\r")
LONGEST_LINE_BYTES = 1024
"""The longest line without its line feed. The longest valid one has 529 bytes."""
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
        return self._run_lines(data, self._requests_per_turn)

    def _receive_general(self, data: bytes) -> bool:
        """Handle input that continues an incomplete line, or while requests are observed."""
        if self._held:
            held = bytearray(self._held) if isinstance(self._held, bytes) else self._held
            held += data
            if b"\n" not in data:
                self._hold(held)
                return False
            data, self._held = bytes(held), b""
        return self._run_lines(data, self._requests_per_turn)

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        self._run_lines(data[position:], self._requests_per_turn - done)

    def _run_lines(self, data: bytes, most: int) -> bool:
        """Carry out the lines in `data`, and at most so many; return whether the fast path carried out everything."""
        line_end, is_plain = b"\n", not data.translate(None, LINE_BYTES)
        if CARRIAGE_RETURN in data:
            pairs = data.count(b"\r\n")
            if data.count(b"\n") + data.count(b"\r") == 2 * pairs:
                line_end = b"\r\n"
            else:
                is_plain = False
        lines = data.split(line_end, most)
        rest = lines.pop()
        is_plain = is_plain and not (self._discards or self.observers.active)
        done = self._run_common(lines, 0, line_end) if is_plain else 0
        if done == len(lines) and not rest:
            return True
        done = self._run_others(lines, done, line_end, is_plain)
        if not self.closing:
            self._keep(line_end.join((*lines[done:], rest)) if done < len(lines) else rest)
        return False

    def _run_others(self, lines: list[bytes], done: int, line_end: bytes, is_plain: bool) -> int:
        """Carry out lines from number `done` on until the turn is used up; return how many are done.

        is_plain: whether the lines are printable ASCII, so that the fast path may be tried again after each of them
        that it can't carry out.
        """
        self._start_turn()
        while done < len(lines) and not self.closing:
            line = lines[done]
            self._carry_out(line, line_end)
            done += 1
            if monotonic() > self._turn_ends_at:
                self._is_time_up(line[: line.find(b" ")].decode("ascii", "backslashreplace"))
                break
            if is_plain and not self.closing:
                done = self._run_common(lines, done, line_end)
        return done

    def _carry_out(self, line: bytes, line_end: bytes) -> None:
        """Carry out one line, given without `line_end`, and reply."""
        is_too_long = len(line) + len(line_end) - 1 > LONGEST_LINE_BYTES or self._discards
        if line[-1:] == b"\r" and line_end == b"\n":
            line, line_end = line[:-1], b"\r\n"
        self._discards, self._line_end = False, line_end
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

    def _run_common(self, lines: list[bytes], done: int, line_end: bytes) -> int:
        return done

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
