"""Counts of a server's connections, and what `stats conns` tells of each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol


class ConnectionTotals:
    """How many connections there are and were. Any thread may count; a lock keeps the sums true."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.current = 0
        self.total = 0
        self.rejected = 0
        self.listen_disabled_num = 0
        """How often clients had to wait for a place."""
        self.time_in_listen_disabled_us = 0
        self.idle_kicks = 0
        self._disabled_since: float | None = None
        """When somebody began to wait for a place; None while nobody does."""
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)

    @property
    def accepting_conns(self) -> int:
        """1, or 0 while clients wait for a place."""
        return int(self._disabled_since is None)

    def open(self) -> bool:
        """Count a new connection; False, and it counts as rejected, where the limit is reached."""
        with self._lock:
            if self.current >= self.limit:
                self.rejected += 1
                return False
            self._count()
            return True

    def open_within(self, seconds: float) -> bool:
        """Count a new connection once there is a place for it; False where there is none in this time."""
        with self._lock:
            if self.current >= self.limit:
                self._disable()
                if not self._left.wait_for(lambda: self.current < self.limit, seconds):
                    return False
            self._enable()
            self._count()
            return True

    def close(self) -> None:
        """Count a connection as gone."""
        with self._lock:
            self.current -= 1
            self._left.notify()

    def count_idle_kick(self) -> None:
        """Count a connection that is closed because its client has been idle for too long."""
        with self._lock:
            self.idle_kicks += 1

    def reset(self) -> None:
        """Start the totals anew, as `stats reset` does."""
        with self._lock:
            self.total = 0
            self.rejected = 0
            self.listen_disabled_num = 0
            self.time_in_listen_disabled_us = 0
            self.idle_kicks = 0

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


@dataclass(frozen=True)
class ConnectionFacts:
    """One row of `stats conns`. A listening socket has no `listen_address`, and an idle one for datagrams neither."""

    fd: int
    address: str
    listen_address: str
    state: str
    idle_seconds: int


class TlsCounts(Protocol):
    """What `stats` needs to know of TLS."""

    @property
    def new_sessions(self) -> int:
        """Handshakes that did not resume an earlier session."""

    @property
    def handshake_errors(self) -> int:
        """Handshakes that failed."""

    @property
    def proto_errors(self) -> int:
        """Connections that broke after their handshake."""

    @property
    def seconds_since_refresh(self) -> int:
        """How long the present certificates have been in use."""

    def reset(self) -> None:
        """Set every count to 0."""
