"""Which hit ratio the servers reach with the same memory, trace by trace and size by size."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from benchmarks.charts import Bars, Lines
from benchmarks.contenders import BASELINE, OURS, Contender, both, running, statistics_of
from benchmarks.durability_report import COUNT, Column, Section
from benchmarks.generated_traces import TRACES, VALUE_BYTES
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.trace import Replay, Request

KEYS_PER_REQUEST = 0.5
LEAST_MEGABYTES = 2
REQUESTS_PER_MEGABYTE = 62_500
"""So that `-m` holds a tenth to a fifth of the keys, however long the traces are."""
SIZES = (0.25, 0.5, 1, 2, 4)
"""Of the memory, as multiples."""
FOLLOWED = "zipf 0.9"
HIT_RATIO = "{:.4f}"
COLUMNS = (
    Column("trace"), Column("-m", COUNT), Column(OURS, HIT_RATIO), Column(BASELINE, HIT_RATIO),
    Column("difference", "{:+.4f}"), Column("items", COUNT), Column("memcached's items", COUNT),
    Column("MiB resident", "{:.1f}"), Column("memcached's MiB", "{:.1f}"),
)  # fmt: skip


def eviction(effort: Effort, tell: Tell) -> Findings:
    """Replay all traces, and one of them with several sizes of memory."""
    memory = max(LEAST_MEGABYTES, effort.requests // REQUESTS_PER_MEGABYTE)
    section, sizes = Section("hit ratio by trace", COLUMNS), Section("hit ratio by memory", COLUMNS)
    higher = []
    for name in TRACES:
        higher.append(_compare(section, name, memory, effort, tell))
    points: dict[str, list[tuple[float, float]]] = {}
    for size in sorted({max(LEAST_MEGABYTES, round(memory * part)) for part in SIZES}):
        _compare(sizes, FOLLOWED, size, effort, tell)
        points.setdefault(OURS, []).append((size, float(sizes.rows[-1][2] or 0)))
        if sizes.rows[-1][3] is not None:
            points.setdefault(BASELINE, []).append((size, float(sizes.rows[-1][3])))
    findings = Findings([section, sizes])
    section.notes.append(
        f"values of {VALUE_BYTES} bytes; -m in MB is the same for both, resident is without the idle process"
    )
    _aim(findings, [each for each in higher if each is not None])
    findings.charts["hit_ratio_by_memory"] = Lines(f"Hit ratio, {FOLLOWED}", "-m, MB", "hit ratio", points)
    findings.charts["hit_ratio_by_trace"] = _bars(section)
    return findings


def _aim(findings: Findings, differences: list[float]) -> None:
    if differences:
        findings.aim("hit ratio: smallest lead over memcached", min(differences), -0.0005, at_least=True)
        share = sum(each > 0.0005 for each in differences) / len(differences)
        findings.aim("hit ratio: part of the traces with a lead", share, 0.5, at_least=True)


def _bars(section: Section) -> Bars:
    names = [str(row[0]) for row in section.rows]
    series = {OURS: [float(row[2] or 0) for row in section.rows]}
    if all(row[3] is not None for row in section.rows):
        series[BASELINE] = [float(row[3] or 0) for row in section.rows]
    return Bars("Hit ratio by trace", "hit ratio", names, series)


@dataclass(frozen=True)
class Replayed:
    """Hold what came of a trace at one server."""

    hit_ratio: float
    items: float
    mebibytes: float


def _compare(section: Section, name: str, memory: int, effort: Effort, tell: Tell) -> float | None:
    """Replay one trace against both servers, add a row, and tell our lead."""
    requests = _requests(name, effort.requests)
    found = []
    for server in both(memory=memory):
        tell(f"{name}, -m {memory}: {server.name}")
        found.append(replay_at(server, requests))
    own, *others = found
    lead = own.hit_ratio - others[0].hit_ratio if others else None
    theirs = (others[0].hit_ratio, others[0].items, others[0].mebibytes) if others else (None, None, None)
    section.rows.append((name, memory, own.hit_ratio, theirs[0], lead, own.items, theirs[1], own.mebibytes, theirs[2]))
    return lead


@functools.lru_cache(maxsize=1)
def _requests(name: str, count: int) -> list[Request]:
    return list(TRACES[name](count, int(count * KEYS_PER_REQUEST)))


def replay_at(contender: Contender, requests: list[Request]) -> Replayed:
    """Start a server, replay a trace against it and take its figures."""
    with running(contender) as server:
        idle = server.resident_bytes()
        replay = Replay(server.address)
        outcome = replay.run(requests)
        replay.close()
        items = float(statistics_of(server)["curr_items"])
        return Replayed(outcome.hit_ratio, items, (server.resident_bytes() - idle) / 2**20)
