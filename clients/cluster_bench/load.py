"""The load: processes that set all items, then get all, then delete all, and how long each request took."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from pymemcache.exceptions import MemcacheError  # type: ignore[import-untyped]

from clients.cluster_bench.ways import WAYS, Targets

OPERATIONS = ("set", "get", "delete")
VALUE = "v" * 100
START_DELAY_SECONDS = 0.05
"""From the order to start to the first request, for all processes to connect meanwhile."""


@dataclass
class Part:
    """What one process did of one operation: from when to when, and how long each request took."""

    began: float
    ended: float
    seconds: array[float]
    failed: int


@dataclass
class Figures:
    """The figures of one operation, or of several."""

    requests: int
    failed: int
    per_second: float
    mean_ms: float
    p50_ms: float
    p99_ms: float


@dataclass
class Result:
    """One way with a number of nodes: the figures of each operation, and of all together."""

    way: str
    nodes: int
    operations: dict[str, Figures]
    total: Figures


def start_processes(executor: Executor, clients: int) -> None:
    """Let the executor start all its processes, so that none starts during the first measurement."""
    list(executor.map(time.sleep, [START_DELAY_SECONDS] * clients))


def run_part(way: str, targets: Targets, operation: str, process: int, count: int, start_at: float) -> Part:
    """Send the requests of one process, one after the other; runs in that process."""
    client = WAYS[way].connect(targets)
    send = getattr(client, operation)
    keys = [f"bench-{process}-{number}" for number in range(count)]
    seconds, failed = array("d"), 0
    time.sleep(max(0.0, start_at - time.monotonic()))
    began = before = time.monotonic()
    for number, key in enumerate(keys):
        try:
            is_done = send(number, key, VALUE)
        except (OSError, MemcacheError, ValueError):
            is_done = False
        after = time.monotonic()
        seconds.append(after - before)
        failed += not is_done
        before = after
    client.close()
    return Part(began, before, seconds, failed)


def run_way(executor: Executor, way: str, targets: Targets, clients: int, requests: int) -> Result:
    """Run a third of the requests as sets, a third as gets and a third as deletes, one third after the other."""
    nodes = len(targets.memcached)
    count = max(1, requests // (len(OPERATIONS) * clients))
    parts: dict[str, list[Part]] = {}
    for operation in OPERATIONS:
        start_at = time.monotonic() + START_DELAY_SECONDS
        futures = [
            executor.submit(run_part, way, targets, operation, number, count, start_at) for number in range(clients)
        ]
        parts[operation] = [future.result() for future in futures]
    operations = {operation: figures_of([parts[operation]]) for operation in OPERATIONS}
    return Result(way, nodes, operations, figures_of(list(parts.values())))


def figures_of(phases: Sequence[Sequence[Part]]) -> Figures:
    """Compute the figures of phases that ran one after the other, from the parts of each."""
    elapsed = sum(max(part.ended for part in phase) - min(part.began for part in phase) for phase in phases)
    parts = [part for phase in phases for part in phase]
    seconds = sorted(value for part in parts for value in part.seconds)
    return Figures(
        requests=len(seconds),
        failed=sum(part.failed for part in parts),
        per_second=len(seconds) / max(elapsed, 1e-9),
        mean_ms=1000 * sum(seconds) / len(seconds),
        p50_ms=1000 * percentile(seconds, 0.50),
        p99_ms=1000 * percentile(seconds, 0.99),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]
