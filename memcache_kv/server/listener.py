"""The listening sockets: accept connections, reject those above the limit, hand the others to the workers."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memcache_kv.auth.users import client_network
from memcache_kv.errors import ListenError, StoppedEarly
from memcache_kv.observe.log import Log
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.connection import address_text
from memcache_kv.server.stop_request import StopRequest
from memcache_kv.stats.connections import ConnectionStatus, ConnectionTotals
from memcache_kv.threads import OnFault, ServerThread
from memcache_kv.unpatched import socket, socketserver, time

if TYPE_CHECKING:
    from memcache_kv.auth.access import CommandClass
    from memcache_kv.protocol.dialect import Dialect
    from memcache_kv.server.tls import TlsListener

POLL_SECONDS = 0.25
"""How long a listener that waits for a free connection, or for the journal, may take to notice that it must stop."""
NO_FILES_PAUSE_SECONDS = 0.05
TOO_MANY_CONNECTIONS = b"ERROR Too many open connections\r\n"

HandOver = Callable[[socket.socket, "CommandClass | None", "Dialect | None"], None]


class Listener(socketserver.TCPServer):
    """A TCP or UDP server of the standard library with a thread of its own.

    on_fault: called with an exception that ends that thread; set before `start`.
    """

    transport = "TCP"
    timeout = 0
    """`handle_request` waits for nothing: another process that listens on the same socket may have been faster."""
    log: Log
    on_fault: OnFault | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stop_request = StopRequest()
        self._thread = ServerThread("listener", self._serve)
        self._thread.on_fault = self.on_fault
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the socket. Blocks until done."""
        self._stop_request.set()
        self._thread.join()
        self._stop_request.close()
        self.server_close()

    def _serve(self) -> None:
        with contextlib.suppress(StoppedEarly):
            while True:
                self._stop_request.wait_for_input(self.fileno())
                self.handle_request()

    def failed(self, what: str) -> None:
        """Log the exception that is being handled, at a limited rate, as clients can cause it."""
        error = sys.exception()
        assert error is not None
        self.log.failure_rarely(what, error)

    def server_bind(self) -> None:
        """Bind. IPv6 sockets accept IPv6 only, so that both loopback addresses can have the same port."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


class ListenerOptions(NamedTuple):
    """What all TCP and unix listeners of a server share.

    totals: the counts of connections; addresses: those by client address; hand_over: gives an accepted socket and its
    listener's class and dialect to a worker; backlog: the number of clients that the system lets wait to be accepted;
    waits: whether clients above the connection limit wait (no_maxconns_fast) instead of being rejected.
    """

    totals: ConnectionTotals
    addresses: AddressLimits
    hand_over: HandOver
    log: Log
    backlog: int
    waits: bool


class ListenerTraits(NamedTuple):
    """What is special about one listener.

    tls_listener: puts TLS on accepted sockets, or None for no TLS; listener_class: the highest class of commands
    allowed on this address, None if that is left to --admin-commands; dialect: the protocol of its connections, None if
    the first byte of each decides which of memcached's it speaks.
    """

    tls_listener: TlsListener | None = None
    listener_class: CommandClass | None = None
    dialect: Dialect | None = None


PLAIN_TRAITS = ListenerTraits()


class MemcacheServer(Listener):
    """Listen on one TCP address and give each accepted socket to a worker.

    address, family: as for `socket.bind`; options: what all listeners share; traits: what is special about this one.
    Raises ListenError if the server can't listen on the address.

    The constructor binds the address. `activate` lets clients connect and wait, and `start` accepts them. The thread
    uses only the listening socket, the totals and the workers' `adopt`.
    """

    allow_reuse_address = True

    def __init__(
        self,
        address: Any,
        family: int,
        options: ListenerOptions,
        traits: ListenerTraits = PLAIN_TRAITS,
    ) -> None:
        self.address_family = family
        self.tls_listener, self.listener_class, self.dialect = traits
        self.log = options.log
        self.request_queue_size = options.backlog
        self._options = options
        self._stopping = False
        try:
            super().__init__(address, socketserver.BaseRequestHandler, bind_and_activate=False)
            self.server_bind()
        except (OSError, OverflowError) as error:
            self.server_close()
            raise self._listen_error(address, error) from None

    @staticmethod
    def describe(address: Any) -> str:
        """Return a socket address as HOST:PORT, [IPV6]:PORT, the path of a socket file, or an abstract @NAME."""
        if not isinstance(address, tuple):
            return os.fsdecode(address).replace("\0", "@")
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _listen_error(self, address: Any, error: Exception) -> ListenError:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return ListenError(f"can't listen on {self.describe(address)}: {reason}")

    @property
    def address(self) -> str:
        """The address that it listens on, as `describe` writes it."""
        return self.describe(self.server_address)

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a unix socket."""
        return 0 if self.address_family == socket.AF_UNIX else int(self.server_address[1])

    @property
    def asks_for_login(self) -> bool:
        """Whether its clients need a login where users are configured."""
        return self.dialect is None or self.dialect.asks_for_login(self.listener_class)

    def status(self) -> ConnectionStatus:
        """Return the row of `stats conns` for the listening socket."""
        return ConnectionStatus(self.fileno(), address_text(self.server_address), "", "conn_listening", 0)

    def activate(self) -> None:
        """Let clients connect and wait to be accepted. Raises ListenError."""
        try:
            self.server_activate()
        except OSError as error:
            raise self._listen_error(self.server_address, error) from None

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. If the process is out of file descriptors, log that and pause before raising OSError."""
        try:
            return super().get_request()
        except BlockingIOError:  # another process that listens on the same socket has accepted the connection
            raise
        except OSError as error:
            self.failed(f"can't accept a connection on {self.address}")
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(NO_FILES_PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the socket to a worker, or reject it with memcached's error if there are too many connections."""
        if self._options.addresses.open(request.fileno(), client_address):
            if self._count_connection():
                self._hand_over(request)
                return
            self._options.addresses.close(request.fileno())
        else:
            self._options.totals.reject()
            self.log.say_rarely(
                "too many of an address",
                f"rejected a connection from {client_network(client_address)}, which has too many",
            )
        request.setblocking(False)
        try:
            request.send(TOO_MANY_CONNECTIONS if self.dialect is None else self.dialect.rejection)
        except OSError:
            pass  # the client has left
        self.shutdown_request(request)

    def _hand_over(self, request: socket.socket) -> None:
        """Give a counted connection to a worker, or uncount it if the client has left already."""
        fd = request.fileno()
        try:
            secured = request if self.tls_listener is None else self.tls_listener.secure(request)
            self._options.hand_over(secured, self.listener_class, self.dialect)
        except OSError:
            self._options.addresses.close(fd)
            self._options.totals.close()
            raise

    def _count_connection(self) -> bool:
        """Count a new connection and return True, or return False at the limit. Wait for that with no_maxconns_fast."""
        if not self._options.waits:
            return self._options.totals.open()
        while not self._stopping:
            if self._options.totals.open_within(POLL_SECONDS):
                return True
        return False

    def stop(self) -> None:
        """Stop accepting and close the socket. Blocks until done."""
        self._stopping = True
        super().stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a connection could not be handed over. Others are not affected."""
        self.failed(f"dropped a connection from {address_text(client_address)}")


class UnixMemcacheServer(MemcacheServer):
    """Listen on a unix socket and give each accepted socket to a worker. Replace a socket file that is not in use.

    path: the socket file; mask: its access mode, as -a gives it; options, traits: as for `MemcacheServer`. Raises
    ListenError if the server can't listen there.
    """

    allow_reuse_address = False

    def __init__(self, path: Path, mask: int, options: ListenerOptions, traits: ListenerTraits = PLAIN_TRAITS) -> None:
        self._path = path
        self._mask = mask
        super().__init__(str(path), socket.AF_UNIX, options, traits)

    def server_bind(self) -> None:
        """Bind, with the access mode set before anybody can connect."""
        self._remove_stale()
        before = os.umask(~self._mask & 0o777)
        try:
            socketserver.TCPServer.server_bind(self)
        finally:
            os.umask(before)

    def stop(self) -> None:
        """Stop accepting, close the socket and remove its file. Blocks until done."""
        super().stop()
        self.remove_file()

    def remove_file(self) -> None:
        """Remove the socket file. To be called once the socket is closed."""
        self._path.unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        """Remove a socket file left by a crash. Leave anything else at that path alone."""
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                return
        except OSError:
            return  # there is no file, or binding reports what is wrong with the path
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
            except OSError:
                return  # a server may listen there: binding reports that the address is in use
