"""Pipelined requests as fast as the server can answer, from a load generator that takes less time than any server.

The loads of `part_loads` are bounded by their own loader where a server is fast enough; this one never is. It comes
from mc-crusher, by memcached's author, which must be built first: https://github.com/memcached/mc-crusher.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BASELINE, STATS_SECONDS, Contender, memcached, ours, running, statistics_of
from benchmarks.durability_report import COUNT, RATIO, SHARE, Column, Section
from benchmarks.durability_servers import LOADER_CORES, on_cores
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Sample, Samples, Tell, summarize
from benchmarks.workloads import LoadError
from clients.local_server import LocalServer

KEYS = 20_000
VALUE_BYTES = 100
CONNECTIONS = 20
DEPTH = 32
WARM_UP_SECONDS = 0.5
FLAGS = {"ascii_mg": ",cmd_postfix=v", "ascii_set": f",value_size={VALUE_BYTES}"}
"""What a command needs besides its key. With a size of values, mc-crusher sends a value with any command."""
NO_CRUSHER = "skipped: mc-crusher not found; build it and set MC_CRUSHER to its path"
COLUMNS = (
    Column("load"), Column("server"), Column("ops/s", COUNT), Column("CPU µs/op", RATIO), Column("busy", SHARE),
    Column(f"ops/s : {BASELINE}", RATIO), Column(f"CPU : {BASELINE}", RATIO),
)  # fmt: skip


@dataclass(frozen=True)
class Mix:
    """Name a load, by how many of the connections send which command, and the bounds of its throughput."""

    name: str
    senders: dict[str, int]
    bound: float
    pure_bound: float = 0.4


MIXES = (
    Mix("get", {"ascii_get": CONNECTIONS}, 1.5),
    Mix("get and set", {"ascii_get": CONNECTIONS - 2, "ascii_set": 2}, 1.5),
    Mix("set", {"ascii_set": CONNECTIONS}, 1.4),
    Mix("mg", {"ascii_mg": CONNECTIONS}, 1.3),
)


def crusher_program() -> str | None:
    """Find mc-crusher by the environment's MC_CRUSHER, or on the PATH."""
    return shutil.which(os.environ.get("MC_CRUSHER") or "mc-crusher")


def saturated(effort: Effort, tell: Tell) -> Findings:
    """Measure pipelined requests of one kind, and gets beside sets."""
    section = Section(f"saturated: {CONNECTIONS} connections, {DEPTH} requests in flight on each", COLUMNS)
    findings = Findings([section])
    if crusher_program() is None:
        section.notes.append(NO_CRUSHER)
        return findings
    for mix in MIXES:
        samples = _take_turns(mix, [*(ours(way=way) for way in effort.ways), *memcached()], effort, tell)
        found = {each.server: each for each in summarize(samples)}
        for name, each in found.items():
            busy = each.operations_per_second * each.cpu_microseconds / 1e6
            ratios = each.throughput_ratio, each.cpu_ratio
            section.rows.append((mix.name, name, each.operations_per_second, each.cpu_microseconds, busy, *ratios))
        for way in effort.ways:
            ratio = found[ours(way=way).name].throughput_ratio
            findings.reach(f"{mix.name}, saturated: throughput", ratio, way, mix.bound, mix.pure_bound)
    section.notes.append(
        "the load is mc-crusher's, which reads and drops the replies; it has a core to itself. Each connection sends "
        "one command; `get and set` has 18 connections that get and 2 that set"
    )
    return findings


def _take_turns(mix: Mix, contenders: Sequence[Contender], effort: Effort, tell: Tell) -> Samples:
    samples: Samples = {contender.name: [] for contender in contenders}
    for number in range(effort.rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            tell(f"{mix.name}, round {number + 1} of {effort.rounds}: {contender.name}")
            with running(contender, apart=True) as server:
                samples[contender.name].append(_measure(server, mix, effort.seconds))
    return samples


def _measure(server: LocalServer, mix: Mix, seconds: int) -> Sample:
    """Load a server that holds all keys, and take its own counts of what it has done."""
    _fill(server)
    with _crushing(server, mix):
        time.sleep(WARM_UP_SECONDS)
        before, cpu, began = _operations(server), server.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        operations, cpu_seconds = _operations(server) - before, server.cpu_seconds() - cpu
        took = time.monotonic() - began
    if not operations:
        raise LoadError("mc-crusher had the server do nothing")
    return Sample(operations / took, cpu_seconds / operations * 1e6)


def _fill(server: LocalServer) -> None:
    """Store all keys."""
    value = b"x" * VALUE_BYTES
    sets = [b"set key%d 0 0 %d noreply\r\n%b\r\n" % (number, len(value), value) for number in range(KEYS)]
    with server.address.connect(STATS_SECONDS) as connection:
        connection.sendall(b"".join(sets) + b"mn\r\n")
        if connection.recv(16) != b"MN\r\n":
            raise LoadError("the server did not store the keys")


def _operations(server: LocalServer) -> int:
    counts = statistics_of(server)
    return int(counts["cmd_get"]) + int(counts["cmd_set"])


@contextlib.contextmanager
def _crushing(server: LocalServer, mix: Mix) -> Iterator[None]:
    """Have mc-crusher load a server meanwhile."""
    program = crusher_program()
    assert program is not None
    common = f"recv=blind_read,key_prefix=key,key_prealloc=1,key_count={KEYS},pipelines={DEPTH}"
    lines = [f"send={sender},{common},conns={count}{FLAGS.get(sender, '')}\n" for sender, count in mix.senders.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write("".join(lines))
        config.flush()
        command = [program, "--conf", config.name, "--ip", "127.0.0.1", "--port", str(server.address.port)]
        with on_cores(LOADER_CORES):
            load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            load.kill()
            load.wait()
