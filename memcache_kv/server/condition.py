"""The condition of a server: whether it is alive, and whether clients should be sent to it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memcache_kv.clock import steady_seconds
from memcache_kv.protocol.admin.observed import Reason
from memcache_kv.unpatched import time

if TYPE_CHECKING:
    from memcache_kv.server.worker import Worker
    from memcache_kv.stats.metrics import MeasuredServer

STUCK_SECONDS = 10.0
"""A worker that has begun no turn for so long is stuck. Without requests, it begins one each second."""


class Phase(enum.Enum):
    """What a server is doing. The phases follow one another in this order; DRAINING may be left out."""

    LOADING = enum.auto()
    SERVING = enum.auto()
    DRAINING = enum.auto()
    STOPPING = enum.auto()


OBSTACLES = {
    Phase.LOADING: Reason("loading", "the items are being loaded"),
    Phase.DRAINING: Reason("draining", "the server stops soon"),
    Phase.STOPPING: Reason("stopping", "the server is stopping"),
}
FAILING_JOURNAL = Reason("journal", "the journal can't be written, and writes are rejected")


class Condition:
    """The condition of one server. Any thread may call any method.

    workers: those that must take turns while the server serves; needs_journal: whether the server is ready only while
    the journal can be written; has_fault: returns whether an exception has ended a thread.
    """

    def __init__(self, workers: Sequence[Worker], needs_journal: bool, has_fault: Callable[[], bool]) -> None:
        self.phase = Phase.LOADING
        self._drained_at = 0.0
        self.reported: MeasuredServer | None = None
        """What the reports need; None while the items are loaded."""
        self._workers = workers
        self._needs_journal = needs_journal
        self._has_fault = has_fault

    def drain(self, seconds: float) -> None:
        """Begin to drain for so long. A signal handler may call it."""
        self._drained_at = time.monotonic() + seconds
        self.phase = Phase.DRAINING

    @property
    def drain_seconds_left(self) -> float | None:
        """How long to go on draining, 0 if that is over; None if the server does not drain."""
        return max(self._drained_at - time.monotonic(), 0.0) if self.phase is Phase.DRAINING else None

    def illnesses(self) -> list[Reason]:
        """Return why the server should be restarted; nothing if it is alive."""
        found = []
        if self._has_fault():
            found.append(Reason("fault", "a thread has ended by a fault of the server"))
        if self.phase in (Phase.SERVING, Phase.DRAINING):
            now = steady_seconds()
            stuck = sum(now - worker.turn_began_at > STUCK_SECONDS for worker in self._workers)
            if stuck:
                found.append(Reason("stuck", f"{stuck} of {len(self._workers)} workers serve no connection"))
        return found

    def obstacles(self) -> list[Reason]:
        """Return why clients should not be sent here; nothing if the server is ready."""
        found = self.illnesses()
        if self.phase in OBSTACLES:
            found.append(OBSTACLES[self.phase])
        journal = None if self.reported is None else self.reported.journal
        if self._needs_journal and journal is not None and journal.refuses:
            found.append(FAILING_JOURNAL)
        return found
