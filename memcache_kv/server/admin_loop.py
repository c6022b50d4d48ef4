"""The thread that serves the connections of the admin listeners, apart from the workers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from memcache_kv.protocol import Context
from memcache_kv.protocol.session import READ_BYTES
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.connection import (
    CLOSING,
    HANDSHAKE,
    PAUSED,
    READING,
    WAITING_FOR_SOCKET,
    Connection,
    State,
    address_text,
    origin_of,
    set_tcp_options,
)
from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.server.poller import READABLE, WakeUp, new_poller
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import socket, time

if TYPE_CHECKING:
    from memcache_kv.auth.access import CommandClass
    from memcache_kv.protocol.dialect import Dialect

TURN_WAIT_SECONDS = 1.0
REPLY_PAUSE_SECONDS = 0.002
"""Between two parts of a long reply, the workers have the interpreter to themselves for so long."""
REQUEST_SECONDS = 10.0
"""The time limit of a TLS handshake, of the first request, and of each later one from its first byte on."""
REPLY_SECONDS = 60.0
"""The time limit of a reply, from its request to its last byte that the client accepts."""
KEEP_ALIVE_SECONDS = 120.0
"""A connection without a request is closed after so long."""
TURN_REQUESTS, TURN_PART = 20, 1 / 4
"""The limits of a connection's part of a turn."""
UNNOTICED_SECONDS = 0.001
"""A turn that takes less of the processor is followed by no rest."""
REST_PART = 3
"""A longer turn is followed by a rest of so many times its length, so that no flood of requests here takes more than a
quarter of the interpreter's time from the workers."""
LONGEST_REST_SECONDS = 0.1
SPARE_CONNECTIONS = 4
"""So many places are kept free: the connection without a request that is idle for longest is closed for that."""


class AdminLoop(ServerThread):
    """Serve all admin connections in one loop. A request that takes long is answered in parts.

    It needs neither a worker nor the interpreter for long, so that probes are answered while all workers are busy, and
    requests of clients while statistics are collected. Other threads may call `adopt`, `stop` and, at the end, `close`.

    context: the server as the sessions see it, with counters, a clock and a limit of connections of its own.
    """

    def __init__(self, context: Context, addresses: AddressLimits) -> None:
        super().__init__("admin")
        self._context = context
        self._clock, self._totals, self._log = context.clock, context.totals, context.log
        self._addresses = addresses
        self._poller = new_poller()
        self._wake_up = WakeUp(self._poller)
        self._table = ConnectionTable(self._poller)
        self._handlers: dict[State, Callable[[Connection], None]] = {
            HANDSHAKE: self._continue_handshake,
            READING: self._read,
            WAITING_FOR_SOCKET: self._send,
            PAUSED: self._table.watch_for_nothing,
        }
        self._adopted: deque[tuple[socket.socket, CommandClass | None, Dialect | None]] = deque()
        self._stopping = False

    # For other threads

    def adopt(self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None) -> None:
        """Serve an accepted socket that is already counted in the totals. Returns at once."""
        self._adopted.append((sock, listener_class, dialect))
        self._wake_up.set()

    def stop(self) -> None:
        """Ask the loop to close its connections and end. Returns at once; `join` waits."""
        self._stopping = True
        self._wake_up.set()

    def close(self) -> None:
        """Close the poller, and the pipe of `adopt` and `stop`. Call it after the thread has ended."""
        self._poller.close()
        self._wake_up.close()

    # The loop

    def work(self) -> None:
        """Serve until `stop`. Close the connections then, and after an error."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            while self._adopted:
                self._open(*self._adopted.popleft())
            for connection in list(self._table.by_fd.values()):
                self._close(connection)

    def _turn(self) -> None:
        events = self._poller.poll(REPLY_PAUSE_SECONDS if self._table.paused else TURN_WAIT_SECONDS)
        self._clock.tick()
        began = time.thread_time()
        for fd, _ in events:
            connection = self._table.by_fd.get(fd)
            if connection is not None:
                self._attempt(self._handlers[connection.state], connection)
            elif fd == self._wake_up.fd:
                self._wake_up.clear()
                while self._adopted:
                    self._open(*self._adopted.popleft())
        for connection in list(self._table.paused):
            self._attempt(self._resume, connection)
        now = time.monotonic()
        for connection in [each for each in self._table.by_fd.values() if each.give_up_at <= now]:
            self._close(connection)
        spent_seconds = time.thread_time() - began
        if spent_seconds > UNNOTICED_SECONDS:
            time.sleep(min(REST_PART * spent_seconds, LONGEST_REST_SECONDS))

    def _attempt(self, act: Callable[[Connection], None], connection: Connection) -> None:
        """Call `act` with a connection; after an error, close only that connection."""
        try:
            act(connection)
        except BlockingIOError:
            self._table.watch(connection)
        except OSError as error:
            self._log.event(f"<{connection.fd} broken: {error.strerror or error}")
            self._close(connection)
        except Exception as error:
            self._log.failure_rarely(f"<{connection.fd} dropped after an error of the server", error)
            self._close(connection)

    def _open(self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None) -> None:
        """Begin to serve a new client; close its socket if the poller can't watch it."""
        fd = sock.fileno()
        assert dialect is not None
        try:
            sock.setblocking(False)
            self._poller.register(fd, READABLE)
        except OSError as error:
            self._log.failure_rarely(f"<{fd} can't be served, and is closed", error)
            self._uncount(fd)
            sock.close()
            return
        set_tcp_options(sock)
        session = dialect.make(self._context, fd, None, origin_of(sock, listener_class))
        session.limit_turn(TURN_REQUESTS, TURN_PART)
        connection = Connection(sock, session, self._clock.now)
        self._table.add(connection)
        self._limit(connection, REQUEST_SECONDS)
        origin = f" from {address_text(connection.peer)}" if connection.peer else ""
        self._log.event(f"<{fd} {dialect.opening}{origin}")
        self._make_room()

    def _make_room(self) -> None:
        """Close the connection that is idle for longest where few more may be opened."""
        if len(self._table.by_fd) > self._totals.limit - SPARE_CONNECTIONS:
            idle = [each for each in self._table.by_fd.values() if self._is_idle(each)]
            if idle:
                self._close(min(idle, key=lambda connection: connection.give_up_at))

    @staticmethod
    def _is_idle(connection: Connection) -> bool:
        """Tell whether a connection has had a reply, and has no request since."""
        answered = connection.give_up_at - time.monotonic() > REQUEST_SECONDS
        return connection.state is READING and answered and not connection.protocol.is_amid_request

    def _close(self, connection: Connection) -> None:
        """Close a connection; do nothing if it is already closed."""
        before = connection.state
        if before is CLOSING:
            return
        self._table.remove(connection)
        connection.protocol.close()
        connection.unsent = None
        if connection.tls is not None and before is not HANDSHAKE:
            connection.tls.say_goodbye()
        self._log.event(f"<{connection.fd} connection closed.")
        self._uncount(connection.fd)
        connection.socket.close()

    def _uncount(self, fd: int) -> None:
        self._addresses.close(fd)
        self._totals.close()

    def _limit(self, connection: Connection, seconds: float) -> None:
        connection.give_up_at = time.monotonic() + seconds

    # Handlers of the states

    def _continue_handshake(self, connection: Connection) -> None:
        assert connection.tls is not None
        if connection.tls.continue_handshake():
            self._limit(connection, REQUEST_SECONDS)
            self._table.enter(connection, READING)
        else:
            self._table.watch(connection)

    def _read(self, connection: Connection) -> None:
        """Read once, and answer the requests that are whole."""
        protocol, tls = connection.protocol, connection.tls
        data = os.read(connection.fd, READ_BYTES) if tls is None else tls.read(READ_BYTES)
        if not data:
            self._close(connection)
            return
        begins = not protocol.is_amid_request
        protocol.receive(data)
        if protocol.out or protocol.paused:
            self._limit(connection, REPLY_SECONDS)
        elif begins:
            self._limit(connection, REQUEST_SECONDS)
        self._send(connection)

    def _resume(self, connection: Connection) -> None:
        connection.protocol.resume()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        """Send the replies, as far as the socket takes them, and enter the next state."""
        protocol = connection.protocol
        # A paused connection has answered in an earlier turn.
        has_answered = bool(protocol.out) or connection.unsent is not None or connection.state is PAUSED
        connection.send()
        if connection.unsent is not None:
            self._table.enter(connection, WAITING_FOR_SOCKET)
        elif protocol.closing:
            self._close(connection)
        elif protocol.paused:
            self._table.enter(connection, PAUSED)
        else:
            if connection.state is not READING:
                self._table.enter(connection, READING)
            if has_answered:
                self._limit(connection, REQUEST_SECONDS if protocol.is_amid_request else KEEP_ALIVE_SECONDS)
