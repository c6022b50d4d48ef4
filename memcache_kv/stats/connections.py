"""Counts of a server's connections and of their memory, and the row of `stats conns` for each connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from memcache_kv.unpatched import threading, time

SHORT_PART = 3 / 4
"""The part of the connections' memory beyond which it is short."""


class ConnectionTotals:
    """Counts of connections, and their limit. Any thread may call any method: each takes a lock."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.current = 0
        self.total = 0
        self.rejected = 0
        self.rejected_by_address = 0
        """How many of these were rejected because of their address, and not because of the limit here."""
        self.listen_disabled_num = 0
        """How often accepting stopped because the limit was reached."""
        self.time_in_listen_disabled_us = 0
        self.idle_kicks = 0
        self.login_timeouts = 0
        self._disabled_since: float | None = None
        """The monotonic time when accepting stopped; None while the server accepts."""
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)

    @property
    def accepting_conns(self) -> int:
        """1, or 0 while a client waits because the limit is reached."""
        return int(self._disabled_since is None)

    def open(self) -> bool:
        """Count a new connection and return True, or count it as rejected and return False if the limit is reached."""
        with self._lock:
            if self.current >= self.limit:
                self.rejected += 1
                return False
            self._count()
            return True

    def open_within(self, seconds: float) -> bool:
        """Count a new connection once there are fewer than the limit. Return False if there were not in this time."""
        with self._lock:
            if self.current >= self.limit:
                self._disable()
                if not self._left.wait_for(lambda: self.current < self.limit, seconds):
                    return False
            self._enable()
            self._count()
            return True

    def reject(self) -> None:
        """Count a connection that is rejected because there are too many from its address."""
        with self._lock:
            self.rejected += 1
            self.rejected_by_address += 1

    def close(self) -> None:
        """Count a connection as closed."""
        with self._lock:
            self.current -= 1
            self._left.notify()

    def count_idle_kick(self) -> None:
        """Count a connection that is closed because it was idle for too long."""
        with self._lock:
            self.idle_kicks += 1

    def count_login_timeout(self) -> None:
        """Count a connection that is closed because it did not log in in time."""
        with self._lock:
            self.login_timeouts += 1

    def reset(self) -> None:
        """Set the counts to 0, except for the current connections, as `stats reset` does."""
        with self._lock:
            self.total = 0
            self.rejected = 0
            self.rejected_by_address = 0
            self.listen_disabled_num = 0
            self.time_in_listen_disabled_us = 0
            self.idle_kicks = 0
            self.login_timeouts = 0

    def _count(self) -> None:
        self.current += 1
        self.total += 1

    def _disable(self) -> None:
        if self._disabled_since is None:
            self._disabled_since = time.monotonic()
            self.listen_disabled_num += 1

    def _enable(self) -> None:
        if self._disabled_since is not None:
            self.time_in_listen_disabled_us += int((time.monotonic() - self._disabled_since) * 1_000_000)
            self._disabled_since = None


class ConnectionMemory:
    """The memory that all connections together keep between their turns, and its limit.

    Any thread may call any method. Only connections that keep more than a little are counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.closed = 0
        """The number of connections closed because the limit was exceeded."""
        self._short_bytes = int(limit_bytes * SHORT_PART)
        self._lock = threading.Lock()
        self._followers: list[Callable[[], None]] = []

    @property
    def is_short(self) -> bool:
        """Whether the limit is near or exceeded."""
        return self.used_bytes > self._short_bytes

    @property
    def is_exceeded(self) -> bool:
        """Whether more than the limit is in use."""
        return self.used_bytes > self.limit_bytes

    def follow(self, changed: Callable[[], None]) -> None:
        """Call a function, by any thread, whenever `is_short` or `is_exceeded` changes. It must not block."""
        self._followers.append(changed)

    def add(self, change_bytes: int) -> None:
        """Count that a connection keeps so many bytes more, or fewer."""
        with self._lock:
            before = self.is_short, self.is_exceeded
            self.used_bytes += change_bytes
            has_changed = before != (self.is_short, self.is_exceeded)
        if has_changed:
            for changed in self._followers:
                changed()

    def count_closed(self) -> None:
        """Count a connection that is closed because memory is short."""
        with self._lock:
            self.closed += 1

    def reset(self) -> None:
        """Set the count of closed connections to 0, as `stats reset` does."""
        with self._lock:
            self.closed = 0


@dataclass(frozen=True)
class ConnectionStatus:
    """The row of `stats conns` for one socket. `listen_address` is empty for a listening or a UDP socket."""

    fd: int
    address: str
    listen_address: str
    state: str
    idle_seconds: int


class TlsCounts(Protocol):
    """The counts about TLS that `stats` reports."""

    @property
    def new_sessions(self) -> int:
        """The number of handshakes that did not resume a session."""

    @property
    def resumed_sessions(self) -> int:
        """The number of handshakes that resumed a session."""

    @property
    def handshake_errors(self) -> int:
        """The number of handshakes that failed."""

    @property
    def proto_errors(self) -> int:
        """The number of connections that ended with a TLS error after the handshake."""

    @property
    def seconds_since_refresh(self) -> int:
        """The time since the certificates were read."""

    def reset(self) -> None:
        """Set every count to 0."""
