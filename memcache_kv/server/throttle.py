"""Connections that must log in: their time limit, and the delays of their replies by failed logins and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from memcache_kv.auth.users import LoginAttempts, Logins, client_network
from memcache_kv.observe.log import Log
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.connection import Connection, peer_of
from memcache_kv.unpatched import socket, time

OVERDUE_CHECK_SECONDS = 1.0
"""How often those who take too long to log in are looked for."""


class Stranger:
    """A connection without a login yet: the `Gate` that its login attempts open.

    The connection is known by its descriptor. Its protocol refers to the attempts and these to the gate, so that a
    reference to the connection would be a cycle, which only the collector could free.
    """

    __slots__ = ("_throttle", "_fd", "give_up_at")

    def __init__(self, throttle: LoginThrottle, fd: int, give_up_at: float) -> None:
        self._throttle = throttle
        self._fd = fd
        self.give_up_at = give_up_at
        """When the connection is closed unless it has logged in."""

    def admit(self) -> None:
        """Take note that the client has logged in."""
        self._throttle.admit(self._fd)

    def hold_back(self, seconds: float, then_close: bool) -> None:
        """Hold the replies back for so long, in addition to what they wait for already."""
        self._throttle.hold_back(self._fd, seconds, then_close)

    def await_check(self) -> None:
        """Hold the replies back until the check is over."""
        self._throttle.await_check(self._fd)

    def wake(self) -> None:
        """Have the connection go on after a check."""
        self._throttle.wake()

    def log_failure(self, text: str) -> None:
        """Log a failed login, unless many are logged."""
        self._throttle.log.say_rarely("failed login", text)


class LoginThrottle:
    """Make the login attempts of one worker's connections, and decide when their replies may be sent.

    Used only by the worker. logins: the users who may log in, None if no login is needed; connections: the worker's
    connections by number; wake: wakes the worker; addresses: the connections by client address; seconds: the time limit
    of a login, 0 for none. The time for which the server delays it does not count.
    """

    def __init__(
        self,
        logins: Logins | None,
        log: Log,
        connections: Mapping[int, Connection],
        wake: Callable[[], None],
        addresses: AddressLimits,
        seconds: int = 0,
    ) -> None:
        self.log = log
        self.wake = wake
        self._logins = logins
        self._connections = connections
        self._addresses = addresses
        self._seconds = seconds
        self.strangers: dict[int, tuple[Stranger, LoginAttempts]] = {}
        """The connections without a login yet, by number."""
        self._admitted: dict[int, tuple[Stranger, LoginAttempts]] = {}
        """Those that have logged in. Over HTTP, each request may try another login."""
        self._check_overdue_at = 0.0

    def attempts(self, sock: socket.socket) -> LoginAttempts | None:
        """Return the object that checks a new connection's logins; None if no login is needed."""
        if self._logins is None:
            return None
        fd = sock.fileno()
        stranger = Stranger(self, fd, time.monotonic() + self._seconds)
        attempts = LoginAttempts(self._logins, client_network(peer_of(sock)), stranger)
        self.strangers[fd] = stranger, attempts
        return attempts

    def secured(self, fd: int) -> None:
        """Record that a connection has completed its TLS handshake, or needs none."""
        if fd not in self.strangers:
            self._addresses.settled(fd)

    def admit(self, fd: int) -> None:
        """Record that the client of a connection has logged in."""
        self._addresses.settled(fd)
        if fd in self.strangers:
            self._admitted[fd] = self.strangers.pop(fd)

    def closed(self, fd: int) -> None:
        """Forget a connection that is closed."""
        self.strangers.pop(fd, None)
        self._admitted.pop(fd, None)

    def hold_back(self, fd: int, seconds: float, then_close: bool) -> None:
        """Add this many seconds to the delay of a connection's replies."""
        connection = self._connections[fd]
        if then_close:
            connection.protocol.closing = True
        if seconds:
            connection.held_until = max(connection.held_until, time.monotonic()) + seconds
            if fd in self.strangers:
                self.strangers[fd][0].give_up_at += seconds

    def await_check(self, fd: int) -> None:
        """Hold a connection's replies back until its check is over."""
        connection = self._connections[fd]
        connection.held_until = max(connection.held_until, time.monotonic())

    def holds(self, connection: Connection) -> bool:
        """Return whether the connection's replies must still wait. After a check, resume its protocol."""
        fd = connection.fd
        _, attempts = self.strangers.get(fd) or self._admitted.get(fd) or (None, None)
        if (attempts is not None and attempts.is_checking) or connection.held_until > time.monotonic():
            return True
        connection.held_until = 0.0
        if attempts is not None and attempts.has_outcome:
            connection.protocol.paused = True
        return False

    def due(self, throttled: Iterable[Connection]) -> list[Connection]:
        """Return the connections whose delay is over."""
        return [connection for connection in throttled if not self.holds(connection)]

    def overdue(self) -> list[Connection]:
        """Return those that have taken too long to log in. They are looked for once in OVERDUE_CHECK_SECONDS."""
        now = time.monotonic()
        if not self._seconds or not self.strangers or now < self._check_overdue_at:
            return []
        self._check_overdue_at = now + OVERDUE_CHECK_SECONDS
        found = []
        for fd, (stranger, attempts) in self.strangers.items():
            if attempts.is_checking:
                stranger.give_up_at += OVERDUE_CHECK_SECONDS
            elif stranger.give_up_at <= now:
                found.append(self._connections[fd])
        return found
