"""One client's connection: its state, its unsent replies, and how it reads and writes."""

from __future__ import annotations

import contextlib
import enum
import os
from typing import TYPE_CHECKING

from memcache_kv.auth.access import CommandClass, Origin, is_loopback
from memcache_kv.protocol.session import FIRST_READ_BYTES, READ_BYTES
from memcache_kv.server.poller import NOTHING, READABLE, WRITABLE
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.unpatched import socket

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session
    from memcache_kv.server.tls import TlsStream

GATHER_BYTES = 128 * 1024
"""If a turn's values have more bytes than this, they are sent with `writev`: joining them first would be slower."""
GATHER_PIECES = 1024
"""How many pieces one `writev` accepts."""


class State(enum.Enum):
    """What a connection waits for. `TRANSITIONS` lists the states that may follow, `WATCHED` what the poller reports.

    Requests are read only in READING. `Session.closing` is not a state: it says that CLOSING follows once the replies
    are sent.
    """

    HANDSHAKE = enum.auto()
    """The connection waits for the next step of the TLS handshake. READING follows, or CLOSING if the handshake fails
    or takes too long. The poller watches for what the TLS library asks for: readable or writable."""
    READING = enum.auto()
    """The connection waits for requests, and all replies are sent. The state does not change while requests are
    answered at once. The poller watches for readable; with TLS, for what the library asks for."""
    WAITING_FOR_JOURNAL = enum.auto()
    """The replies acknowledge writes up to `release_at`, which the journal does not have yet. The state ends when the
    journal has the writes or rejects them. The poller watches for nothing."""
    WAITING_FOR_SOCKET = enum.auto()
    """The socket accepted only a part of the replies; the rest is `unsent`. The state ends when all replies are sent.
    The poller watches for writable."""
    WAITING_FOR_MEMORY = enum.auto()
    """The connection keeps much of an incomplete request, and the memory of all connections is short. The state ends
    when there is enough again; at `give_up_at` other connections are closed for it. The poller watches for nothing."""
    PAUSED = enum.auto()
    """The connection has more to do without new input, and other connections come first. The state ends with the
    connection's next turn. The poller watches for nothing."""
    THROTTLED = enum.auto()
    """The replies are delayed until `held_until`, as a login failed, or until a thread has checked a password. The
    poller watches for nothing."""
    CLOSING = enum.auto()
    """The worker releases the connection's resources. This is the last state, and it waits for nothing."""

    __hash__ = object.__hash__  # Enum's own __hash__ is Python code, which would run for every dict look-up


HANDSHAKE, READING, WAITING_FOR_JOURNAL, WAITING_FOR_SOCKET, WAITING_FOR_MEMORY, PAUSED, THROTTLED, CLOSING = State
# As module names, because `State.READING` is slow before Python 3.12.

ONCE_ANSWERED = frozenset((WAITING_FOR_SOCKET, READING, PAUSED, CLOSING))
"""The states that may follow once replies are sent or the socket is full."""

TRANSITIONS: dict[State, frozenset[State]] = {
    HANDSHAKE: frozenset((READING, CLOSING)),
    READING: frozenset((WAITING_FOR_JOURNAL, THROTTLED, WAITING_FOR_SOCKET, WAITING_FOR_MEMORY, PAUSED, CLOSING)),
    WAITING_FOR_JOURNAL: ONCE_ANSWERED | {THROTTLED},
    WAITING_FOR_SOCKET: ONCE_ANSWERED,
    WAITING_FOR_MEMORY: frozenset((READING, CLOSING)),
    PAUSED: ONCE_ANSWERED | {WAITING_FOR_JOURNAL, THROTTLED},
    THROTTLED: ONCE_ANSWERED,
    CLOSING: frozenset(),
}
"""The states that may follow each state. WAITING_FOR_SOCKET and PAUSED may follow themselves."""

WATCHED: dict[State, int] = {
    HANDSHAKE: READABLE,
    READING: READABLE,
    WAITING_FOR_JOURNAL: NOTHING,
    WAITING_FOR_SOCKET: WRITABLE,
    WAITING_FOR_MEMORY: NOTHING,
    PAUSED: NOTHING,
    THROTTLED: NOTHING,
    CLOSING: NOTHING,
}
"""What the poller watches for in each state; in the first two, the TLS library may ask for something else."""

REPORTED = {
    HANDSHAKE: "conn_new_cmd",
    WAITING_FOR_JOURNAL: "conn_mwrite",
    WAITING_FOR_SOCKET: "conn_mwrite",
    PAUSED: "conn_new_cmd",
    THROTTLED: "conn_mwrite",
    CLOSING: "conn_closing",
}
"""The name of each state in `stats conns`, as in memcached. The protocol chooses the names of the others."""


CONNECTION_BYTES = 2 * 1024
"""What an idle connection takes, about."""
TLS_BYTES = 44 * 1024
"""What TLS adds, with a record that is being read or written."""
NOT_SENT_OPTION: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
UNSENT_BYTES = 128 * 1024
"""How much of the replies to a client that does not read them the kernel keeps. By default it keeps megabytes, which
count for a cgroup of version 2."""
UNREAD_BYTES = 160 * 1024
"""How much input the kernel keeps of a client whose requests are not read now."""
KERNEL_BYTES = 6 * 1024
"""What the kernel takes for a connection, besides the data in its buffers."""


class IllegalTransition(Exception):
    """The state can't follow the connection's current state: a bug of the server."""


class Connection:
    """A socket, its protocol, its state and its unsent replies. Used only by the worker that owns it.

    now: the current unix time.
    """

    __slots__ = (
        "socket", "fd", "protocol", "state", "watched", "unsent", "release_at", "held_until", "give_up_at",
        "last_active", "peer", "tls", "counted_bytes",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, protocol: Session, now: int) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.protocol = protocol
        self.tls = _tls_stream(sock)
        """The TLS stream to read from and write to; None for a connection without TLS."""
        self.state = READING if self.tls is None else HANDSHAKE
        """What the connection waits for. Call `enter` to change it."""
        self.watched = READABLE
        """What the poller was asked to watch for."""
        self.unsent: memoryview | None = None
        """The rest of a reply that the socket did not accept."""
        self.release_at = 0
        """The journal position that the replies wait for; 0 for none."""
        self.held_until = 0.0
        """When replies delayed by failed logins are sent, in monotonic seconds; 0 without a delay."""
        self.give_up_at = 0.0
        """When an unfinished handshake is given up, or other connections are closed for one that waits for memory; in
        monotonic seconds."""
        self.counted_bytes = 0
        """How many of the kept bytes count as connection memory; 0 if the connection keeps little."""
        self.last_active = now
        """Unix time of the last input, or of the connection's start."""
        self.peer = peer_of(sock)
        """The client's address; "" for a unix socket, or if the client has already disconnected."""

    # The state

    def enter(self, state: State) -> None:
        """Enter another state. Raises IllegalTransition if `TRANSITIONS` does not allow it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"{self.state.name} to {state.name}")
        self.state = state

    def kept_bytes(self) -> int:
        """Return how many bytes of input and replies it keeps. A piece of a reply counts until it is sent whole."""
        unsent = self.unsent
        return self.protocol.kept_bytes + (0 if unsent is None else memoryview(unsent.obj).nbytes)

    # Input and output

    def read_rest(self, data: bytes) -> bytes:
        """Return `data` with the input that a short read has left behind; all later reads are long.

        The first reads of a connection are short. A client that fills one sends much at once.
        """
        if self.tls is None and self.protocol.want == FIRST_READ_BYTES:
            self.protocol.want = READ_BYTES
            with contextlib.suppress(OSError):  # nothing was left, or the connection is broken: the next read fails too
                data += os.read(self.fd, READ_BYTES)
        return data

    def send(self) -> None:
        """Send the rest of earlier replies, then the protocol's replies, as far as the socket accepts them.

        The rest stays in `unsent`. Raises OSError if the connection is broken.
        """
        protocol = self.protocol
        data: bytes | memoryview | None = self.unsent
        while data is not None or protocol.out:
            if data is None:
                out = protocol.out
                # Not with TLS: the library must be given exactly the same bytes again after a failed write.
                if protocol.turn_bytes > GATHER_BYTES and len(out) <= GATHER_PIECES and self.tls is None:
                    self._send_gathered(protocol)
                    return
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
            try:
                sent = os.write(self.fd, data) if self.tls is None else self.tls.write(data)
            except BlockingIOError:
                sent = 0
            protocol.counters.bytes_written += sent
            if sent < len(data):
                self.unsent = memoryview(data)[sent:]
                return
            data = self.unsent = None

    def _send_gathered(self, protocol: Session) -> None:
        """Send replies with large values in one `writev`, instead of joining them first."""
        pieces, protocol.out, protocol.turn_bytes = protocol.out, [], 0
        try:
            sent = os.writev(self.fd, pieces)
        except BlockingIOError:
            sent = 0
        protocol.counters.bytes_written += sent
        for number, piece in enumerate(pieces):
            if sent < len(piece):
                self.unsent = memoryview(piece)[sent:]
                protocol.out = pieces[number + 1 :]  # for the next `send`
                return
            sent -= len(piece)

    # Reports

    def is_idle(self, now: int, seconds: int) -> bool:
        """Return whether no request is under way and no input came for more than `seconds`. now: unix time."""
        return self._idle_seconds(now) > seconds and self._reported_state() == "conn_read"

    def status(self, now: int, serving: bool = False) -> ConnectionStatus:
        """Return the connection's row for `stats conns`. Any thread may call it.

        now: unix time; serving: whether this connection sent the request.
        """
        state = "conn_parse_cmd" if serving else self._reported_state()
        try:
            local = self.socket.getsockname()
        except OSError:  # its worker has just closed it
            local = ""
        return ConnectionStatus(
            self.fd, address_text(self.peer or local), address_text(local), state, self._idle_seconds(now)
        )

    def _idle_seconds(self, now: int) -> int:
        return now - self.last_active

    def _reported_state(self) -> str:
        """Return memcached's name of the state."""
        if self.protocol.watcher is not None:
            return "conn_watch"
        return REPORTED.get(self.state) or self.protocol.state


def _tls_stream(sock: socket.socket) -> TlsStream | None:
    """Return the TLS stream of a TLS socket. None for a plain one, for which the TLS modules are not imported."""
    if type(sock) is socket.socket:
        return None
    from memcache_kv.server.tls import TlsStream
    from memcache_kv.unpatched import ssl

    return TlsStream(sock) if isinstance(sock, ssl.SSLSocket) else None


def set_tcp_options(sock: socket.socket) -> None:
    """Set TCP_NODELAY and SO_KEEPALIVE on a TCP socket, and limit its unsent data; do nothing for a unix socket."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # macOS: the client has already disconnected
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if NOT_SENT_OPTION is not None:
                sock.setsockopt(socket.IPPROTO_TCP, NOT_SENT_OPTION, UNSENT_BYTES)


def peer_of(sock: socket.socket) -> object:
    """Return the address of a socket's other end; "" if the client has already disconnected."""
    try:
        return sock.getpeername()
    except OSError:  # the client has already disconnected: the first read fails too
        return ""


def origin_of(sock: socket.socket, listener_class: CommandClass | None) -> Origin:
    """Return where the client of a socket is. One that is gone already is not local."""
    peer = peer_of(sock)
    if sock.family == socket.AF_UNIX:
        return Origin("unix", True, listener_class)
    is_local = isinstance(peer, tuple) and is_loopback(peer[0])
    return Origin(address_text(peer) if peer else "", is_local, listener_class)


def address_text(address: object) -> str:
    """Format a socket address as in `stats conns`: tcp:127.0.0.1:11211, tcp6:[::1]:11211, unix:/path, unix:@name."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"tcp6:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    name = os.fsdecode(address) if isinstance(address, bytes) else str(address)
    return "unix:" + name.replace("\0", "@")
