"""How long the sample suite of docs/examples/caching takes with our fixture, and with others."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from benchmarks.contenders import NO_MEMCACHED, OURS, memcached_program
from benchmarks.durability_report import Column, Section
from benchmarks.fixture_times import VARIABLE
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.workloads import ROOT, LoadError

SUITE = ROOT / "docs" / "examples" / "caching"
START_BOUND_MS, RESET_BOUND_MS = 30, 1
MILLISECONDS, SECONDS = "{:.2f}", "{:.2f}"


@dataclass(frozen=True)
class FixtureWay:
    """A way to give tests a cache: its title, its name for the suite, pytest's plugin, and its session fixture."""

    title: str
    server: str
    plugin: str | None = None
    start: str | None = None
    """The fixture that starts the server; None if there is none to start."""
    reset: str | None = None
    """The fixture that has nothing to do but to empty the server."""


@dataclass(frozen=True)
class SuiteTimes:
    """Hold the times of one run of the suite, in seconds."""

    whole: float
    waiting: float
    others: float
    start: float | None
    reset: float | None
    around: float


def fixture_ways() -> tuple[list[FixtureWay], list[str]]:
    """List the ways that there are here, and why others are missing."""
    found = [FixtureWay(OURS, "memcache_kv", "memcache_kv.testing.plugin", "memcached_proc", "memcached")]
    missing = []
    if memcached_program():
        found.append(FixtureWay("memcached, a subprocess", "memcached", None, "memcached_port"))
    else:
        missing.append(NO_MEMCACHED)
    if find_spec("fakeredis"):
        found.append(FixtureWay("fakeredis", "fakeredis"))
    else:
        missing.append("fakeredis skipped: not installed; it is in the extra contenders")
    if find_spec("pytest_redis") and which("redis-server"):
        found.append(FixtureWay("pytest-redis", "redis", "pytest_redis.plugin", "redis_proc"))
    else:
        missing.append("pytest-redis skipped: it, in the extra contenders, or redis-server is not installed")
    return found, missing


def run_suite(way: FixtureWay) -> SuiteTimes:
    """Run the suite once, in a process of its own, with no plugins of pytest but those that it needs."""
    with tempfile.TemporaryDirectory(prefix="fixtures.") as folder:
        path = Path(folder) / "times.json"
        environment = {
            **os.environ,
            VARIABLE: str(path),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "MEMCACHED": memcached_program() or "",
        }
        plugins = ["-p", "benchmarks.fixture_times", *(["-p", way.plugin] if way.plugin else [])]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, "--server", way.server]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=SUITE, env=environment, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - began
        if done.returncode:
            raise LoadError(f"the suite failed with {way.title}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        found = json.loads(path.read_text())
    start = found["session_fixtures"][way.start] if way.start else None
    reset = statistics.median(found["test_fixtures"][way.reset]) if way.reset else None
    return SuiteTimes(whole, found["waiting"], found["others"], start, reset, statistics.median(found["around"]))


def fixtures(effort: Effort, tell: Tell) -> Findings:
    """Run the suite in all ways, in turns."""
    ways, missing = fixture_ways()
    found: dict[FixtureWay, list[SuiteTimes]] = {way: [] for way in ways}
    for number in range(effort.rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            tell(f"sample suite, round {number + 1} of {effort.rounds}: {way.title}")
            found[way].append(run_suite(way))
    columns = (
        Column("fixture"),
        Column("whole run s", SECONDS),
        Column("tests that let time pass s", SECONDS),
        Column("the others s", SECONDS),
        Column("start of the server ms", MILLISECONDS),
        Column("emptying it ms", MILLISECONDS),
        Column("before and after each test ms", MILLISECONDS),
    )
    section = Section(f"200 tests, medians of {effort.rounds} rounds", columns, notes=missing)
    for way, times in found.items():
        section.rows.append((way.title, *_row(times)))
    findings = Findings([section])
    ours = found[ways[0]]
    findings.aim("fixtures: ms to start the server", _milliseconds(each.start for each in ours), START_BOUND_MS)
    findings.aim("fixtures: ms to empty the server", _milliseconds(each.reset for each in ours), RESET_BOUND_MS)
    return findings


def _row(times: Sequence[SuiteTimes]) -> tuple[float | None, ...]:
    """Return seconds for the runs, milliseconds for the fixtures."""
    return (
        statistics.median(each.whole for each in times),
        statistics.median(each.waiting for each in times),
        statistics.median(each.others for each in times),
        _milliseconds(each.start for each in times),
        _milliseconds(each.reset for each in times),
        _milliseconds(each.around for each in times),
    )


def _milliseconds(seconds: Iterable[float | None]) -> float | None:
    """Return the median; None where nothing was measured."""
    measured = [each for each in seconds if each is not None]
    return 1000 * statistics.median(measured) if measured else None
