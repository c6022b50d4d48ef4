"""One client's connection: its state, what it has to send, and how it reads and writes."""

from __future__ import annotations

import contextlib
import enum
import os
import socket
from typing import TYPE_CHECKING

from memcache_kv.protocol.session import FIRST_READ_BYTES, READ_BYTES
from memcache_kv.server.poller import NOTHING, READABLE, WRITABLE
from memcache_kv.stats.connections import ConnectionStatus

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session
    from memcache_kv.server.tls import TlsStream

GATHER_BYTES = 128 * 1024
"""Values of more than this in one turn are sent from where they are: to copy them together costs more."""
GATHER_PIECES = 1024
"""How many pieces one system call takes."""


class State(enum.Enum):
    """What a connection waits for. `TRANSITIONS` says which state may follow which, `WATCHED` what the poller reports.

    Only READING reads requests. `Session.closing` is no state: it says that CLOSING follows once the replies are sent.
    """

    HANDSHAKE = enum.auto()
    """It waits for the next step of the TLS handshake. READING follows, or CLOSING when the handshake fails or takes
    too long. The poller watches for what the TLS library asks for: readable or writable."""
    READING = enum.auto()
    """It waits for requests, and every reply is sent. What the requests do decides what follows; nothing changes where
    they are answered at once. The poller watches for readable; under TLS for what the library asks for."""
    WAITING_FOR_JOURNAL = enum.auto()
    """Its replies acknowledge changes up to `release_at`, which the journal does not have yet. It ends when the journal
    has them or rejects them. The poller watches for nothing."""
    WAITING_FOR_SOCKET = enum.auto()
    """The socket took only a part of the replies; the rest is `unsent`. It ends when all replies are sent. The poller
    watches for writable."""
    WAITING_FOR_MEMORY = enum.auto()
    """It keeps much of an unfinished request, and the memory of all connections is short. It ends when there is enough
    again; at `give_up_at` others are closed for it. The poller watches for nothing."""
    PAUSED = enum.auto()
    """It has more to do without new input, and the other connections come first. It ends with its next turn. The poller
    watches for nothing."""
    THROTTLED = enum.auto()
    """Its replies are held back until `held_until`, as a login failed. It ends at that time. The poller watches for
    nothing."""
    CLOSING = enum.auto()
    """The worker releases what it holds. This is the last state, and it waits for nothing."""

    __hash__ = object.__hash__  # the enum's own runs Python code for every look-up in a dict


HANDSHAKE, READING, WAITING_FOR_JOURNAL, WAITING_FOR_SOCKET, WAITING_FOR_MEMORY, PAUSED, THROTTLED, CLOSING = State
# Before Python 3.12, `State.READING` is slow.

ONCE_ANSWERED = frozenset((WAITING_FOR_SOCKET, READING, PAUSED, CLOSING))
"""The states that follow when replies are sent, or when the socket does not take them."""

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
"""What `stats conns` calls each state, in memcached's words. For the others the protocol says what it expects."""


class IllegalTransition(Exception):
    """A connection was to enter a state that can't follow its present one: a fault of the server."""


class Connection:
    """A socket, its protocol, its state, and what waits to be sent. Touched only by the worker that owns it."""

    __slots__ = (
        "socket", "fd", "protocol", "state", "watched", "unsent", "release_at", "held_until", "give_up_at",
        "last_active", "peer", "tls", "counted_bytes",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, protocol: Session, now: int) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.protocol = protocol
        self.tls = _tls_stream(sock)
        """What it reads and writes through; None is the descriptor itself."""
        self.state = READING if self.tls is None else HANDSHAKE
        """What it waits for. To change it, call `enter`."""
        self.watched = READABLE
        """What the poller was asked to watch for."""
        self.unsent: memoryview | None = None
        """The rest of a reply that the socket did not take."""
        self.release_at = 0
        """The position of the journal that the replies wait for; 0 while they wait for none."""
        self.held_until = 0.0
        """When the replies that failed logins hold back are sent; 0 where no login failed."""
        self.give_up_at = 0.0
        """When an unfinished handshake is given up; when others are closed for one that waits for memory."""
        self.counted_bytes = 0
        """How many of the bytes that it keeps count as connection memory; 0 where it keeps little."""
        self.last_active = now
        """When the last input came; at first, when the connection was opened."""
        self.peer = peer_of(sock)
        """The address of its other end; "" for a unix socket's, and where the client was gone at once."""

    # The state

    def enter(self, state: State) -> None:
        """Go into another state. Raises IllegalTransition where the table does not allow it."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"{self.state.name} to {state.name}")
        self.state = state

    def kept_bytes(self) -> int:
        """Return how many bytes of input and replies it keeps. A piece of a reply counts until it is sent whole."""
        unsent = self.unsent
        return self.protocol.kept_bytes + (0 if unsent is None else memoryview(unsent.obj).nbytes)

    # Input and output

    def read_rest(self, data: bytes) -> bytes:
        """Return what was read with what a short read has left; from then on, reads are long.

        The first reads are short. A client that fills one sends much at once.
        """
        if self.tls is None and self.protocol.want == FIRST_READ_BYTES:
            self.protocol.want = READ_BYTES
            with contextlib.suppress(OSError):  # nothing was left; or it is broken, which the next read finds too
                data += os.read(self.fd, READ_BYTES)
        return data

    def send(self) -> None:
        """Send the rest of earlier replies, then those that the protocol has ready, as far as the socket takes them.

        The rest of what it does not take is `unsent`. Raises OSError where the connection is broken.
        """
        protocol = self.protocol
        data: bytes | memoryview | None = self.unsent
        while data is not None or protocol.out:
            if data is None:
                out = protocol.out
                # Not under TLS: the library wants to be given again exactly what it did not send.
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
        """Send replies with large values from where they are, instead of copying them into one piece first."""
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

    # What others are told

    def is_idle(self, now: int, seconds: int) -> bool:
        """Tell whether nothing is under way here, and nothing came for more than these seconds."""
        return self._idle_seconds(now) > seconds and self._reported_state() == "conn_read"

    def status(self, now: int, serving: bool = False) -> ConnectionStatus:
        """Return what `stats conns` shows. May be called by any thread.

        serving: whether it is this connection's request that asks.
        """
        state = "conn_parse_cmd" if serving else self._reported_state()
        try:
            local = self.socket.getsockname()
        except OSError:  # its worker has closed it meanwhile
            local = ""
        return ConnectionStatus(
            self.fd, address_text(self.peer or local), address_text(local), state, self._idle_seconds(now)
        )

    def _idle_seconds(self, now: int) -> int:
        return now - self.last_active

    def _reported_state(self) -> str:
        """Name its state in memcached's words."""
        if self.protocol.watcher is not None:
            return "conn_watch"
        return REPORTED.get(self.state) or self.protocol.state


def _tls_stream(sock: socket.socket) -> TlsStream | None:
    """Return what speaks TLS on a socket that is for it; None for a plain one, which needs none of that loaded."""
    if type(sock) is socket.socket:
        return None
    import ssl

    from memcache_kv.server.tls import TlsStream

    return TlsStream(sock) if isinstance(sock, ssl.SSLSocket) else None


def set_tcp_options(sock: socket.socket) -> None:
    """Have a TCP socket send replies at once and notice a client that is gone; leave a unix socket as it is."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # macOS: the client has left already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def peer_of(sock: socket.socket) -> object:
    """Return the address of a socket's other end; "" where there is none any more."""
    try:
        return sock.getpeername()
    except OSError:  # it has left already, which its first read finds too
        return ""


def address_text(address: object) -> str:
    """Write a socket address as `stats conns` does: tcp:127.0.0.1:11211, tcp6:[::1]:11211, unix:/path."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"tcp6:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
    return f"unix:{os.fsdecode(address) if isinstance(address, bytes) else address}"
