"""The server's clock, in whole seconds like memcached's; and the clocks of the system.

Those are the system's own, also in a program whose tests replace what tells the time: freezegun and time-machine change
neither what the server takes for the present nor how long it waits.
"""

import sys
from collections.abc import Callable
from functools import partial

from memcache_kv.unpatched import time

monotonic: Callable[[], float] = time.monotonic
"""Seconds by a clock that nobody can set, for waits and durations."""

unix_seconds: Callable[[], float]
"""The unix time in seconds. On Linux by the coarse clock, some milliseconds late at most, as time-machine replaces what
reads the other one in the interpreter itself; elsewhere, where there is no such clock, it can move this one."""

steady_seconds: Callable[[], float]
"""Seconds by a clock that nobody can set. On Linux it goes on while the machine is suspended; elsewhere it may not."""
if sys.platform == "linux":
    CLOCK_REALTIME_COARSE = 5  # of <time.h>; the module `time` has no name for it
    unix_seconds = partial(time.clock_gettime, CLOCK_REALTIME_COARSE)
    steady_seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    unix_seconds = time.time
    steady_seconds = monotonic

LAST_SECOND = (1 << 31) - 1
"""The latest time that `shift` can reach: later ones do not fit into the 32 bits of an expiry time."""


class Clock:
    """The unix time in whole seconds. It advances only when `tick` is called, and goes back only by `shift`.

    `now` is an attribute, so that the hot path reads it without a call. Any thread may call any method: two that tick
    at once write the same number.

    The clock starts at the wall time and then follows a steady clock, so that a step of the wall clock neither expires
    items nor keeps them from expiring. `wall_ahead` is the difference between the two since then. The time for which a
    machine is suspended has passed like any other, where the steady clock counts it.

    wall, steady: the two clocks, in seconds. Tests replace the Clock by an object with the same attributes; the command
    `debugtime` calls `shift`, `pause` and `resume`.
    """

    __slots__ = ("now", "started", "wall_ahead", "ticked_at", "_wall", "_steady", "_offset", "_paused")

    def __init__(self, wall: Callable[[], float] = unix_seconds, steady: Callable[[], float] = steady_seconds) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self.wall_ahead = 0
        """The number of seconds that the wall clock is ahead of this one, measured once a second."""
        self.ticked_at = steady()
        """The time of the last tick by the steady clock."""
        self.now = int(wall())
        self.started = self.now
        self._paused = False

    def tick(self) -> bool:
        """Update `now`, and return whether a new second has begun since the last tick."""
        self.ticked_at = ticked_at = self._steady()
        now = int(ticked_at + self._offset)
        if now <= self.now or self._paused:
            return False
        self.now = now
        ahead = self._wall() - self._steady() - self._offset
        if abs(ahead - self.wall_ahead) >= 1:  # less is only the time between the two readings
            self.wall_ahead = round(ahead)
        return True

    def shift(self, seconds: int) -> None:
        """Move the clock by this many seconds, back if negative: not past LAST_SECOND, nor before its start."""
        seconds = max(self.started - self.now, min(seconds, max(0, LAST_SECOND - self.now)))
        self._offset += seconds
        self.now += seconds
        self.wall_ahead -= seconds

    def pause(self) -> None:
        """Stop the clock until `resume`. It can still be shifted."""
        self._paused = True

    def resume(self) -> None:
        """Start the clock again. The next tick catches up on the time it was stopped."""
        self._paused = False
