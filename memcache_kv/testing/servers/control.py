"""A connection of our own to a memcached that is not in this process."""

from __future__ import annotations

from typing import BinaryIO

from memcache_kv.testing.servers.backing import ServerFailed
from memcache_kv.unpatched import socket


class ControlConnection:
    """Sends commands of the text protocol, one line each. It connects when it is first used, and again when it broke.

    address: the server's host and port. timeout_seconds: for connecting, and for each reply.
    """

    def __init__(self, address: tuple[str, int], timeout_seconds: float) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._stream: BinaryIO | None = None
        self._sock: socket.socket | None = None

    def ask(self, *lines: str) -> list[str]:
        """Send lines, and return the first line of each reply. Raises OSError, and EOFError if it is closed."""
        try:
            return self._exchange(lines)
        except (OSError, EOFError):
            was_open = self._sock is not None
            self.close()
            if not was_open:
                raise
        return self._exchange(lines)

    def demand(self, replies: dict[str, str]) -> None:
        """Send the lines, each of which must be answered as given. Raises ServerFailed."""
        try:
            answers = self.ask(*replies)
        except (OSError, EOFError) as error:
            self.close()
            raise ServerFailed(f"the memcached at {self._named} does not answer: {error}") from None
        for (line, expected), answer in zip(replies.items(), answers, strict=True):
            if answer != expected:
                raise ServerFailed(f"the memcached at {self._named} answers {line!r} with {answer!r}")

    def stats(self, what: str) -> dict[str, str]:
        """Return what `stats WHAT` says. Raises ServerFailed."""
        found: dict[str, str] = {}
        try:
            line = self.ask(f"stats {what}".rstrip())[0]
            while line != "END":
                word, name, value = [*line.split(" ", 2), "", ""][:3]
                if word != "STAT":
                    raise ServerFailed(f"the memcached at {self._named} answers 'stats {what}' with {line!r}")
                found[name] = value
                line = self._line()
        except (OSError, EOFError) as error:
            self.close()
            raise ServerFailed(f"the memcached at {self._named} does not answer: {error}") from None
        return found

    def close(self) -> None:
        """Close the connection."""
        for each in (self._stream, self._sock):
            if each is not None:
                each.close()
        self._stream = self._sock = None

    @property
    def _named(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _exchange(self, lines: tuple[str, ...]) -> list[str]:
        if self._sock is None:
            self._sock = socket.create_connection(self._address, self._timeout_seconds)
            self._stream = self._sock.makefile("rb")
        self._sock.sendall("".join(f"{line}\r\n" for line in lines).encode())
        return [self._line() for _ in lines]

    def _line(self) -> str:
        assert self._stream is not None
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it closes the connection")
        return line.decode("ascii", "backslashreplace").strip()
