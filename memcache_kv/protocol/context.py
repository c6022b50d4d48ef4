"""What a protocol needs of the server around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memcache_kv.journal.writer import Journal
from memcache_kv.log import Log
from memcache_kv.observation import Observation
from memcache_kv.settings import Settings
from memcache_kv.stats import Counters
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.store import Store, Time


class ConnectionTotals:
    """How many connections there are and were. Any thread may count; a lock keeps the sums true."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.current = 0
        self.total = 0
        self.rejected = 0
        self._lock = threading.Lock()

    def open(self) -> bool:
        """Count a new connection; False, and it counts as rejected, where the limit is reached."""
        with self._lock:
            if self.current >= self.limit:
                self.rejected += 1
                return False
            self.current += 1
            self.total += 1
            return True

    def close(self) -> None:
        """Count a connection as gone."""
        with self._lock:
            self.current -= 1

    def reset(self) -> None:
        """Start the totals anew, as `stats reset` does."""
        with self._lock:
            self.total = 0
            self.rejected = 0


@dataclass(frozen=True)
class ConnectionFacts:
    """One row of `stats conns`."""

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
    observation: Observation
    counters: Counters
    all_counters: list[Counters]
    totals: ConnectionTotals
    crawler: Crawler
    journal: Journal | None
    connections: Callable[[], Iterable[ConnectionFacts]]
    stop: Callable[[], None]
    tcp_port: int = 0
    threads: int = 1
