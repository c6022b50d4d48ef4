"""How long a worker's turns take: while one lasts, all other connections of the worker wait."""

from __future__ import annotations

from memcache_kv.observe.log import Log
from memcache_kv.stats.counters import Counters

SHORT_TURN_SECONDS = 0.001
"""A turn that takes less need not be reported."""
SLOW_SECONDS = 0.05
"""A turn of the loop that takes longer is logged."""


class Turns:
    """Measure the turns of one worker's loop, each of which serves every connection that has something to do.

    Used by that worker's thread alone. Sessions report what used up their part of a turn (`overran`); the worker
    reports how long the whole turn took (`end`).
    """

    __slots__ = ("_counters", "_log", "_longest_seconds", "_culprit")

    def __init__(self, counters: Counters, log: Log) -> None:
        self._counters = counters
        self._log = log
        self._longest_seconds = 0.0
        self._culprit = ""

    def overran(self, fd: int, command: str, seconds: float) -> None:
        """Remember which request took longest in the present turn.

        fd: the connection's number; command: the name of the command, which the client chose.
        """
        if seconds > self._longest_seconds:
            self._longest_seconds = seconds
            self._culprit = f"<{fd} {command} took {seconds * 1000:.0f} ms"

    def end(self, seconds: float, events: int) -> None:
        """Count a turn that took this long and served this many events; log it if it was slow."""
        turn_us = int(seconds * 1_000_000)
        if turn_us > self._counters.longest_turn_us:
            self._counters.longest_turn_us = turn_us
        if seconds > SLOW_SECONDS:
            self._counters.slow_turns += 1
            culprit = self._culprit or f"{events} connections had input"
            self._log.say_rarely(Turns, f"slow: a turn of the loop took {seconds * 1000:.0f} ms; {culprit}")
        self._longest_seconds, self._culprit = 0.0, ""
