"""A stand-in for prometheus/memcached_exporter: the same metrics from the same lines of `stats`, and the same refusals.

It knows the names, types and labels of the exporter's release 0.16, and what Prometheus' client library checks when it
gathers them: a metric may come once for each combination of labels, and always with the same type. Where the exporter
would answer a scrape with HTTP 500, or count the server as down, the stand-in raises `ScrapeError`.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.integration.wire import Wire

COUNTER, GAUGE = "counter", "gauge"

Values = Mapping[str, str]
ByClass = dict[str, dict[str, str]]
"""The lines of each size class."""


class ScrapeError(Exception):
    """The scrape fails."""


class Source(NamedTuple):
    """A metric that is the number of one line."""

    metric: str
    kind: str
    line: str
    labels: tuple[tuple[str, str], ...] = ()


class Series(NamedTuple):
    """A metric with its labels."""

    metric: str
    kind: str
    labels: frozenset[tuple[str, str]]


def _table(kind: str, text: str) -> list[Source]:
    """Read lines of a metric's name and the name that `stats` has for it."""
    return [Source(metric, kind, line) for metric, line in map(str.split, text.strip().splitlines())]


def _commands(lines: str) -> list[Source]:
    """Read the counts of commands from names like `get_hits`; all are one metric, told apart by its labels."""
    statuses = {"hits": "hit", "misses": "miss", "badval": "badval"}
    found = []
    for line in lines.split():
        command, _, status = line.partition("_")
        found.append(
            Source("commands_total", COUNTER, line, (("command", command), ("status", statuses[status])))
        )  # fmt: skip
    return found


GENERAL = [
    *_table(
        COUNTER,
        """
        uptime_seconds                          uptime
        read_bytes_total                        bytes_read
        written_bytes_total                     bytes_written
        connections_total                       total_connections
        connections_rejected_total              rejected_connections
        connections_yielded_total               conn_yields
        connections_listener_disabled_total     listen_disabled_num
        items_total                             total_items
        items_evicted_total                     evictions
        items_reclaimed_total                   reclaimed
        item_too_large_total                    store_too_large
        item_no_memory_total                    store_no_memory
        direct_reclaims_total                   direct_reclaims
        lru_crawler_starts_total                lru_crawler_starts
        lru_crawler_reclaimed_total             crawler_reclaimed
        lru_crawler_items_checked_total         crawler_items_checked
        lru_crawler_moves_to_cold_total         moves_to_cold
        lru_crawler_moves_to_warm_total         moves_to_warm
        lru_crawler_moves_within_lru_total      moves_within_lru
        """,
    ),
    *_table(
        GAUGE,
        """
        time_seconds            time
        current_connections     curr_connections
        current_bytes           bytes
        limit_bytes             limit_maxbytes
        current_items           curr_items
        malloced_bytes          total_malloced
        accepting_connections   accepting_conns
        """,
    ),
    *_commands("get_hits get_misses delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses"),
    *_commands("cas_hits cas_misses cas_badval touch_hits touch_misses"),
    Source("commands_total", COUNTER, "cmd_flush", (("command", "flush"), ("status", "hit"))),
]
"""From `stats`, and from the last line of `stats slabs`."""

PROCESSOR_TIMES = _table(
    COUNTER,
    """
    process_user_cpu_seconds_total      rusage_user
    process_system_cpu_seconds_total    rusage_system
    """,
)

CRAWLER = _table(
    GAUGE,
    """
    lru_crawler_enabled             lru_crawler
    lru_crawler_sleep               lru_crawler_sleep
    lru_crawler_to_crawl            lru_crawler_tocrawl
    lru_crawler_maintainer_thread   lru_maintainer_thread
    lru_crawler_hot_percent         hot_lru_pct
    lru_crawler_warm_percent        warm_lru_pct
    lru_crawler_hot_max_factor      hot_max_factor
    lru_crawler_warm_max_factor     warm_max_factor
    """,
)
"""From `stats settings`, while the crawler runs."""

CLASS_ITEMS = [
    *_table(
        GAUGE,
        """
        slab_current_items          number
        slab_items_age_seconds      age
        slab_hot_items              number_hot
        slab_warm_items             number_warm
        slab_cold_items             number_cold
        slab_temporary_items        number_temp
        slab_hot_age_seconds        age_hot
        slab_warm_age_seconds       age_warm
        """,
    ),
    *_table(
        COUNTER,
        """
        slab_items_crawler_reclaimed_total  crawler_reclaimed
        slab_items_evicted_total            evicted
        slab_items_evicted_nonzero_total    evicted_nonzero
        slab_items_evicted_time_seconds     evicted_time
        slab_items_evicted_unfetched_total  evicted_unfetched
        slab_items_expired_unfetched_total  expired_unfetched
        slab_items_outofmemory_total        outofmemory
        slab_items_reclaimed_total          reclaimed
        slab_items_tailrepairs_total        tailrepairs
        slab_items_moves_to_cold            moves_to_cold
        slab_items_moves_to_warm            moves_to_warm
        slab_items_moves_within_lru         moves_within_lru
        slab_mem_requested_bytes            mem_requested
        """,
    ),
    Source("slab_lru_hits_total", COUNTER, "hits_to_hot", (("lru", "hot"),)),
    Source("slab_lru_hits_total", COUNTER, "hits_to_warm", (("lru", "warm"),)),
    Source("slab_lru_hits_total", COUNTER, "hits_to_cold", (("lru", "cold"),)),
    Source("slab_lru_hits_total", COUNTER, "hits_to_temp", (("lru", "temporary"),)),
]
"""From `stats items`, for each class."""

CLASS_SLABS = [
    *_table(
        GAUGE,
        """
        slab_chunk_size_bytes       chunk_size
        slab_chunks_per_page        chunks_per_page
        slab_current_pages          total_pages
        slab_current_chunks         total_chunks
        slab_chunks_used            used_chunks
        slab_chunks_free            free_chunks
        slab_chunks_free_end        free_chunks_end
        slab_mem_requested_bytes    mem_requested
        """,
    ),
    *(
        source._replace(metric="slab_commands_total")
        for source in _commands("get_hits delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits")
    ),
]
"""From `stats slabs`, for each class. In old releases `mem_requested` stands here, in new ones in `stats items`."""


class Gathered:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        self.values: dict[Series, float] = {}
        self._kinds: dict[str, str] = {}

    def add(self, metric: str, kind: str, value: float, labels: Mapping[str, str]) -> None:
        """Take one metric. Raises ScrapeError where it came before, or came with another type."""
        if self._kinds.setdefault(metric, kind) != kind:
            raise ScrapeError(f"{metric} is a {kind} here and was a {self._kinds[metric]}")
        series = Series(f"memcached_{metric}", kind, frozenset(labels.items()))
        if series in self.values:
            raise ScrapeError(f"{metric} {dict(labels)} was collected before")
        self.values[series] = value

    def value(self, metric: str, **labels: str) -> float:
        """Return the value of the one metric of this name with these labels."""
        [value] = [
            value
            for series, value in self.values.items()
            if series.metric == metric and set(labels.items()) <= series.labels
        ]
        return value


def scrape(wire: Wire) -> Gathered:
    """Ask a server for what the exporter asks for, and make metrics of it. Raises ScrapeError where it would fail."""
    return gather(
        *(wire.stats(word) for word in (b"", b"slabs", b"items", b"settings"))
    )  # fmt: skip


def gather(stats: Values, slabs: Values, items: Values, settings: Values) -> Gathered:
    """Make metrics of four replies. Raises ScrapeError where the exporter would fail."""
    gathered = Gathered()
    class_slabs, class_items = _by_class(slabs), _by_class(items)
    totals = {**stats, **{name: value for name, value in slabs.items() if ":" not in name}}
    gathered.add("version", GAUGE, 1, {"version": stats["version"]})
    _add(gathered, GENERAL, totals)
    for source in PROCESSOR_TIMES:
        gathered.add(source.metric, source.kind, _seconds(stats, source.line), {})
    gathered.add("commands_total", COUNTER, _sets(stats, "cas_misses"), {"command": "set", "status": "hit"})
    for number, lines in class_items.items():
        _add(gathered, CLASS_ITEMS, lines, slab=number)
    for number, lines in class_slabs.items():
        _add(gathered, CLASS_SLABS, lines, slab=number)
        gathered.add(
            "slab_commands_total", COUNTER, _sets(lines), {"slab": number, "command": "set", "status": "hit"}
        )  # fmt: skip
    gathered.add("max_connections", GAUGE, _number(settings, "maxconns"), {})
    if settings.get("lru_crawler") == "yes":
        _add(gathered, CRAWLER, _yes_as_one(settings))
    gathered.add("up", GAUGE, 1, {})
    return gathered


def _by_class(report: Values) -> ByClass:
    """Sort the lines `[items:]CLASS:NAME` by their class."""
    found: ByClass = {}
    for name, value in report.items():
        *_, number, line = ["", *name.split(":")]
        if number:
            found.setdefault(str(int(number)), {})[line] = value
    return found


def _add(gathered: Gathered, sources: list[Source], lines: Values, **labels: str) -> None:
    """Add the metrics whose lines are there."""
    for source in sources:
        if source.line in lines:
            gathered.add(source.metric, source.kind, _number(lines, source.line), {**labels, **dict(source.labels)})


def _sets(lines: Values, *more: str) -> float:
    """Count the sets, in whose number memcached has those of `cas` too."""
    return _number(lines, "cmd_set") - sum(_number(lines, line) for line in ("cas_hits", "cas_badval", *more))


def _number(lines: Values, line: str) -> float:
    try:
        return float(lines[line])
    except (KeyError, ValueError) as error:
        raise ScrapeError(f"{line} is no number: {error!r}") from None


def _seconds(lines: Values, line: str) -> float:
    """Read seconds and microseconds with a point between them."""
    parts = lines[line].split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ScrapeError(f"{line} is no time: {lines[line]}")
    return int(parts[0]) + int(parts[1]) / 1_000_000


def _yes_as_one(settings: Values) -> Values:
    """Write the two switches among the crawler's settings as numbers."""
    switches = {"yes": "1", "no": "0"}
    found = {line: settings[line] for line in ("lru_crawler", "lru_maintainer_thread")}
    return {**settings, **{line: switches.get(value, value) for line, value in found.items()}}


def read_exposition(text: str) -> Iterator[tuple[Series, float]]:
    """Read the metrics of memcached from Prometheus' text format, as the exporter writes it."""
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, metric, kind = line.split()
            kinds[metric] = kind
        elif line.startswith("memcached_") and not line.startswith("memcached_exporter_"):
            name, value = line.rsplit(" ", 1)
            metric, _, labels = name.rstrip("}").partition("{")
            pairs = [pair.partition("=") for pair in labels.split(",") if pair]
            yield (
                Series(metric, kinds[metric], frozenset((key, text.strip('"')) for key, _, text in pairs)),
                float(value),
            )
