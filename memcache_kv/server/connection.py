"""One client's connection, as the worker that owns it keeps it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

from memcache_kv.stats.connections import ConnectionStatus

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session
    from memcache_kv.server.tls import TlsStream


class Transport(Protocol):
    """What stands between a worker and a socket. Both raise BlockingIOError where nothing can be done now."""

    def read(self, size: int, /) -> bytes:
        """Read up to so many bytes; none are the end."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Send as much as goes now; return how much."""


class HeldBack:
    """A stream for the time in which nothing may be sent."""

    def read(self, size: int, /) -> bytes:
        """Read nothing either: whoever is held back is not listened to."""
        raise BlockingIOError

    def write(self, data: bytes | memoryview, /) -> int:
        """Send nothing."""
        raise BlockingIOError


class Connection:
    """A socket, its protocol, and what waits to be sent. Touched only by the worker that owns it."""

    __slots__ = (
        "socket", "fd", "protocol", "unsent", "release_at", "waiting", "muted", "last_active",
        "peer", "tls", "stream", "shaking",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, protocol: Session, now: int) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.protocol = protocol
        self.unsent: memoryview | None = None
        """Replies that the socket did not take."""
        self.release_at = 0
        """The journal's position that the replies in hand wait for; 0 when they wait for none."""
        self.waiting = False
        """Whether replies wait for the socket, for the journal or for the next turn: nothing is read meanwhile."""
        self.muted = False
        """Whether the poller was told not to look for input here."""
        self.last_active = now
        """When something came last, or it was opened."""
        self.tls = _tls_stream(sock)
        self.stream: Transport | None = self.tls
        """What it reads and writes through. None is the descriptor itself: a call through anything else would cost the
        smallest requests a fiftieth."""
        self.shaking = self.tls is not None
        """Whether the handshake is not over; it is `waiting` then."""
        self.peer = peer_of(sock)
        """The address of its other end; "" for a unix socket's, and where the client was gone at once."""

    def is_idle(self, now: int, seconds: int) -> bool:
        """Tell whether nothing is under way here, and nothing came for more than these seconds."""
        return self._idle_seconds(now) > seconds and self._state() == "conn_read"

    def _idle_seconds(self, now: int) -> int:
        return now - self.last_active

    def _state(self) -> str:
        """Name what it does, in memcached's words."""
        if self.protocol.watcher is not None:
            return "conn_watch"
        if self.unsent is not None or self.release_at:
            return "conn_mwrite"
        if self.waiting:
            return "conn_new_cmd"
        return self.protocol.state

    def status(self, now: int, serving: bool = False) -> ConnectionStatus:
        """Tell what `stats conns` shows. May be called by any thread.

        serving: whether it is this connection's request that asks.
        """
        state = "conn_parse_cmd" if serving else self._state()
        try:
            local = self.socket.getsockname()
        except OSError:  # its worker has closed it meanwhile
            local = ""
        return ConnectionStatus(
            self.fd, address_text(self.peer or local), address_text(local), state, self._idle_seconds(now)
        )


def _tls_stream(sock: socket.socket) -> TlsStream | None:
    """Return what speaks TLS on a socket that is for it; None for a plain one, which needs none of that loaded."""
    if type(sock) is socket.socket:
        return None
    import ssl

    from memcache_kv.server.tls import TlsStream

    return TlsStream(sock) if isinstance(sock, ssl.SSLSocket) else None


def peer_of(sock: socket.socket) -> object:
    """Return the address of a socket's other end; "" where there is none any more."""
    try:
        return sock.getpeername()
    except OSError:  # it has left already, which its first read finds too
        return ""


def address_text(address: object) -> str:
    """Write a socket address as `stats conns` does: tcp:127.0.0.1:11211, tcp6:[::1]:11211, unix:/path."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"tcp6:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    return f"unix:{os.fsdecode(address) if isinstance(address, bytes) else address}"
