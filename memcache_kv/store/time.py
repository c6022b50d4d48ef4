"""The clock that the store needs."""

from __future__ import annotations

from typing import Protocol


class Time(Protocol):
    """A clock that counts seconds of unix time.

    `now` is the present second, and `started` the one at which the server started.
    """

    now: int
    started: int
    wall_ahead: int
    """How many seconds the wall clock is ahead of this one, because it was stepped; negative if it is behind."""

    ticked_at: float
    """The time of the last tick, as `steady_seconds` gives it."""

    def tick(self) -> bool:
        """Advance to the present. Returns True if a new second has begun."""

    def shift(self, seconds: int) -> None:
        """Move the clock by this many seconds, back if negative, but not to before `started`."""

    def pause(self) -> None:
        """Stop the clock."""

    def resume(self) -> None:
        """Let the clock run again, at the time that it would show had it not stopped."""
