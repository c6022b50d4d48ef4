"""What a protocol needs of the server around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.stats.connections import ConnectionMemory, ConnectionStatus, ConnectionTotals, TlsCounts
from memcache_kv.stats.counters import Counters
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.store import Store
from memcache_kv.store.time import Time

if TYPE_CHECKING:
    from memcache_kv.journal import Compactor, Journal


class Certificates(TlsCounts, Protocol):
    """The certificates of a server, and counts of what went wrong with TLS."""

    def reload(self) -> None:
        """Read the files again. Raises ConfigError where one can't be used."""


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
    connection_memory: ConnectionMemory
    crawler: Crawler
    journal: Journal | None
    compactor: Compactor | None
    connections: Callable[[int], Iterable[ConnectionStatus]]
    stop: Callable[[], None]
    tcp_port: int = 0
    threads: int = 1
    recovered_records: int = 0
    """How many records of the journal were read at the start."""
    resume_later: Callable[[int], None] | None = None
    """Asks the thread that serves a connection, by its number, to call its protocol's `resume`; any thread may.
    None where there are no connections: datagrams."""
    tls: Certificates | None = None
    """The certificates, and counts of handshakes; None where there is no TLS."""
