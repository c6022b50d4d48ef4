"""What clients notice while the journal is rewritten."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.durability_replay import rewrite
from benchmarks.durability_report import COUNT, RATIO, SECONDS, Column, Figure, Section
from benchmarks.durability_rounds import Tell
from benchmarks.durability_servers import (
    OURS,
    REDIS,
    ServerProcess,
    Start,
    loading,
    ours,
    redis,
    redis_program,
)
from benchmarks.ways import Way

CONNECTIONS = 20
WRITES = 0.1
COLUMNS = (
    Column("server"), Column("when"), Column("ops/s", COUNT), Column("p50", SECONDS), Column("p99", SECONDS),
    Column("p99.9", SECONDS), Column("max", SECONDS), Column("p99 : before", RATIO), Column("s", "{:.1f}"),
)  # fmt: skip
BEFORE, DURING, AFTER = "before", "during", "after"


def compaction(directory: Path, items: int, seconds: float, tell: Tell, ways: Sequence[Way] = ()) -> Section:
    """Compare the latencies before a rewrite with those during it.

    ways: those that rewrite our journal; this interpreter's if none are given.
    """
    section = Section(f"compaction: {items:,} items, {CONNECTIONS} connections, {WRITES:.0%} writes", COLUMNS)
    with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
        files = Path(name)
        starts = {way.named(OURS): ours(files / f"{number}", way=way) for number, way in enumerate(ways)}
        starts = starts or {OURS: ours(files / OURS)}
        if redis_program():
            starts[REDIS] = redis(files / REDIS, "everysec")
        for server, start in starts.items():
            tell(f"compaction under load: {server}")
            section.rows += _measure(server, start, files / "log", items, seconds)
    section.notes.append("ours: `journal compact`, --fsync everysec; Redis: BGREWRITEAOF, appendfsync everysec")
    section.notes.append(
        "latencies in ms; s: how long it was loaded so; during: from the command to the end of the rewrite"
    )
    return section


def _measure(name: str, start: Start, log: Path, items: int, seconds: float) -> list[tuple[Figure, ...]]:
    """Load a server, and have it rewrite its files meanwhile."""
    with ServerProcess(start, log) as server:
        with loading(server, connections=CONNECTIONS, writes=WRITES, keys=items) as loader:
            time.sleep(2)  # what storing all items has left to write and sync
            loader.begin(BEFORE)
            time.sleep(seconds)
            loader.begin(DURING)
            rewrite(server)
            loader.begin(AFTER)
            time.sleep(seconds / 4)
    before = loader.phases[BEFORE]
    return [_row(name, when, phase, before) for when, phase in loader.phases.items()]


def _row(server: str, when: str, phase: dict[str, float], before: dict[str, float]) -> tuple[Figure, ...]:
    return (
        server,
        when,
        phase["operations"] / phase["seconds"],
        phase["p50"],
        phase["p99"],
        phase["p99.9"],
        phase["max"],
        phase["p99"] / before["p99"] if when != BEFORE else None,
        phase["seconds"],
    )
