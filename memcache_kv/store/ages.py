"""How long keys have been in a queue, known from a few marks on the queue: no key takes memory for it."""

from __future__ import annotations

from collections import deque

MARKS_PER_SPAN = 32
"""Two marks are so far apart as is needed for so many of them in the time that the queue covers."""


class QueueAges:
    """Marks on a queue: how far it reached at some times.

    `mark` is called now and then, for instance once a second. What is in front of the first mark has no known age, and
    an age is too long by a thirty-second part at most, or by a second. Every call needs the lock of the queue.
    """

    __slots__ = ("taken", "_positions", "_times")

    def __init__(self) -> None:
        self.taken = 0
        """How many keys were taken from the front of the queue. The next one to be taken has this position."""
        self._positions: deque[int] = deque()
        self._times: deque[int] = deque()
        """At each time, the queue reached to the position: what is behind that was added later."""

    def mark(self, length: int, now: int) -> None:
        """Record how long the queue is at this time."""
        positions, times, end = self._positions, self._times, self.taken + length
        if times and now < times[-1]:  # the clock was set back: earlier marks say nothing by its new time
            positions.clear()
            times.clear()
        while positions and positions[-1] >= end:  # nothing was added since, or keys were removed in another way
            positions.pop()
            times.pop()
        if len(times) > 1 and (now - times[-2]) * MARKS_PER_SPAN <= now - times[0]:
            positions[-1], times[-1] = end, now
        else:
            positions.append(end)
            times.append(now)

    def __len__(self) -> int:
        """Return the number of marks."""
        return len(self._times)

    def last_taken_at(self) -> int | None:
        """Return the time of the last mark before the key that was taken last; None if no mark is before it."""
        positions, times, position = self._positions, self._times, self.taken - 1
        while len(positions) > 1 and positions[1] <= position:
            positions.popleft()
            times.popleft()
        return times[0] if positions and positions[0] <= position else None

    def shrink(self, length: int, new_length: int) -> None:
        """Move the marks after keys were removed all over the queue, which was longer before."""
        start = self.taken
        self._positions = deque(start + (each - start) * new_length // max(1, length) for each in self._positions)
