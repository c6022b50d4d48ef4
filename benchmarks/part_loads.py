"""Throughput and CPU per operation of memcache_kv beside memcached, load by load."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.charts import Bars, Lines
from benchmarks.contenders import BASELINE, OURS, OURS_WITH_JOURNAL, Contender, both, memcached, ours
from benchmarks.durability_report import COUNT, RATIO, Column, Figure, Section
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Medians, Samples, Tell, run_rounds, summarize
from benchmarks.ways import Way
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
    "get90": 1.0, "set50": 1.0, "mget50": 1.3, "pipe32": 1.5, "pipe32set": 1.4, "meta32": 1.3, "meta32set": 1.3,
    "big10k": 0.95, "binary90": 1.0,
}  # fmt: skip
PURE_BOUNDS = {
    "get90": 0.6, "set50": 0.6, "mget50": 0.4, "pipe32": 0.4, "pipe32set": 0.4, "meta32": 0.4, "meta32set": 0.4,
    "big10k": 0.6, "binary90": 0.6,
}  # fmt: skip
DEFAULT_THREADS_BOUND = 1.1
JOURNAL_BOUNDS = {"get90": 0.97, "set50": 0.92}
META = (("10 % sets", "pipe32", "meta32"), ("half sets", "pipe32set", "meta32set"))
DEPTHS = (1, 4, 16, 64, 256)
CONNECTIONS = (1, 10, 50, 200, 800)
THREADS = ("1", "2")
THREADS_ROUNDS = 3
THREADS_BOUND = 1.0


def loads(effort: Effort, tell: Tell) -> Findings:
    """Compare all loads with memcached -t 1, with a journal, and the meta commands with the classic ones."""
    findings = Findings()
    section, journal = Section("loads", COLUMNS), Section("loads with a journal, everysec", BESIDE_OURS)
    for workload in _possible(WORKLOADS, section):
        section.notes.append(f"{workload.name}: {workload.description}")
        samples = run_rounds(workload, _servers(workload, effort), effort.rounds, effort.seconds, tell)
        found = {each.server: each for each in summarize(samples)}
        for way in effort.ways:
            _aim(findings, workload.name, way, samples)
            if found.pop(_with_journal(way).name, None):
                journal.rows.append(_row(workload.name, _beside_without(way, samples)))
        section.rows += [_row(workload.name, each) for each in found.values()]
    findings.sections += [section, journal, _meta(section)]
    findings.charts |= _bars(section, effort)
    return findings


def _aim(findings: Findings, load: str, way: Way, samples: Samples) -> None:
    """Compare what was found of one way with its targets."""
    own = ours(way=way).name
    if BASELINE in samples:
        beside = summarize({own: samples[own], BASELINE: samples[BASELINE]})[0]
        findings.reach(f"{load}: throughput", beside.throughput_ratio, way, BOUNDS[load], PURE_BOUNDS[load])
        findings.reach(f"{load}: server CPU an operation", beside.cpu_ratio, way, None, at_least=False)
    if DEFAULT_THREADS in samples:
        beside = summarize({own: samples[own], DEFAULT_THREADS: samples[DEFAULT_THREADS]}, DEFAULT_THREADS)[0]
        name = f"{load}: throughput beside {DEFAULT_THREADS}"
        findings.reach(name, beside.throughput_ratio, way, DEFAULT_THREADS_BOUND)
    if load in JOURNAL_BOUNDS:
        ratio = _beside_without(way, samples).throughput_ratio
        findings.reach(f"{load} with a journal (everysec) : without", ratio, way, JOURNAL_BOUNDS[load])


def _beside_without(way: Way, samples: Samples) -> Medians:
    """Compare one way with a journal with the same without one."""
    own, kept = ours(way=way).name, _with_journal(way).name
    return summarize({own: samples[own], kept: samples[kept]}, own)[1]


def _servers(workload: Workload, effort: Effort) -> list[Contender]:
    servers = [*(ours(way=way) for way in effort.ways), *memcached()]
    if workload.name == "get90":
        servers += memcached("-t", "4", name=DEFAULT_THREADS)
    if workload.name in JOURNAL_BOUNDS:
        servers += [_with_journal(way) for way in effort.ways]
    return servers


def _with_journal(way: Way) -> Contender:
    return ours(name=OURS_WITH_JOURNAL, journal=True, way=way)


def _bars(section: Section, effort: Effort) -> dict[str, Bars]:
    """Draw the ratios of every way, load by load; nothing where there was nothing to compare with."""
    ratios = {(row[0], row[1]): row[4] for row in section.rows if row[4] is not None}
    names = list(dict.fromkeys(str(row[0]) for row in section.rows))
    series = {way.label: [float(ratios[name, ours(way=way).name] or 0) for name in names]
              for way in effort.ways if (names[0], ours(way=way).name) in ratios}  # fmt: skip
    if not series:
        return {}
    return {"loads": Bars("Throughput : memcached -t 1", "ratio", names, series)}


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


def _meta(section: Section) -> Section:
    """Compare the meta commands with the classic ones by what the loads found of them."""
    beside = Section("meta commands beside classic ones, 20 connections, 32 in flight on each", META_COLUMNS)
    found = {(row[0], row[1]): row for row in section.rows}
    for name, classic_load, meta_load in META:
        for (load, server), meta in found.items():
            if load == meta_load:
                classic = found[classic_load, server]
                rates = float(classic[2] or 0), float(meta[2] or 0)
                cpu = float(meta[3] or 0) / (float(classic[3] or 0) or 1)
                beside.rows.append((name, server, *rates, rates[1] / rates[0], cpu))
    beside.notes.append("`mg … v` and `ms` beside `get` and `set`; measured one load after the other")
    return beside


def threads(effort: Effort, tell: Tell) -> Findings:
    """Compare our own numbers of threads."""
    section = Section("threads", (*COLUMNS[:4], Column("ops/s : -t 1", RATIO), Column("CPU : -t 1", RATIO)))
    findings = Findings([section])
    for workload in _possible([BY_NAME["get90"], BY_NAME["pipe32"]], section):
        for way in effort.ways:
            servers = [ours("-t", count, name=f"{OURS} -t {count}", way=way) for count in THREADS]
            samples = run_rounds(workload, servers, min(effort.rounds, THREADS_ROUNDS), effort.seconds, tell)
            found = summarize(samples, servers[0].name)
            section.rows += [_row(workload.name, each) for each in found]
            ratio = found[-1].throughput_ratio
            findings.reach(f"{workload.name}: -t {THREADS[-1]} : -t 1", ratio, way, THREADS_BOUND)
    return findings


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
