"""A thread that serves many connections from one loop."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

from memcache_kv.auth.users import FailedLogins, LoginAttempts, Users, client_network
from memcache_kv.protocol import Context
from memcache_kv.protocol.negotiate import Undecided
from memcache_kv.protocol.session import FIRST_READ_BYTES, READ_BYTES, Session
from memcache_kv.server.connection import Connection, HeldBack, address_text, peer_of
from memcache_kv.server.poller import NOTHING, READABLE, WRITABLE, new_poller
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.threads import ServerThread

if TYPE_CHECKING:
    from memcache_kv.server.tls import Tls

IDLE_SECONDS = 1.0
"""The longest wait for something to do: the clock ticks and a flush falls due at least this often."""
GATHER_BYTES = 128 * 1024
"""Values of more than this in one turn are sent from where they are: to copy them together costs more."""
GATHER_PIECES = 1024
"""What one system call takes."""
DRAIN_SECONDS = 2
"""How long a stopping worker goes on for clients that have not taken their replies."""
KINDS = {"auto": "auto-negotiating", "ascii": "ascii", "binary": "binary"}
HANDSHAKE_SECONDS = 10.0
"""How long a client may take over its TLS handshake."""


class Worker(ServerThread):
    """Own some of the connections: read, let the protocol answer, send; one loop, never blocking on a client.

    Only this thread touches its connections, their protocols and its poller. Other threads may call `adopt`, `wake`,
    `resume_later`, `stop`, `statuses` and, in the end, `close`. Of shared things it uses the store and the watchers
    (which have locks), the journal's queue and the clock.

    A client that does not read is not read from; one whose change must reach the disk first is answered when
    the journal says so. Both keep at most one turn's replies. One that asks for nothing is closed after a while, where
    idle_timeout says so.

    A TLS handshake goes on whenever the socket is ready for its next step, and is given up after a while. The answer to
    one login too many is held back, as if the socket had no room for it.

    users: those who may log in; None asks for no login; failed_logins: who failed to; tls: counts of the handshakes.
    """

    __slots__ = (
        "_users", "_failed_logins", "_tls", "_shaking", "_slowed", "_idle_timeout", "_looked_for_idle", "context",
        "_poller", "_connections", "_adopted", "_paused", "_called", "_parked", "_stopping", "_watchers",
        "_counters", "_journal", "_commit_by", "_clock", "_wake_in", "_wake_out",
    )  # fmt: skip
    # A thread has a dict of its own; with these in it too there would be more than the 30 names up to which the
    # interpreter shares the keys of such dicts, and each request would take 0.15 microseconds more.

    def __init__(
        self,
        context: Context,
        users: Users | None = None,
        failed_logins: FailedLogins | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__("worker")
        self._users = users
        self._failed_logins = failed_logins if failed_logins is not None else FailedLogins()
        self._tls = tls
        self._shaking: dict[Connection, float] = {}
        """Connections in their handshake, and when each is given up; those that came first stand first."""
        self._slowed: dict[Connection, float] = {}
        """Connections whose replies are held back, and until when."""
        self._idle_timeout = context.settings.idle_timeout
        self._looked_for_idle = 0
        self.context = context
        self._clock, self._counters, self._journal = context.clock, context.counters, context.journal
        self._poller = new_poller()
        self._connections: dict[int, Connection] = {}
        self._adopted: deque[socket.socket] = deque()
        self._paused: deque[Connection] = deque()
        self._called: deque[int] = deque()
        """Numbers of connections whose protocols have something to send."""
        self._parked: dict[int, Connection] = {}
        """Connections whose replies wait for the journal."""
        self._commit_by = 0.0
        """When the journal is asked to write what they wait for; 0: it was asked."""
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._poller.register(self._wake_in, READABLE)
        self._stopping = False
        self._watchers = context.observers.watchers
        context.resume_later = self.resume_later
        if context.journal is not None:
            context.journal.watch(self._journal_moved)

    # For other threads

    def adopt(self, sock: socket.socket) -> None:
        """Take over an accepted, counted socket. Returns at once."""
        self._adopted.append(sock)
        self.wake()

    def wake(self) -> None:
        """Make the loop look around now."""
        try:
            os.write(self._wake_out, b"w")
        except BlockingIOError:
            pass  # it is full of wake-ups already

    def resume_later(self, fd: int) -> None:
        """Let the protocol of the connection of this number go on, as soon as its turn comes. Returns at once."""
        self._called.append(fd)
        self.wake()

    def stop(self) -> None:
        """Ask the worker to send what is ready, close its connections and end; `join` to wait for it."""
        self._stopping = True
        self.wake()

    def close(self) -> None:
        """Give back what `wake` uses, after the thread has ended and when nobody calls `wake` any more."""
        os.close(self._wake_in)
        os.close(self._wake_out)

    def statuses(self, asking: int) -> Iterable[ConnectionStatus]:
        """Tell about the connections, for `stats conns`, which the one of this number asks for."""
        now = self.context.clock.now
        return [connection.status(now, connection.fd == asking) for connection in list(self._connections.values())]

    def _journal_moved(self) -> None:
        if self._parked and get_ident() != self.ident:
            self.wake()

    # The loop

    def work(self) -> None:
        """Serve until told to stop, then send what can be sent and close; close after a fault of ours too."""
        try:
            while not self._stopping:
                self._turn(0 if self._paused or self._commit_by else IDLE_SECONDS)
            give_up_at = time.monotonic() + DRAIN_SECONDS  # the context's clock may have been stopped
            while self._has_unsent() and time.monotonic() < give_up_at:
                self._turn(0.05)
        finally:
            while self._adopted:  # came with the stop
                self._open(self._adopted.popleft())
            for connection in list(self._connections.values()):
                self._close(connection)
            self._poller.close()

    def _has_unsent(self) -> bool:
        """Tell whether somebody's replies have not left; lines that somebody watches with are not waited for."""
        unsent = (c.unsent is not None and c.protocol.watcher is None for c in self._connections.values())
        return bool(self._parked or self._paused) or any(unsent)

    def _turn(self, timeout_seconds: float) -> None:
        """Serve once everybody who is ready.

        A connection with one usual request is served here, without a detour: two calls and three counts for each are
        0.3 of the microsecond that such a request costs beside its system calls.
        """
        events = self._poller.poll(timeout_seconds)
        if self._clock.tick():
            self.context.store.new_second()
        connections, read, write, now = self._connections, os.read, os.write, self._clock.now
        is_quick = self._journal is None or not self._journal.delays
        received = sent = 0
        for fd, ready in events:
            connection = connections.get(fd)
            if connection is None or ready != READABLE or connection.waiting or connection.stream or not is_quick:
                self._serve(fd, connection, ready)
                continue
            reply, protocol = b"", connection.protocol
            try:
                data = read(fd, protocol.want)
                reply = protocol.answer_lone(data)
                if reply:
                    received += len(data)
                    connection.last_active = now
                    count = write(fd, reply)
                    sent += count
                    if count != len(reply):
                        self._keep_unsent(connection, memoryview(reply)[count:])
                    continue
            except BlockingIOError:
                if reply:
                    self._keep_unsent(connection, memoryview(reply))
                continue
            except OSError as error:
                self._broken(connection, error)
                continue
            except Exception as error:  # a fault of ours, or no memory: it must not cost the other connections
                self._drop(connection, error)
                continue
            self._count_bytes(received, sent)  # the next request may be `stats`
            received = sent = 0
            self._serve(fd, connection, ready, data)
        self._count_bytes(received, sent)
        self._resume_paused()
        if self._commit_by and (not events or time.monotonic() > self._commit_by):
            self._commit()
        if self._idle_timeout > 0:
            self._close_idle()
        if self._shaking:
            self._give_up_handshakes()
        if self._slowed:
            self._let_go()

    def _count_bytes(self, received: int, sent: int) -> None:
        self._counters.bytes_read += received
        self._counters.bytes_written += sent

    def _serve(self, fd: int, connection: Connection | None, ready: int, data: bytes | None = None) -> None:
        """Deal with one event in the general way.

        data: what was read already, which is nothing at the end of input; None where nobody has read yet.
        """
        if connection is None:
            if fd == self._wake_in:
                self._look_around()
            return
        try:
            if data is not None:
                self._take(connection, data)
            elif ready == READABLE and not connection.waiting:
                self._read(connection)
            else:
                self._other_event(connection, ready)
        except Exception as error:
            self._drop(connection, error)

    def _resume_paused(self) -> None:
        """Give those who have more to do, and wait for it since the last turn, their next."""
        for _ in range(len(self._paused)):
            connection = self._paused.popleft()
            if self._connections.get(connection.fd) is connection:
                try:
                    self._resume(connection)
                except Exception as error:
                    self._drop(connection, error)

    def _commit(self) -> None:
        """Have the changes of the last turns written, once for all; answer those that the journal has by now.

        That is done once nobody has more to ask, or after as long as an fsync takes: the more share one, the better.
        """
        assert self._journal is not None
        self._commit_by = 0.0
        self._journal.commit()
        self._release_saved()

    def _release_saved(self) -> None:
        """Answer those whose changes the journal has, or does not take."""
        journal = self._journal
        if journal is not None:
            for connection in [c for c in self._parked.values() if journal.refuses or not journal.holds(c.release_at)]:
                self._release(connection)

    def _close_idle(self) -> None:
        """Close the connections whose clients have asked for nothing for too long; once a second."""
        now = self._clock.now
        if now == self._looked_for_idle:
            return
        self._looked_for_idle = now
        for connection in [c for c in self._connections.values() if c.is_idle(now, self._idle_timeout)]:
            self.context.totals.count_idle_kick()
            self._close(connection, "idle_timeout")

    def _look_around(self) -> None:
        """Do what other threads woke us for: take over new sockets, answer those the journal has released."""
        try:
            os.read(self._wake_in, 4096)
        except BlockingIOError:
            pass
        while self._adopted:
            self._open(self._adopted.popleft())
        while self._called:
            self._call(self._called.popleft())
        self._release_saved()

    def _call(self, fd: int) -> None:
        """Give a connection another turn, after what is under way there."""
        connection = self._connections.get(fd)
        if connection is None:
            return
        connection.protocol.paused = True
        if not connection.waiting:
            connection.waiting = True
            self._paused.append(connection)

    def _open(self, sock: socket.socket) -> None:
        """Begin to serve a new client; where the system does not let us wait for its requests, close it."""
        fd = sock.fileno()
        try:
            sock.setblocking(False)
            self._poller.register(fd, READABLE)
        except OSError as error:
            self.context.log.say(f"<{fd} can't be served, and is closed: {error.strerror}")
            self.context.totals.close()
            sock.close()
            return
        if sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # macOS: the client has left already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        undecided = Undecided(self.context, fd, self._new_login_attempts(sock), partial(self._settle, fd))
        connection = Connection(sock, undecided, self._clock.now)
        self._connections[fd] = connection
        self._watchers.opened(fd, connection.peer)
        if self.context.log.verbosity > 0:
            self._log_opened(connection)
        if connection.shaking:
            connection.waiting = True
            self._shaking[connection] = time.monotonic() + HANDSHAKE_SECONDS

    def _log_opened(self, connection: Connection) -> None:
        kind = KINDS[self.context.settings.binding_protocol]
        origin = f" from {address_text(connection.peer)}" if connection.peer else ""  # on a unix socket there is none
        self.context.log.event(f"<{connection.fd} new {kind} client connection{origin}")

    def _new_login_attempts(self, sock: socket.socket) -> LoginAttempts | None:
        """Make what a connection's protocol asks about logins; None where there are none."""
        if self._users is None:
            return None
        fd = sock.fileno()
        return LoginAttempts(
            self._users,
            self._failed_logins,
            client_network(peer_of(sock)),
            partial(self._slow, fd),
            self.context.log.say,
        )

    def _settle(self, fd: int, protocol: Session) -> None:
        """Give a connection the protocol that its first byte decided on."""
        self._connections[fd].protocol = protocol

    def _close(self, connection: Connection, reason: str = "error") -> None:
        if self._connections.pop(connection.fd, None) is None:
            return
        if connection.protocol.watcher is not None:
            self._watchers.remove(connection.protocol.watcher)
        self._watchers.closed(connection.fd, connection.peer, reason)
        self._parked.pop(connection.fd, None)
        self._shaking.pop(connection, None)
        self._slowed.pop(connection, None)
        self.context.log.event(f"<{connection.fd} connection closed.")
        self._poller.unregister(connection.fd)
        connection.protocol.close()
        if connection.tls is not None and not connection.shaking:
            connection.tls.say_goodbye()
        self.context.totals.close()  # before the client can see its end
        connection.socket.close()

    def _drop(self, connection: Connection, error: Exception) -> None:
        """Close a connection that we failed to serve, and say why."""
        self.context.log.failure_rarely(f"<{connection.fd} dropped after an error of the server", error)
        self._close(connection)

    # One connection

    def _read(self, connection: Connection) -> None:
        """Read what is there once, and answer it."""
        protocol, stream = connection.protocol, connection.stream
        try:
            if stream is None:
                data = os.read(connection.fd, protocol.want)
            else:
                data = stream.read(max(protocol.want, READ_BYTES))
        except BlockingIOError:
            if connection.tls is not None:
                self._poller.modify(connection.fd, connection.tls.wants)
        except OSError as error:
            self._broken(connection, error)
        else:
            self._take(connection, data)

    def _take(self, connection: Connection, data: bytes) -> None:
        """Answer what was read."""
        if not data:
            self._close(connection, "normal" if connection.protocol.watcher is None else "error")
            return
        protocol = connection.protocol
        if len(data) == protocol.want == FIRST_READ_BYTES and connection.stream is None:
            data += self._read_rest(connection)
        self._counters.bytes_read += len(data)
        connection.last_active = self._clock.now
        journal = self._journal
        if journal is None or not journal.delays:
            protocol.receive(data)
            self._answer(connection, connection.protocol)  # another one, if this was the first input
        else:
            before = journal.mine()
            protocol.receive(data)
            self._answer_after(connection, before)

    def _read_rest(self, connection: Connection) -> bytes:
        """Read what a short read has left, and read no more short ones from a client that sends so much."""
        connection.protocol.want = READ_BYTES
        with contextlib.suppress(OSError):  # nothing was left; or it is broken, which the next read finds too
            return os.read(connection.fd, READ_BYTES)
        return b""

    def _resume(self, connection: Connection) -> None:
        """Give a connection with more to do its next turn."""
        journal = self.context.journal
        before = 0 if journal is None else journal.mine()
        connection.protocol.resume()
        self._answer_after(connection, before)

    def _answer_after(self, connection: Connection, before: int) -> None:
        """Answer now, or when the journal has come far enough if this thread has added to it since `before`."""
        journal = self.context.journal
        if journal is None or (position := journal.mine()) == before or not journal.holds(position):
            self._answer(connection, connection.protocol)
            return
        journal.waits += 1
        connection.release_at = position
        connection.waiting = True
        self._parked[connection.fd] = connection
        if not self._commit_by:
            self._commit_by = time.monotonic() + journal.average_sync_seconds
        if journal.refuses or not journal.holds(position):  # it moved in between, and woke nobody
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        """Answer after a wait; whose change the disk did not take is told so."""
        journal, position = self.context.journal, connection.release_at
        del self._parked[connection.fd]
        connection.release_at = 0
        if journal is not None and journal.holds(position):
            connection.protocol.take_back()
        self._answer(connection, connection.protocol)

    def _answer(self, connection: Connection, protocol: Session) -> None:
        """Send what the connection's protocol has ready; then see whether the connection goes on."""
        out = protocol.out
        if out:
            stream = connection.stream
            # Not through a stream: what TLS did not send must be offered again as it was.
            if protocol.turn_bytes > GATHER_BYTES and len(out) <= GATHER_PIECES and stream is None:
                self._send_large(connection)
                return
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            try:
                sent = os.write(connection.fd, data) if stream is None else stream.write(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._broken(connection, error)
                return
            self._counters.bytes_written += sent
            if sent != len(data):
                self._keep_unsent(connection, memoryview(data)[sent:])
                return
        if connection.waiting or protocol.paused or protocol.closing:
            self._go_on(connection)

    def _send_large(self, connection: Connection) -> None:
        """Send replies with large values from where they are, instead of copying them into one piece first."""
        protocol = connection.protocol
        pieces, protocol.out, protocol.turn_bytes = protocol.out, [], 0
        try:
            sent = os.writev(connection.fd, pieces)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(connection, error)
            return
        self._counters.bytes_written += sent
        for number, piece in enumerate(pieces):
            if sent < len(piece):
                protocol.out = pieces[number + 1 :]  # for `_answer`, once the rest of this one has left
                self._keep_unsent(connection, memoryview(piece)[sent:])
                return
            sent -= len(piece)
        if connection.waiting or protocol.paused or protocol.closing:
            self._go_on(connection)

    def _keep_unsent(self, connection: Connection, rest: memoryview) -> None:
        """Send the rest once the socket takes more; nothing is read meanwhile."""
        connection.unsent = rest
        connection.waiting = connection.muted = True
        self._poller.modify(connection.fd, NOTHING if connection in self._slowed else WRITABLE)

    def _go_on(self, connection: Connection) -> None:
        """Close, queue for another turn, or read again, now that the replies have left."""
        if connection.protocol.closing:
            self._close(connection, connection.protocol.close_reason)
        elif connection.protocol.paused:
            connection.waiting = True
            self._paused.append(connection)
        else:
            connection.waiting = False
            if connection.muted:
                connection.muted = False
                self._poller.modify(connection.fd, READABLE)

    def _other_event(self, connection: Connection, ready: int) -> None:
        """Deal with a socket that takes more, that hung up, or that has input while replies wait.

        A hang-up alone does not close it: what was sent before is carried out, and the end is found in its place.
        """
        if connection.shaking:
            self._shake_hands(connection)
        elif connection.unsent is not None:
            self._send_rest(connection)
        elif not connection.waiting:
            self._read(connection)  # a hang-up shows itself as the end of input
        elif not connection.muted:
            connection.muted = True
            self._poller.modify(connection.fd, NOTHING)

    def _send_rest(self, connection: Connection) -> None:
        assert connection.unsent is not None
        try:
            stream, data = connection.stream, connection.unsent
            sent = os.write(connection.fd, data) if stream is None else stream.write(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(connection, error)
            return
        self.context.counters.bytes_written += sent
        if sent < len(connection.unsent):
            connection.unsent = connection.unsent[sent:]
            return
        connection.unsent = None
        self._poller.modify(connection.fd, NOTHING)  # or it would be told again and again that there is room
        self._answer(connection, connection.protocol)

    def _broken(self, connection: Connection, error: OSError) -> None:
        """Close a connection that can't be read from or written to."""
        if self._tls is not None and self._tls.has_failed(error):
            self._tls.count("proto_errors")
            self.context.log.event(f"<{connection.fd} TLS failed: {error}")
        else:
            self.context.log.event(f"<{connection.fd} broken: {error.strerror or error}")
        self._close(connection)

    # Handshakes

    def _shake_hands(self, connection: Connection) -> None:
        """Take the handshake a step further; once it is over, read."""
        tls = connection.tls
        assert tls is not None
        try:
            done = tls.shake_hands()
        except OSError as error:
            self._refuse(connection, str(error))
            return
        self._poller.modify(connection.fd, tls.wants)
        if done:
            del self._shaking[connection]
            connection.shaking = connection.waiting = False
            if self._tls is not None and not tls.resumed:
                self._tls.count("new_sessions")
            self._read(connection)

    def _give_up_handshakes(self) -> None:
        """Close the connections whose clients took too long over their handshakes."""
        now = time.monotonic()
        while self._shaking:
            connection, give_up_at = next(iter(self._shaking.items()))
            if give_up_at > now:
                return
            self._refuse(connection, "it took too long")

    def _refuse(self, connection: Connection, why: str) -> None:
        if self._tls is not None:
            self._tls.count("handshake_errors")
        self.context.log.event(f"<{connection.fd} TLS handshake failed: {why}")
        self._close(connection)

    # Logins that failed

    def _slow(self, fd: int, seconds: float, ends: bool) -> None:
        """Hold a connection's replies back for so long, in addition to what it waits for already; then close it."""
        connection = self._connections[fd]
        if ends:
            connection.protocol.closing = True
        if seconds:
            connection.stream = HeldBack()
            self._slowed[connection] = max(self._slowed.get(connection, 0), time.monotonic()) + seconds

    def _let_go(self) -> None:
        """Send what was held back for long enough."""
        now = time.monotonic()
        for connection in [c for c, until in self._slowed.items() if until <= now]:
            del self._slowed[connection]
            connection.stream = connection.tls
            if connection.unsent is not None:
                self._poller.modify(connection.fd, WRITABLE)
