"""The share of a worker's time that lines about single requests may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LINES_SHARE = 0.05
"""The part of the time that lines may take. With what else an active observer costs, it stays within a tenth."""
CREDIT_SECONDS = 1.0
"""The time for which an unused share is kept: after a quiet second, a twentieth of its work may come at once."""
LINES_BETWEEN_CHECKS = 64
"""The number of lines after which the time is looked at again."""


class _Turn(threading.local):
    """What one thread knows about its present turn."""

    began = 0.0
    """The thread's CPU time up to which the budget was charged."""
    lines = 0
    seen_at, seen_cpu = 0.0, 0.0
    """The time and the thread's CPU time when the last turn began."""


class Budget:
    """Limit the CPU time of turns in which requests are observed to LINES_SHARE of the time in which a thread is busy.

    The time in which it is idle is free, so that no lines are lost where nobody would wait for them.

    monotonic: the clock; cpu: the calling thread's CPU time; both in seconds. As only CPU time is charged, no lines are
    lost because the machine runs something else.

    Any thread may call any method. Two that charge at once may charge one turn too few, which does no harm.
    """

    __slots__ = ("_monotonic", "_cpu", "_free_at", "_turn")

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self._monotonic = monotonic
        self._cpu = cpu
        self._free_at = monotonic() - CREDIT_SECONDS
        """When the share of the time that passed until then will have paid for all that was charged."""
        self._turn = _Turn()

    def begin_turn(self) -> bool:
        """Begin to measure a turn of the calling thread; return whether its requests may be observed."""
        turn, now, cpu = self._turn, self._monotonic(), self._cpu()
        idle_seconds = now - turn.seen_at - (cpu - turn.seen_cpu)
        if idle_seconds > 0:
            self._free_at -= idle_seconds / LINES_SHARE
        turn.seen_at, turn.seen_cpu, turn.began = now, cpu, cpu
        return now >= self._free_at

    def end_turn(self) -> bool:
        """Charge for the turn so far; return whether there is time for more."""
        turn, now, cpu = self._turn, self._monotonic(), self._cpu()
        self._free_at = max(self._free_at, now - CREDIT_SECONDS) + (cpu - turn.began) / LINES_SHARE
        turn.began, turn.lines = cpu, 0
        return now >= self._free_at

    def has_time_after_line(self) -> bool:
        """Count a line; return whether the turn has time for more."""
        turn = self._turn
        turn.lines += 1
        return turn.lines < LINES_BETWEEN_CHECKS or self.end_turn()
