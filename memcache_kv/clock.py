"""Time in whole seconds, as memcached counts it."""

import time

LAST_SECOND = (1 << 31) - 1
"""The clock is moved no further than to the last time that a client can name: later ones would not fit 32 bits."""


class Clock:
    """Tell the unix time in whole seconds; it advances only when ticked, and never runs backwards by itself.

    `now` is read on the hot path without a call. Any worker may tick; two ticking at once write the same
    number. It follows the monotonic clock from the wall time of its creation, so that a step of the wall
    clock neither kills items nor makes them immortal; `wall_ahead` tells how far the two are apart since. While
    a machine is suspended Linux's monotonic clock stands still, which then looks like a step forward.

    Tests pass a clock of their own with the same parts, and clients' tests move this one (`debugtime`): `shift`,
    `pause` and `resume` may be called by any thread.
    """

    __slots__ = ("now", "started", "wall_ahead", "_offset", "_paused")

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.wall_ahead = 0
        """By how many seconds the wall clock is ahead of this one; looked at with each new second."""
        self.now = int(time.time())
        self.started = self.now
        self._paused = False

    def tick(self) -> bool:
        """Read the time; True when a new second has begun since the last tick."""
        now = int(time.monotonic() + self._offset)
        if now <= self.now or self._paused:
            return False
        self.now = now
        ahead = time.time() - time.monotonic() - self._offset
        if abs(ahead - self.wall_ahead) >= 1:  # less is no step, but two readings with some time between them
            self.wall_ahead = round(ahead)
        return True

    def shift(self, seconds: int) -> None:
        """Move on by so many seconds, not beyond LAST_SECOND, or back where negative, not to before the start."""
        seconds = max(self.started - self.now, min(seconds, max(0, LAST_SECOND - self.now)))
        self._offset += seconds
        self.now += seconds
        self.wall_ahead -= seconds

    def pause(self) -> None:
        """Stand still until resumed, but for shifts."""
        self._paused = True

    def resume(self) -> None:
        """Go on; the next tick makes up for the time it stood still."""
        self._paused = False
