"""The page for Prometheus: counts and states of the server in its text format.

The page is made in small steps, so that requests of clients need not wait for it. The names, types and labels of
prometheus/memcached_exporter come first, so that its dashboards and alerts work; then come our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter

from memcache_kv.stats import report, settings_report
from memcache_kv.stats.census import Counts
from memcache_kv.stats.exporter_metrics import (
    EXPORTER_METRICS,
    RowsByClass,
    class_families,
    general_families,
    unreachable_families,
)
from memcache_kv.stats.exposition import CONTENT_TYPE, Kind, Metric, exposed
from memcache_kv.stats.own_metrics import OWN_METRICS, own_families
from memcache_kv.stats.own_metrics import MeasuredServer as MeasuredServer  # for those who import the page
from memcache_kv.store.sizes import PAGE_BYTES, ClassContents, ClassCounts

METRICS_TYPE = CONTENT_TYPE.encode()
STEP_SECONDS = 0.0002
"""A piece of the page ends once it has taken so long."""
COUNTING_SECONDS = 2.0
"""For so long a page waits for the items to be counted by size. If that takes longer, it has the counts of an earlier
page, and the next one goes on counting."""

READY = Metric("memcache_kv_ready", Kind.GAUGE, "Whether clients should be sent here, as /readyz says.")
NOT_READY = Metric("memcache_kv_not_ready", Kind.GAUGE, "1 for each reason why they should not.", ("reason",))
ALL_METRICS: tuple[Metric, ...] = (READY, NOT_READY, *EXPORTER_METRICS, *(each.metric for each in OWN_METRICS))


def metrics_page(server: MeasuredServer | None, obstacles: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield the page in pieces; an empty one gives way to other requests after a step of the work.

    server: None while the items are loaded, when clients can't connect yet. obstacles: words that say why the server is
    not ready. Only the thread of the admin listener iterates, and never over two pages in turns unless two clients ask
    at once.
    """
    yield exposed(READY, [((), int(not obstacles))]).encode()
    yield exposed(NOT_READY, [((("reason", each),), 1) for each in obstacles]).encode()
    if server is None:
        yield from (family.encode() for family in unreachable_families())
        return
    settings = dict(settings_report.settings(server))
    stats: dict[str, object] = {}
    for rows in _in_steps(report.general(server)):
        stats.update(rows)
        yield b""
    yield from (family.encode() for family in general_families(stats, settings))
    counts = Counts()
    for done in server.census.count_within(COUNTING_SECONDS):
        counts = done or counts
        yield b""
    items, slabs = _classes(server, counts)
    yield b""
    malloced = PAGE_BYTES * sum([int(str(rows["total_pages"])) for rows in slabs.values()])
    yield from (family.encode() for family in class_families(items, slabs, malloced))
    yield from (family.encode() for family in own_families(server))


def _in_steps(rows: Iterable[report.Row]) -> Iterator[list[report.Row]]:
    """Yield the rows of a report in lists, each of which takes little time."""
    ready: list[report.Row] = []
    ends_at = perf_counter() + STEP_SECONDS
    for row in rows:
        ready.append(row)
        if perf_counter() > ends_at:
            yield ready
            ready, ends_at = [], perf_counter() + STEP_SECONDS
    yield ready


def _classes(server: MeasuredServer, counts: Counts) -> tuple[RowsByClass, RowsByClass]:
    """Return the rows of `stats items` and of `stats slabs` for each size class."""
    store = server.store
    happened, found = report.happened_by_class(store), counts.classes
    items = {
        number: dict(report.class_items(server, here, happened.get(number, ClassCounts())))
        for number, here in sorted(found.items())
    }
    slabs = {
        number: dict(report.class_slabs(store.sizes.chunks[number - 1], found.get(number, ClassContents(0))))
        for number in sorted(found.keys() | happened.keys())
    }
    return items, slabs
