"""Throughput and CPU per operation of several servers, measured in alternating rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BASELINE, Contender, running
from benchmarks.workloads import Workload

Tell = Callable[[str], None]
"""Told what is being done."""


@dataclass(frozen=True)
class Sample:
    """Hold the figures of one workload against one server in one round."""

    operations_per_second: float
    cpu_microseconds: float


Samples = dict[str, list[Sample]]
"""The samples of one workload by server, one a round."""


@dataclass(frozen=True)
class Medians:
    """Hold the medians of one workload against one server; no ratios without another one beside it."""

    server: str
    operations_per_second: float
    cpu_microseconds: float
    throughput_ratio: float | None
    cpu_ratio: float | None


def measure(contender: Contender, workload: Workload, seconds: int) -> Sample:
    """Start a server, run one workload and take its figures."""
    with running(contender) as server:
        cpu_before = server.cpu_seconds()
        operations = workload.run(server.address.port, seconds)
        cpu_seconds = server.cpu_seconds() - cpu_before
    return Sample(operations / seconds, cpu_seconds / operations * 1e6)


def run_rounds(workload: Workload, servers: Sequence[Contender], rounds: int, seconds: int, tell: Tell) -> Samples:
    """Run the rounds of one workload, the servers taking turns."""
    samples: Samples = {contender.name: [] for contender in servers}
    for number in range(rounds):
        for contender in servers if number % 2 == 0 else reversed(servers):
            tell(f"{workload.name}, round {number + 1} of {rounds}: {contender.name}")
            samples[contender.name].append(measure(contender, workload, seconds))
    return samples


def summarize(samples: Samples, baseline: str = BASELINE) -> list[Medians]:
    """Take the medians, and those of the ratios to the baseline round by round."""
    return [
        _medians(server, own, samples.get(baseline) if server != baseline else None) for server, own in samples.items()
    ]


def _medians(server: str, own: list[Sample], baseline: list[Sample] | None) -> Medians:
    pairs = list(zip(own, baseline, strict=True)) if baseline else []
    throughput = [a.operations_per_second / b.operations_per_second for a, b in pairs]
    cpu = [a.cpu_microseconds / b.cpu_microseconds for a, b in pairs if b.cpu_microseconds]
    return Medians(
        server,
        statistics.median(sample.operations_per_second for sample in own),
        statistics.median(sample.cpu_microseconds for sample in own),
        statistics.median(throughput) if throughput else None,
        statistics.median(cpu) if cpu else None,
    )
