"""What every part of the benchmarks is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.charts import Chart
from benchmarks.durability_report import Section
from benchmarks.rounds import Tell


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


FULL = Effort(
    rounds=5, seconds=4, items=1_000_000, overwrites=2_000_000, requests=1_000_000, reconnects=100_000, starts=20
)
QUICK = Effort(rounds=1, seconds=2, items=200_000, overwrites=200_000, requests=250_000, reconnects=20_000, starts=5)


@dataclass(frozen=True)
class Target:
    """Hold a figure beside the bound that it has to keep."""

    name: str
    found: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the bound is kept."""
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


Part = Callable[[Effort, Tell], Findings]
