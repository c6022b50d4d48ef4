"""What durability costs while serving: `everysec` beside no journal, and `always`, in alternating rounds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.durability_report import COUNT, RATIO, SHARE, Column, Figure, Section
from benchmarks.durability_servers import (
    OURS,
    REDIS,
    SLOW_SYNC_SECONDS,
    ServerProcess,
    Start,
    loading,
    ours,
    redis,
    redis_program,
    strace_program,
)
from benchmarks.ways import Way

WARM_UP_SECONDS = 0.5
CONNECTIONS = 48
EVERYSEC_COLUMNS = (
    Column("writes", SHARE), Column("server"), Column("ops/s", COUNT), Column("ops/s without", COUNT),
    Column("with : without", RATIO), Column("CPU with : without", RATIO), Column("busy", SHARE),
)  # fmt: skip
ALWAYS_COLUMNS = (
    Column("disk"), Column("server"), Column("writes/s", COUNT), Column(": Redis", RATIO),
    Column("writes : fsync", "{:.1f}"), Column("fsyncs/s", COUNT), Column("busy", SHARE),
)  # fmt: skip
SLOW_DISK_NAME = f"{SLOW_SYNC_SECONDS * 1000:g} ms more"
DELAY = ("-e", "trace=fdatasync,fsync", "-e", f"inject=fdatasync:delay_enter={SLOW_SYNC_SECONDS * 1e6:.0f}")
COUNT_SYNCS = ("-e", "trace=fdatasync,fsync")

Tell = Callable[[str], None]
"""Told what is being done."""


@dataclass(frozen=True)
class Contender:
    """Name a server and make its start, given an empty directory."""

    name: str
    start: Callable[[Path], Start]


@dataclass(frozen=True)
class Sample:
    """Hold the figures of one load."""

    per_second: float
    cpu_microseconds: float
    busy: float
    """The part of a core that the server took."""
    syncs_per_second: float | None


Samples = dict[str, list[Sample]]


def measure(contender: Contender, directory: Path, seconds: float, writes: float) -> Sample:
    """Start a server, load it and take its figures."""
    with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
        server = ServerProcess(contender.start(Path(name) / "files"), Path(name) / "log", apart=True)
        with server, loading(server, apart=True, connections=CONNECTIONS, writes=writes) as loader:
            time.sleep(WARM_UP_SECONDS)
            cpu, syncs = server.cpu_seconds(), server.syncs()
            loader.begin("measured")
            time.sleep(seconds)
            loader.begin("after")
            cpu, syncs_after = server.cpu_seconds() - cpu, server.syncs()
    found = loader.phases["measured"]
    operations, took = found["operations"], found["seconds"]
    rate = None if syncs is None or syncs_after is None else (syncs_after - syncs) / took
    return Sample(operations / took, cpu / operations * 1e6, cpu / took, rate)


def take_turns(
    contenders: list[Contender], directory: Path, rounds: int, seconds: float, writes: float, tell: Tell
) -> Samples:
    """Measure all of them in every round, every second time in the opposite order."""
    samples: Samples = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            tell(f"{writes:.0%} writes, round {number + 1} of {rounds}: {contender.name}")
            samples[contender.name].append(measure(contender, directory, seconds, writes))
    return samples


def everysec(directory: Path, rounds: int, seconds: float, tell: Tell) -> Section:
    """Compare each server that syncs every second with itself keeping nothing."""
    section = Section(f"everysec: {CONNECTIONS} connections, one request in flight each", EVERYSEC_COLUMNS)
    for writes in (0.5, 0.1):
        samples = take_turns(_everysec_contenders(), directory, rounds, seconds, writes, tell)
        section.rows += [_beside_itself(name, writes, samples) for name in (OURS, REDIS) if name in samples]
    section.notes.append(
        "with : without: the median of the ratios within a round, of throughput and of the server's CPU time per "
        "operation"
    )
    section.notes.append(
        "busy: the part of a core that the server took; where that is far from 100 %, the loader bounds the throughput"
    )
    section.notes.append(
        "here and under always, the loader has a core to itself, and the server the others: left to itself, the system "
        "puts both on one"
    )
    return section


def _everysec_contenders() -> list[Contender]:
    found = [
        Contender(OURS, lambda files: ours(files)),
        Contender(f"{OURS} without", lambda files: ours(None)),
    ]
    if redis_program():
        found += [
            Contender(REDIS, lambda files: redis(files, "everysec")),
            Contender(f"{REDIS} without", lambda files: redis(files, None)),
        ]
    return found


def _beside_itself(name: str, writes: float, samples: Samples) -> tuple[Figure, ...]:
    own, without = samples[name], samples[f"{name} without"]
    pairs = list(zip(own, without, strict=True))
    return (
        writes,
        name,
        statistics.median(sample.per_second for sample in own),
        statistics.median(sample.per_second for sample in without),
        statistics.median(a.per_second / b.per_second for a, b in pairs),
        statistics.median(a.cpu_microseconds / b.cpu_microseconds for a, b in pairs),
        statistics.median(sample.busy for sample in own),
    )


def always_beside_redis(directory: Path, ways: Sequence[Way], rounds: int, seconds: float, tell: Tell) -> Section:
    """Compare servers that answer a write once it is on disk, on this disk alone."""
    section = Section(f"always: {CONNECTIONS} connections, writes only", ALWAYS_COLUMNS)
    contenders = [Contender(way.named(OURS), _always(way)) for way in ways]
    if redis_program():
        contenders.append(Contender(REDIS, lambda files: redis(files, "always")))
    samples = take_turns(contenders, directory, rounds, seconds, 1.0, tell)
    section.rows += [_per_sync("as it is", name, samples) for name in samples]
    return section


def _always(way: Way) -> Callable[[Path], Start]:
    return lambda files: ours(files, "always", way=way)


def always(directory: Path, rounds: int, seconds: float, tell: Tell) -> Section:
    """Compare servers that answer a write once it is on disk, on this disk and on one that is slower."""
    section = Section(f"always: {CONNECTIONS} connections, writes only", ALWAYS_COLUMNS)
    own = [Contender(OURS, lambda files: ours(files, "always"))]
    slow = [Contender(OURS, lambda files: ours(files, "always", slow=True))]
    if redis_program():
        own.append(Contender(REDIS, lambda files: redis(files, "always")))
        if strace_program():
            own.append(Contender(f"{REDIS} (strace)", lambda files: redis(files, "always", trace=COUNT_SYNCS)))
            slow.append(Contender(REDIS, lambda files: redis(files, "always", trace=DELAY)))
            section.notes.append("Redis' fsyncs are counted by strace, which stops it at each: hence a row of its own")
    for disk, contenders in (("as it is", own), (SLOW_DISK_NAME, slow)):
        samples = take_turns(contenders, directory, rounds, seconds, 1.0, tell)
        section.rows += [_per_sync(disk, name, samples) for name in samples]
    return section


def _per_sync(disk: str, name: str, samples: Samples) -> tuple[Figure, ...]:
    own = samples[name]
    pairs = list(zip(own, samples[REDIS], strict=True)) if REDIS in samples and not name.startswith(REDIS) else []
    counted = [(sample.per_second, sample.syncs_per_second) for sample in own if sample.syncs_per_second]
    return (
        disk,
        name,
        statistics.median(sample.per_second for sample in own),
        statistics.median(a.per_second / b.per_second for a, b in pairs) if pairs else None,
        statistics.median(writes / syncs for writes, syncs in counted) if counted else None,
        statistics.median(syncs for _, syncs in counted) if counted else None,
        statistics.median(sample.busy for sample in own),
    )
