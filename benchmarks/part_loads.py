"""Throughput and CPU per operation of memcache_kv beside memcached, load by load."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.charts import Bars, Lines
from benchmarks.contenders import BASELINE, OURS, OURS_WITH_JOURNAL, Contender, both, memcached, ours
from benchmarks.durability_report import COUNT, RATIO, Column, Figure, Section
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Medians, Sample, Tell, run_rounds, summarize
from benchmarks.workloads import (
    BY_NAME,
    NO_MEMCASLAP,
    WORKLOADS,
    Workload,
    memcaslap_program,
    pipelined,
    run_memcaslap,
)

DEFAULT_THREADS = "memcached -t 4"
COLUMNS = (
    Column("load"), Column("server"), Column("ops/s", COUNT), Column("CPU µs/op", RATIO),
    Column(f"ops/s : {BASELINE}", RATIO), Column(f"CPU : {BASELINE}", RATIO),
)  # fmt: skip
BESIDE_OURS = (
    Column("load"), Column("server"), Column("ops/s", COUNT), Column("CPU µs/op", RATIO),
    Column("ops/s : ours without", RATIO), Column("CPU : ours without", RATIO),
)  # fmt: skip
META_COLUMNS = (
    Column("load"), Column("server"), Column("classic ops/s", COUNT), Column("meta ops/s", COUNT),
    Column("meta : classic", RATIO), Column("CPU meta : classic", RATIO),
)  # fmt: skip
BOUNDS = {
    "get90": 0.85, "set50": 0.8, "mget50": 1.0, "pipe32": 1.0, "pipe32set": 0.8, "big10k": 0.85, "binary90": 0.7,
}  # fmt: skip
META = (
    ("get", pipelined("classic get", "", "--sets", "0"), pipelined("meta get", "", "--sets", "0", "--meta")),
    ("set", pipelined("classic set", "", "--sets", "1"), pipelined("meta set", "", "--sets", "1", "--meta")),
)
DEPTHS = (1, 4, 16, 64, 256)
CONNECTIONS = (1, 10, 50, 200, 800)
THREADS = ("1", "2", "4")


def loads(effort: Effort, tell: Tell) -> Findings:
    """Compare all loads with memcached -t 1, with a journal, and the meta commands with the classic ones."""
    findings = Findings()
    section, journal = Section("loads", COLUMNS), Section("loads with a journal, everysec", BESIDE_OURS)
    for workload in _possible(WORKLOADS, section):
        section.notes.append(f"{workload.name}: {workload.description}")
        servers = both() + (memcached("-t", "4", name=DEFAULT_THREADS) if workload.name == "get90" else [])
        if workload.name in ("get90", "set50"):
            servers.append(ours(name=OURS_WITH_JOURNAL, journal=True))
        samples = run_rounds(workload, servers, effort.rounds, effort.seconds, tell)
        beside_ours = [each for each in summarize(samples, OURS) if each.server == OURS_WITH_JOURNAL]
        journal.rows += [_row(workload.name, each) for each in beside_ours]
        rows = [each for each in summarize(samples) if each.server != OURS_WITH_JOURNAL]
        section.rows += [_row(workload.name, each) for each in rows]
        findings.aim(f"{workload.name}: throughput", rows[0].throughput_ratio, BOUNDS[workload.name], at_least=True)
    findings.sections += [section, journal, _meta(effort, tell)]
    shown = [row for row in section.rows if row[1] == OURS and row[4] is not None]
    if shown:
        ratios = [float(row[4] or 0) for row in shown]
        findings.charts["loads"] = Bars(
            "Throughput : memcached -t 1", "ratio", [str(row[0]) for row in shown],
            {OURS: ratios, "target": [BOUNDS[str(row[0])] for row in shown]},
        )  # fmt: skip
    return findings


def _possible(workloads: Sequence[Workload], section: Section) -> list[Workload]:
    """Leave out what needs a program that is not here, and say so."""
    if memcaslap_program():
        return list(workloads)
    names = ", ".join(workload.name for workload in workloads if workload.needs_memcaslap)
    if names:
        section.notes.append(f"{names} skipped: {NO_MEMCASLAP}")
    return [workload for workload in workloads if not workload.needs_memcaslap]


def _row(name: str, found: Medians) -> tuple[Figure, ...]:
    ratios = found.throughput_ratio, found.cpu_ratio
    return name, found.server, found.operations_per_second, found.cpu_microseconds, *ratios


def _meta(effort: Effort, tell: Tell) -> Section:
    section = Section("meta commands beside classic ones, 20 connections, 32 in flight on each", META_COLUMNS)
    seconds = max(effort.seconds // 2, 1)
    for name, classic, meta in META:
        for server in both():
            # two loads of one server, by turns, take the places of one load of two servers
            samples: dict[str, list[Sample]] = {"classic": [], "meta": []}
            for _ in range(effort.rounds):
                samples["classic"] += run_rounds(classic, [server], 1, seconds, tell)[server.name]
                samples["meta"] += run_rounds(meta, [server], 1, seconds, tell)[server.name]
            rows = {row.server: row for row in summarize(samples, "classic")}
            section.rows.append((
                name, server.name, rows["classic"].operations_per_second, rows["meta"].operations_per_second,
                rows["meta"].throughput_ratio, rows["meta"].cpu_ratio,
            ))  # fmt: skip
    section.notes.append("get: `get` beside `mg … v`; set: `set` beside `ms`")
    return section


def threads(effort: Effort, tell: Tell) -> Findings:
    """Compare our own numbers of threads."""
    section = Section("threads", (*COLUMNS[:4], Column("ops/s : -t 1", RATIO), Column("CPU : -t 1", RATIO)))
    servers = [ours("-t", count, name=f"{OURS} -t {count}") for count in THREADS]
    for workload in _possible([BY_NAME["get90"], BY_NAME["pipe32"]], section):
        samples = run_rounds(workload, servers, effort.rounds, effort.seconds, tell)
        section.rows += [_row(workload.name, each) for each in summarize(samples, servers[0].name)]
    return Findings([section])


def curves(effort: Effort, tell: Tell) -> Findings:
    """Follow the throughput over the number of requests in flight, and of connections."""
    seconds = max(effort.seconds // 2, 1)
    by_depth = {depth: pipelined(f"depth {depth}", "", "--depth", str(depth)) for depth in DEPTHS}
    findings = Findings()
    _follow(findings, "depth", "requests in flight on each of 20 connections", by_depth, seconds, tell)
    if memcaslap_program():
        by_count = {count: _connected(count) for count in CONNECTIONS}
        _follow(findings, "connections", "connections, one request in flight on each", by_count, seconds, tell)
    else:
        findings.sections[0].notes.append(f"throughput by connections skipped: {NO_MEMCASLAP}")
    return findings


def _connected(count: int) -> Workload:
    run = lambda port, seconds: run_memcaslap(port, seconds, 0.1, connections=count)  # noqa: E731
    return Workload(f"{count} connections", "", run, needs_memcaslap=True)


def _follow(
    findings: Findings, name: str, across: str, workloads: dict[int, Workload], seconds: int, tell: Tell
) -> None:
    section = Section(f"throughput by {name}", (Column(across, COUNT), Column("server"), *COLUMNS[2:]))
    points: dict[str, list[tuple[float, float]]] = {}
    for value, workload in workloads.items():
        for row in summarize(run_rounds(workload, _roomy(), 1, seconds, tell)):
            section.rows.append((value, *_row("", row)[1:]))
            points.setdefault(row.server, []).append((value, row.operations_per_second))
    findings.sections.append(section)
    findings.charts[f"throughput_by_{name}"] = Lines(f"Throughput by {name}", across, "operations a second", points)


def _roomy() -> list[Contender]:
    return both("-c", "4096")
