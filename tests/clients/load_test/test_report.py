"""What is made of counts: figures, targets, JSON and the page."""

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import StringIO

import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from rich.console import Console

from clients.address import Address
from clients.load_test.load import Load
from clients.load_test.loop import TICK
from clients.load_test.measurement import Measurement
from clients.load_test.page import POINTS, page_of, thinned
from clients.load_test.report import Report
from clients.load_test.tally import MESSAGES_KEPT, Tally
from clients.load_test.targets import targets_of
from clients.load_test.wires.wire import Outcome

LOAD = Load(Address("h", 7171))
SECOND = 1_000_000_000


def tally_of(latencies: dict[int, int], errors: int = 0, misses: int = 0) -> Tally:
    """Counts of gets: hits, but for these."""
    tally = Tally()
    tally.latencies.update(latencies)
    tally.outcomes[Outcome.HIT] = sum(latencies.values()) - misses
    tally.outcomes[Outcome.MISS] = misses
    if errors:
        tally.count_error("<script>alert(1)</script> & more", errors)
    return tally


def measured(latencies: dict[int, int], seconds: float = 1.0, errors: int = 0, misses: int = 0) -> Measurement:
    measurement = Measurement(100)
    measurement.add(0, TICK, TICK, tally_of(latencies, errors, misses))
    measurement.finish(int(seconds * SECOND), 0.5)
    measurement.settle()
    return measurement


def report_of(*measurements: Measurement, load: Load = LOAD) -> Report:
    return Report(load, measurements, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


GOOD = {500: 9900, 800: 2100}


def test_figures_are_those_of_the_latencies() -> None:
    measurement = measured({100: 900, 1000: 90, 10_000: 9, 50_000: 1}, seconds=2.0)
    assert measurement.throughput == 500
    assert measurement.mean_ms == pytest.approx((100 * 900 + 1000 * 90 + 10_000 * 9 + 50_000) / 1000 / 1000)
    for percent, wanted in ((50, 0.1), (90, 0.1), (99, 1.0), (99.9, 10.0), (100, 50.0)):
        assert measurement.percentile_ms(percent) == pytest.approx(wanted, rel=0.001)
    assert measurement.busiest_core == 0.25


def test_processes_are_added_up() -> None:
    measurement = Measurement(2, processes=2)
    for _ in range(2):
        measurement.add(0, TICK, TICK, tally_of({100: 50}))
        measurement.add(1, 2 * TICK, TICK, tally_of({300: 20}, misses=5))
    measurement.finish(SECOND, 0.1)
    measurement.finish(2 * SECOND, 0.3)
    measurement.settle()
    assert (measurement.requests, measurement.seconds, measurement.throughput) == (140, 2.0, 70)
    assert measurement.hit_rate == 130 / 140
    assert [(moment.rate, moment.p50) for moment in measurement.moments] == [(400, 0.1), (160, 0.3)]


def test_a_last_tick_that_is_too_short_has_no_figures_of_its_own() -> None:
    measurement = Measurement(1)
    measurement.add(0, TICK, TICK, tally_of({100: 25}))
    measurement.add(1, TICK + 10, 10, tally_of({100: 1}))
    measurement.settle()
    [moment] = measurement.moments
    assert moment.rate == pytest.approx(25 * SECOND / TICK)
    assert measurement.requests == 26


def test_a_tick_has_figures_once_all_processes_have_told_theirs() -> None:
    measurement = Measurement(2, processes=2)
    measurement.add(0, TICK, TICK, tally_of({100: 25}))
    assert measurement.moments == []
    measurement.add(0, TICK, TICK, tally_of({100: 25}))
    [moment] = measurement.moments
    assert moment.rate == pytest.approx(50 * SECOND / TICK)


def verdicts(measurement: Measurement, load: Load = LOAD) -> list[bool]:
    return [target.met for target in targets_of(load, measurement)]


def test_targets() -> None:
    assert verdicts(measured(GOOD)) == [True] * 5
    assert verdicts(measured(GOOD, seconds=1.3)) == [False, True, True, True, True]
    assert verdicts(measured({500: 11_700, 30_000: 300})) == [True, False, False, True, True]
    assert verdicts(measured({500: 11_900, 6000: 110})) == [True, True, True, True, True]
    assert verdicts(measured({500: 11_900, 6000: 130})) == [True, True, False, True, True]
    assert verdicts(measured(GOOD, errors=1)) == [True, True, True, False, True]
    assert verdicts(measured(GOOD, misses=120)) == [True, True, True, True, False]
    assert verdicts(measured(GOOD, misses=119)) == [True] * 5


def test_a_rate_below_the_target_only_has_to_be_kept() -> None:
    slow = Load(Address("h", 7171), rate=1000.0)
    assert verdicts(measured({500: 1000}), slow)[0]
    assert not verdicts(measured({500: 900}), slow)[0]


def test_the_report_passes_with_all_targets_or_for_users_without_errors() -> None:
    users = Load(Address("h", 8080), protocol="http", users=(1, 10))
    assert report_of(measured(GOOD)).passed
    assert not report_of(measured(GOOD, misses=500)).passed
    assert report_of(measured(GOOD, seconds=9.0), measured(GOOD), load=users).passed
    assert not report_of(measured(GOOD), measured(GOOD, errors=1), load=users).passed


def test_json_has_all_figures() -> None:
    told = json.loads(report_of(measured(GOOD, errors=2)).as_json())
    assert (told["passed"], told["load"]["connections"], told["load"]["address"]) == (False, 100, "h:7171")
    [figures] = told["measurements"]
    assert (figures["requests"], figures["errors"], figures["hit_rate"]) == (12_002, 2, 1.0)
    assert figures["latency_ms"].keys() == {"mean", "p50", "p90", "p95", "p99", "p99.9", "max"}
    assert {target["name"]: target["met"] for target in told["targets"]} == {
        "throughput": True, "mean": True, "p99": True, "errors": False, "hit rate": True,
    }  # fmt: skip
    assert HdrHistogram.decode(figures["histogram_us"]).get_total_count() == 12_000


def test_the_table_names_errors_and_verdicts() -> None:
    console = Console(file=StringIO(), width=160)
    report_of(measured(GOOD, errors=2)).show(console)
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert "FAIL" in said
    assert "2 times: <script>alert(1)</script> & more" in said


VOID = {"meta", "circle", "line", "rect", "polyline", "polygon"}


class Elements(HTMLParser):
    """The elements of a page; raises AssertionError where one ends that has not begun."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID or tag == "circle":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID or tag == "circle":
            assert self.open.pop() == tag


USERS = Load(Address("h", 8080), protocol="http", users=(1, 10))


@pytest.mark.parametrize(
    ("report", "charts"),
    [
        (report_of(measured(GOOD, errors=2)), 4),
        (report_of(Measurement(1)), 4),
        (report_of(measured({5: 1})), 4),
        (report_of(measured(GOOD), measured({7: 3}), load=USERS), 2),
    ],
    ids=["errors", "nothing", "one", "users"],
)
def test_the_page_is_whole_and_needs_nothing_else(report: Report, charts: int) -> None:
    page = page_of(report)
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert elements.seen.count("svg") == charts
    assert not {"script", "link", "img"} & set(elements.seen)
    assert not {"src", "href"} & elements.attributes
    assert "http://" not in page
    assert "prefers-color-scheme:dark" in page


def test_a_long_measurement_has_few_points() -> None:
    measurement = Measurement(1)
    for index in range(4000):
        measurement.add(index, (index + 1) * TICK, TICK, tally_of({100 + index % 2: 10}))
    measurement.settle()
    points = thinned(measurement.moments)
    assert len(points) <= POINTS
    assert points[-1].at == measurement.moments[-1].at
    assert points[0].p99 == 0.101


def test_only_so_many_different_messages_are_kept() -> None:
    tally = Tally()
    for number in range(100):
        tally.count_error(f"error {number}")
    assert len(tally.messages) == MESSAGES_KEPT
    assert tally.outcomes[Outcome.ERROR] == 100
