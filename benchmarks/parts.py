"""What every part of the benchmarks is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.charts import Chart
from benchmarks.durability_report import Figure, Section
from benchmarks.rounds import Tell
from benchmarks.ways import Way


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: int
    """Of one load."""
    items: int
    """Of the memory and the metadump."""
    overwrites: int
    requests: int
    """Of one replayed trace."""
    reconnects: int
    starts: int
    replays: int
    """Of a million records, or of fewer in a short run."""
    records: int
    kills: int
    """Of each server under each policy."""
    large_records: int
    large_bytes: int
    """Of values that a start reads."""
    ways: tuple[Way, ...] = ()
    """The ways to run memcache_kv that the loads are given to."""


FULL = Effort(
    rounds=5, seconds=2, items=500_000, overwrites=1_000_000, requests=300_000, reconnects=50_000, starts=10,
    replays=3, records=1_000_000, kills=100, large_records=5_000_000, large_bytes=2_000_000_000,
)  # fmt: skip
QUICK = Effort(
    rounds=1, seconds=1, items=100_000, overwrites=100_000, requests=125_000, reconnects=10_000, starts=3,
    replays=1, records=100_000, kills=20, large_records=500_000, large_bytes=200_000_000,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Hold a figure beside the bound that it has to keep."""

    name: str
    found: float
    bound: float | None
    """None where the figure is only reported."""
    at_least: bool = False
    way: str = ""
    """The label of the way that it was found for; empty: this interpreter's."""

    @property
    def met(self) -> bool | None:
        """Tell whether the bound is kept."""
        if self.bound is None:
            return None
        return self.found >= self.bound if self.at_least else self.found <= self.bound


@dataclass
class Findings:
    """What one part found."""

    sections: list[Section] = field(default_factory=list)
    charts: dict[str, Chart] = field(default_factory=dict)
    """By the name of the file."""
    targets: list[Target] = field(default_factory=list)

    def aim(self, name: str, found: float | None, bound: float, at_least: bool = False) -> None:
        """Compare a figure with its bound, where there is one to compare."""
        if found is not None:
            self.targets.append(Target(name, found, bound, at_least))

    def reach(self, name: str, found: Figure, way: Way, bound: float | None, pure: float | None = None,
              at_least: bool = True) -> None:  # fmt: skip
        """Compare a figure of one way with its bound.

        pure: the bound where nothing is compiled.
        """
        if isinstance(found, float | int):
            self.targets.append(Target(name, found, bound if way.compiled else pure, at_least, way.label))


Part = Callable[[Effort, Tell], Findings]
