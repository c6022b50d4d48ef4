"""Login throttling: a connection's replies are delayed after failed logins."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from functools import partial

from memcache_kv.auth.users import FailedLogins, LoginAttempts, Users, client_network
from memcache_kv.observe.log import Log
from memcache_kv.server.connection import Connection, peer_of


class LoginThrottle:
    """Delay replies after failed logins. Used only by the connections' worker.

    users: the users who may log in, None if no login is needed; failed_logins: counts failed logins by address;
    connections: the worker's connections by number.
    """

    def __init__(
        self, users: Users | None, failed_logins: FailedLogins, log: Log, connections: Mapping[int, Connection]
    ) -> None:
        self._users = users
        self._failed_logins = failed_logins
        self._log = log
        self._connections = connections

    def attempts(self, sock: socket.socket) -> LoginAttempts | None:
        """Return the object that checks a new connection's logins; None if no login is needed."""
        if self._users is None:
            return None
        # The number, not the connection: that would make a reference cycle, which only the garbage collector frees.
        hold_back = partial(self._hold_back, sock.fileno())
        return LoginAttempts(self._users, self._failed_logins, client_network(peer_of(sock)), hold_back, self._log.say)

    def _hold_back(self, fd: int, seconds: float, then_close: bool) -> None:
        """Add this many seconds to the delay of a connection's replies."""
        connection = self._connections[fd]
        if then_close:
            connection.protocol.closing = True
        if seconds:
            connection.held_until = max(connection.held_until, time.monotonic()) + seconds

    def holds(self, connection: Connection) -> bool:
        """Return whether the connection's replies must still wait. Clears the delay once it is over."""
        if connection.held_until <= time.monotonic():
            connection.held_until = 0.0
            return False
        return True

    def due(self, throttled: Iterable[Connection]) -> list[Connection]:
        """Return the connections whose delay is over."""
        return [connection for connection in throttled if not self.holds(connection)]
