"""Which hit ratio the servers reach on recorded traces with the same memory, beside policies in a simulation."""

from __future__ import annotations

from benchmarks.charts import Bars
from benchmarks.contenders import BASELINE, OURS, both
from benchmarks.durability_report import COUNT, Column, Figure, Section
from benchmarks.part_eviction import HIT_RATIO, Replayed, replay_at
from benchmarks.parts import QUICK, Effort, Findings
from benchmarks.recorded_traces import RECORDED, TraceError
from benchmarks.rounds import Tell
from benchmarks.simulated import NO_SIMULATOR, POLICIES, Simulated, simulated, simulator
from benchmarks.trace import Request

MEGABYTES = (4, 16, 64)
CHARTED_MEGABYTES = 16
FOOTPRINT_BYTES = 128 << 20
"""The values are so large that all keys of a trace take this, in a server with `OVERHEAD_BYTES` an item."""
OVERHEAD_BYTES = 100
LEAST_VALUE_BYTES = 50
SAME = 0.0005
"""A smaller lag than this counts as none: two replays of a trace at one server differ by as much."""
COLUMNS = (
    Column("trace"), Column("-m", COUNT), Column(OURS, HIT_RATIO), Column(BASELINE, HIT_RATIO),
    Column("difference", "{:+.4f}"), *(Column(name, HIT_RATIO) for name in POLICIES),
    Column("items", COUNT), Column("memcached's items", COUNT), Column("value", COUNT),
)  # fmt: skip


def recorded(effort: Effort, tell: Tell) -> Findings:
    """Replay all traces that are here, each with several sizes of memory."""
    section = Section("hit ratio by recorded trace", COLUMNS)
    for name, trace in RECORDED.items():
        tell(f"{name}: reading")
        try:
            keys = trace.keys(effort.requests)
        except TraceError as error:
            section.notes.append(f"{name} skipped: {error}")
            continue
        _compare(section, name, keys, (CHARTED_MEGABYTES,) if effort == QUICK else MEGABYTES, tell)
    section.notes.append("all keys would take 128 MB; the policies have room for as many items as memcache_kv held")
    if simulator() is None:
        section.notes.append(NO_SIMULATOR)
    return _findings(section)


def _findings(section: Section) -> Findings:
    """Compare with memcached, and draw the rows of one size of memory."""
    findings = Findings([section])
    leads = [float(row[4]) for row in section.rows if row[4] is not None]
    if leads:
        findings.aim("recorded traces: smallest lead over memcached", min(leads), -SAME, at_least=True)
    charted = [row for row in section.rows if row[1] == CHARTED_MEGABYTES]
    if charted:
        findings.charts["hit_ratio_recorded"] = _bars(charted)
    return findings


def _bars(rows: list[tuple[Figure, ...]]) -> Bars:
    series = {
        column.name: [float(row[number] or 0) for row in rows]
        for number, column in enumerate(COLUMNS)
        if column.name in {OURS, BASELINE, *POLICIES} and all(row[number] is not None for row in rows)
    }
    title = f"Hit ratio by recorded trace, -m {CHARTED_MEGABYTES}"
    return Bars(title, "hit ratio", [str(row[0]) for row in rows], series)


def value_bytes(keys: int) -> int:
    """Return the size of the values with which so many keys take `FOOTPRINT_BYTES`."""
    return max(LEAST_VALUE_BYTES, FOOTPRINT_BYTES // max(1, keys) - OVERHEAD_BYTES)


def _compare(section: Section, name: str, keys: list[int], sizes: tuple[int, ...], tell: Tell) -> None:
    """Replay a trace at both servers and in the simulator, and add a row for each size of memory."""
    value = value_bytes(len(set(keys)))
    requests: list[Request] = [(b"%d" % key, value) for key in keys]
    with simulated(keys) as simulation:
        for memory in sizes:
            found = []
            for server in both(memory=memory):
                tell(f"{name}, -m {memory}: {server.name}")
                found.append(replay_at(server, requests))
            tell(f"{name}, -m {memory}: simulation")
            section.rows.append((name, memory, *_row(found, simulation), value))


def _row(found: list[Replayed], simulation: Simulated | None) -> tuple[float | None, ...]:
    own, other = found[0], found[1] if found[1:] else None
    ratios = simulation.hit_ratios(int(own.items)) if simulation else {}
    return (
        own.hit_ratio,
        other.hit_ratio if other else None,
        own.hit_ratio - other.hit_ratio if other else None,
        *(ratios.get(name) for name in POLICIES),
        own.items,
        other.items if other else None,
    )
