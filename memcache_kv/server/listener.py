"""The listening sockets: they accept, refuse what is over the limit, and hand over to the workers."""

from __future__ import annotations

import errno
import os
import socket
import socketserver
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memcache_kv.errors import ListenError
from memcache_kv.observe.log import Log
from memcache_kv.server.connection import address_text
from memcache_kv.stats.connections import ConnectionStatus, ConnectionTotals
from memcache_kv.threads import OnFault, ServerThread

if TYPE_CHECKING:
    from memcache_kv.server.tls import TlsListener

POLL_SECONDS = 0.25
"""How soon a listener notices that it is to stop."""
NO_FILES_PAUSE_SECONDS = 0.05
REFUSAL = b"ERROR Too many open connections\r\n"

HandOver = Callable[[socket.socket], None]


class Listener(socketserver.TCPServer):
    """A server of the standard library, of streams or datagrams, with a thread of its own for `serve_forever`.

    on_fault: told of what ends that thread; None until the server sets it.
    """

    transport = "TCP"
    log: Log
    on_fault: OnFault | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._thread = ServerThread("listener", partial(self.serve_forever, POLL_SECONDS))
        self._thread.on_fault = self.on_fault
        self._thread.start()

    def stop(self) -> None:
        """Serve no more, and close the socket. Blocks until done."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def failed(self, what: str) -> None:
        """Log the error that is being handled: clients can cause it, and the standard library drops it."""
        error = sys.exception()
        assert error is not None
        self.log.failure_rarely(what, error)

    def server_bind(self) -> None:
        """Bind, with IPv6 sockets for IPv6 alone, so that both loopbacks can have the same port."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


class ListeningAddress(NamedTuple):
    """What all listening sockets of a server share.

    backlog: how many clients the system lets queue at each.
    waits: whether a client over the limit of connections waits for a place (no_maxconns_fast), and those behind it in
    the system's queue, instead of being refused.
    """

    totals: ConnectionTotals
    hand_over: HandOver
    log: Log
    backlog: int
    waits: bool


class MemcacheServer(Listener):
    """Listen on one TCP address; give each accepted socket to a worker instead of handling it.

    Made, it has the address to itself but refuses connections; `activate` lets them queue, `start` accepts them.
    `serve_forever` runs on a thread of its own (`start`), which touches nothing but the listening socket, the totals
    and the workers' `adopt`. Raises ListenError where the address can't be had.

    tls_listener: puts TLS on an accepted socket; None for a plain one.
    """

    allow_reuse_address = True

    def __init__(
        self, address: Any, family: int, listening_address: ListeningAddress, tls_listener: TlsListener | None = None
    ) -> None:
        self.address_family = family
        self.tls_listener = tls_listener
        self.log = listening_address.log
        self.request_queue_size = listening_address.backlog
        self._listening_address = listening_address
        self._stopping = False
        try:
            super().__init__(address, socketserver.BaseRequestHandler, bind_and_activate=False)
            self.server_bind()
        except (OSError, OverflowError) as error:
            self.server_close()
            raise self._refused(address, error) from None

    @staticmethod
    def describe(address: Any) -> str:
        """Write an address for a person."""
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _refused(self, address: Any, error: Exception) -> ListenError:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return ListenError(f"can't listen on {self.describe(address)}: {reason}")

    @property
    def address(self) -> str:
        """The address it really listens on."""
        return self.describe(self.server_address)

    @property
    def port(self) -> int:
        """The port it really listens on."""
        return int(self.server_address[1])

    def status(self) -> ConnectionStatus:
        """Tell about the listening socket, for `stats conns`."""
        return ConnectionStatus(self.fileno(), address_text(self.server_address), "", "conn_listening", 0)

    def activate(self) -> None:
        """Let clients connect: until now they were refused, as nobody could answer them."""
        try:
            self.server_activate()
        except OSError as error:
            raise self._refused(self.server_address, error) from None

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; where the process has no more file descriptors, wait a little for some to be closed."""
        try:
            return super().get_request()
        except OSError as error:
            self.failed(f"can't accept a connection on {self.address}")
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(NO_FILES_PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the socket to a worker, or refuse it with memcached's words."""
        if self._takes_place():
            self._let_in(request)
            return
        request.setblocking(False)
        try:
            request.send(REFUSAL)
        except OSError:
            pass  # the client has left: nobody is there to be told
        self.shutdown_request(request)

    def _let_in(self, request: socket.socket) -> None:
        """Hand over a socket that has a place, and give the place back where the client has left already."""
        try:
            self._listening_address.hand_over(
                request if self.tls_listener is None else self.tls_listener.secure(request)
            )
        except OSError:
            self._listening_address.totals.close()
            raise

    def _takes_place(self) -> bool:
        """Count one more connection, waiting for a place where that is asked for; False where there is none."""
        if not self._listening_address.waits:
            return self._listening_address.totals.open()
        while not self._stopping:
            if self._listening_address.totals.open_within(POLL_SECONDS):
                return True
        return False

    def stop(self) -> None:
        """Accept no more, and close the socket."""
        self._stopping = True
        super().stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line that a connection could not be handed over; the others go on."""
        self.failed(f"dropped a connection from {address_text(client_address)}")


class UnixMemcacheServer(MemcacheServer):
    """The same on a unix socket. A socket file that nobody listens on any more is replaced.

    mask: the access mode of the socket file, as -a gives it.
    """

    allow_reuse_address = False

    def __init__(self, path: Path, mask: int, listening_address: ListeningAddress) -> None:
        self._path = path
        self._mask = mask
        super().__init__(str(path), socket.AF_UNIX, listening_address)

    @staticmethod
    def describe(address: Any) -> str:
        """Write an address for a person."""
        return str(address)

    @property
    def port(self) -> int:
        """A unix socket has no port."""
        return 0

    def server_bind(self) -> None:
        """Bind, and set the mode before anybody can connect."""
        self._remove_stale()
        before = os.umask(~self._mask & 0o777)
        try:
            socketserver.TCPServer.server_bind(self)
        finally:
            os.umask(before)

    def stop(self) -> None:
        """Accept no more, close the socket and remove its file."""
        super().stop()
        self._path.unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        """Remove a socket left behind by a crash; anything else at that path is left alone."""
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                return
        except OSError:
            return  # there is none, or binding says what is wrong with the path
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
            except OSError:
                return  # somebody may listen: binding says that the address is in use
