"""The line protocol beside the text protocol, on one server."""

from __future__ import annotations

from statistics import median

from benchmarks.contenders import ours, put_threads_on_cores
from benchmarks.durability_report import COUNT, RATIO, Column, Section
from benchmarks.durability_servers import LOADER_CORES, on_cores
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Sample, Tell
from benchmarks.ways import Way
from benchmarks.workloads import run_pipelined
from clients.local_server import LocalServer, free_port

LOADS = {
    "single": ("--depth", "1", "--connections", "48"),
    "pipelined": ("--depth", "32", "--connections", "20"),
}
COLUMNS = (
    Column("load"), Column("server"), Column("text, ops/s", COUNT), Column("line, ops/s", COUNT),
    Column("text, CPU µs/op", RATIO), Column("line, CPU µs/op", RATIO), Column("ops/s, line : text", RATIO),
    Column("CPU, line : text", RATIO),
)  # fmt: skip


def line(effort: Effort, tell: Tell) -> Findings:
    """Give both protocols the same load in turn: 90 % get, 10 % set, 100-byte values."""
    section = Section("the line protocol beside the text protocol", COLUMNS)
    for load, options in LOADS.items():
        for way in effort.ways:
            pairs = []
            for number in range(effort.rounds):
                tell(f"{load}, {way.label}, round {number + 1} of {effort.rounds}")
                pairs.append(_measure(way, options, effort.seconds, text_first=number % 2 == 0))
            section.rows.append((load, ours(way=way).name, *_summary(pairs)))
    section.notes.append(
        "`single`: 48 connections, one request in flight on each; `pipelined`: 20 connections, 32 requests in flight "
        "on each; 90 % get, 10 % set, 100-byte values. Both protocols load the same process in turn; the load has a "
        "core to itself, and where the server is faster than it the load bounds the throughput"
    )
    return Findings([section])


def _measure(way: Way, options: tuple[str, ...], seconds: int, *, text_first: bool) -> tuple[Sample, Sample]:
    """Load one server by text and by line; return the figures in this order."""
    port = free_port()
    with LocalServer(ours(way=way).command, ("--line-listen", f"127.0.0.1:{port}")) as server:
        put_threads_on_cores(server.pid)
        found = {}
        for is_line in (False, True) if text_first else (True, False):
            dialect = ("--line", str(port)) if is_line else ()
            cpu = server.cpu_seconds()
            with on_cores(LOADER_CORES):
                operations = run_pipelined(server.address.port, seconds, *options, *dialect)
            found[is_line] = Sample(operations / seconds, (server.cpu_seconds() - cpu) / operations * 1e6)
    return found[False], found[True]


def _summary(pairs: list[tuple[Sample, Sample]]) -> tuple[float, ...]:
    """Return the medians of the samples, and of the ratios within each pair."""
    rates = [[each.operations_per_second for each in pair] for pair in pairs]
    cpu = [[each.cpu_microseconds for each in pair] for pair in pairs]
    return (
        median(text for text, _ in rates),
        median(line for _, line in rates),
        median(text for text, _ in cpu),
        median(line for _, line in cpu),
        median(line / text for text, line in rates),
        median(line / text for text, line in cpu),
    )
