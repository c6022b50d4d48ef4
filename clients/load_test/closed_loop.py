"""The closed loop: a connection sends its next request when a reply has arrived."""

from __future__ import annotations

from clients.load_test.connection import Connection
from clients.load_test.loop import NANOSECONDS, TICK_SECONDS, Loop


class ClosedLoop(Loop):
    """Keeps each connection at its depth until it has sent its number of requests, or until a deadline."""

    deadline = 0
    """When to stop (ns); 0 if the numbers of requests decide."""
    _idle = False

    def begin(self, now: int) -> None:
        """Send as many requests as may be in flight; see `Loop.begin`."""
        for connection in self.connections:
            self.answered(connection, now)

    def answered(self, connection: Connection, now: int) -> None:
        """Send a request for each reply; see `Loop.answered`."""
        count = min(self.depth - len(connection.pending), connection.left)
        if count > 0:
            connection.left -= count
            self.send(connection, count, now)
        elif not connection.pending:
            self._idle = True

    def turn(self, now: int) -> bool:
        """Stop at the deadline; see `Loop.turn`."""
        if self.deadline and now >= self.deadline:
            self.stop()
        idle, self._idle = self._idle, False
        return idle

    def wait(self) -> list[tuple[int, int]]:
        """Wait for replies; see `Loop.wait`."""
        return self.epoll.poll(TICK_SECONDS)

    def finished(self) -> bool:
        """Tell whether no connection has anything left; see `Loop.finished`."""
        return not any(connection.pending or connection.left for connection in self.connections)

    def stop(self) -> None:
        """Send no more requests; see `Loop.stop`."""
        self.deadline = 0
        self._idle = True
        for connection in self.connections:
            connection.left = 0

    def give_up(self, connection: Connection, why: str) -> None:
        """Count its requests as errors, or one if it sends until a deadline; see `Loop.give_up`."""
        self.tally.count_error(why, 1 if self.deadline else connection.left)
        connection.left = 0
        self._idle = True


ENDLESS = 1 << 60
"""What is left to a connection that sends until a deadline."""


def deadline_after(now: int, seconds: float) -> int:
    """Return the time that many seconds after another (ns)."""
    return now + int(seconds * NANOSECONDS)
