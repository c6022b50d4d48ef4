"""The time of servers under test, which a test moves: nothing waits for an item to expire.

The time is the present, moved by what the test asked for. It follows freezegun and time-machine: while one of them has
patched the clock, the present is what `time.time()` says then. What is due by a new time is carried out before the call
that moved it returns, or, if a library moved it, before the next request is answered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple
from weakref import WeakSet

from memcache_kv.api.server import Server
from memcache_kv.clock import steady_seconds, unix_seconds
from memcache_kv.config.settings import Settings
from memcache_kv.store.entry import LAST_DEADLINE, LONG_PAST, RELATIVE_LIMIT_SECONDS
from memcache_kv.unpatched import time

FIRST_SECOND = LONG_PAST + 1
"""The earliest unix time: what has long expired has expired then too."""
LATEST_SECOND = LAST_DEADLINE - RELATIVE_LIMIT_SECONDS
"""The latest one, in 2106: an expiry time that is relative still fits into an item's four bytes."""
JUMP_SECONDS = 2
"""A step of the time by so much is no passing of it, but a move."""


class MovedTo(NamedTuple):
    """How a test has moved the time."""

    ahead: float = 0.0
    """The seconds from the present to the time."""
    stands_at: float | None = None
    """The unix time at which it stands still; None while it runs."""
    is_own: bool = False
    """Whether the time is what the test said, whatever the patched clock says."""


class TimeTravel:
    """The time of the servers that get their clocks from it. Any thread may call any method.

    follows: whether the time is that of freezegun or time-machine while they have patched the clock. A test that
    freezes or moves its clock expects a cache to live in the same time, and some clients send expiry times that they
    take from that clock. Where it is false, only the methods move the time.
    """

    def __init__(self, follows: bool = True) -> None:
        self.follows = follows
        self._wall_offset = unix_seconds() - steady_seconds()
        self._moved = MovedTo()
        self._clocks: WeakSet[TravelClock] = WeakSet()

    def server(self, settings: Settings | None = None, /, **fields: Any) -> Server:
        """Return a server that lives in this time, with the arguments of `Server`. It is not started yet."""
        clock = self.new_clock()
        server = Server(settings, clock=clock, **fields)
        clock.on_jump = server.catch_up
        return server

    def new_clock(self) -> TravelClock:
        """Return the clock for one more server. Its `on_jump` must be set to the server's `catch_up`."""
        clock = TravelClock(self)
        self._clocks.add(clock)
        return clock

    # What a test asks for

    def travel(self, seconds: float) -> None:
        """Move the time by this many seconds, back if negative. It stands still afterwards if it did before.

        Raises ValueError if that is before 1970 or after 2106.
        """
        moved = self._moved
        if moved.stands_at is not None:
            self._move(moved._replace(stands_at=moved.stands_at + seconds))
        else:
            self._move(moved._replace(ahead=moved.ahead + seconds))

    def at(self, moment: datetime) -> Undo:
        """Move the time to this moment; a naive one is in UTC. It runs on from there, unless it stood still before.

        A server for which this is before its start counts as started at this moment, so that expiry times that are
        dates mean the same as at any time. From now on the time does not follow a patched clock. All this lasts until
        the test's end, or until the `with` block's if the returned object is used as a context manager. Raises
        ValueError as `travel` does.
        """
        before, wanted = self._moved, _unix_time(moment)
        stands_at = None if before.stands_at is None else wanted
        self._move(MovedTo(wanted - self._own_present(), stands_at, is_own=True))
        return Undo(self, before)

    def freeze(self, moment: datetime | None = None) -> Undo:
        """Let the time stand still, now or at this moment, but for `travel` and `at`.

        It does not follow a patched clock from now on, and lasts as long as for `at`: after the `with` block the time
        is what it would be without it.
        """
        before, stands_at = self._moved, self.now() if moment is None else _unix_time(moment)
        self._move(before._replace(stands_at=stands_at, is_own=True))
        return Undo(self, before)

    def reset(self) -> None:
        """Undo all moves: the time is the present again, or that of a patched clock. For the end of a test."""
        self.restore(MovedTo())

    # For the clocks

    def now(self) -> float:
        """Return the unix time that it is for the servers."""
        return self._after(self._moved)

    @property
    def runs_freely(self) -> bool:
        """Whether a new second is one that has passed: nobody makes the time stand still or patches the clock."""
        return self._moved.stands_at is None and self._patched(self._moved) is None

    def restore(self, moved: MovedTo) -> None:
        """Move the time as it was moved before."""
        self._move(moved)

    def _move(self, moved: MovedTo) -> None:
        if not FIRST_SECOND <= (now := self._after(moved)) <= LATEST_SECOND:
            raise ValueError(f"the time can't be {now:.0f} s after 1970: it must be before 2106")
        self._catch_up()  # with the time before: what is added now is older than what comes after the move
        self._moved = moved
        self._catch_up()

    def _catch_up(self) -> None:
        for clock in list(self._clocks):
            clock.on_jump()

    def _after(self, moved: MovedTo) -> float:
        """Return the time that it is after such a move. A patched clock may be anywhere."""
        if moved.stands_at is not None:
            return moved.stands_at
        patched = self._patched(moved)
        if patched is None:
            return self._own_present() + moved.ahead
        return min(max(patched + moved.ahead, FIRST_SECOND), LATEST_SECOND)

    def _patched(self, moved: MovedTo) -> float | None:
        return patched_time() if self.follows and not moved.is_own else None

    def _own_present(self) -> float:
        return steady_seconds() + self._wall_offset


class Undo:
    """A context manager that moves the time, at its end, as it was moved before. Without `with` it does nothing."""

    def __init__(self, time_travel: TimeTravel, before: MovedTo) -> None:
        self._time_travel = time_travel
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._time_travel.restore(self._before)


class TravelClock:
    """The clock of one server: a `Time` that goes where a TimeTravel goes, forwards and back.

    The wall clock goes with it, so that a journal has the same time.
    """

    def __init__(self, time_travel: TimeTravel) -> None:
        self._time_travel = time_travel
        self._undo_pause: Undo | None = None
        self._began = self.now = self.started = int(time_travel.now())
        self.wall_ahead = 0
        self.ticked_at = steady_seconds()
        self.on_jump: Callable[[], None] = lambda: None
        """Called when the time was moved, by the thread that did it or that noticed it at a tick."""

    def tick(self) -> bool:
        """Advance to the present. Returns True if another second has begun."""
        self.ticked_at = steady_seconds()
        before, now = self.now, int(self._time_travel.now())
        if now == before:
            return False
        self.now, self.started = now, min(now, self._began)
        if not 0 < now - before < JUMP_SECONDS or not self._time_travel.runs_freely:
            self.on_jump()
        return True

    def shift(self, seconds: int) -> None:
        """Move the time of all servers, as the command `debugtime` asks."""
        self._time_travel.travel(max(seconds, self.started - self.now))

    def pause(self) -> None:
        """Let the time of all servers stand still."""
        self._undo_pause = self._undo_pause or self._time_travel.freeze()

    def resume(self) -> None:
        """Let it run again, at the time that it would show had it not stood still."""
        undo, self._undo_pause = self._undo_pause, None
        if undo is not None:
            undo.__exit__(None, None, None)


def patched_time() -> float | None:
    """Return the unix time that freezegun or time-machine has set the clock to; None while neither has.

    freezegun's own functions look who calls them, and tell threads the true time. So its clock is read itself, and one
    that goes on with each reading (`auto_tick_seconds`) is not moved.
    """
    freezegun = sys.modules.get("freezegun.api")
    if freezegun is not None and freezegun.freeze_factories:
        factory = freezegun.freeze_factories[-1]
        return _unix_time(factory.time_to_freeze if hasattr(factory, "step_width") else factory())
    time_machine = sys.modules.get("time_machine")
    if time_machine is not None and time_machine.escape_hatch.is_travelling():
        return time.time()  # a copy, but time-machine replaces what both have in common
    return None


def _unix_time(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
