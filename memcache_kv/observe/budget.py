"""The share of a worker's time that lines about single requests may take."""

from __future__ import annotations

from collections.abc import Callable

from memcache_kv.unpatched import threading, time

LINES_SHARE = 0.05
"""The part of the time that lines may take. With what else an active observer costs, it stays within a tenth."""
CREDIT_SECONDS = 1.0
"""The time for which an unused share is kept: after a quiet second, a twentieth of its work may come at once."""
REOPENED_SECONDS = 0.2
"""The time whose share is there at least when somebody begins to observe."""
LINES_BETWEEN_CHECKS = 64
"""The number of lines after which the time is looked at again."""


class _Turn(threading.local):
    """What one thread knows about its present turn."""

    began = 0.0
    """The thread's CPU time up to which the budget was charged."""
    lines = 0


class Budget:
    """Limit the CPU time of turns in which requests are observed to LINES_SHARE of the time.

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

    def reopen(self) -> None:
        """Let the next turns make some lines, whatever was charged before."""
        self._free_at = min(self._free_at, self._monotonic() - REOPENED_SECONDS)

    def begin_turn(self) -> bool:
        """Begin to measure a turn of the calling thread; return whether its requests may be observed."""
        is_open = self._monotonic() >= self._free_at
        if is_open:
            self._turn.began = self._cpu()
        return is_open

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
