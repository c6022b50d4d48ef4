"""Time in whole seconds, as memcached counts it."""

import time


class Clock:
    """Tell the unix time in whole seconds; it advances only when ticked, and never runs backwards.

    `now` is read on the hot path without a call. Any worker may tick; two ticking at once write the same
    number. It follows the monotonic clock from the wall time of its creation, so that a step of the wall
    clock neither kills items nor makes them immortal. Tests pass a clock of their own with the same parts.
    """

    __slots__ = ("now", "started", "_offset")

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.now = int(time.time())
        self.started = self.now

    def tick(self) -> bool:
        """Read the time; True when a new second has begun since the last tick."""
        now = int(time.monotonic() + self._offset)
        if now <= self.now:
            return False
        self.now = now
        return True
