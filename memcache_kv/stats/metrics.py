"""The page for Prometheus: counts and states of the server in its text format.

The page is made in small steps, so that requests of clients need not wait for it. The names, types and labels of
prometheus/memcached_exporter come first, so that its dashboards and alerts work; then come our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from memcache_kv.clock import monotonic
from memcache_kv.stats import report, settings_report
from memcache_kv.stats.census import Counts
from memcache_kv.stats.exporter_metrics import (
    EXPORTER_METRICS,
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
    for family in unreachable_families() if server is None else _families(server):
        yield family.encode()


def _families(server: MeasuredServer) -> Iterator[str]:
    """Yield the metrics of a server that clients can connect to, and an empty text after other steps."""
    settings, stats = dict(settings_report.settings(server)), dict[str, object]()
    yield from _in_slices(stats.update([row]) for row in report.general(server))
    yield from general_families(stats, settings)
    counts = Counts()
    for done in server.census.count_within(COUNTING_SECONDS):
        counts = done or counts
        yield ""
    classes = ClassRows(server, counts)
    yield from _in_slices(classes.collect())
    yield from class_families(classes.items, classes.slabs, classes.malloced_bytes)
    yield from own_families(server)


def _in_slices(steps: Iterable[None]) -> Iterator[str]:
    """Take short steps, and yield an empty text whenever they have taken some time together."""
    ends_at = monotonic() + STEP_SECONDS
    for _ in steps:
        if monotonic() > ends_at:
            yield ""
            ends_at = monotonic() + STEP_SECONDS


class ClassRows:
    """The rows of `stats items` and of `stats slabs` for each size class. counts: the items by size."""

    def __init__(self, server: MeasuredServer, counts: Counts) -> None:
        self._server = server
        self._found = counts.classes
        self.items: dict[int, dict[str, object]] = {}
        self.slabs: dict[int, dict[str, int]] = {}

    def collect(self) -> Iterator[None]:
        """Find the rows in short steps."""
        store, found = self._server.store, self._found
        happened: dict[int, ClassCounts] = {}
        yield from report.add_happened(store, happened)
        for number in sorted(found.keys() | happened.keys()):
            here = found.get(number, ClassContents(0))
            self.slabs[number] = dict(report.class_slabs(store.sizes.chunks[number - 1], here))
            if number in found:
                self.items[number] = dict(report.class_items(self._server, here, happened.get(number, ClassCounts())))
            yield

    @property
    def malloced_bytes(self) -> int:
        """The bytes of all pages that the items would take in memcached."""
        return PAGE_BYTES * sum([rows["total_pages"] for rows in self.slabs.values()])
