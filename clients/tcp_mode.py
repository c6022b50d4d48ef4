"""The shell's tcp mode: a typed line goes out as it is, the raw reply comes back."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

from clients.access import Access
from clients.address import reason_of
from clients.line_input import LineInput
from clients.reply_framing import Expectation, expect

RECEIVE_BYTES = 65536

HELP = """\
tcp mode: a line is sent as typed, with the line end \\r\\n; the raw reply is shown.
  get KEY...                       mg KEY FLAGS...
  set KEY FLAGS EXPIRY BYTES       ms KEY BYTES FLAGS...     (then the data on the next line)
  delete KEY                       md KEY FLAGS...
  incr KEY N                       ma KEY FLAGS...
  touch KEY EXPIRY                 stats, version, flush_all, ...
Data longer than one line: go on typing until BYTES are there; each line end counts as two bytes.
After a request that may stay unanswered (noreply, meta's q) the shell asks `version`, unseen, to
know that nothing more comes. `watch` shows events until Ctrl-C."""


class ConnectionLostError(Exception):
    """The connection broke in the middle of a request; the next request opens a new one."""


class TcpMode:
    """Send lines over one connection, opened when first needed and again after it was lost."""

    name = "tcp"
    help = HELP

    def __init__(self, access: Access, timeout_seconds: float, show: Callable[[str], None]) -> None:
        self._access = access
        self._timeout_seconds = timeout_seconds
        self._show = show
        self._socket: socket.socket | None = None
        self._received = b""  # arrived and not yet shown

    def connect(self) -> None:
        """Open the connection unless it is open; raise OSError when nobody answers."""
        if self._socket is None:
            self._socket = self._access.connect(self._timeout_seconds)

    def close(self) -> None:
        """Close the connection and forget what it brought."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._received = b""

    def run(self, line: bytes, source: LineInput) -> None:
        """Send one line, with its data block if it needs one, and show the reply.

        Raises ConnectionLostError, and OSError when no connection can be opened.
        """
        expectation = expect(line)
        request = line + b"\r\n"
        if expectation.data_bytes is not None:
            data = read_data_block(expectation.data_bytes, source)
            if data is None:
                self._show("The input ended before the data block did; nothing was sent.")
                return
            request += data
        self.connect()
        self._show_unasked()
        self._exchange(request + expectation.fence, expectation)

    def _exchange(self, request: bytes, expectation: Expectation) -> None:
        """Send a request and show its reply; whatever goes wrong in between, close the connection."""
        try:
            assert self._socket is not None
            self._socket.sendall(request)
            reply = self._receive(expectation)
            self._show_reply(reply, expectation)
            if expectation.streams and not reply.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
                self._stream()
        except (OSError, ConnectionLostError) as error:
            self._give_up(error)
        except KeyboardInterrupt:
            self.close()
            raise

    def _receive(self, expectation: Expectation) -> bytes:
        """Wait for a whole reply; raise TimeoutError when none comes in time."""
        deadline = time.monotonic() + self._timeout_seconds
        while (length := expectation.reply_end(self._received)) is None:
            self._receive_more(deadline - time.monotonic())
        reply, self._received = self._received[:length], self._received[length:]
        return reply

    def _receive_more(self, seconds: float) -> None:
        assert self._socket is not None
        if seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionLostError("the server closed the connection")
        self._received += data

    def _show_reply(self, reply: bytes, expectation: Expectation) -> None:
        if expectation.fence_reply:
            reply = reply[: reply.rindex(expectation.fence_reply)]
        self._show(as_text(reply) if reply else "(no reply)")

    def _show_unasked(self) -> None:
        """Show what arrived behind the last reply, so that it is not taken for the next one."""
        assert self._socket is not None
        self._socket.setblocking(False)
        try:
            while data := self._socket.recv(RECEIVE_BYTES):
                self._received += data
            closed = True
        except (BlockingIOError, ssl.SSLWantReadError):
            closed = False
        except OSError:
            closed = True
        self._socket.settimeout(self._timeout_seconds)
        if self._received:
            self._show(f"(unasked) {as_text(self._received)}")
            self._received = b""
        if closed:
            self.close()
            self.connect()
            self._show("The server had closed the connection; connected again.")

    def _stream(self) -> None:
        """Show lines as they come until Ctrl-C or the server's close."""
        assert self._socket is not None
        self._socket.settimeout(None)
        while True:
            if self._received:
                self._show(as_text(self._received))
            self._received = self._socket.recv(RECEIVE_BYTES)
            if not self._received:
                raise ConnectionLostError("the server closed the connection")

    def _give_up(self, error: Exception) -> None:
        """Show what arrived of a reply that did not end, close, and say what happens next."""
        if self._received:
            self._show(as_text(self._received))
        self.close()
        if isinstance(error, TimeoutError):
            reason = f"no complete reply within {self._timeout_seconds:g} s (--timeout sets it)"
        else:
            reason = reason_of(error)
        raise ConnectionLostError(f"{reason}; the next request opens a new connection") from error


def read_data_block(data_bytes: int, source: LineInput) -> bytes | None:
    """Read lines until they hold the data block and its line end; None when the input ends first."""
    block = b""
    while len(block) < data_bytes + 2:
        missing = max(data_bytes - len(block), 0)
        line = source.read_line(f"data, {missing} bytes> ")
        if line is None:
            return None
        block += line + b"\r\n"
    return block


def as_text(reply: bytes) -> str:
    """Spell a reply for a terminal: line ends become line breaks, bytes that are no UTF-8 \\xNN."""
    return reply.decode("utf-8", "backslashreplace").replace("\r\n", "\n").removesuffix("\n")
