"""The reports of `stats`, with memcached's names and meanings (memcached's protocol.txt, "Statistics").

Exporters and client libraries parse statistics by name. So the reports also have lines about what does not exist here,
such as slab pages and LRU segments, mostly with 0, and count items by the size class that they would have in memcached.
`stats settings` is in `settings_report`.
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias

from memcache_kv.compiled import ACCELERATED
from memcache_kv.stats.census import Census, Counts
from memcache_kv.stats.connections import ConnectionMemory, ConnectionStatus, ConnectionTotals, TlsCounts
from memcache_kv.stats.counters import Counters, total
from memcache_kv.stats.latency import Latency
from memcache_kv.store.sizes import PAGE_BYTES, ClassContents, ClassCounts
from memcache_kv.store.store import ItemStore
from memcache_kv.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from memcache_kv.config.settings import Settings
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.observe.observers import Observers
    from memcache_kv.store.crawler import Crawler
    from memcache_kv.store.time import Time

Row: TypeAlias = tuple[str, object]
Report: TypeAlias = Iterator[Row]
Walk: TypeAlias = Iterator[list[Row]]
"""A report that walks over all items or connections, a few per step. A step may yield no rows."""

OWN_PREFIX = "memcache_kv_"
"""The prefix of the names that memcached does not have."""
OWN = b"memcache_kv"
"""The argument of `stats` for the report that memcached does not have: its own tests count the lines of `stats`."""
CONNECTIONS_AT_ONCE = 32
SILENT_TROUBLE = ("hidden_errors", "stored_expired", "rejected_too_large")
"""Counters of what neither clients nor memcached's statistics show."""
SHOWN_APART = ("bytes_read", "bytes_written", "conn_yields", "longest_turn_us", "slow_turns", *SILENT_TROUBLE)
"""Counters that memcached reports elsewhere than with the others."""


class ReportedServer(Protocol):
    """The parts of a server that the reports need."""

    @property
    def settings(self) -> Settings:
        """The settings that the server was started with."""

    @property
    def clock(self) -> Time:
        """The server's clock."""

    @property
    def store(self) -> ItemStore:
        """The items."""

    @property
    def crawler(self) -> Crawler:
        """The thread that removes expired items."""

    @property
    def observers(self) -> Observers:
        """The observers of single requests."""

    @property
    def all_counters(self) -> Iterable[Counters]:
        """The counters of each thread."""

    @property
    def latencies(self) -> Iterable[Latency]:
        """How long the requests of each worker took."""

    @property
    def totals(self) -> ConnectionTotals:
        """The counts of connections."""

    @property
    def connection_memory(self) -> ConnectionMemory:
        """The memory that all connections keep."""

    @property
    def connections(self) -> Callable[[int], Iterable[ConnectionStatus]]:
        """A function that returns the status of every connection, given the descriptor of the one that requests it."""

    @property
    def threads(self) -> int:
        """The number of worker threads."""

    @property
    def journal(self) -> Journal | None:
        """The journal, if there is one."""

    @property
    def compactor(self) -> Compactor | None:
        """The thread that rewrites the journal, if there is one."""

    @property
    def census(self) -> Census:
        """The counts of items by size."""

    @property
    def recovered_records(self) -> int:
        """The number of records that were read from the journal at the start."""

    @property
    def recovered_bytes(self) -> int:
        """The length of what was read."""

    @property
    def recovered_seconds(self) -> float:
        """How long that took."""

    @property
    def tls(self) -> TlsCounts | None:
        """The counts about TLS, if the server uses it."""


def general(context: ReportedServer) -> Report:
    """Yield the rows of `stats`."""
    counters = total(context.all_counters)
    yield from _process(context)
    yield from _connections(context)
    yield from _commands(context, counters)
    yield from _traffic(context, counters)
    yield from _table(context.store)
    if context.settings.extended.slab_reassign:
        yield from _slab_moves()
    yield from _threads(context)
    yield from _log(context)
    yield from _items(context)
    yield from _lru(context)
    yield from _journal(context)
    yield from _strangers(context)


def _process(context: ReportedServer) -> Report:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "pid", os.getpid()
    yield "uptime", context.clock.now - context.clock.started
    yield "time", context.clock.now
    yield "version", PROTOCOL_VERSION
    yield "libevent", "none"
    yield "pointer_size", 8 * struct.calcsize("P")
    yield "rusage_user", f"{usage.ru_utime:.6f}"
    yield "rusage_system", f"{usage.ru_stime:.6f}"


def _connections(context: ReportedServer) -> Report:
    totals = context.totals
    yield "max_connections", totals.limit
    yield "curr_connections", totals.current
    yield "total_connections", totals.total
    if context.settings.maxconns_fast:
        yield "rejected_connections", totals.rejected
    yield "connection_structures", totals.current
    # There are no pools of responses and read buffers, and no reserved descriptors.
    for name in ("response_obj_oom", "response_obj_count", "response_obj_bytes", "read_buf_count", "read_buf_bytes",
                 "read_buf_bytes_free", "read_buf_oom", "reserved_fds"):  # fmt: skip
        yield name, 0


def _commands(context: ReportedServer, counters: Counters) -> Report:
    for name in counters.__slots__:
        if name not in SHOWN_APART:
            yield name, getattr(counters, name)
        if name == "get_misses":
            yield "get_expired", _sum(context.store, "get_expired")
            yield "get_flushed", _sum(context.store, "get_flushed")


def _traffic(context: ReportedServer, counters: Counters) -> Report:
    totals = context.totals
    if context.settings.idle_timeout:
        yield "idle_kicks", totals.idle_kicks
    yield "bytes_read", counters.bytes_read
    yield "bytes_written", counters.bytes_written
    yield "limit_maxbytes", context.store.limit_bytes
    yield "accepting_conns", totals.accepting_conns
    yield "listen_disabled_num", totals.listen_disabled_num
    yield "time_in_listen_disabled_us", totals.time_in_listen_disabled_us
    yield "threads", context.threads
    yield "conn_yields", counters.conn_yields


def _tls(tls: TlsCounts, counts_sessions: bool) -> Report:
    if counts_sessions:
        yield "ssl_new_sessions", tls.new_sessions
    yield "ssl_handshake_errors", tls.handshake_errors
    yield "ssl_proto_errors", tls.proto_errors
    yield "time_since_server_cert_refresh", tls.seconds_since_refresh


def _table(store: ItemStore) -> Report:
    yield "hash_power_level", max(len(store) - 1, 1).bit_length()
    yield "hash_bytes", store.table_bytes
    yield "hash_is_expanding", 0


def _slab_moves() -> Report:
    """Yield the rows about moved slab pages, which do not exist here."""
    for name in ("rescues", "chunk_rescues", "inline_reclaim", "busy_items", "busy_deletes", "busy_nomem"):
        yield "slab_reassign_" + name, 0
    yield "slab_reassign_last_busy_status", "none"
    yield "slab_reassign_running", 0
    yield "slabs_moved", 0


def _threads(context: ReportedServer) -> Report:
    if context.crawler.enabled:
        yield "lru_crawler_running", int(context.crawler.running)
        yield "lru_crawler_starts", context.crawler.starts
    if context.settings.extended.lru_maintainer_thread:
        yield "lru_maintainer_juggles", 0
    yield "malloc_fails", 0


def _log(context: ReportedServer) -> Report:
    watchers = context.observers.watchers
    yield "log_worker_dropped", watchers.dropped
    yield "log_worker_written", watchers.written
    yield "log_watcher_skipped", watchers.skipped
    yield "log_watcher_sent", watchers.sent
    yield "log_watchers", watchers.count
    if context.tls is not None:
        yield from _tls(context.tls, context.settings.tls.ssl_session_cache)
    yield "unexpected_napi_ids", 0
    yield "round_robin_fallback", 0


def _items(context: ReportedServer) -> Report:
    store = context.store
    yield "bytes", store.used_bytes
    yield "curr_items", len(store)
    yield "total_items", _sum(store, "total_items")
    yield "slab_global_page_pool", 0


def _lru(context: ReportedServer) -> Report:
    """Yield the rows about expired and evicted items."""
    store, segments = context.store, context.settings.extended.lru_maintainer_thread
    yield "expired_unfetched", _sum(store, "expired_unseen")
    yield "evicted_unfetched", _sum(store, "evicted_unseen")
    if segments:
        yield "evicted_active", _evicted_active(store)
    yield "evictions", _sum(store, "evictions")
    yield "reclaimed", _sum(store, "reclaimed")
    yield from _crawled(context)
    if segments:
        yield from _moves(store)
        yield "lru_bumps_dropped", 0


def _crawled(context: ReportedServer) -> Report:
    yield "crawler_reclaimed", context.crawler.reclaimed
    yield "crawler_items_checked", context.crawler.items_checked
    yield "lrutail_reflocked", 0


def _moves(store: ItemStore) -> Report:
    """Yield the rows about moves between LRU segments. There is only one segment, and writes evict items themselves."""
    yield "moves_to_cold", 0
    yield "moves_to_warm", 0
    yield "moves_within_lru", _sum(store, "second_chances")
    yield "direct_reclaims", _sum(store, "evictions")


def _evicted_active(store: ItemStore) -> int:
    """Return how many items were evicted although they had been read."""
    return _sum(store, "evictions") - _sum(store, "evicted_unseen")


def _strangers(context: ReportedServer) -> Report:
    """Yield the rows about what was refused to clients that are not let in, and about the log that they may fill."""
    if context.settings.auth_file is not None:
        yield OWN_PREFIX + "login_timeouts", context.totals.login_timeouts
    dropped_lines = context.observers.log.dropped_lines
    if context.settings.verbose or dropped_lines:
        yield OWN_PREFIX + "log_dropped_lines", dropped_lines


def own(context: ReportedServer) -> Report:
    """Yield the rows of `stats memcache_kv`: what `stats` of memcached has no room for."""
    memory, counters = context.connection_memory, total(context.all_counters)
    yield f"{OWN_PREFIX}longest_turn_us", counters.longest_turn_us
    yield f"{OWN_PREFIX}slow_turns", counters.slow_turns
    for name in SILENT_TROUBLE:
        yield f"{OWN_PREFIX}{name}", getattr(counters, name)
    yield f"{OWN_PREFIX}evicted_unread", _sum(context.store, "evicted_unread")
    yield f"{OWN_PREFIX}connection_memory", memory.used_bytes
    yield f"{OWN_PREFIX}connection_memory_limit", memory.limit_bytes
    yield f"{OWN_PREFIX}connections_closed_for_memory", memory.closed
    yield f"{OWN_PREFIX}accelerated", int(ACCELERATED)


def _journal(context: ReportedServer) -> Report:
    """Yield the rows about the journal, if there is one: its size, its lag, its fsyncs, failures and compactions."""
    journal, compactor = context.journal, context.compactor
    if journal is None or compactor is None:
        return
    rows: tuple[Row, ...] = (
        ("records", journal.position),
        ("replayed_records", context.recovered_records),
        ("bytes", journal.files.total_bytes),
        ("base_bytes", journal.files.base.bytes if journal.files.base is not None else 0),
        ("kept_generations", len(journal.files.kept)),
        ("kept_bytes", journal.files.kept_bytes),
        ("lag_records", journal.lag_records),
        ("lag_seconds", f"{journal.lag_seconds:.3f}"),
        ("queued_bytes", journal.queued_bytes),
        ("waits", journal.waits),
        ("fsyncs", journal.syncs),
        ("fsync_seconds", f"{journal.sync_seconds:.6f}"),
        ("longest_fsync_seconds", f"{journal.longest_sync_seconds:.6f}"),
        ("failing", int(journal.refuses)),
        ("failures", journal.failures),
        ("refused_changes", journal.refusals),
        ("compacting", int(compactor.running)),
        ("compactions", compactor.done),
        ("compaction_failures", compactor.failures),
        ("compaction_seconds", f"{compactor.last_seconds:.3f}"),
    )
    for name, value in rows:
        yield f"{OWN_PREFIX}journal_{name}", value


def items(context: ReportedServer) -> Walk:
    """Yield the rows of `stats items`: the size classes that have items."""
    counts = Counts()
    for done in context.census.count():
        counts = done or counts
        yield []
    happened = happened_by_class(context.store)
    for number, here in sorted(counts.classes.items()):
        rows = class_items(context, here, happened.get(number, ClassCounts()))
        yield [(f"items:{number}:{name}", value) for name, value in rows]


def class_items(context: ReportedServer, here: ClassContents, happened: ClassCounts) -> Report:
    """Yield the rows of `stats items` for one size class. What is only counted for all classes together is 0 here."""
    segments = context.settings.extended.lru_maintainer_thread
    yield "number", here.number
    if segments:
        yield "number_hot", 0
        yield "number_warm", 0
        yield "number_cold", here.number
        if context.settings.extended.temp_lru:
            yield "number_temp", 0
        yield "age_hot", 0
        yield "age_warm", 0
    yield "age", max(0, context.clock.now - here.accessed_at)
    yield "mem_requested", here.item_bytes
    yield "evicted", happened.evictions
    yield "evicted_nonzero", happened.evicted_nonzero
    yield "evicted_time", happened.evicted_idle_seconds
    yield "outofmemory", happened.no_memory
    yield "tailrepairs", 0
    yield "reclaimed", happened.reclaimed + happened.crawled
    yield "expired_unfetched", happened.expired_unseen
    yield "evicted_unfetched", happened.evicted_unseen
    if segments:
        yield "evicted_active", happened.evictions - happened.evicted_unseen
    yield "crawler_reclaimed", happened.crawled
    yield "crawler_items_checked", 0
    yield "lrutail_reflocked", 0
    if segments:
        for name in ("moves_to_cold", "moves_to_warm", "moves_within_lru"):
            yield name, 0
        yield "direct_reclaims", happened.evictions
        for name in ("hits_to_hot", "hits_to_warm", "hits_to_cold", "hits_to_temp"):
            yield name, 0


def happened_by_class(store: ItemStore) -> dict[int, ClassCounts]:
    """Return the counts of each size class, over all shards."""
    sums: dict[int, ClassCounts] = {}
    for _ in add_happened(store, sums):
        pass
    return sums


def add_happened(store: ItemStore, sums: dict[int, ClassCounts]) -> Iterator[None]:
    """Add the counts of each size class to these, a shard in each step."""
    for shard in store.shards:
        with shard.lock:
            for number, counts in shard.classes.items():
                sums.setdefault(number, ClassCounts()).add(counts)
        yield


def slabs(context: ReportedServer) -> Walk:
    """Yield the rows of `stats slabs`: the pages and chunks that the items of each size class would take in memcached.

    Classes without items are included if items of theirs were evicted or reclaimed.
    """
    store, counts = context.store, Counts()
    for done in context.census.count():
        counts = done or counts
        yield []
    pages, found = 0, counts.classes
    classes = sorted(found.keys() | happened_by_class(store).keys())
    for number in classes:
        rows = dict(class_slabs(store.sizes.chunks[number - 1], found.get(number, ClassContents(0))))
        pages += rows["total_pages"]
        yield [(f"{number}:{name}", value) for name, value in rows.items()]
    yield [("active_slabs", len(classes)), ("total_malloced", pages * PAGE_BYTES)]


def class_slabs(chunk_bytes: int, here: ClassContents) -> Iterator[tuple[str, int]]:
    """Yield the rows of `stats slabs` for one size class."""
    per_page = PAGE_BYTES // chunk_bytes
    pages = -(-here.chunks // per_page)
    yield "chunk_size", chunk_bytes
    yield "chunks_per_page", per_page
    yield "total_pages", pages
    yield "total_chunks", pages * per_page
    yield "used_chunks", here.chunks
    yield "free_chunks", pages * per_page - here.chunks
    yield "free_chunks_end", 0
    for name in ("get_hits", "cmd_set", "delete_hits", "incr_hits", "decr_hits", "cas_hits", "cas_badval",
                 "touch_hits"):  # fmt: skip
        yield name, 0  # counted for all classes together


def in_text(walk: Iterable[list[Row]]) -> Iterator[bytes]:
    """Yield the pieces of a text reply, for `answer_chunks`: the lines of each step of a walk, then END."""
    for rows in walk:  # a path may be no text
        yield "".join([f"STAT {name} {value}\r\n" for name, value in rows]).encode("utf-8", "surrogateescape")
    yield b"END\r\n"


def sizes(context: ReportedServer) -> Walk:
    """Yield the rows of `stats sizes`: the number of items of each size in memory, in steps of 32 bytes."""
    if not context.settings.track_sizes:
        yield [("sizes_status", "disabled")]
        return
    counts = Counts()
    for done in context.census.count():
        counts = done or counts
        yield []
    yield [(str(size), number) for size, number in sorted(counts.sizes.items())]


def connections(context: ReportedServer, asking: int) -> Walk:
    """Yield the rows of `stats conns`, a few connections per step.

    asking: the descriptor of the connection that requests them.
    """
    each = iter(context.connections(asking))
    while statuses := list(islice(each, CONNECTIONS_AT_ONCE)):
        yield [row for status in statuses for row in _connection(status)]


def _connection(status: ConnectionStatus) -> Report:
    yield f"{status.fd}:addr", status.address
    if status.listen_address:
        yield f"{status.fd}:listen_addr", status.listen_address
    yield f"{status.fd}:state", status.state
    yield f"{status.fd}:secs_since_last_cmd", status.idle_seconds


def reset(context: ReportedServer) -> None:
    """Set the counters to 0, as `stats reset` does. Numbers about the present state stay."""
    for counters in context.all_counters:
        counters.reset()
    for latency in context.latencies:
        latency.reset()
    context.totals.reset()
    context.connection_memory.reset()
    if context.tls is not None:
        context.tls.reset()
    context.crawler.reset()
    context.observers.prefixes.clear()
    context.observers.watchers.reset()
    for shard in context.store.shards:
        with shard.lock:
            for name in SHARD_COUNTS:
                setattr(shard, name, 0)
            shard.classes.clear()
            shard.evicted_ages.reset()


def _sum(store: ItemStore, name: str) -> int:
    """Return the sum of one count over all shards."""
    return sum(getattr(shard, name) for shard in store.shards)


SHARD_COUNTS = (
    "total_items", "get_expired", "get_flushed", "flush_freed", "second_chances", "evicted_unread",
)  # fmt: skip
"""The counts of a shard that `stats reset` sets to 0, besides those by size class."""

WALKS: dict[bytes, Callable[[ReportedServer], Walk]] = {b"items": items, b"slabs": slabs, b"sizes": sizes}
"""The reports about items, by the argument of `stats`."""
