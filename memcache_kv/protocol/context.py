"""The parts of the server that a protocol uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from memcache_kv.compiled import ACCELERATED, HAS_GIL
from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.stats.census import Census
from memcache_kv.stats.connections import ConnectionMemory, ConnectionStatus, ConnectionTotals, TlsCounts
from memcache_kv.stats.counters import Counters
from memcache_kv.stats.latency import Latency
from memcache_kv.stats.turns import Turns
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.store import ItemStore
from memcache_kv.store.time import Time

if TYPE_CHECKING:
    from memcache_kv.commands.discovery import Cluster
    from memcache_kv.compiled.turn import Requests
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.observe.audit import AuditLog
    from memcache_kv.observe.operation_log import OperationLog


class Certificates(TlsCounts, Protocol):
    """The server's TLS certificates, and counts of TLS errors."""

    def reload(self) -> None:
        """Read the certificate files again. Raises ConfigError if one can't be used."""


@dataclass
class Context:
    """The server as one worker's connections see it. The workers share everything except `counters`.

    stop: asks the whole server to stop, and returns at once.
    """

    settings: Settings
    clock: Time
    store: ItemStore
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
    stop: Callable[[bool], None]
    """Asks the server to stop, and with True to save its items for the next start. Any thread may call it."""
    tcp_port: int = 0
    threads: int = 1
    recovered_records: int = 0
    """How many journal records were read at startup."""
    recovered_bytes: int = 0
    recovered_seconds: float = 0.0
    resume_later: Callable[[int], None] | None = None
    """Asks the worker that serves a connection, given its number, to call the protocol's `resume`. Any thread may
    call it. None for UDP, which has no connections."""
    audit: AuditLog | None = None
    """The audit log of logins and admin commands; None without --audit-log."""
    cluster: Cluster | None = None
    """The configuration for discovery; None without --cluster-node and --cluster-file."""
    operations: OperationLog | None = None
    """The operation log of HTTP; None without --operation-log."""
    tls: Certificates | None = None
    """The certificates and counts of handshakes; None without TLS."""
    turns: Turns = field(init=False)
    """How long the turns of this worker take."""

    latency: Latency = field(init=False)
    """How long its requests take."""

    latencies: list[Latency] = field(default_factory=list)
    """The measurements of all workers."""

    census: Census = field(init=False)
    """The counts of items by size, as this worker made them."""

    requests: Requests | None = field(init=False, default=None)
    """Carries out requests in their common form; None if nothing compiled is in use, or without the GIL."""

    def __post_init__(self) -> None:
        if ACCELERATED and HAS_GIL:
            from memcache_kv.compiled.turn import Requests

            self.requests = Requests(self.store, self.counters, self.observers, self.journal)
        self.census = Census(self.store, self.settings.track_sizes)
        self.latency = Latency(self.counters)
        self.turns = Turns(self.counters, self.log, self.latency)
