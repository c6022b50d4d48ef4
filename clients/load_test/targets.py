"""The targets that a load is held to: those that the line protocol's first server set itself, with 100 connections."""

from __future__ import annotations

from dataclasses import dataclass

from clients.load_test.load import Load
from clients.load_test.measurement import Measurement

REQUESTS_PER_SECOND = 10_000.0
MEAN_MS = 1.0
P99_MS = 5.0
HIT_RATE = 0.99
RATE_KEPT = 0.99
"""The share of --rate that has to be reached where it is below the target."""


@dataclass(frozen=True)
class Target:
    """One target: what was wanted, what was found, and whether that is enough."""

    name: str
    wanted: str
    found: str
    met: bool


def targets_of(load: Load, measurement: Measurement) -> list[Target]:
    """Hold a measurement to the targets."""
    rate, hits = _throughput_wanted(load), measurement.hit_rate
    p99 = measurement.percentile_ms(99)
    return [
        Target("throughput", f"> {rate:,.0f}/s", f"{measurement.throughput:,.0f}/s", measurement.throughput > rate),
        Target("mean", f"< {MEAN_MS:g} ms", f"{measurement.mean_ms:.3f} ms", measurement.mean_ms < MEAN_MS),
        Target("p99", f"< {P99_MS:g} ms", f"{p99:.3f} ms", p99 < P99_MS),
        Target("errors", "none", f"{measurement.errors:,}", not measurement.errors),
        Target(
            "hit rate",
            f"> {HIT_RATE:.0%}",
            "no gets" if hits is None else f"{hits:.2%}",
            hits is None or hits > HIT_RATE,
        ),
    ]


def _throughput_wanted(load: Load) -> float:
    """Return the target, or what --rate can reach if that is less."""
    return REQUESTS_PER_SECOND if load.rate is None else min(REQUESTS_PER_SECOND, load.rate * RATE_KEPT)
