"""Login throttling: the replies of a connection are held back for a while after failed logins."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from functools import partial

from memcache_kv.auth.users import FailedLogins, LoginAttempts, Users, client_network
from memcache_kv.observe.log import Log
from memcache_kv.server.connection import Connection, peer_of


class LoginThrottle:
    """Make the login attempts of one worker's connections, and say when the replies to failed ones may be sent.

    users: those who may log in; None asks for no login; connections: the worker's, by their numbers.
    """

    def __init__(
        self, users: Users | None, failed_logins: FailedLogins, log: Log, connections: Mapping[int, Connection]
    ) -> None:
        self._users = users
        self._failed_logins = failed_logins
        self._log = log
        self._connections = connections

    def attempts(self, sock: socket.socket) -> LoginAttempts | None:
        """Return what a new connection's protocol asks about logins; None where there are none."""
        if self._users is None:
            return None
        # The number, not the connection: its protocol would refer to it, and only the collector could free both.
        hold_back = partial(self._hold_back, sock.fileno())
        return LoginAttempts(self._users, self._failed_logins, client_network(peer_of(sock)), hold_back, self._log.say)

    def _hold_back(self, fd: int, seconds: float, then_close: bool) -> None:
        """Hold a connection's replies back for so long, in addition to what it waits for already."""
        connection = self._connections[fd]
        if then_close:
            connection.protocol.closing = True
        if seconds:
            connection.held_until = max(connection.held_until, time.monotonic()) + seconds

    def holds(self, connection: Connection) -> bool:
        """Tell whether its replies must wait still."""
        if connection.held_until <= time.monotonic():
            connection.held_until = 0.0
            return False
        return True

    def due(self, throttled: Iterable[Connection]) -> list[Connection]:
        """Return those whose replies may be sent now."""
        return [connection for connection in throttled if not self.holds(connection)]
