"""Throughput under each policy, beside Redis, and what readers and writers notice while fsyncs take long."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from benchmarks.durability_report import COUNT, RATIO, SECONDS, SHARE, Column, Figure, Section
from benchmarks.durability_rounds import CONNECTIONS, WARM_UP_SECONDS, Contender, Tell, take_turns
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

WRITES = 0.5
REDIS_POLICIES = {"none": None, "never": "no", "everysec": "everysec", "always": "always"}
"""What Redis calls each policy; `none`: nothing is kept on disk."""
POLICY_COLUMNS = (
    Column("policy"), Column("server"), Column("ops/s", COUNT), Column(": Redis", RATIO), Column("busy", SHARE),
)  # fmt: skip
READERS, WRITERS = 32, 16
DELAY_SECONDS = 0.05
SLOW_COLUMNS = (
    Column("policy"), Column("server"), Column("clients"), Column("ops/s", COUNT),
    Column("p50, ms", SECONDS), Column("p99, ms", SECONDS), Column("max, ms", SECONDS),
)  # fmt: skip
SLOW_SYNC_SOURCE = f"""\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{{
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    usleep({DELAY_SECONDS * 1e6:.0f});
    return sync(fd);
}}

int fsync(int fd) {{ return slowly("fsync", fd); }}
int fdatasync(int fd) {{ return slowly("fdatasync", fd); }}
"""
"""A library that makes each fsync of a program take longer."""
Sample: TypeAlias = tuple[float, float, float, float]
"""Requests a second, and p50, p99 and the longest latency in milliseconds."""
Measure: TypeAlias = Callable[[Start, Path], dict[str, Sample]]
"""Measures a server whose log goes to a file; returns the samples of its clients by what they do."""
NO_COMPILER = "slow fsyncs skipped: no C compiler (cc) found"


def _starts(policy: str) -> dict[str, Callable[[Path], Start]]:
    """Return how each server is started with a policy, given a directory."""
    found: dict[str, Callable[[Path], Start]] = {
        OURS: lambda files: ours(None) if policy == "none" else ours(files, policy)
    }
    if redis_program():
        found[REDIS] = lambda files: redis(files, REDIS_POLICIES[policy])
    return found


def _tell_policy(tell: Tell, policy: str, text: str) -> None:
    tell(f"{policy}: {text}")


def policies(directory: Path, rounds: int, seconds: float, tell: Tell) -> Section:
    """Compare the throughput under each policy."""
    section = Section(f"policies: {CONNECTIONS} connections, one request in flight each, half writes", POLICY_COLUMNS)
    for policy in REDIS_POLICIES:
        contenders = [Contender(name, start) for name, start in _starts(policy).items()]
        samples = take_turns(contenders, directory, rounds, seconds, WRITES, partial(_tell_policy, tell, policy))
        for name, own in samples.items():
            pairs = list(zip(own, samples[REDIS], strict=True)) if REDIS in samples and name != REDIS else []
            row: tuple[Figure, ...] = (
                policy,
                name,
                statistics.median(sample.per_second for sample in own),
                statistics.median(a.per_second / b.per_second for a, b in pairs) if pairs else None,
                statistics.median(sample.busy for sample in own),
            )
            section.rows.append(row)
    section.notes.append("none: without a journal; never: Redis' appendfsync no; the loader has a core to itself")
    return section


def slow_syncs(directory: Path, rounds: int, seconds: float, tell: Tell) -> Section:
    """Measure the latencies of clients that read and of clients that write, while each fsync takes longer.

    The servers take turns, and the figures are the medians of the rounds.
    """
    title = f"slow fsyncs: each {DELAY_SECONDS * 1000:g} ms longer, {READERS} clients read, {WRITERS} write"
    section = Section(title, SLOW_COLUMNS)
    if shutil.which("cc") is None:
        section.notes.append(NO_COMPILER)
        return section
    with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
        files = Path(name)
        library = build_slow_syncs(files)
        for policy in ("everysec", "always"):
            section.rows += _slow_rows(policy, files, rounds, partial(_measure_slow, library, seconds), tell)
    section.notes.append("each client has one request in flight; servers and load share the cores")
    return section


def build_slow_syncs(directory: Path) -> Path:
    """Compile the library that makes fsyncs take longer."""
    source, library = directory / "slow_syncs.c", directory / "slow_syncs.so"
    source.write_text(SLOW_SYNC_SOURCE)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def _slow_rows(policy: str, files: Path, rounds: int, measure: Measure, tell: Tell) -> list[tuple[Figure, ...]]:
    """Return a row for the clients that read and one for those that write, of each server."""
    samples: dict[tuple[str, str], list[Sample]] = {}
    for number in range(rounds):
        for server, start in _starts(policy).items():
            tell(f"slow fsyncs, {policy}: {server}, round {number + 1} of {rounds}")
            directory = files / f"{policy}-{server}-{number}"
            for clients, sample in measure(start(directory), files / "log").items():
                samples.setdefault((server, clients), []).append(sample)
            shutil.rmtree(directory, ignore_errors=True)
    return [(policy, *names, *map(statistics.median, zip(*found, strict=True))) for names, found in samples.items()]


def _measure_slow(library: Path, seconds: float, start: Start, log: Path) -> dict[str, Sample]:
    """Return the requests a second and the latencies (p50, p99, max) of the clients that read and that write."""
    with (
        ServerProcess(replace(start, preload=library), log) as server,
        loading(server, connections=READERS, writes=0.0) as readers,
        loading(server, connections=WRITERS, writes=1.0) as writers,
    ):
        loads = {"read": readers, "write": writers}
        time.sleep(WARM_UP_SECONDS)
        for load in loads.values():
            load.begin("measured")
        time.sleep(seconds)
        for load in loads.values():
            load.begin("after")
    found = {clients: load.phases["measured"] for clients, load in loads.items()}
    return {
        clients: (phase["operations"] / phase["seconds"], phase["p50"], phase["p99"], phase["max"])
        for clients, phase in found.items()
    }
