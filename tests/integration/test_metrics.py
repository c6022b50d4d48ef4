"""The page /metrics of a running server, beside what prometheus/memcached_exporter makes of the same server.

MEMCACHED_EXPORTER names the exporter's binary; without it, its stand-in is compared with.
"""

import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from memcache_kv.stats.exporter_metrics import EXPORTER_METRICS
from memcache_kv.stats.metrics import ALL_METRICS
from tests.integration.exporter import Series, read_exposition, scrape
from tests.integration.test_exporter import ask_exporter, store_and_use, without_class
from tests.integration.wire import MEMCACHED, OURS, RunningServer, ServerUnavailable, Wire, server_command
from tests.ports import free_port

MOVING = re.compile(
    r"memcached_(uptime|time|process|read|written|.*connections|.*age)_?.*|memcached_lru_crawler_starts.*"
)
"""What differs from one scrape to the next."""
BAD_NAMES = {
    "memcached_slab_items_evicted_time_seconds",
    "memcached_slab_items_moves_to_cold",
    "memcached_slab_items_moves_to_warm",
    "memcached_slab_items_moves_within_lru",
    "memcached_slab_mem_requested_bytes",
    "memcached_uptime_seconds",
}
"""Counters of the exporter whose names do not end as those of counters should. promtool complains of nothing else."""


class Scraped:
    """A server with the page, which was used a little."""

    def __init__(self, server: RunningServer, port: int) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{port}/metrics"

    def page(self) -> str:
        with urllib.request.urlopen(self._url, timeout=20) as reply:
            assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            text: str = reply.read().decode()
            return text

    def theirs(self) -> dict[Series, float]:
        """The exporter's metrics on the page."""
        return dict(read_exposition(self.page()))


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    port = free_port()
    flags = [
        f"--admin-listen=127.0.0.1:{port}", "-D:", f"--journal={tmp_path_factory.mktemp('page') / 'journal'}",
    ]  # fmt: skip
    with closing(RunningServer(OURS, flags)) as server:
        with Wire(server) as wire:
            store_and_use(wire)
            wire.expect(b"set user:1 0 0 1\r\nx\r\n", b"STORED\r\n")
            wire.expect(b"get user:1 user:2\r\n", b"VALUE user:1 0 1\r\nx\r\nEND\r\n")
        yield Scraped(server, port)


def assert_alike(ours: dict[Series, float], theirs: dict[Series, float]) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) > 250
    for series, value in theirs.items():
        if not MOVING.fullmatch(series.metric):
            assert ours[series] == value, series


def test_the_page_has_what_the_exporter_makes_of_the_statistics(scraped: Scraped) -> None:
    with Wire(scraped.server) as wire:
        assert_alike(scraped.theirs(), scrape(wire).values)


def test_the_page_has_what_the_exporter_itself_shows(scraped: Scraped) -> None:
    binary = os.environ.get("MEMCACHED_EXPORTER")
    if not binary:
        pytest.skip("MEMCACHED_EXPORTER does not name a binary of prometheus/memcached_exporter")
    assert_alike(scraped.theirs(), ask_exporter(binary, scraped.server))


def test_the_page_has_what_the_exporter_shows_of_memcached(scraped: Scraped) -> None:
    """memcached keeps classes of which nothing is stored any more: only their numbers may differ."""
    try:
        server_command(MEMCACHED)
    except ServerUnavailable as reason:
        pytest.skip(str(reason))
    binary = os.environ.get("MEMCACHED_EXPORTER")
    with closing(RunningServer(MEMCACHED)) as server, Wire(server) as wire:
        store_and_use(wire)
        found = ask_exporter(binary, server) if binary else scrape(wire).values
    ours, theirs = ({without_class(each) for each in series} for series in (scraped.theirs(), found))
    names = {series.metric for series in theirs}
    assert {each for each in ours if each.metric != "memcached_version"} == {
        each for each in theirs if each.metric != "memcached_version"
    }
    assert "memcached_version" in names


def test_the_client_library_reads_the_page(scraped: Scraped) -> None:
    described = {metric.name: metric for metric in ALL_METRICS}
    families = list(text_string_to_metric_families(scraped.page()))
    found = {sample.name for family in families for sample in family.samples}
    for family in families:
        name = family.name if family.name in described else f"{family.name}_total"
        metric = described[name]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    absent = {metric.name for metric in EXPORTER_METRICS if not {metric.name, f"{metric.name}_total"} & found}
    assert absent == {"memcached_slab_temporary_items"}, "only with -o temporary_ttl"


def test_a_name_comes_once_and_its_lines_together(scraped: Scraped) -> None:
    heads = re.findall(r"^# TYPE (\S+)", scraped.page(), re.MULTILINE)
    assert len(heads) == len(set(heads))


def test_promtool_complains_of_nothing_but_names_of_the_exporter(scraped: Scraped) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped.page(), capture_output=True, text=True, check=False, timeout=60
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert {line.split(" ")[0] for line in lines} == BAD_NAMES
    assert all(line.endswith('counter metrics should have "_total" suffix') for line in lines)
    own = "".join(line for line in scraped.page().splitlines(True) if "memcached_" not in line)
    subprocess.run(["promtool", "check", "metrics"], input=own, text=True, check=True, timeout=60)


def test_key_prefixes_are_shown(scraped: Scraped) -> None:
    page = scraped.page()
    assert 'memcache_kv_prefix_gets_total{prefix="user"} 2\n' in page
    assert 'memcache_kv_prefix_hits_total{prefix="user"} 1\n' in page


def test_a_restart_shows_what_was_recovered(tmp_path: Path) -> None:
    port = free_port()
    flags = [f"--admin-listen=127.0.0.1:{port}", f"--journal={tmp_path / 'journal'}"]
    with closing(RunningServer(OURS, flags)) as server, Wire(server) as wire:
        wire.expect(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        server.stop()
    with closing(RunningServer(OURS, flags)) as server:
        page = Scraped(server, port).page()
    values = dict(re.findall(r"^(memcache_kv_recover\w+) (\S+)$", page, re.MULTILINE))
    assert int(values["memcache_kv_recovered_records"]) >= 1
    assert int(values["memcache_kv_recovered_bytes"]) > 10
    assert float(values["memcache_kv_recovery_seconds"]) > 0
