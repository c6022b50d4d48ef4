"""A worker: a thread that serves many connections in one loop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.auth.users import Logins, client_network
from memcache_kv.clock import steady_seconds
from memcache_kv.observe.log_form import Level
from memcache_kv.protocol import Context
from memcache_kv.protocol.negotiate import Undecided
from memcache_kv.protocol.session import FIRST_READ_BYTES, READ_BYTES, Session
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.commit_timer import CommitTimer
from memcache_kv.server.compiled_turn import compiled_turn
from memcache_kv.server.connection import (
    CLOSING,
    HANDSHAKE,
    PAUSED,
    READING,
    THROTTLED,
    WAITING_FOR_JOURNAL,
    WAITING_FOR_MEMORY,
    WAITING_FOR_SOCKET,
    Connection,
    State,
    address_text,
    origin_of,
    set_tcp_options,
)
from memcache_kv.server.connection_memory import Holders
from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.server.handshakes import Handshakes
from memcache_kv.server.poller import READABLE, WakeUp, new_poller
from memcache_kv.server.throttle import LoginThrottle
from memcache_kv.server.turn_limits import CROWD, TurnLimits
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.threads import ServerThread, get_ident
from memcache_kv.unpatched import socket, time

if TYPE_CHECKING:
    from memcache_kv.auth.access import CommandClass
    from memcache_kv.compiled.turn import Held
    from memcache_kv.protocol.dialect import Dialect
    from memcache_kv.server.tls import Tls

IDLE_SECONDS = 1.0
"""The longest wait for an event. The clock advances, and due flushes are applied, at least this often."""
DRAIN_SECONDS = 2
"""How long a stopping worker waits for clients that have not read their replies."""
WAVE_MEMBERS = 16
"""The requests of so many connections are carried out before their replies are sent: the first of these wakes the
clients up, and the others find them awake."""
LAST_TURNS = 2
"""A stopping worker takes the connections that it was given in one more turn, and answers what they sent in another."""
KINDS = {"auto": "auto-negotiating", "ascii": "ascii", "binary": "binary"}


class Worker(ServerThread):
    """Serve a part of the connections in one loop: read, let the protocol carry out requests, send the replies.

    The loop never blocks on a client. Only this thread uses its connections, their protocols and its poller. Other
    threads may call `adopt`, `wake`, `resume_later`, `stop`, `connections`, `statuses` and, at the end, `close`. The
    worker shares the store, the watchers, the journal's queue and the clock with other threads.

    An event goes to the handler of the connection's state (see `State`). Requests are read only in READING, so a
    connection holds the replies of one turn at most. With idle_timeout, idle connections are closed.

    logins: the users who may log in, None if no login is needed; tls: counts handshakes and TLS errors; addresses:
    counts connections by client address.
    """

    __slots__ = (
        "context", "_clock", "_counters", "_journal", "_watchers", "_tls", "_idle_timeout", "_idle_checked_at",
        "_poller", "_wake_up", "_table", "_limits", "_holders", "_handlers", "_handshakes", "_throttle", "_adopted",
        "_to_resume", "_stopping", "_commits", "_addresses", "_strangers", "_serve_ready", "turn_began_at",
        "_held", "_unsaved", "_latency", "_observers", "_turns", "_turns_unmeasured",
    )  # fmt: skip
    # Slots, although a thread has a dict: with these attributes it would have more than 30 keys. The interpreter shares
    # no keys between such dicts, which makes each request slower.

    def __init__(
        self,
        context: Context,
        logins: Logins | None = None,
        tls: Tls | None = None,
        addresses: AddressLimits | None = None,
    ) -> None:
        super().__init__("worker")
        self.context = context
        self._clock, self._counters, self._journal = context.clock, context.counters, context.journal
        self._observers, self._watchers = context.observers, context.observers.watchers
        self._latency = context.latency
        context.latencies.append(context.latency)
        self._turns, self._turns_unmeasured = context.turns, 0
        self._tls = tls
        self._addresses = addresses if addresses is not None else AddressLimits(0, 0, has_half_open=False)
        self._idle_timeout = context.settings.idle_timeout
        self._idle_checked_at = 0
        self._poller = new_poller()
        self._wake_up = WakeUp(self._poller)
        self._table = ConnectionTable(self._poller)
        self._limits = TurnLimits(self._table, context.clock, context.settings.max_reqs_per_event)
        self._holders = Holders(
            context.connection_memory, self._table, self._close, context.log, self._limits, context.journal
        )
        context.connection_memory.follow(self.wake)
        self._handlers: dict[State, Callable[[Connection], None]] = {
            HANDSHAKE: self._queue_handshake,
            WAITING_FOR_JOURNAL: self._table.watch_for_nothing,
            WAITING_FOR_SOCKET: self._answer,
            WAITING_FOR_MEMORY: self._table.watch_for_nothing,
            PAUSED: self._table.watch_for_nothing,
            THROTTLED: self._table.watch_for_nothing,
        }
        """The handler of an event in each state; the loop itself handles READING."""
        self._handshakes = Handshakes(tls, context.log)
        self._throttle = LoginThrottle(
            logins, context.log, self._table.by_fd, self.wake, self._addresses, context.settings.login_timeout
        )
        self._strangers = self._throttle.strangers
        self._adopted: deque[tuple[socket.socket, CommandClass | None, Dialect | None]] = deque()
        self._to_resume: deque[int] = deque()
        """The numbers of connections whose `resume` is due."""
        self._stopping = False
        self._commits = CommitTimer(context.journal, self._table)
        self._unsaved: list[Connection] = []
        """The connections whose requests in this turn have changed something, and whose replies are not sent yet."""
        self.turn_began_at = steady_seconds()
        """When the present turn, or the last one, began, as `steady_seconds` gives it. Other threads may read this."""
        self._held: Held | None = None
        """Keeps replies for the compiled turn until the journal has their writes."""
        self._serve_ready: Callable[[float], int] = self.serve_ready
        if context.requests is not None:
            parts = self, context, context.requests, self._table, self._poller
            self._held, self._serve_ready = compiled_turn(*parts)
        context.resume_later = self.resume_later
        if context.journal is not None:
            context.journal.watch(self._journal_moved)

    # For other threads

    def adopt(
        self, sock: socket.socket, listener_class: CommandClass | None = None, dialect: Dialect | None = None
    ) -> None:
        """Serve an accepted socket that is already counted in the totals. Returns at once.

        listener_class: the highest class of commands that its listener allows; None leaves that to --admin-commands.
        dialect: its listener's protocol; None if the first byte decides which of memcached's it speaks.
        """
        self._adopted.append((sock, listener_class, dialect))
        self.wake()

    def wake(self) -> None:
        """Make the loop handle the requests of other threads now."""
        self._wake_up.set()

    def resume_later(self, fd: int) -> None:
        """Call `resume` of a connection's protocol in one of the next turns. Returns at once."""
        self._to_resume.append(fd)
        self.wake()

    def stop(self) -> None:
        """Ask the worker to send pending replies, close its connections and end. Returns at once; `join` waits."""
        self._stopping = True
        self.wake()

    def close(self) -> None:
        """Close the pipe of `wake`. Call it after the thread has ended; no thread may call `wake` afterwards."""
        self._wake_up.close()

    def forget(self) -> None:
        """Close the sockets in a child that was forked, which has not this thread."""
        for sock in (*(connection.socket for connection in self.connections), *(each[0] for each in self._adopted)):
            sock.close()
        self._poller.close()

    @property
    def connections(self) -> list[Connection]:
        """A snapshot of the connections. Callers on other threads must not change them."""
        return list(self._table.by_fd.values())

    def statuses(self, asking: int) -> Iterator[ConnectionStatus]:
        """Yield the rows of `stats conns`. asking: the number of the connection that sent the request."""
        now = self._clock.now
        for fd in tuple(self._table.by_fd):
            connection = self._table.by_fd.get(fd)
            if connection is not None:  # it was not closed since
                yield connection.status(now, fd == asking)

    def _journal_moved(self) -> None:
        if (self._table.awaiting_journal or self._table.awaiting_memory) and get_ident() != self.ident:
            self.wake()

    # The loop

    def work(self) -> None:
        """Serve until `stop`; then send pending replies. Close the connections, after an error too."""
        try:
            while not self._stopping:
                self._turn(0 if self._table.paused or self._commits.by or self._handshakes.ready else IDLE_SECONDS)
            for _ in range(LAST_TURNS):
                self._turn(0)
            give_up_at = time.monotonic() + DRAIN_SECONDS  # the context's clock may have been stopped
            while self._table.has_replies and time.monotonic() < give_up_at:
                self._turn(0.05)
        finally:
            while self._adopted:  # sockets that arrived during the stop
                self._open(*self._adopted.popleft())
            for connection in self.connections:
                self._close(connection)
            self._poller.close()

    def _turn(self, timeout_seconds: float) -> None:
        """Wait for events, serve each connection that has one, then do what is due."""
        events = self._serve_ready(timeout_seconds)
        self._do_what_is_due(events > 0)
        seconds = steady_seconds() - self.turn_began_at
        if seconds > self._turns.unreported_seconds:
            self._turns.end(seconds, events)

    def serve_ready(self, timeout_seconds: float) -> int:
        """Wait for events for at most so long, and serve each connection that has one. Return the number of events.

        The compiled turn does the same.
        """
        connections, answered = self._table.by_fd, list[Connection]()
        events = self._poller.poll(timeout_seconds)
        is_measured = self.begin_turn(len(events))
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is None or connection.state is not READING:
                self._send_replies(answered)  # as the handler may close other connections
                self.handle(fd, connection)
            elif is_measured:
                self.serve_measured(connection)
            elif size := self._receive(connection):
                answered.append(connection)
                if size > FIRST_READ_BYTES or len(answered) == WAVE_MEMBERS:
                    self._send_replies(answered)
        self._send_replies(answered)
        return len(events)

    # For the part of a turn that may be compiled

    def begin_turn(self, events: int) -> bool:
        """Note the time and the number of events, as the wait for them is over. Return whether to measure requests."""
        if events >= CROWD or self._limits.is_crowded:
            self._limits.count_ready(events + len(self._table.paused))
        if self._clock.tick():
            self.context.store.new_second()
        self.turn_began_at = self._clock.ticked_at  # other threads tick too
        if self._observers.active:
            self._observers.begin_turn()
        self._turns_unmeasured -= 1
        if self._turns_unmeasured > 0:
            return False
        self._turns_unmeasured = self._turns.begin_measured()
        return True

    def handle(self, fd: int, connection: Connection | None) -> None:
        """Handle an event of the pipe, or of a connection that is not READING."""
        if connection is not None:
            self._attempt(self._handlers[connection.state], connection)
        elif fd == self._wake_up.fd:
            self._serve_other_threads()

    def serve(self, connection: Connection) -> None:
        """Read once from a connection that is READING, carry out its requests and send the replies."""
        if self._receive(connection):
            self._send_replies([connection])

    def _receive(self, connection: Connection) -> int:
        """Read once from a connection that is READING, and carry out its requests.

        Returns the size of what was read if the caller has to send the replies in `out`: the fast path carried out
        everything, with or without TLS and a journal.
        """
        fd, protocol, tls, journal = connection.fd, connection.protocol, connection.tls, self._journal
        try:
            data = os.read(fd, protocol.want) if tls is None else tls.read(READ_BYTES)
            if not data:
                self.close_by_client(connection)
                return 0
            if len(data) == FIRST_READ_BYTES:
                data = connection.read_rest(data)
            self._counters.bytes_read += len(data)
            connection.last_active = self._clock.now
            before = 0 if journal is None else journal.own_position()
            was_fast = protocol.receive(data)
            if journal is not None and journal.own_position() != before:
                self._unsaved.append(connection)
                self._holders.follow_journal()
            elif not was_fast or connection.counted_bytes:  # others may be closed for what it keeps, or it for theirs
                self._answer(connection)
            elif protocol.out:  # not all had noreply
                return len(data)
        except BlockingIOError:
            self._attempt(self._wait_for_socket, connection)
        except OSError as error:
            self.broken(connection, error)
        except Exception as error:  # a bug or no memory: the other connections are still served
            self.drop(connection, error)
        return 0

    def _send_replies(self, answered: list[Connection]) -> None:
        """Send the replies that the fast path has left in `out` of these connections, and clear the list."""
        total = 0
        for connection in answered:
            out, tls = connection.protocol.out, connection.tls
            reply = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            try:
                count = os.write(connection.fd, reply) if tls is None else tls.write(reply)
                total += count
                if count != len(reply):
                    connection.unsent = memoryview(reply)[count:]
                    self._enter(connection, WAITING_FOR_SOCKET)
            except BlockingIOError:
                connection.unsent = memoryview(reply)
                self._attempt(self._wait_for_socket, connection)
            except OSError as error:
                self.broken(connection, error)
            except Exception as error:
                self.drop(connection, error)
        self._counters.bytes_written += total
        answered.clear()

    def serve_measured(self, connection: Connection) -> None:
        """Serve a connection as `serve` does, and measure how long its requests take."""
        self._latency.begin()
        self.serve(connection)
        self.end_measured(connection)

    def end_measured(self, connection: Connection) -> None:
        """End to measure a connection's requests, or go on until the journal has saved them."""
        is_unsaved = bool(self._unsaved) and self._unsaved[-1] is connection
        self._latency.end(connection, not is_unsaved)

    def serve_rest(self, connection: Connection, data: bytes, done: int, has_changed: bool) -> None:
        """Carry out the rest of what was read, after `done` requests, and send all replies.

        has_changed: whether these requests may have changed something that the journal must save first.
        """
        journal = self._journal
        before = 0 if journal is None else journal.own_position()
        connection.protocol.receive_rest(data, done)
        if journal is not None and (has_changed or journal.own_position() != before):
            self._unsaved.append(connection)
            self._holders.follow_journal()
        else:
            self._answer(connection)

    def hold(self, connection: Connection) -> None:
        """Let a connection wait for the journal, whose `release_at` is set."""
        self._attempt(self._wait_for_journal, connection)

    def await_journal(self, count: int) -> None:
        """Have the journal save what so many more connections wait for."""
        journal = self._journal
        assert journal is not None
        journal.waits += count
        self._commits.start()
        if journal.refuses or not journal.must_wait(journal.own_position()):  # it may move without a wake-up
            self._release_saved()

    def release(self, connection: Connection) -> None:
        """Send a connection's replies, or the error, after its wait for the journal."""
        try:  # not `_attempt`, for speed: with `--fsync always` every write comes here
            if connection.state is WAITING_FOR_JOURNAL:
                self._release(connection)
        except Exception as error:
            self.drop(connection, error)

    def await_socket(self, connection: Connection) -> None:
        """Wait until the socket accepts the unsent replies."""
        self._enter(connection, WAITING_FOR_SOCKET)

    def close_by_client(self, connection: Connection) -> None:
        """Close a connection whose client has closed it."""
        self._close(connection, "normal" if connection.protocol.watcher is None else "error")

    def drop(self, connection: Connection, error: Exception) -> None:
        """Close a connection after an unexpected error, and log the error."""
        self.context.log.failure_rarely(f"<{connection.fd} dropped after an error of the server", error)
        self._close(connection)

    def broken(self, connection: Connection, error: OSError) -> None:
        """Close a connection after a failed read or write, and log the error."""
        if self._tls is not None and self._tls.has_failed(error):
            self._tls.count("proto_errors")
            self.context.log.event(f"<{connection.fd} TLS failed: {error}")
        else:
            self.context.log.event(f"<{connection.fd} broken: {error.strerror or error}")
        self._close(connection)

    # What is due

    def _do_what_is_due(self, had_events: bool) -> None:
        """Do the rest of a turn: answer writes, resume paused connections, commit, and do what is due by the clock."""
        if self._unsaved:
            self._answer_unsaved()
        if self._table.paused:
            for connection in list(self._table.paused):
                if connection.state is PAUSED:  # another one's turn may have closed it for memory
                    self._attempt(self._resume, connection)
        if self._commits.by and self._commits.is_due(had_events):
            self._commit()
        if self._idle_timeout > 0:
            self._close_idle()
        if self._strangers:
            for connection in self._throttle.overdue():
                self._close_stranger(connection)
        if self._table.waiting:
            self._end_waits()

    def _end_waits(self) -> None:
        """Continue handshakes, and end the waits that end by the clock."""
        if self._handshakes.ready:
            for connection in self._handshakes.take_ready():
                self._attempt(self._continue_handshake, connection)
        if self._table.handshaking:
            for connection in self._handshakes.overdue(self._table.handshaking):
                self._fail_handshake(connection, "it took too long")
        if self._table.throttled:
            for connection in self._throttle.due(self._table.throttled):
                if connection.state is THROTTLED:
                    self._attempt(self._answer, connection)
        if self._table.awaiting_memory:
            self._follow_memory()
            self._holders.end_long_waits()

    def _attempt(self, act: Callable[[Connection], None], connection: Connection) -> None:
        """Call `act` with a connection; after an unexpected error, close only that connection."""
        try:
            act(connection)
        except Exception as error:
            self.drop(connection, error)

    def _serve_other_threads(self) -> None:
        """Handle requests of other threads: adopt sockets, resume protocols, send replies that the journal releases."""
        self._wake_up.clear()
        while self._adopted:
            self._open(*self._adopted.popleft())
        while self._to_resume:
            self._pause(self._to_resume.popleft())
        self._release_saved()
        self._follow_memory()

    def _follow_memory(self) -> None:
        """Do what follows from the memory that connections and the journal keep; read again from those that wait."""
        self._holders.adjust()
        self._holders.follow_journal()
        for connection in self._holders.released():
            self._enter(connection, READING)
            if connection.protocol.paused:
                self._enter(connection, PAUSED)

    def _pause(self, fd: int) -> None:
        """Mark a connection as paused, so that it is resumed after its current state."""
        connection = self._table.by_fd.get(fd)
        if connection is not None:
            connection.protocol.paused = True
            if connection.state is READING:
                self._enter(connection, PAUSED)

    def _commit(self) -> None:
        """Have the journal save the writes of the last turns, and send the replies that waited for them."""
        assert self._journal is not None
        self._commits.stop()
        self._journal.commit()
        self._release_saved()

    def _release_saved(self) -> None:
        """Send the replies whose writes the journal has saved or rejected."""
        journal, waiting = self._journal, self._table.awaiting_journal
        if journal is None or not waiting:
            return
        if self._held is not None and not journal.refuses:
            self._held.release()
            return
        for connection in [c for c in waiting if journal.refuses or not journal.must_wait(c.release_at)]:
            self.release(connection)

    def _close_idle(self) -> None:
        """Close the connections that have been idle for too long. Checks once a second."""
        now = self._clock.now
        if now == self._idle_checked_at:
            return
        self._idle_checked_at = now
        for connection in [c for c in self.connections if c.is_idle(now, self._idle_timeout)]:
            self.context.totals.count_idle_kick()
            self._close(connection, "idle_timeout")

    def _close_stranger(self, connection: Connection) -> None:
        """Close a connection that has not logged in in time."""
        self.context.totals.count_login_timeout()
        self.context.log.say_rarely(
            "login timeout",
            f"closed a connection from {client_network(connection.peer)}: it did not log in within "
            f"{self.context.settings.login_timeout} seconds",
        )
        self._close(connection)

    # Opening and closing connections

    def _open(self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None) -> None:
        """Begin to serve a new client; close its socket if the poller can't watch it."""
        fd = sock.fileno()
        try:
            sock.setblocking(False)
            self._poller.register(fd, READABLE)
        except OSError as error:
            self.context.log.say(f"<{fd} can't be served, and is closed: {error.strerror}", Level.WARNING)
            self._addresses.close(fd)
            self.context.totals.close()
            sock.close()
            return
        set_tcp_options(sock)
        session = self._new_session(sock, listener_class, dialect)
        connection = Connection(sock, session, self._clock.now)
        self._table.add(connection)
        self._watchers.opened(fd, connection.peer)
        self._log_opened(connection, dialect)
        if connection.state is HANDSHAKE:
            self._handshakes.start(connection)
        else:
            self._throttle.secured(fd)

    def _new_session(
        self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None
    ) -> Session:
        """Return the session of a new connection."""
        fd, origin, throttle = sock.fileno(), origin_of(sock, listener_class), self._throttle
        if dialect is None:
            return Undecided(self.context, fd, throttle.attempts(sock), partial(self._settle, fd), origin)
        users = throttle.attempts(sock) if dialect.asks_for_login(listener_class) else None
        session = dialect.make(self.context, fd, users, origin)
        self._limits.apply(session)
        return session

    def _log_opened(self, connection: Connection, dialect: Dialect | None) -> None:
        if self.context.log.verbosity == 0:
            return
        kind = KINDS[self.context.settings.binding_protocol]
        opening = f"new {kind} client connection" if dialect is None else dialect.opening
        origin = f" from {address_text(connection.peer)}" if connection.peer else ""  # a unix socket has none
        self.context.log.event(f"<{connection.fd} {opening}{origin}")

    def _settle(self, fd: int, protocol: Session) -> None:
        """Set a connection's protocol, once its first byte has decided which."""
        self._table.by_fd[fd].protocol = protocol
        self._limits.apply(protocol)

    def _close(self, connection: Connection, reason: str = "error") -> None:
        """Close a connection and release its resources; do nothing if it is already closed."""
        before = connection.state
        if before is CLOSING:
            return
        self._table.remove(connection)
        self._latency.waiting.pop(connection, None)
        self._throttle.closed(connection.fd)
        if connection.protocol.watcher is not None:
            self._watchers.remove(connection.protocol.watcher)
        self._watchers.closed(connection.fd, connection.peer, reason)
        self.context.log.event(f"<{connection.fd} connection closed.")
        connection.protocol.close()
        connection.unsent = None
        self._holders.forget(connection)
        if before is HANDSHAKE:
            self._handshakes.forget(connection)
        elif connection.tls is not None:
            connection.tls.say_goodbye()
        self._addresses.close(connection.fd)
        self.context.totals.close()  # before the client can notice the close
        connection.socket.close()

    def _enter(self, connection: Connection, state: State) -> None:
        """Put a connection into a state, and count what it keeps there. It may be closed for memory then."""
        self._table.enter(connection, state)
        if state is not READING or connection.counted_bytes:
            self._holders.count(connection)

    # Handlers of the states, and transitions

    def _queue_handshake(self, connection: Connection) -> None:
        """Let the handshake go on when its turn comes, as many of them at once would hold up the others."""
        self._table.watch_for_nothing(connection)
        self._handshakes.add_ready(connection)

    def _continue_handshake(self, connection: Connection) -> None:
        """Continue the handshake; once it is over, wait for requests."""
        try:
            is_over = self._handshakes.step(connection)
        except OSError as error:
            self._fail_handshake(connection, str(error))
            return
        if is_over:
            self._throttle.secured(connection.fd)
            self._enter(connection, READING)
        else:
            self._table.watch(connection)

    def _fail_handshake(self, connection: Connection, reason: str) -> None:
        self._handshakes.fail(connection, reason)
        self._close(connection)

    def _resume(self, connection: Connection) -> None:
        """Give a paused connection its next turn."""
        journal = self._journal
        before = 0 if journal is None else journal.own_position()
        connection.protocol.resume()
        if journal is not None and journal.own_position() != before and not journal.append():
            self._answer_once_saved(connection)
        else:
            self._answer(connection)

    def _answer_unsaved(self) -> None:
        """Have the journal write what this turn's requests have changed, and send their replies; or let these wait."""
        assert self._journal is not None
        unsaved, self._unsaved = self._unsaved, []
        answer = self._answer if self._journal.append() else self._answer_once_saved
        for connection in unsaved:
            if connection.state is WAITING_FOR_MEMORY:  # another one's turn has held it back
                self._enter(connection, READING)
            if connection.state is not CLOSING:  # or closed it for memory
                self._attempt(answer, connection)

    def _answer_once_saved(self, connection: Connection) -> None:
        """Send the replies once the journal has the writes."""
        journal = self._journal
        assert journal is not None
        position = journal.own_position()
        if not journal.must_wait(position):
            self._answer(connection)
            return
        journal.waits += 1
        connection.release_at = position
        self._wait_for_journal(connection)
        self._commits.start()
        has_moved = journal.refuses or not journal.must_wait(position)  # it may move without a wake-up
        if has_moved and connection.state is WAITING_FOR_JOURNAL:
            self._release(connection)

    def _wait_for_journal(self, connection: Connection) -> None:
        self._enter(connection, WAITING_FOR_JOURNAL)

    def _release(self, connection: Connection) -> None:
        """Send the replies after the wait for the journal; send an error instead if the journal rejected the write."""
        journal, position = self._journal, connection.release_at
        connection.release_at = 0
        if journal is not None and journal.must_wait(position):
            connection.protocol.take_back()
        self._answer(connection)

    def _answer(self, connection: Connection) -> None:
        """Send the replies, unless a failed login delays them, and enter the next state."""
        if connection.held_until and self._throttle.holds(connection):
            self._enter(connection, THROTTLED)
            return
        try:
            connection.send()
        except OSError as error:
            self.broken(connection, error)
            return
        if self._latency.waiting:
            self._latency.sent(connection)
        protocol = connection.protocol
        if connection.unsent is not None:
            self._enter(connection, WAITING_FOR_SOCKET)
        elif protocol.closing:
            self._close(connection, protocol.close_reason)
        elif protocol.paused:
            self._enter(connection, PAUSED)
        else:
            if connection.state is not READING:
                self._table.enter(connection, READING)
            if connection.counted_bytes or protocol.is_amid_request or protocol.watcher is not None:
                self._count_input(connection)

    def _count_input(self, connection: Connection) -> None:
        """Count what an unfinished request keeps, and read no more of it where memory is short."""
        self._holders.count(connection)
        if connection.state is READING and self._holders.must_wait(connection):
            self._holders.hold_back(connection)

    def _wait_for_socket(self, connection: Connection) -> None:
        """Wait until the socket accepts the rest of the replies or, if there is none, until TLS can continue."""
        if connection.unsent is not None:
            self._enter(connection, WAITING_FOR_SOCKET)
        else:
            self._table.watch(connection)
