"""One client's connection, as the worker that owns it keeps it."""

from __future__ import annotations

import os
import socket

from memcache_kv.protocol import ConnectionFacts, TextProtocol


class Connection:
    """A socket, its protocol, and what waits to be sent. Touched only by the worker that owns it."""

    __slots__ = ("socket", "fd", "protocol", "unsent", "release_at", "waiting", "muted", "last_active", "peer")

    def __init__(self, sock: socket.socket, protocol: TextProtocol, now: int) -> None:
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
        self.peer = peer_of(sock)
        """The address of its other end; "" for a unix socket's, and where the client was gone at once."""

    def is_idle(self, now: int, seconds: int) -> bool:
        """Tell whether nothing is under way here, and nothing came for more than these seconds."""
        return now - self.last_active > seconds and self._state() == "conn_read"

    def _state(self) -> str:
        """Name what it does, in memcached's words."""
        if self.protocol.watcher is not None:
            return "conn_watch"
        if self.unsent is not None or self.release_at:
            return "conn_mwrite"
        if self.waiting:
            return "conn_new_cmd"
        return self.protocol.state

    def facts(self, now: int, serving: bool = False) -> ConnectionFacts:
        """Tell what `stats conns` shows. May be called by any thread.

        serving: whether it is this connection's request that asks.
        """
        state = "conn_parse_cmd" if serving else self._state()
        try:
            local = self.socket.getsockname()
        except OSError:
            local = ""
        return ConnectionFacts(
            self.fd, address_text(self.peer or local), address_text(local), state, now - self.last_active
        )


def peer_of(sock: socket.socket) -> object:
    """Return the address of a socket's other end; "" where there is none any more."""
    try:
        return sock.getpeername()
    except OSError:
        return ""


def address_text(address: object) -> str:
    """Write a socket address as `stats conns` does: tcp:127.0.0.1:11211, tcp6:[::1]:11211, unix:/path."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"tcp6:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    return f"unix:{os.fsdecode(address) if isinstance(address, bytes) else address}"
