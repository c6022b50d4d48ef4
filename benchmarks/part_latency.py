"""Latencies: the tails of an even load, and what others notice of a client that asks for much."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.charts import Bars
from benchmarks.contenders import BASELINE, OURS, Contender, both, running
from benchmarks.disturb import BIG_BYTES, BIG_KEY, MULTIGET_KEYS, REQUESTS
from benchmarks.durability_report import COUNT, RATIO, Column, Figure, Section
from benchmarks.durability_servers import LOADER_CORES, put_on_cores
from benchmarks.part_memory import fill
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.workloads import ROOT, LoadError
from clients.local_server import LocalServer

Latencies = dict[str, float]
QUANTILES = ("p50", "p99", "p99.9", "max")
MILLISECONDS = "{:.3f}"
TAIL_RATE = 10_000
TAIL_CONNECTIONS = 50
FAIR_RATE = 2000
FAIR_CONNECTIONS = 20
GRACE_SECONDS = 60
LATENCY_ROUNDS = 3
NOTHING = "nothing"
APART = "the load has a core to itself, and the server the others; medians of several rounds"
TAIL_COLUMNS = (
    Column("load"), Column("server"), Column("ops/s", COUNT), *(Column(name, MILLISECONDS) for name in QUANTILES),
    Column(f"p99.9 : {BASELINE}", RATIO),
)  # fmt: skip
FAIR_COLUMNS = (
    Column("meanwhile"), Column("server"), Column("gets/s", COUNT), *(Column(name, MILLISECONDS) for name in QUANTILES),
    Column("p99 : undisturbed", RATIO), Column("answered meanwhile", COUNT),
)  # fmt: skip
PAUSE_COLUMNS = (
    Column("items", COUNT), Column("s at full speed", COUNT), Column("longest, ms", "{:.2f}"),
    Column("collections", COUNT),
)  # fmt: skip
WITH_PAUSES = """\
import gc, pathlib, sys, time
from memcache_kv.cli import main

began, longest, count = 0.0, 0.0, 0

def note(phase, info):
    global began, longest, count
    if phase == "start":
        began = time.perf_counter()
    else:
        longest, count = max(longest, time.perf_counter() - began), count + 1

gc.callbacks.append(note)
status = main()
pathlib.Path({path!r}).write_text(f"{{longest}} {{count}}")
sys.exit(status)
"""
"""Runs memcache_kv with an eye on the collector."""


def latencies(server: LocalServer, seconds: float, **options: float) -> Latencies:
    """Load a server by a process beside this one, on the core that the server leaves free. Raises LoadError."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.latency_load", str(server.address.port), str(seconds), *flags]
    with _on_loader_core(command) as process:
        try:
            output, complaint = process.communicate(timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadError("the load did not end; does the server still answer?") from error
    if process.returncode:
        raise LoadError(complaint)
    found: Latencies = json.loads(output)
    return found


@contextlib.contextmanager
def _on_loader_core(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        put_on_cores(process.pid, LOADER_CORES)
        try:
            yield process
        finally:
            process.kill()


def median_of(rounds: Sequence[Latencies]) -> Latencies:
    """Take the median of each figure: one hiccup of the machine is not to decide over a 99.9th percentile."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def tails(effort: Effort, tell: Tell) -> Findings:
    """Measure the latencies at a fixed rate and at full speed."""
    section = Section(f"latencies in ms: {TAIL_CONNECTIONS} connections, 10 % sets", TAIL_COLUMNS)
    findings = Findings([section, Section("pauses of Python's collector", PAUSE_COLUMNS)])
    for name, rate in ((f"{TAIL_RATE:,} a second", TAIL_RATE), ("full speed", 0)):
        found = _tails_of(name, rate, effort, tell)
        ratio = found[OURS]["p99.9"] / found[BASELINE]["p99.9"] if BASELINE in found else None
        section.rows += [_row(name, server, each, ratio if server == OURS else None) for server, each in found.items()]
        findings.aim(f"p99.9, {name} : {BASELINE}", ratio, 3)
        values = {server: [each[quantile] for quantile in QUANTILES[:3]] for server, each in found.items()}
        chart = Bars(f"Latencies, {name}", "ms", QUANTILES[:3], values)
        findings.charts["latencies_fixed_rate" if rate else "latencies_full_speed"] = chart
    section.notes.append(APART)
    tell("the longest pause of the collector")
    findings.sections[1].rows.append(_longest_pause(effort))
    return findings


def _tails_of(name: str, rate: int, effort: Effort, tell: Tell) -> dict[str, Latencies]:
    found: dict[str, list[Latencies]] = {}
    for number in range(LATENCY_ROUNDS):
        for contender in both():
            tell(f"tails, {name}, round {number + 1}: {contender.name}")
            with running(contender, apart=True) as server:
                one = latencies(server, effort.seconds, connections=TAIL_CONNECTIONS, rate=rate)
            found.setdefault(contender.name, []).append(one)
    return {server: median_of(rounds) for server, rounds in found.items()}


def _row(name: str, server: str, found: Latencies, *more: Figure) -> tuple[Figure, ...]:
    return name, server, found["operations"] / found["seconds"], *(found[quantile] for quantile in QUANTILES), *more


def _longest_pause(effort: Effort) -> tuple[Figure, ...]:
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        path = Path(directory) / "pauses"
        program = WITH_PAUSES.format(path=str(path))
        with running(Contender(OURS, (sys.executable, "-c", program, "-m", "1024")), apart=True) as server:
            fill(server, effort.items, 100)
            latencies(server, effort.seconds, connections=TAIL_CONNECTIONS)
        if not path.exists():
            raise LoadError("the server did not say how long its collector paused")
        longest, count = path.read_text().split()
    return effort.items, effort.seconds, float(longest) * 1000, int(count)


def fairness(effort: Effort, tell: Tell) -> Findings:
    """Measure small gets undisturbed, and while another client asks for much."""
    section = Section(f"small gets, {FAIR_RATE:,} a second on {FAIR_CONNECTIONS} connections, in ms", FAIR_COLUMNS)
    findings = Findings([section])
    for contender in both():
        with running(contender, apart=True) as server:
            tell(f"storing {effort.items:,} items: {contender.name}")
            fill(server, effort.items, 35)
            _store_big(server)
            found = _disturbed(server, contender.name, effort, tell)
        for kind, (each, answered) in found.items():
            ratio = each["p99"] / found[NOTHING][0]["p99"] if kind != NOTHING else None
            section.rows.append(_row(kind, contender.name, each, ratio, answered or None))
            if contender.name == OURS:
                findings.aim(f"p99 of small gets during {kind} : undisturbed", ratio, 5)
    section.notes.append(
        f"stream: gets of {BIG_BYTES:,} bytes; multiget: of {MULTIGET_KEYS:,} keys; metadump: of {effort.items:,} keys"
    )
    section.notes.append(f"one client asks so without a pause, niced, on the core of the load; {APART}")
    return findings


def _store_big(server: LocalServer) -> None:
    with server.address.connect(GRACE_SECONDS) as connection:
        connection.sendall(b"set %b 0 0 %d\r\n%b\r\n" % (BIG_KEY, BIG_BYTES, b"x" * BIG_BYTES))
        answer = connection.recv(100)
    if answer != b"STORED\r\n":
        raise LoadError(f"the big value was not stored: {answer!r}")


def _disturbed(server: LocalServer, name: str, effort: Effort, tell: Tell) -> dict[str, tuple[Latencies, float]]:
    """Measure every disturbance in every round; return its latencies, and how often it was answered in a round."""
    found: dict[str, list[tuple[Latencies, int]]] = {}
    for number in range(LATENCY_ROUNDS):
        for kind in (NOTHING, *REQUESTS):
            tell(f"fairness, {kind}, round {number + 1}: {name}")
            found.setdefault(kind, []).append(_small_gets(server, kind, max(effort.seconds / 2, 1)))
    return {
        kind: (median_of([each for each, _ in rounds]), statistics.median(answered for _, answered in rounds))
        for kind, rounds in found.items()
    }


def _small_gets(server: LocalServer, kind: str, seconds: float) -> tuple[Latencies, int]:
    options = {"connections": FAIR_CONNECTIONS, "rate": FAIR_RATE, "sets": 0}
    if kind == NOTHING:
        return latencies(server, seconds, **options), 0
    with _on_loader_core([sys.executable, "-m", "benchmarks.disturb", str(server.address.port), kind]) as other:
        found = latencies(server, seconds, **options)
        other.terminate()
        output, complaint = other.communicate(timeout=GRACE_SECONDS)
    if not output.strip().isdecimal():
        raise LoadError(complaint)
    return found, int(output)
