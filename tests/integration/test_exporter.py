"""What prometheus/memcached_exporter makes of our statistics, with a stand-in and with the exporter itself.

MEMCACHED_EXPORTER names the exporter's binary; without it only the stand-in asks.
"""

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.exporter import Gathered, ScrapeError, Series, gather, read_exposition, scrape
from tests.integration.wire import (
    MEMCACHED,
    OURS,
    RunningServer,
    ServerUnavailable,
    Wire,
    poll_until,
    server_command,
)
from tests.ports import free_port

SIZES = [1, 100, 200, 1000, 66_560, 700_000]
"""One class each, the last one's items larger than a chunk."""


def store_and_use(wire: Wire) -> None:
    """Store items of several sizes, and move every count that a metric is made of."""
    for number, size in enumerate(SIZES):
        wire.expect(b"set k%d 0 0 %d\r\n%b\r\n" % (number, size, bytes(size)), b"STORED\r\n")
    wire.session(
        (b"get k0\r\n", b"VALUE k0 0 1\r\n\0\r\nEND\r\n"),
        (b"get none\r\n", b"END\r\n"),
        (b"set n 0 0 1\r\n1\r\n", b"STORED\r\n"),
        (b"incr n 5\r\n", b"6\r\n"),
        (b"decr n 1\r\n", b"5\r\n"),
    )
    unique = wire.cas_of(b"n")
    wire.session(
        (b"cas n 0 0 1 %d\r\n7\r\n" % (unique + 1), b"EXISTS\r\n"),
        (b"cas n 0 0 1 %d\r\n7\r\n" % unique, b"STORED\r\n"),
        (b"touch n 100\r\n", b"TOUCHED\r\n"),
        (b"delete n\r\n", b"DELETED\r\n"),
    )


@pytest.fixture
def used(make_server: MakeServer) -> Iterator[Wire]:
    """A connection to a server that holds items of several sizes."""
    with Wire(make_server()) as wire:
        store_and_use(wire)
        yield wire


def test_a_scrape_finds_every_metric_once(used: Wire) -> None:
    gathered = scrape(used)
    assert gathered.value("memcached_up") == 1
    assert gathered.value("memcached_current_items") == len(SIZES)
    assert gathered.value("memcached_commands_total", command="set", status="hit") == len(SIZES) + 1
    assert gathered.value("memcached_commands_total", command="cas", status="badval") == 1


def test_an_unused_server_can_be_scraped(make_server: MakeServer) -> None:
    with Wire(make_server()) as wire:
        assert scrape(wire).value("memcached_current_items") == 0


def without_class(series: Series) -> Series:
    """The series of all size classes: memcached keeps pages where nothing is stored any more, which ours has not."""
    return series._replace(labels=frozenset((name, value) for name, value in series.labels if name != "slab"))


def test_ours_has_the_metrics_of_memcached_with_their_types_and_labels() -> None:
    try:
        server_command(MEMCACHED)
    except ServerUnavailable as reason:
        pytest.skip(str(reason))
    found: list[set[Series]] = []
    for kind in (OURS, MEMCACHED):
        with closing(RunningServer(kind)) as server, Wire(server) as wire:
            store_and_use(wire)
            found.append({series for series in scrape(wire).values if series.metric != "memcached_version"})
    ours_alone, theirs_alone = found[0] - found[1], found[1] - found[0]
    assert not ours_alone
    assert {without_class(series) for series in theirs_alone} <= {without_class(series) for series in found[0]}
    assert len(found[0]) > 250


def test_the_memory_of_a_class_is_what_stats_items_says(used: Wire) -> None:
    gathered, items = scrape(used), used.stats(b"items")
    requested = {name.split(":")[1]: float(value) for name, value in items.items() if name.endswith(":mem_requested")}
    assert len(requested) == len(SIZES)
    for number, value in requested.items():
        assert gathered.value("memcached_slab_mem_requested_bytes", slab=number) == value


STATS = {
    "version": "1.6.45", "rusage_user": "0.000001", "rusage_system": "1.500000", "cmd_set": "3",
    "cas_hits": "1", "cas_misses": "0", "cas_badval": "1",
}  # fmt: skip
SETTINGS = {"maxconns": "1024"}


def test_the_stand_in_reads_times_and_takes_cas_from_the_sets() -> None:
    gathered = gather(STATS, {}, {}, SETTINGS)
    assert gathered.value("memcached_process_system_cpu_seconds_total") == 1.5
    assert gathered.value("memcached_process_user_cpu_seconds_total") == 0.000001
    assert gathered.value("memcached_commands_total", command="set") == 1


@pytest.mark.parametrize(
    ("stats", "slabs", "items"),
    [
        ({}, {"1:mem_requested": "60", "1:cmd_set": "0", "1:cas_hits": "0", "1:cas_badval": "0"},
         {"items:1:mem_requested": "60"}),
        ({"total_malloced": "1"}, {"total_malloced": "x"}, {}),
        ({"rusage_user": "1"}, {}, {}),
        ({"cmd_set": "many"}, {}, {}),
        ({}, {"1:chunk_size": "96"}, {}),
    ],
    ids=["the same in both", "no number", "no microseconds", "a count of words", "no cmd_set"],
)  # fmt: skip
def test_the_stand_in_fails_where_the_exporter_does(
    stats: dict[str, str], slabs: dict[str, str], items: dict[str, str]
) -> None:
    with pytest.raises(ScrapeError):
        gather({**STATS, **stats}, slabs, items, SETTINGS)


def test_a_metric_may_not_come_twice() -> None:
    gathered = Gathered()
    gathered.add("up", "gauge", 1, {"slab": "1"})
    gathered.add("up", "gauge", 1, {"slab": "2"})
    with pytest.raises(ScrapeError, match="was collected before"):
        gathered.add("up", "gauge", 1, {"slab": "1"})


def ask_exporter(binary: str, server: RunningServer) -> dict[Series, float]:
    """Start the exporter beside a server, scrape it once, and end it."""
    port = free_port()
    flags = [f"--memcached.address={server.host}:{server.port}", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen([binary, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            poll_until(lambda: answers(port), "the exporter answers")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
                return dict(read_exposition(reply.read().decode()))
        finally:
            process.kill()


def answers(port: int) -> bool:
    """Whether a program answers HTTP there, however it answers."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def test_the_exporter_itself_finds_what_the_stand_in_finds(used: Wire) -> None:
    binary = os.environ.get("MEMCACHED_EXPORTER")
    if not binary:
        pytest.skip("MEMCACHED_EXPORTER does not name a binary of prometheus/memcached_exporter")
    theirs, ours = ask_exporter(binary, used.server), scrape(used).values
    assert theirs.keys() == ours.keys()
    for series, value in theirs.items():
        if series.metric.startswith(("memcached_slab", "memcached_commands")) and "age" not in series.metric:
            assert value == ours[series], series
