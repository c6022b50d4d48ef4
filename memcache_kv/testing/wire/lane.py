"""One direction of a connection: what waits to be sent, in order, and when each part of it is due."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from memcache_kv.testing.wire.passage import Ending, Pace, Rule
from memcache_kv.unpatched import socket, time

LANE_LIMIT_BYTES = 1 << 20
"""While so much waits in a direction, nothing more is read for it."""


def moment() -> float:
    """Return monotonic seconds, by a clock that no library for tests stops or moves."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Piece:
    """Bytes that wait, what holds them back, and what follows them."""

    __slots__ = ("_arrived", "_delays", "_paces", "_rest", "_steps", "ending")

    def __init__(
        self,
        data: bytes,
        ending: Ending | None = None,
        delays: Sequence[tuple[Rule, float]] = (),
        paces: Sequence[tuple[Rule, Pace]] = (),
    ) -> None:
        self.ending = ending
        self._rest = memoryview(data)
        self._delays = delays
        self._paces = paces
        self._arrived = moment()
        self._steps = 0

    def __len__(self) -> int:
        return len(self._rest)

    def _active_paces(self) -> list[Pace]:
        return [pace for rule, pace in self._paces if not rule.is_over]

    def due_at(self, last_sent: float) -> float:
        """Return the moment at which the next step may be sent. last_sent: when anything before it was."""
        due = self._arrived + sum(seconds for rule, seconds in self._delays if not rule.is_over)
        paces = self._active_paces()
        if not paces:
            return due
        size = len(self.next_step())
        pauses = [pace.pause * bool(self._steps) + pace.seconds_per_byte * size for pace in paces]
        return max(due, last_sent) + max(pauses)

    def next_step(self) -> memoryview:
        """Return the bytes to send at once."""
        return self._rest[: min((pace.step_bytes for pace in self._active_paces()), default=len(self._rest))]

    def advance(self, count: int) -> None:
        """Count bytes as sent."""
        self._rest = self._rest[count:]
        self._steps += 1


class Lane:
    """What waits in one direction. Used by the tap's thread alone."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._last_sent = 0.0
        self.bytes = 0
        """How much waits."""
        self.is_blocked = False
        """Whether the socket takes no more now."""

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more should be read."""
        return self.bytes >= LANE_LIMIT_BYTES

    def put(self, piece: Piece) -> None:
        """Add bytes behind all others."""
        self._pieces.append(piece)
        self.bytes += len(piece)

    @property
    def due_at(self) -> float:
        """The moment at which something is to be sent; infinite if nothing is, or if the socket must take it first."""
        return self._pieces[0].due_at(self._last_sent) if self._pieces and not self.is_blocked else math.inf

    def send_to(self, sock: socket.socket, now: float) -> Ending | None:
        """Send what is due, as far as the socket takes it. Returns the ending that is reached. Raises OSError."""
        self.is_blocked = False
        while self._pieces and (piece := self._pieces[0]).due_at(self._last_sent) <= now:
            if piece and not self._send_step(sock, piece, now):
                self.is_blocked = True
                return None
            if not piece:
                self._pieces.popleft()
                if piece.ending is not None:
                    return piece.ending
        return None

    def _send_step(self, sock: socket.socket, piece: Piece, now: float) -> bool:
        try:
            count = sock.send(piece.next_step())
        except BlockingIOError:
            return False
        piece.advance(count)
        self._last_sent = now
        self.bytes -= count
        return True
