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


def slow_syncs(directory: Path, seconds: float, tell: Tell) -> Section:
    """Measure the latencies of clients that read and of clients that write, while each fsync takes longer."""
    title = f"slow fsyncs: each {DELAY_SECONDS * 1000:g} ms longer, {READERS} clients read, {WRITERS} write"
    section = Section(title, SLOW_COLUMNS)
    if shutil.which("cc") is None:
        section.notes.append(NO_COMPILER)
        return section
    with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as name:
        files = Path(name)
        library = build_slow_syncs(files)
        for policy in ("everysec", "always"):
            for server, start in _starts(policy).items():
                tell(f"slow fsyncs, {policy}: {server}")
                slow = replace(start(files / f"{policy}-{server}"), preload=library)
                section.rows += [(policy, server, *row) for row in _slow_rows(slow, files / "log", seconds)]
    section.notes.append("each client has one request in flight; servers and load share the cores")
    return section


def build_slow_syncs(directory: Path) -> Path:
    """Compile the library that makes fsyncs take longer."""
    source, library = directory / "slow_syncs.c", directory / "slow_syncs.so"
    source.write_text(SLOW_SYNC_SOURCE)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def _slow_rows(start: Start, log: Path, seconds: float) -> list[tuple[Figure, ...]]:
    with (
        ServerProcess(start, log) as server,
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
    return [
        (clients, phase["operations"] / phase["seconds"], phase["p50"], phase["p99"], phase["max"])
        for clients, phase in found.items()
    ]
