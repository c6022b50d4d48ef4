"""The metrics that memcached and its exporter do not have. Their names begin with `memcache_kv_`.

Those of the process itself have the names that Prometheus' client libraries use.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from memcache_kv.compiled import ACCELERATED
from memcache_kv.histogram import Histogram
from memcache_kv.stats.counters import Counters, total
from memcache_kv.stats.exposition import Kind, Labels, Metric, Sample, exposed, exposed_histograms
from memcache_kv.stats.latency import FAMILIES, LATENCY_BOUNDS, TURNS_PER_SAMPLE
from memcache_kv.stats.report import ReportedServer
from memcache_kv.stats.settings_report import ConfiguredServer
from memcache_kv.store.shard import AGE_BOUNDS
from memcache_kv.version import PROTOCOL_VERSION, VERSION

if TYPE_CHECKING:
    from memcache_kv.journal import Compactor, Journal
    from memcache_kv.stats.connections import TlsCounts

PREFIXES_SHOWN = 100
"""How many key prefixes have samples of their own: those that were counted first, so that no series comes and goes."""
RESIDENT_FIELD = 1
"""The place of the resident pages in /proc/self/statm."""

Samples = Iterable[Sample]
Distributions = Iterable[tuple[Labels, Histogram]]


class MeasuredServer(ReportedServer, ConfiguredServer, Protocol):
    """The parts of a server that the page needs."""


class Reading:
    """What several metrics of one page have in common."""

    def __init__(self, server: MeasuredServer) -> None:
        self.server = server

    @cached_property
    def counters(self) -> Counters:
        """The counts of all threads together."""
        return total(self.server.all_counters)

    @cached_property
    def prefixes(self) -> list[tuple[str, list[int]]]:
        """The first key prefixes, as text, and their counts of gets, hits, sets and deletes."""
        found = self.server.observers.prefixes.first(PREFIXES_SHOWN)
        return [(prefix.decode("utf-8", "backslashreplace"), counts) for prefix, counts in found]

    @property
    def journal(self) -> list[tuple[Journal, Compactor]]:
        """The journal and what rewrites it, if there is one."""
        journal, compactor = self.server.journal, self.server.compactor
        return [] if journal is None or compactor is None else [(journal, compactor)]

    @property
    def tls(self) -> list[TlsCounts]:
        """The counts about TLS, if the server uses it."""
        return [] if self.server.tls is None else [self.server.tls]


class MetricValue(NamedTuple):
    """A metric, and what finds its samples."""

    metric: Metric
    samples: Callable[[Reading], Samples]


class Distribution(NamedTuple):
    """A histogram, and what finds it."""

    metric: Metric
    histograms: Callable[[Reading], Distributions]


def _one(value: float) -> Samples:
    return [((), value)]


def _named(label: str, values: Iterable[tuple[str, float]]) -> Samples:
    return [(((label, name),), value) for name, value in values]


def _gauge(name: str, meaning: str, samples: Callable[[Reading], Samples], *labels: str) -> MetricValue:
    return MetricValue(Metric(f"memcache_kv_{name}", Kind.GAUGE, meaning, labels), samples)


def _counter(name: str, meaning: str, samples: Callable[[Reading], Samples], *labels: str) -> MetricValue:
    return MetricValue(Metric(f"memcache_kv_{name}_total", Kind.COUNTER, meaning, labels), samples)


def _latencies(reading: Reading) -> Distributions:
    for family in FAMILIES:
        merged = Histogram(LATENCY_BOUNDS)
        for latency in reading.server.latencies:
            merged.add(latency.histograms[family])
        yield (("family", family),), merged


def _turns(reading: Reading) -> Distributions:
    merged = Histogram(LATENCY_BOUNDS)
    for latency in reading.server.latencies:
        merged.add(latency.turn_seconds)
    yield (), merged


def _evicted_ages(reading: Reading) -> Distributions:
    merged = Histogram(AGE_BOUNDS)
    for shard in reading.server.store.shards:
        merged.add(shard.evicted_ages)
    yield (), merged


def _build(reading: Reading) -> Samples:
    labels = {
        "version": VERSION,
        "memcached": PROTOCOL_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "compiled": "yes" if ACCELERATED else "no",
    }
    return [(tuple(labels.items()), 1)]


def _processor_seconds(reading: Reading) -> Samples:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return _one(usage.ru_utime + usage.ru_stime)


def _resident_bytes(reading: Reading) -> Samples:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[RESIDENT_FIELD])
    except OSError:  # only Linux has it
        return []
    return _one(pages * os.sysconf("SC_PAGE_SIZE"))


def _rejected(reading: Reading) -> Samples:
    totals = reading.server.totals
    by_address = totals.rejected_by_address
    return _named("reason", [("connection_limit", totals.rejected - by_address), ("address_limit", by_address)])


def _closed(reading: Reading) -> Samples:
    totals = reading.server.totals
    closed = [
        ("idle", totals.idle_kicks),
        ("login_timeout", totals.login_timeouts),
        ("memory", reading.server.connection_memory.closed),
    ]
    return _named("reason", closed)


def _logins(reading: Reading) -> Samples:
    counters = reading.counters
    failed = counters.auth_errors
    return _named("outcome", [("success", max(0, counters.auth_cmds - failed)), ("failure", failed)])


def _handshakes(reading: Reading) -> Samples:
    return [
        sample
        for tls in reading.tls
        for sample in _named(
            "outcome",
            [("new", tls.new_sessions), ("resumed", tls.resumed_sessions), ("failure", tls.handshake_errors)],
        )
    ]


def _of_journal(find: Callable[[Journal], float]) -> Callable[[Reading], Samples]:
    return lambda reading: [((), find(journal)) for journal, _ in reading.journal]


def _of_compactor(find: Callable[[Compactor], float]) -> Callable[[Reading], Samples]:
    return lambda reading: [((), find(compactor)) for _, compactor in reading.journal]


def _of_recovery(find: Callable[[MeasuredServer], float]) -> Callable[[Reading], Samples]:
    return lambda reading: [((), find(reading.server)) for _ in reading.journal]


def _of_prefix(place: int) -> Callable[[Reading], Samples]:
    return lambda reading: _named("prefix", [(prefix, counts[place]) for prefix, counts in reading.prefixes])


def _counted(name: str) -> Callable[[Reading], Samples]:
    return lambda reading: _one(getattr(reading.counters, name))


LATENCY = Distribution(
    Metric(
        "memcache_kv_command_seconds",
        Kind.HISTOGRAM,
        f"From parsing a request to its reply, of all requests in about one of {TURNS_PER_SAMPLE} turns of a worker's loop; each key of a get counts.",  # noqa: E501
        ("family",),
    ),
    _latencies,
)
TURN_SECONDS_METRIC = Distribution(
    Metric(
        "memcache_kv_event_loop_lag_seconds",
        Kind.HISTOGRAM,
        f"How long about one of {TURNS_PER_SAMPLE} turns of a worker's loop took: a connection that becomes ready meanwhile waits for its end.",  # noqa: E501
    ),
    _turns,
)
EVICTED_AGES = Distribution(
    Metric(
        "memcache_kv_evicted_age_seconds",
        Kind.HISTOGRAM,
        "How long evicted items had been in their queue, as far as known: since they were stored, or without a read since their last turn.",  # noqa: E501
    ),
    _evicted_ages,
)
FSYNCS = Distribution(
    Metric("memcache_kv_journal_fsync_seconds", Kind.HISTOGRAM, "How long the journal's fsyncs took."),
    lambda reading: [((), journal.sync_times) for journal, _ in reading.journal],
)

SERVER = (
    _gauge("build_info", "Always 1; the labels say what runs.", _build, "version", "memcached", "python", "compiled"),
    MetricValue(Metric("process_cpu_seconds_total", Kind.COUNTER, "CPU seconds of the process."), _processor_seconds),
    MetricValue(
        Metric("process_resident_memory_bytes", Kind.GAUGE, "Resident memory of the process."), _resident_bytes
    ),
    MetricValue(
        Metric("process_start_time_seconds", Kind.GAUGE, "Unix time of the start."),
        lambda reading: _one(reading.server.clock.started),
    ),
    LATENCY,
    TURN_SECONDS_METRIC,
    _counter("slow_turns", "Turns of a worker's loop that took more than 50 ms, all of them.", _counted("slow_turns")),
    _gauge(
        "longest_turn_seconds",
        "The longest turn of any worker's loop since the start or `stats reset`.",
        lambda reading: _one(reading.counters.longest_turn_us / 1_000_000),
    ),
    _gauge("workers", "Worker threads.", lambda reading: _one(reading.server.threads)),
)

TROUBLE = (
    _counter(
        "hidden_errors", "Errors that clients do not learn of, as they asked for no reply.", _counted("hidden_errors")
    ),
    _counter("stored_expired", "Values that had already expired when stored.", _counted("stored_expired")),
    _counter("rejected_too_large", "Values rejected as too large, over all protocols.", _counted("rejected_too_large")),
    _counter(
        "evicted_unread",
        "Items evicted before they were ever read, as far as reads are recorded: while memory is scarce.",
        lambda reading: _one(sum([shard.evicted_unread for shard in reading.server.store.shards])),
    ),
    _counter(
        "log_dropped_lines",
        "Lines that the log dropped because they came too fast.",
        lambda reading: _one(reading.server.observers.log.dropped_lines),
    ),
)

MEMORY = (
    _gauge("items_bytes", "Memory of all items, accounted.", lambda reading: _one(reading.server.store.used_bytes)),
    _gauge(
        "items_real_bytes",
        "Memory of all items and of the tables at their true size, with what waits to be freed.",
        lambda reading: _one(reading.server.store.real_bytes),
    ),
    _gauge("items_limit_bytes", "The limit of -m.", lambda reading: _one(reading.server.store.limit_bytes)),
    _gauge(
        "items_reserved_bytes",
        "The part of -m kept free because the allocator needs it for holes between items.",
        lambda reading: _one(reading.server.store.reserved_bytes),
    ),
    _gauge(
        "connection_memory_bytes",
        "What connections keep between their turns.",
        lambda reading: _one(reading.server.connection_memory.used_bytes),
    ),
    _gauge(
        "connection_memory_limit_bytes",
        "The limit of --connection-memory.",
        lambda reading: _one(reading.server.connection_memory.limit_bytes),
    ),
    EVICTED_AGES,
)

CONNECTIONS = (
    _counter("connections_rejected", "Connections rejected, by reason.", _rejected, "reason"),
    _counter("connections_closed", "Connections closed by the server, by reason.", _closed, "reason"),
    _counter("logins", "Logins, by outcome.", _logins, "outcome"),
    _counter("tls_handshakes", "TLS handshakes, by outcome.", _handshakes, "outcome"),
    _counter(
        "tls_protocol_errors",
        "Connections that ended with a TLS error after the handshake.",
        lambda reading: [((), tls.proto_errors) for tls in reading.tls],
    ),
    _gauge(
        "tls_certificate_age_seconds",
        "Seconds since the certificates were read.",
        lambda reading: [((), tls.seconds_since_refresh) for tls in reading.tls],
    ),
)

JOURNAL = (
    _counter("journal_records", "Records that were queued since the start.", _of_journal(lambda each: each.position)),
    _gauge("journal_queued_bytes", "What waits to be written.", _of_journal(lambda each: each.queued_bytes)),
    _gauge(
        "journal_lag_records",
        "Records that are not yet as safe as --fsync asks for.",
        _of_journal(lambda each: each.lag_records),
    ),
    _gauge(
        "journal_lag_seconds",
        "How long the oldest written record has not been on disk.",
        _of_journal(lambda each: each.lag_seconds),
    ),
    FSYNCS,
    _counter("journal_waits", "Replies that waited for the disk.", _of_journal(lambda each: each.waits)),
    _gauge(
        "journal_refuses", "1 while writes are rejected because the disk fails.", _of_journal(lambda each: each.refuses)
    ),
    _counter("journal_failures", "How often the disk began to fail.", _of_journal(lambda each: each.failures)),
    _counter("journal_rejected_writes", "Writes rejected because of that.", _of_journal(lambda each: each.refusals)),
    _gauge("journal_bytes", "The journal's files.", _of_journal(lambda each: each.files.total_bytes)),
    _gauge("journal_kept_bytes", "Earlier generations (--keep).", _of_journal(lambda each: each.files.kept_bytes)),
    _counter("journal_rewrites", "Rewrites that succeeded.", _of_compactor(lambda each: each.done)),
    _counter("journal_rewrite_failures", "Rewrites that failed.", _of_compactor(lambda each: each.failures)),
    _gauge("journal_rewriting", "1 while the journal is rewritten.", _of_compactor(lambda each: each.running)),
    _gauge("journal_rewrite_seconds", "How long the last one took.", _of_compactor(lambda each: each.last_seconds)),
    _gauge("recovered_records", "Records read at the start.", _of_recovery(lambda each: each.recovered_records)),
    _gauge("recovery_seconds", "How long that took.", _of_recovery(lambda each: each.recovered_seconds)),
    _gauge("recovered_bytes", "What was read at the start.", _of_recovery(lambda each: each.recovered_bytes)),
)
"""Only with --journal."""

PREFIXES = (
    _counter("prefix_gets", "Keys looked up, by prefix, while `stats detail` is on.", _of_prefix(0), "prefix"),
    _counter("prefix_hits", "Those that were found.", _of_prefix(1), "prefix"),
    _counter("prefix_sets", "Storage commands, by prefix.", _of_prefix(2), "prefix"),
    _counter("prefix_deletes", "Deletes, by prefix.", _of_prefix(3), "prefix"),
    _gauge(
        "prefixes", "Prefixes that are counted, those included that are not shown.",
        lambda reading: _one(len(reading.server.observers.prefixes)),
    ),
)  # fmt: skip

OWN_METRICS: tuple[MetricValue | Distribution, ...] = (*SERVER, *TROUBLE, *MEMORY, *CONNECTIONS, *JOURNAL, *PREFIXES)


def own_families(server: MeasuredServer) -> Iterator[str]:
    """Yield our metrics, one at a time."""
    reading = Reading(server)
    for each in OWN_METRICS:
        if isinstance(each, MetricValue):
            yield exposed(each.metric, each.samples(reading))
        else:
            yield exposed_histograms(each.metric, each.histograms(reading))
