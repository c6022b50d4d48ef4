"""The metrics of prometheus/memcached_exporter, with its names, types and labels, from the rows of our reports.

So dashboards and alerts that were made for the exporter work unchanged. Its peculiarities are kept: the uptime is a
counter, and the sets are counted without those of `cas`. What it takes from extstore and from the proxy of memcached is
left out, as the exporter leaves it out where memcached does not have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from memcache_kv.stats.exposition import Kind, Labels, Metric, Sample, exposed, exposed_in_pieces

SWITCHES = {"yes": 1, "no": 0}

Rows = Mapping[str, object]
"""The rows of a report by their names."""
RowsByClass = Mapping[int, Rows]
"""The rows of each size class."""


class RowSample(NamedTuple):
    """A sample that is the number of one row."""

    row: str
    labels: Labels = ()


class Family(NamedTuple):
    """A metric, and the rows that its samples are."""

    metric: Metric
    sources: tuple[RowSample, ...]


def _table(kind: Kind, text: str, labels: tuple[str, ...] = ()) -> Iterator[Family]:
    """Read lines of a metric's name without its prefix, the row that it is, and its meaning."""
    for line in text.strip().splitlines():
        name, row, meaning = line.split(maxsplit=2)
        yield Family(Metric(f"memcached_{name}", kind, meaning, labels), (RowSample(row),))


def _commands(rows: str) -> tuple[RowSample, ...]:
    """Read the names of rows like `get_hits`."""
    statuses = {"hits": "hit", "misses": "miss", "badval": "badval"}
    found = []
    for row in rows.split():
        command, _, outcome = row.partition("_")
        found.append(RowSample(row, (("command", command), ("status", statuses[outcome]))))
    return tuple(found)


VERSION_METRIC = Metric(
    "memcached_version", Kind.GAUGE, "Always 1; the label is the version of memcached that is imitated.", ("version",)
)
UP = Metric("memcached_up", Kind.GAUGE, "1, or 0 while the items are loaded and clients can't connect yet.")
SETS = RowSample("cmd_set", (("command", "set"), ("status", "hit")))

GENERAL: tuple[Family, ...] = (
    *_table(
        Kind.COUNTER,
        """
        uptime_seconds uptime Seconds since the start.
        process_user_cpu_seconds_total rusage_user CPU seconds spent in user mode.
        process_system_cpu_seconds_total rusage_system CPU seconds spent in the kernel.
        read_bytes_total bytes_read Bytes read from clients.
        written_bytes_total bytes_written Bytes sent to clients.
        connections_total total_connections Connections opened since the start.
        connections_rejected_total rejected_connections Connections rejected by a limit.
        connections_yielded_total conn_yields How often a connection had more requests than one turn carries out.
        connections_listener_disabled_total listen_disabled_num How often accepting stopped because of -c.
        items_total total_items Items stored by commands.
        items_evicted_total evictions Items evicted before they expired, as their memory was needed.
        items_reclaimed_total reclaimed Items whose memory was used again after they expired or were flushed.
        item_too_large_total store_too_large Values rejected as too large, as memcached counts them.
        item_no_memory_total store_no_memory Values rejected because there was no room and eviction is disabled.
        direct_reclaims_total direct_reclaims Evictions by writes themselves.
        lru_crawler_starts_total lru_crawler_starts How often the crawler started.
        lru_crawler_reclaimed_total crawler_reclaimed Expired items removed by the crawler.
        lru_crawler_items_checked_total crawler_items_checked Items checked by the crawler.
        lru_crawler_moves_to_cold_total moves_to_cold Always 0: the LRU has no segments.
        lru_crawler_moves_to_warm_total moves_to_warm Always 0: the LRU has no segments.
        lru_crawler_moves_within_lru_total moves_within_lru How often an eviction skipped an item that had been read.
        """,
    ),
    *_table(
        Kind.GAUGE,
        """
        time_seconds time Unix time by the server's clock.
        current_connections curr_connections Open connections.
        current_bytes bytes Memory of all items, as the server accounts for it.
        limit_bytes limit_maxbytes The limit of -m.
        current_items curr_items Items in the store, those included that have expired and are not removed yet.
        accepting_connections accepting_conns 1, or 0 while a client waits because -c is reached.
        """,
    ),
)
"""From `stats`."""

COMMANDS = Family(
    Metric(
        "memcached_commands_total",
        Kind.COUNTER,
        "Commands by outcome; each key of a get counts.",
        ("command", "status"),
    ),
    (
        *_commands("get_hits get_misses delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses"),
        *_commands("cas_hits cas_misses touch_hits touch_misses cas_badval"),
        RowSample("cmd_flush", (("command", "flush"), ("status", "hit"))),
    ),
)  # fmt: skip

SETTINGS: tuple[Family, ...] = tuple(_table(Kind.GAUGE, "max_connections maxconns The limit of -c."))

CRAWLER_SETTINGS: tuple[Family, ...] = tuple(
    _table(
        Kind.GAUGE,
        """
        lru_crawler_enabled lru_crawler Whether the crawler runs.
        lru_crawler_sleep lru_crawler_sleep Microseconds between two steps of the crawler.
        lru_crawler_to_crawl lru_crawler_tocrawl Items that the crawler checks at most in a round; 0 is no limit.
        lru_crawler_maintainer_thread lru_maintainer_thread Shown as given, without an effect.
        lru_crawler_hot_percent hot_lru_pct Shown as given, without an effect.
        lru_crawler_warm_percent warm_lru_pct Shown as given, without an effect.
        lru_crawler_hot_max_factor hot_max_factor Shown as given, without an effect.
        lru_crawler_warm_max_factor warm_max_factor Shown as given, without an effect.
        """,
    )
)
"""From `stats settings`, while the crawler is enabled."""

MALLOCED = next(
    _table(Kind.GAUGE, "malloced_bytes total_malloced What the present items would take in memcached's pages.")
)

CLASS_LABELS = ("slab",)
CLASS_ITEMS: tuple[Family, ...] = (
    *_table(
        Kind.GAUGE,
        """
        slab_current_items number Items of a size class.
        slab_items_age_seconds age Seconds since the last access of the item with the oldest one, as far as known.
        slab_hot_items number_hot Always 0: the LRU has no segments.
        slab_warm_items number_warm Always 0: the LRU has no segments.
        slab_cold_items number_cold Items of a size class.
        slab_temporary_items number_temp Always 0: the LRU has no segments.
        slab_hot_age_seconds age_hot Always 0: the LRU has no segments.
        slab_warm_age_seconds age_warm Always 0: the LRU has no segments.
        """,
        CLASS_LABELS,
    ),
    *_table(
        Kind.COUNTER,
        """
        slab_items_crawler_reclaimed_total crawler_reclaimed Expired items removed by the crawler.
        slab_items_evicted_total evicted Items evicted.
        slab_items_evicted_nonzero_total evicted_nonzero Items evicted that would have expired later.
        slab_items_evicted_time_seconds evicted_time Seconds for which the last evicted item was idle, as far as known.
        slab_items_evicted_unfetched_total evicted_unfetched Items evicted without a recorded read.
        slab_items_expired_unfetched_total expired_unfetched Items expired without a recorded read.
        slab_items_outofmemory_total outofmemory Values rejected for lack of room.
        slab_items_reclaimed_total reclaimed Items removed after they expired.
        slab_items_tailrepairs_total tailrepairs Always 0: there is nothing to repair.
        slab_items_moves_to_cold moves_to_cold Always 0: the LRU has no segments.
        slab_items_moves_to_warm moves_to_warm Always 0: the LRU has no segments.
        slab_items_moves_within_lru moves_within_lru Always 0: counted for all classes together.
        slab_mem_requested_bytes mem_requested Bytes of the items as memcached would count them.
        """,
        CLASS_LABELS,
    ),
    Family(
        Metric("memcached_slab_lru_hits_total", Kind.COUNTER, "Always 0: the LRU has no segments.", ("slab", "lru")),
        tuple(
            RowSample(f"hits_to_{row}", (("lru", segment),))
            for row, segment in (("hot", "hot"), ("warm", "warm"), ("cold", "cold"), ("temp", "temporary"))
        ),
    ),
)
"""From `stats items`, for each size class."""

CLASS_SLABS: tuple[Family, ...] = tuple(
    _table(
        Kind.GAUGE,
        """
        slab_chunk_size_bytes chunk_size Bytes of a chunk of this class in memcached.
        slab_chunks_per_page chunks_per_page Chunks of a page of this class in memcached.
        slab_current_pages total_pages Pages that the items would take in memcached.
        slab_current_chunks total_chunks Chunks of these pages.
        slab_chunks_used used_chunks Chunks that the items would take in memcached.
        slab_chunks_free free_chunks Chunks of these pages that would be free.
        slab_chunks_free_end free_chunks_end Always 0: there are no slab pages.
        """,
        CLASS_LABELS,
    )
)
"""From `stats slabs`, for each size class."""

CLASS_COMMANDS = Family(
    Metric(
        "memcached_slab_commands_total",
        Kind.COUNTER,
        "Always 0: counted for all classes together, in memcached_commands_total.",
        ("slab", "command", "status"),
    ),
    (*_commands("get_hits delete_hits incr_hits decr_hits cas_hits touch_hits cas_badval"), SETS),
)

EXPORTER_METRICS: tuple[Metric, ...] = (
    UP,
    VERSION_METRIC,
    *(family.metric for family in (*GENERAL, COMMANDS, *SETTINGS, *CRAWLER_SETTINGS, MALLOCED)),
    *(family.metric for family in (*CLASS_ITEMS, *CLASS_SLABS, CLASS_COMMANDS)),
)
"""All that a page may have."""


def unreachable_families() -> Iterator[str]:
    """Yield what the exporter says of a server that it can't reach."""
    yield exposed(UP, [((), 0)])


def general_families(stats: Rows, settings: Rows) -> Iterator[str]:
    """Yield the metrics of the whole server. stats, settings: the rows of these reports."""
    yield exposed(UP, [((), 1)])
    yield exposed(VERSION_METRIC, [((("version", str(stats["version"])),), 1)])
    for family in GENERAL:
        yield exposed(family.metric, _samples(family.sources, stats))
    yield exposed(COMMANDS.metric, [*_samples(COMMANDS.sources, stats), (SETS.labels, _sets(stats, "cas_misses"))])
    for family in (*SETTINGS, *(CRAWLER_SETTINGS if settings["lru_crawler"] == "yes" else ())):
        yield exposed(family.metric, _samples(family.sources, settings))


def class_families(items: RowsByClass, slabs: RowsByClass, malloced: int) -> Iterator[str]:
    """Yield the metrics of each size class, one metric at a time. malloced: the bytes of all pages in memcached."""
    yield exposed(MALLOCED.metric, [((), malloced)])
    for families, by_class in ((CLASS_ITEMS, items), (CLASS_SLABS, slabs)):
        for family in families:
            yield from exposed_in_pieces(family.metric, _class_samples(family.sources, by_class))
    sources = tuple(source for source in CLASS_COMMANDS.sources if source is not SETS)
    sets = [(_of_class(number, SETS.labels), _sets(rows)) for number, rows in slabs.items()]
    yield from exposed_in_pieces(CLASS_COMMANDS.metric, chain(_class_samples(sources, slabs), sets))


def _samples(sources: Iterable[RowSample], rows: Rows) -> Iterator[Sample]:
    """Yield a sample for each row that is there."""
    for source in sources:
        if source.row in rows:
            yield source.labels, _value(rows[source.row])


def _class_samples(sources: Iterable[RowSample], by_class: RowsByClass) -> Iterator[Sample]:
    for number, rows in by_class.items():
        for labels, value in _samples(sources, rows):
            yield _of_class(number, labels), value


def _of_class(number: int, labels: Labels) -> Labels:
    return (("slab", str(number)), *labels)


def _sets(rows: Rows, *more: str) -> float:
    """Return the sets; the number that memcached reports has those of `cas` too."""
    return _value(rows["cmd_set"]) - sum(_value(rows[name]) for name in ("cas_hits", "cas_badval", *more))


def _value(value: object) -> float:
    """Return a row's value as a number: some are numbers in words, others yes or no."""
    if isinstance(value, int):
        return value
    return SWITCHES[str(value)] if value in SWITCHES else float(str(value))
