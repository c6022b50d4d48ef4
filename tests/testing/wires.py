"""Connections of raw bytes to a tap or a server."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 20.0
"""How long to wait for what should come at once; never reached in passing."""
SOON_SECONDS = 0.05
"""How long to look whether something comes that should not. A longer time would find no more."""


class RawClient:
    """A connection on which bytes are asked and expected."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, PATIENCE_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def take(self, count: int) -> bytes:
        """Return this many bytes, or fewer if the connection ends."""
        taken = b""
        while len(taken) < count and (data := self.sock.recv(count - len(taken))):
            taken += data
        return taken

    def expect(self, data: bytes, reply: bytes) -> None:
        """Send bytes, and demand that these come back."""
        self.send(data)
        assert self.take(len(reply)) == reply

    def hears_nothing(self) -> bool:
        """Tell whether nothing comes for a moment, not even the end."""
        self.sock.settimeout(SOON_SECONDS)
        try:
            self.sock.recv(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(PATIENCE_SECONDS)
        return False

    def is_closed(self) -> bool:
        """Wait for the end; tell whether it came with nothing before it."""
        return self.sock.recv(1) == b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()


def packet(opcode: int, key: bytes = b"", value: bytes = b"", extras: bytes = b"", opaque: int = 0) -> bytes:
    """Return a request of the binary protocol."""
    body = extras + key + value
    head = bytes([0x80, opcode]) + len(key).to_bytes(2, "big") + bytes([len(extras), 0, 0, 0])
    return head + len(body).to_bytes(4, "big") + opaque.to_bytes(4, "big") + bytes(8) + body
