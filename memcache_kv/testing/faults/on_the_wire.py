"""Faults of the network between client and server."""

from __future__ import annotations

import math

from memcache_kv.testing.faults.base import Fault, Place
from memcache_kv.testing.wire import Direction, Ending, Pace, Passage

STEPS_PER_SECOND = 20
"""How often a narrow line sends something."""


class Delay(Fault):
    """Each reply or request arrives later. Those behind it on the connection can't overtake it.

    seconds: how much; jitter: how many seconds more or less, at random.
    """

    direction = Direction.DOWNSTREAM
    can_choose = True

    def __init__(self, place: Place, *, seconds: float, jitter: float = 0.0) -> None:
        super().__init__(place)
        self._seconds = seconds
        self._jitter = jitter

    def change(self, passage: Passage) -> None:
        """Hold it back for a while."""
        seconds = self._seconds + self.selection.random.uniform(-self._jitter, self._jitter)
        passage.delays.append((self, max(0.0, seconds)))


class Bandwidth(Fault):
    """Each connection transports only so much. bytes_per_second: in the direction that is meant."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def __init__(self, place: Place, *, bytes_per_second: float) -> None:
        super().__init__(place)
        if bytes_per_second <= 0:
            raise ValueError(f"bytes_per_second must be more than 0, not {bytes_per_second}: the fault `stall` is that")
        step = max(1, math.ceil(bytes_per_second / STEPS_PER_SECOND))
        self._pace = Pace(step, seconds_per_byte=1 / bytes_per_second)

    def change(self, passage: Passage) -> None:
        """Send it little by little."""
        passage.paces.append((self, self._pace))


class Stall(Fault):
    """Nothing arrives until the fault ends; then all of it does."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def change(self, passage: Passage) -> None:
        """Hold it back."""
        passage.delays.append((self, math.inf))


class Cut(Fault):
    """What is sent arrives in pieces. piece_bytes: their size; pause: seconds between two pieces."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def __init__(self, place: Place, *, piece_bytes: int = 1, pause: float = 0.001) -> None:
        super().__init__(place)
        if piece_bytes < 1:
            raise ValueError(f"piece_bytes must be at least 1, not {piece_bytes}")
        self._pace = Pace(piece_bytes, pause)

    def change(self, passage: Passage) -> None:
        """Send it in pieces."""
        passage.paces.append((self, self._pace))


class Drop(Fault):
    """Replies, or requests, get lost. The connection stays open."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def change(self, passage: Passage) -> None:
        """Send nothing."""
        passage.data = b""


class Reset(Fault):
    """In place of a reply, or of what a request asks for, the client gets a reset (RST)."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def change(self, passage: Passage) -> None:
        """Send nothing and reset the connection."""
        passage.data, passage.ending = b"", Ending.RESET


class Close(Fault):
    """The connection is closed. after_bytes: how much may pass on it before that, from the fault's beginning on."""

    direction = Direction.DOWNSTREAM
    can_choose = True

    def __init__(self, place: Place, *, after_bytes: int = 0) -> None:
        super().__init__(place)
        self._after_bytes = after_bytes
        self._left: dict[int, int] = {}
        """How much may pass yet, by connection."""

    def change(self, passage: Passage) -> None:
        """Send what may pass yet, and close the connection behind it."""
        left = self._left.get(passage.connection, self._after_bytes)
        self._left[passage.connection] = max(0, left - len(passage.data))
        if len(passage.data) >= left:
            passage.data, passage.ending = passage.data[:left], Ending.CLOSE


class Refuse(Fault):
    """New connections are refused. Those that are open go on."""

    picks = False

    def begin(self) -> None:
        """Refuse connections."""
        self.tap.refuse()

    def end(self) -> None:
        """Accept connections again."""
        self.tap.accept()


class Down(Refuse):
    """Nothing listens, as after the server's end: connections are closed, and new ones are refused."""

    def begin(self) -> None:
        """Refuse connections, and close those that are open."""
        super().begin()
        self.tap.close_connections()
