"""What a protocol needs around it, without a server."""

import io

from memcache_kv.commands.discovery import Cluster
from memcache_kv.config.settings import Settings
from memcache_kv.observe.budget import Budget
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.watchers import Watchers
from memcache_kv.protocol import Context, TextProtocol
from memcache_kv.stats.connections import ConnectionMemory, ConnectionStatus, ConnectionTotals
from memcache_kv.stats.counters import Counters
from memcache_kv.store import ItemStore
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.sizes import size_classes
from tests.fake_clock import FakeClock

PORT = 11211


class Surroundings:
    """A Context with its parts at hand: the clock that stands still, what was logged, whether a stop was asked for.

    shards: in which of several a key is differs from run to run, and so does what is evicted first: 1 where it matters.
    """

    def __init__(self, settings: Settings | None = None, verbosity: int = 0, shards: int = 2) -> None:
        self.settings = settings if settings is not None else Settings()
        self.clock = FakeClock()
        self.stream = io.StringIO()
        self.stops = 0
        self.rows: list[ConnectionStatus] = []
        sizes = size_classes(self.settings)
        self.store = ItemStore(
            self.clock,
            limit_bytes=self.settings.memory_limit,
            item_limit_bytes=self.settings.max_item_size,
            max_items=self.settings.max_items,
            evicts=not self.settings.disable_evictions,
            shards=shards,
            gives_cas=not self.settings.disable_cas,
            sizes=sizes,
        )
        self.counters = Counters()
        log = Log(verbosity, self.stream)
        self.context = Context(
            settings=self.settings,
            clock=self.clock,
            store=self.store,
            log=log,
            observers=Observers(log, watchers=Watchers(self.clock, sizes=sizes), budget=Budget(cpu=lambda: 0.0)),
            counters=self.counters,
            all_counters=[self.counters],
            totals=ConnectionTotals(self.settings.conn_limit),
            connection_memory=ConnectionMemory(self.settings.connection_memory_bytes),
            crawler=Crawler(self.store),
            journal=None,
            compactor=None,
            connections=lambda asking: self.rows,
            stop=self.note_stop,
            tcp_port=PORT,
        )
        if self.settings.cluster_node:
            self.context.cluster = Cluster()

    def renew_requests(self) -> None:
        """Let the compiled code know the journal that the context has now, if there is compiled code."""
        context = self.context
        if context.requests is not None:
            context.requests = type(context.requests)(self.store, self.counters, context.observers, context.journal)

    def note_stop(self, is_graceful: bool) -> None:
        self.stops += 1

    @property
    def logged(self) -> list[str]:
        """The lines of the log."""
        return self.stream.getvalue().splitlines()

    def counts(self) -> dict[str, int]:
        """Every count that does not depend on how the input was cut."""
        return {name: getattr(self.counters, name) for name in Counters.__slots__ if name != "conn_yields"}


class Conversation:
    """A protocol driven as a worker drives it: fed, sent from, resumed while it is paused."""

    def __init__(self, around: Surroundings | None = None, fd: int = 30) -> None:
        self.around = around if around is not None else Surroundings()
        self.protocol = TextProtocol(self.around.context, fd)
        self.turns: list[bytes] = []
        """What each turn sent."""

    def feed(self, data: bytes) -> bytes:
        """Give it these bytes at once; return what it answers."""
        protocol, first = self.protocol, len(self.turns)
        if protocol.closing:
            return b""
        protocol.receive(data)
        self._send()
        while protocol.paused and not protocol.closing:
            protocol.resume()
            self._send()
        return b"".join(self.turns[first:])

    def feed_pieces(self, *pieces: bytes) -> bytes:
        """Give it bytes in several reads."""
        return b"".join([self.feed(piece) for piece in pieces if piece])

    def _send(self) -> None:
        self.turns.append(b"".join(self.protocol.out))
        self.protocol.out.clear()

    @property
    def held_bytes(self) -> int:
        """Input that it keeps."""
        return self.protocol.held_bytes


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]
