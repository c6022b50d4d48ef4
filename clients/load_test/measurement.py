"""What a round has measured: counts, latencies in an HDR histogram, and both over time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from clients.load_test.loop import NANOSECONDS, TICK
from clients.load_test.tally import Tally
from clients.load_test.wires.wire import Outcome

LONGEST_US = 3_600_000_000
SIGNIFICANT_DIGITS = 3
MILLISECOND_US = 1000

SHORT = 0.5
"""A last tick that is shorter than this part of one has no figures of its own."""


@dataclass(frozen=True)
class Moment:
    """One tick, for charts: when it ended (s), replies a second, latencies in ms, and errors."""

    at: float
    rate: float
    p50: float
    p99: float
    errors: int


@dataclass
class Tick:
    """What all processes counted in one tick, which ended so many ns after the start and took so many ns."""

    end: int = 0
    span: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    reports: int = 0

    def add(self, end: int, span: int, tally: Tally) -> None:
        """Add what one process counted."""
        self.end, self.span = max(self.end, end), max(self.span, span)
        self.latencies.update(tally.latencies)
        self.errors += tally.outcomes[Outcome.ERROR]
        self.reports += 1

    def moment(self) -> Moment:
        """Return its figures."""
        replies = self.latencies.total()
        rate = replies * NANOSECONDS / max(self.span, 1)
        return Moment(self.end / NANOSECONDS, rate, self._percentile(50), self._percentile(99), self.errors)

    def _percentile(self, percent: float) -> float:
        """Return the latency that this share of replies does not exceed (ms); 0 without replies."""
        seen, wanted = 0, self.latencies.total() * percent / 100
        for latency in sorted(self.latencies):
            seen += self.latencies[latency]
            if seen >= wanted:
                return latency / MILLISECOND_US
        return 0.0


class Measurement:
    """Adds up what a number of processes count in one round."""

    def __init__(self, connections: int, processes: int = 1) -> None:
        """Begin at zero."""
        self.connections = connections
        self._processes = processes
        self.histogram = HdrHistogram(1, LONGEST_US, SIGNIFICANT_DIGITS)
        self.outcomes = [0] * len(Outcome)
        self.messages: Counter[str] = Counter()
        self.moments: list[Moment] = []
        self.seconds = 0.0
        self.cpu_seconds: list[float] = []
        self.interrupted = False
        self._ticks: dict[int, Tick] = {}
        self._total_us = 0

    def add(self, index: int, end: int, span: int, tally: Tally) -> None:
        """Add what a process has counted in a tick: see `Tick`."""
        for outcome, count in enumerate(tally.outcomes):
            self.outcomes[outcome] += count
        self.messages.update(tally.messages)
        for latency, count in tally.latencies.items():
            self.histogram.record_value(min(max(latency, 1), LONGEST_US), count)
            self._total_us += latency * count
        tick = self._ticks.setdefault(index, Tick())
        tick.add(end, span, tally)
        if tick.reports == self._processes and tick.span >= TICK * SHORT:
            self._settle(index)

    def finish(self, elapsed: int, cpu_seconds: float) -> None:
        """Add the time that a process took up to its last reply (ns), and its processor time."""
        self.seconds = max(self.seconds, elapsed / NANOSECONDS)
        self.cpu_seconds.append(cpu_seconds)

    def settle(self) -> None:
        """Keep of each tick its figures alone; leave out a last one that is too short for figures of its own."""
        last = max(self._ticks, default=0)
        if self.moments and last in self._ticks and self._ticks[last].span < TICK * SHORT:
            del self._ticks[last]
        self._settle(last)

    def _settle(self, last: int) -> None:
        for index in sorted(index for index in self._ticks if index <= last):
            self.moments.append(self._ticks.pop(index).moment())

    @property
    def requests(self) -> int:
        """The requests that are done, well or not."""
        return sum(self.outcomes)

    @property
    def throughput(self) -> float:
        """Replies a second."""
        return float(self.histogram.total_count) / self.seconds if self.seconds else 0.0

    @property
    def mean_ms(self) -> float:
        """The mean latency."""
        return self._total_us / max(int(self.histogram.total_count), 1) / MILLISECOND_US

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that this share of replies does not exceed."""
        return float(self.histogram.get_value_at_percentile(percent)) / MILLISECOND_US

    @property
    def max_ms(self) -> float:
        """The longest latency."""
        return float(self.histogram.get_max_value()) / MILLISECOND_US if self.histogram.total_count else 0.0

    @property
    def errors(self) -> int:
        """Requests without a reply, or with one that is an error."""
        return self.outcomes[Outcome.ERROR]

    @property
    def hit_rate(self) -> float | None:
        """The share of gets that found a value; None without gets."""
        gets = self.outcomes[Outcome.HIT] + self.outcomes[Outcome.MISS]
        return self.outcomes[Outcome.HIT] / gets if gets else None

    @property
    def busiest_core(self) -> float:
        """The share of a core that the busiest process of the load took."""
        return max(self.cpu_seconds, default=0.0) / self.seconds if self.seconds else 0.0
