"""The open loop: requests are due at a fixed rate, whether or not earlier ones are answered.

A latency counts from the moment when the request was due. So a server that stalls is charged for all requests that had
to wait, also for those that could not even be sent (no coordinated omission).
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from clients.load_test.connection import Connection
from clients.load_test.loop import NANOSECONDS, REPLY_SECONDS, TICK_SECONDS, TRIES, Loop, clock
from clients.load_test.tally import Tally
from clients.load_test.wires.wire import Wire


class OpenLoop(Loop):
    """Sends each request when it is due, on the next connection with room.

    rate: requests a second. total: how many are due in all. first_due: when the first one is due (ns).
    """

    def __init__(
        self,
        wire: Wire,
        requests: Iterator[tuple[bytes, bool]],
        connections: Sequence[Connection],
        depth: int,
        report: Callable[[Tally], bool],
        rate: float,
        total: int,
        first_due: int,
    ) -> None:
        """Watch the connections."""
        super().__init__(wire, requests, connections, depth, report)
        self._gap = NANOSECONDS / rate
        self._total = total
        self._sent = 0
        self._first_due = first_due
        self._next_due = first_due
        self._ready: deque[Connection] = deque()

    def begin(self, now: int) -> None:
        """Let all connections wait for what is due; see `Loop.begin`."""
        self._ready.extend(self.connections)
        for connection in self.connections:
            connection.ready = True

    def answered(self, connection: Connection, now: int) -> None:
        """Let the connection wait for what is due; see `Loop.answered`."""
        if not connection.ready:
            connection.ready = True
            self._ready.append(connection)

    def turn(self, now: int) -> bool:
        """Send what is due; see `Loop.turn`."""
        while self._next_due <= now and self._sent < self._total and self._ready:
            connection = self._ready.popleft()
            connection.ready = False
            if connection.lost:
                continue
            due = self._next_due
            self._sent += 1
            self._next_due = self._first_due + int(self._sent * self._gap)
            self.send(connection, 1, due)
            if len(connection.pending) < self.depth:
                self.answered(connection, now)
        return self._sent == self._total

    def wait(self) -> list[tuple[int, int]]:
        """Wait for replies, or until the next request is due; see `Loop.wait`."""
        if self._sent == self._total or not self._ready:
            return self.epoll.poll(TICK_SECONDS)
        seconds = (self._next_due - clock()) / NANOSECONDS
        if seconds > 0:
            select.select([self.epoll], [], [], min(seconds, TICK_SECONDS))  # epoll itself waits for whole milliseconds
        return self.epoll.poll(0)

    def finished(self) -> bool:
        """Tell whether everything that was due is answered; see `Loop.finished`."""
        self._drop_what_is_too_late()
        return self._sent == self._total and not any(connection.pending for connection in self.connections)

    def _drop_what_is_too_late(self) -> None:
        """Count as errors what could not be sent long after the last request was due."""
        end = self._first_due + int(self._total * self._gap)
        if self._sent < self._total and clock() > end + REPLY_SECONDS * NANOSECONDS:
            self.tally.count_error("due, but not sent: all connections waited for replies", self._total - self._sent)
            self.stop()

    def stop(self) -> None:
        """Send no more requests; see `Loop.stop`."""
        self._total = self._sent

    def give_up(self, connection: Connection, why: str) -> None:
        """Count what is due as errors once no connection is left; see `Loop.give_up`."""
        if all(connection.failures == TRIES for connection in self.connections):
            self.tally.count_error(why, self._total - self._sent)
            self.stop()
