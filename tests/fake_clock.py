"""A clock that tests move."""

from memcache_kv.clock import steady_seconds


class FakeClock:
    """Stand in for `Clock`: time passes only in `advance`, and `tick` tells of it once."""

    def __init__(self, now: int = 1_700_000_000, started: int | None = None) -> None:
        self.now = now
        self.started = now if started is None else started
        self.wall_ahead = 0
        self.ticked_at = steady_seconds()
        self._moved = False

    def tick(self) -> bool:
        """True when time has passed since the last tick."""
        self.ticked_at = steady_seconds()
        moved, self._moved = self._moved, False
        return moved

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds
        self._moved = self._moved or seconds > 0

    def shift(self, seconds: int) -> None:
        """Move as `Clock.shift` does."""
        self.advance(max(seconds, self.started - self.now))

    def pause(self) -> None:
        """Stand still, as this clock does anyway."""

    def resume(self) -> None:
        """Stand still: only tests move it."""
