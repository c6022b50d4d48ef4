"""TLS: the certificates, which can be swapped while connections last, and one connection's encrypted stream."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from typing import NamedTuple

from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import TLS_PREFIXES
from memcache_kv.errors import EX_USAGE, ConfigError
from memcache_kv.server.poller import READABLE, WRITABLE

RECORD_BYTES = 16 * 1024
"""The most that one record holds. A read of less could leave bytes inside the library, of which no poller tells."""
PIECE_BYTES = 4 * RECORD_BYTES
"""What is given to the library at once."""
PEM = 1
"""The one form of keys that the library reads, by memcached's number."""
VERIFY_MODES = (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)
"""By memcached's numbers. The last asks once: as there is no renegotiation, that is the same."""
VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
CLIENT_CERTIFICATES = dict(zip(TLS_PREFIXES, (None, ssl.CERT_NONE, ssl.CERT_REQUIRED), strict=True))
"""What the prefix of an address asks of clients' certificates; None is no TLS at all."""


class Tls:
    """The certificates of a server, and counts of what went wrong.

    Any thread may call anything here. `reload` swaps the certificates for connections that come later; those that
    are there keep theirs. Raises ConfigError, in memcached's words, where a file can't be used; `reload` leaves all as
    it was then.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self.default_mode = VERIFY_MODES[options.ssl_verify_mode]
        self.handshake_errors = 0
        self.proto_errors = 0
        """Connections that broke after their handshake."""
        self.new_sessions = 0
        """Handshakes that did not resume an earlier session."""
        self._lock = threading.Lock()
        self.reload()

    def reload(self) -> None:
        """Read the files again."""
        contexts = {mode: self._load(mode) for mode in ssl.VerifyMode}
        self._refreshed_at = time.monotonic()
        self._contexts = contexts

    @property
    def seconds_since_refresh(self) -> int:
        """How long the present certificates have been in use."""
        return int(time.monotonic() - self._refreshed_at)

    def wrap(self, sock: socket.socket, mode: ssl.VerifyMode) -> ssl.SSLSocket:
        """Put TLS on an accepted socket, without a word to the client yet. Raises OSError where it has left."""
        sock.getpeername()  # or the library would find out, when it has the socket already, and lose it
        return self._contexts[mode].wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def tls_listener(self, address: str) -> tuple[TlsListener | None, str]:
        """Read what kind of door an address says it is, None where it is plain; return that and the rest of it."""
        prefix = next((prefix for prefix in TLS_PREFIXES if address.startswith(prefix)), "")
        mode = CLIENT_CERTIFICATES[prefix] if prefix else self.default_mode
        return None if mode is None else TlsListener(self, mode), address.removeprefix(prefix)

    @staticmethod
    def has_failed(error: OSError) -> bool:
        """Tell whether it was TLS that broke a connection, and not what lies beneath it."""
        return isinstance(error, ssl.SSLError)

    def count(self, name: str) -> None:
        """Add one to the count of this name."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def reset(self) -> None:
        """Set every count to 0, as `stats reset` does."""
        with self._lock:
            self.handshake_errors = self.proto_errors = self.new_sessions = 0

    def _load(self, mode: ssl.VerifyMode) -> ssl.SSLContext:
        """Make what connections are made from that ask for a client's certificate in this way.

        One for each way, so that a session begun without a certificate can't be resumed where one is required.
        """
        options = self._options
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[options.ssl_min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION
        self._load_certificates(context)
        context.verify_mode = mode
        if options.ssl_ciphers is not None:
            try:
                context.set_ciphers(options.ssl_ciphers)
            except ssl.SSLError:
                raise _refusal(f"Error setting the provided cipher(s): {options.ssl_ciphers}") from None
        if options.ssl_kernel_tls:
            if not hasattr(ssl, "OP_ENABLE_KTLS"):  # before Python 3.12
                raise _refusal("Kernel TLS offload is not available")
            context.options |= ssl.OP_ENABLE_KTLS
        return context

    def _load_certificates(self, context: ssl.SSLContext) -> None:
        chain, key, authorities = self._options.ssl_chain_cert, self._options.ssl_key, self._options.ssl_ca_cert
        if chain is None:
            raise _refusal("Error loading the certificate chain: (null) : name its file with -o ssl_chain_cert=FILE")
        if not os.access(chain, os.R_OK):
            raise _refusal(f"Error loading the certificate chain: {chain} : the file can't be read")
        if key is not None and not os.access(key, os.R_OK):
            raise _refusal(f"Error loading the key: {key} : the file can't be read")
        if self._options.ssl_keyformat != PEM:
            raise _refusal(f"Error loading the key: {key or chain} : only PEM keys (ssl_keyformat=1) can be read")
        try:
            context.load_cert_chain(chain, key, password=lambda: b"")  # rather than ask for one on the terminal
        except OSError as error:
            hint = "" if key is not None else "; name the key's file with -o ssl_key=FILE, if it is not in this one"
            raise _refusal(
                f"Error validating the certificate: {chain}, {key or chain} : {_reason(error)}{hint}"
            ) from None
        if authorities is not None:
            try:
                context.load_verify_locations(authorities)
            except OSError as error:
                raise _refusal(f"Error loading the CA certificate: {authorities} : {_reason(error)}") from None


class TlsListener(NamedTuple):
    """One way in over TLS: what a listener puts on its sockets. Any thread may use it."""

    tls: Tls
    mode: ssl.VerifyMode

    @property
    def requires_certificate(self) -> bool:
        """Whether a client without a certificate is refused."""
        return self.mode is ssl.CERT_REQUIRED

    def secure(self, sock: socket.socket) -> ssl.SSLSocket:
        """Put TLS on an accepted socket. Raises OSError where the client has left."""
        return self.tls.wrap(sock, self.mode)


def _refusal(text: str) -> ConfigError:
    return ConfigError(text, EX_USAGE)


def _reason(error: OSError) -> str:
    """Say in a few words what went wrong."""
    return getattr(error, "reason", None) or error.strerror or str(error)


class TlsStream:
    """One connection's socket under TLS, which never blocks. For the worker that owns it.

    `read` and `write` stand in for the system calls: they raise BlockingIOError where the socket has nothing, or no
    room, and OSError where the connection is broken. `wants` then is what the poller must wait for: not always what
    was asked for, as a read may have to answer a change of keys first.
    """

    __slots__ = ("_socket", "wants")

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock
        self.wants = READABLE

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as it goes now; tell whether it is over."""
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self.wants = READABLE
            return False
        except ssl.SSLWantWriteError:
            self.wants = WRITABLE
            return False
        self.wants = READABLE
        return True

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self._socket.session_reused)

    def read(self, size: int) -> bytes:
        """Read one record, whatever the size asked for: more would cost a call that finds nothing, mostly."""
        try:
            data = self._socket.recv(RECORD_BYTES)
        except ssl.SSLWantReadError:
            self.wants = READABLE
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants = WRITABLE
            raise BlockingIOError from None
        self.wants = READABLE
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Send as much as the socket takes; return how much. What was not taken must come first in the next call.

        The library tells of nothing before all of a piece has left, and then wants the same piece again.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest[:PIECE_BYTES]) :]
            except ssl.SSLWantWriteError:
                break
        if len(rest) == len(data) and rest:
            raise BlockingIOError
        return len(data) - len(rest)

    def say_goodbye(self) -> None:
        """Tell the client that nothing was cut off, if the socket takes it; nobody waits for its answer."""
        try:
            self._socket.unwrap()
        except (OSError, ValueError):
            pass  # the client has left, or would have to read first: the connection is closed in any case
