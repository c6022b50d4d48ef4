"""How long a worker's turns take: while one lasts, all other connections of the worker wait."""

from __future__ import annotations

from memcache_kv.observe.log import Log
from memcache_kv.stats.counters import Counters
from memcache_kv.stats.latency import Latency

SHORT_TURN_SECONDS = 0.001
"""A turn that takes no longer is not reported unless its requests are measured."""
SLOW_SECONDS = 0.05
"""A turn of the loop that takes longer is logged."""


class Turns:
    """Measure the turns of one worker's loop, each of which serves every connection that has something to do.

    Used by that worker's thread alone. Sessions report what used up their part of a turn (`overran`); the worker
    reports how long the whole turn took (`end`), if that was more than `unreported_seconds`.

    latency: the worker's measurements of requests, which are made in some turns.
    """

    __slots__ = ("unreported_seconds", "_counters", "_log", "_latency", "_longest_seconds", "_culprit")

    def __init__(self, counters: Counters, log: Log, latency: Latency) -> None:
        self.unreported_seconds = SHORT_TURN_SECONDS
        """A turn that takes no longer need not be reported."""
        self._latency = latency
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

    def begin_measured(self) -> int:
        """Begin a turn whose requests are measured. Return which of the turns after it is the next such one."""
        self.unreported_seconds = 0.0
        return self._latency.turns_to_next()

    def end(self, seconds: float, events: int) -> None:
        """Count a turn that took this long and served this many events; log it if it was slow."""
        if not self.unreported_seconds:
            self.unreported_seconds = SHORT_TURN_SECONDS
            if events:
                self._latency.turn_seconds.observe(seconds)
        turn_us = int(seconds * 1_000_000)
        if turn_us > self._counters.longest_turn_us:
            self._counters.longest_turn_us = turn_us
        if seconds > SLOW_SECONDS:
            self._counters.slow_turns += 1
            culprit = self._culprit or f"{events} connections had input"
            self._log.say_rarely(Turns, f"slow: a turn of the loop took {seconds * 1000:.0f} ms; {culprit}")
        self._longest_seconds, self._culprit = 0.0, ""
