"""The time, as the store wants to be given it."""

from __future__ import annotations

from typing import Protocol


class Time(Protocol):
    """The clock as the store needs it: seconds of unix time."""

    now: int
    started: int
    wall_ahead: int
    """By how many seconds the wall clock has been stepped away from this one; negative where it was set back."""

    def tick(self) -> bool:
        """Advance; True when a new second has begun."""

    def shift(self, seconds: int) -> None:
        """Move on, or back where negative, by this much; not to before `started`."""

    def pause(self) -> None:
        """Stand still."""

    def resume(self) -> None:
        """Move again, to where it would be had it not stood still."""
