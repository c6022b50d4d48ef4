"""One connection of the load: what was sent on it and is not answered, and what has arrived in part."""

from __future__ import annotations

import socket
from collections import deque

CONNECT_SECONDS = 5.0


class Connection:
    """A non-blocking connection.

    pending: for each request without a reply, when it was due (ns), and whether it is a get.
    ready: whether it waits for a request that is due (open loop).
    waiting_since: when the connection last sent its first request, or received something (ns).
    """

    __slots__ = (
        "address",
        "socket",
        "pending",
        "arrived",
        "unsent",
        "left",
        "waiting_since",
        "failures",
        "lost",
        "ready",
    )

    def __init__(self, address: tuple[str, int], left: int) -> None:
        """Open it; raise OSError if that fails. left: how many requests it may still send."""
        self.address = address
        self.left = left
        self.failures = 0
        self.lost = False
        self.ready = False
        self.open()

    def open(self) -> None:
        """Connect, and forget all about an earlier connection; raise OSError if that fails."""
        self.socket = socket.create_connection(self.address, CONNECT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.pending: deque[tuple[int, bool]] = deque()
        self.arrived = b""
        self.unsent = b""
        self.waiting_since = 0
