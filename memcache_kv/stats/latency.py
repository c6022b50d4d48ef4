"""How long requests take, measured in some of the turns of a worker's loop.

Measuring every request would cost too much, so it is done in one of TURNS_PER_SAMPLE turns on average, chosen at
random: all requests that such a turn reads and carries out are measured, so each has the same chance. Only those are
never measured that are left for a later turn, as their connection has used up its time or its requests of this one. The
time runs from the moment when a connection's input was read and its first request is parsed, until the replies to all
requests of that input were given to the system. It includes what they wait for: the journal, other connections of the
same wave, and the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from memcache_kv.clock import monotonic
from memcache_kv.histogram import Histogram
from memcache_kv.stats.counters import Counters

FAMILIES = ("get", "set", "delete", "arithmetic", "touch", "other")
"""The families of commands. Each key of a get counts. What counts nothing else is one request of the last family."""
LATENCY_BOUNDS = (
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
"""In seconds."""
TURNS_PER_SAMPLE = 64

RequestCounts = Sequence[int]
"""The number of requests of each family."""


class Latency:
    """The measurements of one worker. Only that worker calls the methods; any thread may read the histograms.

    counters: the worker's. seed: for tests, of the choice of turns.
    """

    __slots__ = (
        "histograms", "turn_seconds", "waiting", "_counters", "_random", "_began_at",
        "_tally", "_before", "_written_before",
    )  # fmt: skip

    def __init__(self, counters: Counters, seed: int | None = None) -> None:
        self._counters = counters
        self._random = Random(seed)  # nosec B311: it only chooses what is measured
        self.waiting: dict[object, tuple[float, RequestCounts]] = {}
        """The connections whose replies wait for the journal: since when, and for how many requests."""
        self.reset()

    def reset(self) -> None:
        """Forget what was measured, as `stats reset` does."""
        self.histograms = {family: Histogram(LATENCY_BOUNDS) for family in FAMILIES}
        """The time of requests, in seconds."""
        self.turn_seconds = Histogram(LATENCY_BOUNDS)
        """The time of the measured turns. Who becomes ready while one lasts waits for its end."""

    def turns_to_next(self) -> int:
        """Choose which turn is measured next: 1 is the one after the present."""
        return self._random.randrange(1, 2 * TURNS_PER_SAMPLE)

    def begin(self, began_at: float = 0.0, tally: RequestCounts = ()) -> None:
        """Begin to measure the requests of a connection.

        began_at, tally: when others of the same input began, and how many there were.
        """
        self._before, self._written_before, self._tally = self._counted(), self._counters.bytes_written, tally
        self._began_at = began_at or monotonic()

    def end(self, connection: object, is_sent: bool) -> None:
        """Take note that the requests since `begin` are carried out, and whether their replies are sent."""
        now = monotonic()
        tally = [after - before for after, before in zip(self._counted(), self._before, strict=True)]
        if self._tally:
            tally = [one + more for one, more in zip(tally, self._tally, strict=True)]
        if not is_sent:
            self.waiting[connection] = self._began_at, tally
        elif any(tally):
            self.observe(now - self._began_at, tally)
        elif self._counters.bytes_written != self._written_before:
            self.histograms["other"].observe(now - self._began_at)

    def wait(self, connection: object, began_at: float, tally: RequestCounts) -> None:
        """Measure on until the connection's replies are sent."""
        self.waiting[connection] = began_at, tally

    def sent(self, connection: object) -> None:
        """Take note that a connection's replies are sent, which may have waited."""
        waited = self.waiting.pop(connection, None)
        if waited is not None:
            began_at, tally = waited
            self.observe(monotonic() - began_at, tally)

    def observe(self, seconds: float, tally: RequestCounts) -> None:
        """Count requests that took so long."""
        for family, times in zip(FAMILIES, tally, strict=True):
            if times:
                self.histograms[family].observe(seconds, times)

    def _counted(self) -> RequestCounts:
        """Return how many requests of each family the worker has counted so far."""
        counters = self._counters
        return (
            counters.cmd_get,
            counters.cmd_set,
            counters.delete_hits + counters.delete_misses,
            counters.incr_hits + counters.incr_misses + counters.decr_hits + counters.decr_misses,
            counters.cmd_touch,
            counters.cmd_flush,
        )
