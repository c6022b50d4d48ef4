"""What a protocol needs of the server around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.stats.counters import Counters
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.store import Store
from memcache_kv.store.time import Time

if TYPE_CHECKING:
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.server.tls import Tls


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


@dataclass
class Context:
    """The server as one worker's connections see it; all but `counters` is shared by the workers.

    stop: asks the whole server to end, and returns at once.
    """

    settings: Settings
    clock: Time
    store: Store
    log: Log
    observers: Observers
    counters: Counters
    all_counters: list[Counters]
    totals: ConnectionTotals
    crawler: Crawler
    journal: Journal | None
    compactor: Compactor | None
    connections: Callable[[int], Iterable[ConnectionFacts]]
    stop: Callable[[], None]
    tcp_port: int = 0
    threads: int = 1
    recovered_records: int = 0
    """How many records of the journal were read at the start."""
    resume_later: Callable[[int], None] | None = None
    """Asks the thread that serves a connection, by its number, to call its protocol's `resume`; any thread may.
    None where there are no connections: datagrams."""
    tls: Tls | None = None
    """The certificates, and counts of handshakes; None where there is no TLS."""
