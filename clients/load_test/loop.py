"""The loop of one process: it sends requests on many connections, reads the replies and counts them."""

from __future__ import annotations

import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from clients.load_test.connection import Connection
from clients.load_test.tally import Tally
from clients.load_test.wires.wire import BadReply, Outcome, Wire

READ_BYTES = 65536
TICK_SECONDS = 0.25
"""How often counts are reported, and lost connections opened again."""
REPLY_SECONDS = 10.0
"""After this time without a byte of a reply, the connection counts as lost."""
TRIES = 20
"""How many times in a row a lost connection is opened again, once a tick."""
NANOSECONDS = 1_000_000_000
TICK = int(TICK_SECONDS * NANOSECONDS)
clock = time.monotonic_ns


class Loop(ABC):
    """Sends requests on connections, and counts what comes back. A subclass decides when to send.

    depth: how many requests may be in flight on a connection. report: called every tick with the counts since the last
    call; returns whether to go on.
    """

    def __init__(
        self,
        wire: Wire,
        requests: Iterator[tuple[bytes, bool]],
        connections: Sequence[Connection],
        depth: int,
        report: Callable[[Tally], bool],
    ) -> None:
        """Watch the connections."""
        self.connections = list(connections)
        self.depth = depth
        self.tally = Tally()
        self.epoll = select.epoll()
        self._wire = wire
        self._requests = requests
        self._report = report
        self._by_descriptor: dict[int, Connection] = {}
        self._next_tick = 0
        for connection in self.connections:
            self._watch(connection)

    # What a subclass decides

    @abstractmethod
    def begin(self, now: int) -> None:
        """Send the first requests."""

    @abstractmethod
    def answered(self, connection: Connection, now: int) -> None:
        """Go on after replies have arrived on a connection, or after it was opened again."""

    @abstractmethod
    def turn(self, now: int) -> bool:
        """Do what is due at this time; return whether everything may be sent and answered."""

    @abstractmethod
    def wait(self) -> list[tuple[int, int]]:
        """Wait for events of the connections, at most until something is due, and at most for a tick."""

    @abstractmethod
    def finished(self) -> bool:
        """Tell whether everything is sent and answered."""

    @abstractmethod
    def stop(self) -> None:
        """Send no more requests."""

    @abstractmethod
    def give_up(self, connection: Connection, why: str) -> None:
        """Go on without a connection that can't be opened again."""

    # The loop

    def run(self) -> None:
        """Send all requests and wait for their replies."""
        now = clock()
        self._next_tick = now + TICK
        self.begin(now)
        going = True
        while going:
            for descriptor, event in self.wait():
                connection = self._by_descriptor[descriptor]
                if event & select.EPOLLOUT:
                    self._flush(connection)
                if event & ~select.EPOLLOUT and not connection.lost:
                    self._receive(connection)
            now = clock()
            if self.turn(now) or now >= self._next_tick:
                going = self._tick(now)
        self.epoll.close()

    def _tick(self, now: int) -> bool:
        """Report the counts, look after the connections, and tell whether to go on."""
        finished = self.finished()
        if now >= self._next_tick or finished:
            self._next_tick += TICK * max(1, (now - self._next_tick) // TICK + 1)
            self._find_stalled(now)
            self._open_lost(now)
            tally, self.tally = self.tally, Tally()
            if not self._report(tally):
                self.stop()
        return not finished

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, error.strerror or str(error))
            return
        now = clock()
        if not data:
            self._lose(connection, "the server closed the connection")
            return
        connection.waiting_since = now
        if connection.arrived:
            data = connection.arrived + data
        try:
            position = self._count(connection, data, now)
        except BadReply as error:
            self._lose(connection, str(error))
            return
        connection.arrived = data[position:]
        self.answered(connection, now)

    def _count(self, connection: Connection, data: bytes, now: int) -> int:
        """Count the replies that are whole; return where they end."""
        pending, reply, position = connection.pending, self._wire.reply, 0
        latencies, outcomes = self.tally.latencies, self.tally.outcomes
        while pending:
            due, is_get = pending[0]
            end, outcome = reply(data, position, is_get)
            if not end:
                return position
            pending.popleft()
            latencies[(now - due) // 1000] += 1
            outcomes[outcome] += 1
            if outcome is Outcome.ERROR:
                self.tally.explain(self._wire.words_of(data[position:end]))
            position = end
        if position < len(data):
            raise BadReply(f"more than was asked for: {data[position : position + 40]!r}")
        return position

    def send(self, connection: Connection, count: int, due: int) -> None:
        """Send requests in one piece, which were due at a time."""
        if not connection.pending:
            connection.waiting_since = clock()
        if count == 1:
            data, is_get = next(self._requests)
            connection.pending.append((due, is_get))
        else:
            pieces = [next(self._requests) for _ in range(count)]
            connection.pending.extend([(due, is_get) for _, is_get in pieces])
            data = b"".join([piece for piece, _ in pieces])
        if connection.unsent:
            connection.unsent += data
            return
        try:
            sent = connection.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(connection, error.strerror or str(error))
            return
        if sent < len(data):
            connection.unsent = data[sent:]
            self.epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: Connection) -> None:
        """Send what the socket did not accept before."""
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, error.strerror or str(error))
            return
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            self.epoll.modify(connection.socket, select.EPOLLIN)

    # Lost connections

    def _watch(self, connection: Connection) -> None:
        self._by_descriptor[connection.socket.fileno()] = connection
        self.epoll.register(connection.socket, select.EPOLLIN)

    def _lose(self, connection: Connection, why: str) -> None:
        """Count what is not answered as errors; the next tick opens the connection again."""
        if connection.pending:
            self.tally.count_error(why, len(connection.pending))
        connection.pending.clear()
        connection.lost = True
        del self._by_descriptor[connection.socket.fileno()]
        self.epoll.unregister(connection.socket)
        connection.socket.close()

    def _find_stalled(self, now: int) -> None:
        """Lose the connections on which nothing has arrived for too long."""
        for connection in self.connections:
            if connection.pending and now - connection.waiting_since > REPLY_SECONDS * NANOSECONDS:
                self._lose(connection, f"no reply within {REPLY_SECONDS:g} s")

    def _open_lost(self, now: int) -> None:
        for connection in self.connections:
            if connection.lost and connection.failures < TRIES:
                self._open(connection, now)

    def _open(self, connection: Connection, now: int) -> None:
        """Open a lost connection again; give it up after too many tries."""
        try:
            connection.open()
        except OSError as error:
            connection.failures += 1
            if connection.failures == TRIES:
                self.give_up(connection, f"cannot connect: {error.strerror or error}")
            return
        connection.lost, connection.failures = False, 0
        self._watch(connection)
        self.answered(connection, now)
