"""TLS: the server's certificates, which can be reloaded, and the encrypted stream of one connection."""

from __future__ import annotations

import os
from typing import NamedTuple

from memcache_kv.clock import unix_seconds
from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import TLS_PREFIXES
from memcache_kv.errors import EX_USAGE, ConfigError
from memcache_kv.server.poller import READABLE, WRITABLE
from memcache_kv.unpatched import socket, ssl, threading, time

RECORD_BYTES = 16 * 1024
"""The maximum size of a TLS record. A shorter read could leave bytes inside OpenSSL, which no poller reports."""
PIECE_BYTES = 4 * RECORD_BYTES
"""The most that is given to OpenSSL at once."""
PEM = 1
"""memcached's number for PEM keys, the only ones that Python's ssl module reads."""
VERIFY_MODES = (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)
"""By memcached's numbers. The last, "once", is the same as "require", as there is no renegotiation."""
VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
SURE_AFTER_NS = 1_000_000_000
"""A file system's clock is coarse: a file that is older than this gets another time when it is written again."""
CLIENT_CERTIFICATES = dict(zip(TLS_PREFIXES, (None, ssl.CERT_NONE, ssl.CERT_REQUIRED), strict=True))
"""By the prefix of a listening address, whether TLS requests or requires client certificates; None is no TLS."""


class FileState(NamedTuple):
    """What changes when a file is written or replaced."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Tls:
    """The certificates of a server, and its counts about TLS. Any thread may call any method.

    options: the files and modes. Raises ConfigError, with memcached's message, if a file can't be used.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self.default_mode = VERIFY_MODES[options.ssl_verify_mode]
        self.handshake_errors = 0
        self.proto_errors = 0
        """The number of connections that ended with a TLS error after the handshake."""
        self.new_sessions = 0
        """The number of handshakes that did not resume a session."""
        self.resumed_sessions = 0
        """The number of handshakes that did."""
        self._lock = threading.Lock()
        self._files: tuple[FileState, ...] = ()
        """The state of the files that were read last; empty where it may not show their next change."""
        self.loads = 0
        """How often the files were read."""
        self.reload()

    def reload(self) -> None:
        """Use the files as they are now, for new connections. Raises ConfigError, and keeps the old certificates then.

        Files that have not changed are not read again, as that takes milliseconds and any client may ask for it.
        """
        files = self._file_states()
        if not files or files != self._files:
            contexts = {mode: self._load(mode) for mode in ssl.VerifyMode}
            self.loads += 1
            self._contexts = contexts
            self._files = files
        self._refreshed_at = time.monotonic()

    def _file_states(self) -> tuple[FileState, ...]:
        """Return the state of each file; nothing where one is missing, or so new that its next change may not show."""
        options, states = self._options, []
        for path in (options.ssl_chain_cert, options.ssl_key, options.ssl_ca_cert):
            if path is None:
                continue
            try:
                found = os.stat(path)
            except OSError:  # `_load` reports it
                return ()
            states.append(FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        newest = max([state.ctime_ns for state in states], default=0)
        return tuple(states) if unix_seconds() * 1e9 - newest > SURE_AFTER_NS else ()

    @property
    def seconds_since_refresh(self) -> int:
        """The seconds since the certificates were read."""
        return int(time.monotonic() - self._refreshed_at)

    def wrap(self, sock: socket.socket, mode: ssl.VerifyMode) -> ssl.SSLSocket:
        """Wrap an accepted socket, without sending anything yet. Raises OSError if the client has left."""
        sock.getpeername()  # raises OSError here; inside wrap_socket the socket would be lost
        return self._contexts[mode].wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def tls_listener(self, address: str) -> tuple[TlsListener | None, str]:
        """Return the TLS mode of a listening address, None for no TLS, and the address without the prefix for it."""
        prefix = next((prefix for prefix in TLS_PREFIXES if address.startswith(prefix)), "")
        mode = CLIENT_CERTIFICATES[prefix] if prefix else self.default_mode
        return None if mode is None else TlsListener(self, mode), address.removeprefix(prefix)

    @staticmethod
    def has_failed(error: OSError) -> bool:
        """Return whether an error comes from TLS and not from the socket below it."""
        return isinstance(error, ssl.SSLError)

    def count(self, name: str) -> None:
        """Add one to the count with this name."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def reset(self) -> None:
        """Set every count to 0, as `stats reset` does."""
        with self._lock:
            self.handshake_errors = self.proto_errors = self.new_sessions = self.resumed_sessions = 0

    def _load(self, mode: ssl.VerifyMode) -> ssl.SSLContext:
        """Make the context for connections with this mode of client certificates.

        Each mode has its own, so that a session begun without a certificate can't be resumed where one is required.
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
            context.load_cert_chain(chain, key, password=lambda: b"")  # so that OpenSSL does not prompt for one
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
    """The TLS mode of one listening address. Any thread may use it."""

    tls: Tls
    mode: ssl.VerifyMode

    @property
    def requires_certificate(self) -> bool:
        """Whether clients without a certificate are rejected."""
        return self.mode is ssl.CERT_REQUIRED

    def secure(self, sock: socket.socket) -> ssl.SSLSocket:
        """Wrap an accepted socket. Raises OSError if the client has left."""
        return self.tls.wrap(sock, self.mode)


def _refusal(text: str) -> ConfigError:
    return ConfigError(text, EX_USAGE)


def _reason(error: OSError) -> str:
    """Return the reason of an error in a few words."""
    return getattr(error, "reason", None) or error.strerror or str(error)


class TlsStream:
    """The encrypted stream of one connection. It never blocks. Used by the worker that owns the connection.

    `read` and `write` replace the system calls. They raise BlockingIOError if they would block, and OSError if the
    connection is broken. `wants` is the event that the poller must wait for then. A read may have to wait until the
    socket is writable, and the other way round, as TLS also sends messages of its own.
    """

    __slots__ = ("_socket", "wants")

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock
        self.wants = READABLE

    def continue_handshake(self) -> bool:
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
        """Whether the handshake resumed a session."""
        return bool(self._socket.session_reused)

    def read(self, size: int) -> bytes:
        """Read one record, whatever the size: reading on would mostly be a call that finds nothing."""
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
        """Send as much as the socket takes, and return how many bytes that is. The next call must begin with the rest.

        OpenSSL reports a piece only once it is sent whole, and must be given the same piece again until then.
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
        """Send a close notification if the socket takes it. Do not wait for the client's."""
        try:
            self._socket.unwrap()
        except (OSError, ValueError):
            pass  # the client has left or does not read; the connection is closed in any case
