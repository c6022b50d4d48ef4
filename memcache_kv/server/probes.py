"""The probes of `memcache-kv health`: what is sent to a server, and which answers are those of a server like this one.

Most need no login, no certificate and no knowledge of the protocol: an error that a memcached server would send is an
answer too.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from memcache_kv.errors import MemcacheKVError
from memcache_kv.unpatched import socket, time

if TYPE_CHECKING:
    from memcache_kv.unpatched import ssl

TEXT_REPLY = re.compile(rb"VERSION |CLIENT_ERROR |SERVER_ERROR |ERROR Too many open connections|ERROR unknown command")
TEXT_LOGIN_FAILED = b"CLIENT_ERROR authentication failure", b"CLIENT_ERROR unauthenticated"
"""The replies to a failed login. memcached may send only the second one, which it has for the request after it."""
NO_KEY = b"k" * 251
"""Too long for a key, but not for a login, so that no server stores the password as an item."""
BINARY_VERSION, BINARY_SASL_AUTH = 0x0B, 0x21
BINARY_HEADER = struct.Struct(">BBHBBHIIQ")
BINARY_OK, BINARY_UNKNOWN_COMMAND = 0, 0x81
BINARY_REQUEST = BINARY_HEADER.pack(0x80, BINARY_VERSION, 0, 0, 0, 0, 0, 0, 0)
STATUS_FIELD, BODY_SIZE_FIELD = slice(6, 8), slice(8, 12)
SASL_MECHANISM = b"PLAIN"
TEXT_REQUEST = b"version".ljust(len(BINARY_REQUEST)) + b"\r\n\r\n"
"""As long as a binary request, and with an empty line as HTTP has it, so that a server that speaks neither the text nor
the line protocol does not wait for more."""
BINARY_REPLY = re.compile(b"\x81\x0b", re.DOTALL)
HTTP_REQUEST = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n"
HTTP_REPLY = re.compile(
    rb"HTTP/1\.1 (\d{3}) (?:Service Unavailable\r\nConnection: close\r\n|"
    rb'.*(?:"title": "memcache_kv"|realm="memcache_kv|There is nothing at this path))',
    re.DOTALL,
)
"""What the HTTP and admin listeners answer to the request of a path that only the former have."""
WANTS_CERTIFICATE = "answers with TLS, and requires a client certificate"
HEALTH_REPLY_LIMIT_BYTES = 1024
ADMIN_REPLY_LIMIT_BYTES = 64 * 1024
NOT_READY_STATUS = 3


Probe = Callable[[socket.socket, float], str]
"""Sends a request on a connection and waits until a deadline; returns the answer, or "" if it is not a server's."""


class Unhealthy(MemcacheKVError):
    """The server does not answer, or not like a memcached server, or says that it is not alive."""


class NotReady(MemcacheKVError):
    """The server is alive, and says that it is not ready."""

    status = NOT_READY_STATUS


class Account(NamedTuple):
    """A user to log in as."""

    user: str
    password: str


class Question(NamedTuple):
    """What to ask a server.

    only_tls: whether not to try without TLS; context: how to use TLS, None to trust any certificate; has_certificate:
    whether it shows one, so that the server must accept it; account: whom to log in as where a login is needed, None to
    take the request for a login as an answer; admin_path: the path to ask the admin listener for, empty for any other
    listener.
    """

    only_tls: bool = False
    context: ssl.SSLContext | None = None
    has_certificate: bool = False
    account: Account | None = None
    admin_path: str = ""

    def probes(self, host: str) -> Iterator[Probe]:
        """Yield the probes to try until the server answers one. host: what its certificate must name."""
        plain = (self._admin,) if self.admin_path else (self._text, self._http, self._binary)
        if not self.only_tls:
            yield from plain
        if host:  # a unix socket has no TLS
            for probe in plain:
                yield self._over_tls(probe, host)

    def _text(self, sock: socket.socket, deadline: float) -> str:
        """Ask for the version, in a way to which the line protocol and HTTP have an answer too."""
        if self.account is not None:
            return self._text_login(sock, deadline, self.account)
        reply = _exchange(sock, TEXT_REQUEST, deadline, lambda reply: b"\n" in reply)
        return _words(reply.splitlines()[0]) if TEXT_REPLY.match(reply) else ""

    def _text_login(self, sock: socket.socket, deadline: float, account: Account) -> str:
        token = f"{account.user} {account.password}".encode()
        request = b"set %b 0 0 %d\r\n%b\r\n" % (NO_KEY, len(token), token)
        reply = _exchange(sock, request + TEXT_REQUEST, deadline, _is_whole_login)
        login, answer = [*reply.splitlines(), b"", b""][:2]
        if login.startswith(TEXT_LOGIN_FAILED):
            raise Unhealthy(f"the login as {account.user} failed")
        return next((_words(said) for said in (answer, login) if TEXT_REPLY.match(said)), "")

    def _binary(self, sock: socket.socket, deadline: float) -> str:
        reply = _exchange(sock, BINARY_REQUEST, deadline, _is_whole_packet)
        if not BINARY_REPLY.match(reply):
            return ""
        if self.account is None:
            return "answers in the binary protocol"
        return self._binary_login(sock, deadline, self.account)

    def _binary_login(self, sock: socket.socket, deadline: float, account: Account) -> str:
        token = f"\0{account.user}\0{account.password}".encode()
        key, size = len(SASL_MECHANISM), len(SASL_MECHANISM) + len(token)
        request = BINARY_HEADER.pack(0x80, BINARY_SASL_AUTH, key, 0, 0, 0, size, 0, 0) + SASL_MECHANISM + token
        reply = _exchange(sock, request, deadline, _is_whole_packet)
        status = int.from_bytes(reply[STATUS_FIELD]) if len(reply) >= BINARY_HEADER.size else -1
        if status not in (BINARY_OK, BINARY_UNKNOWN_COMMAND):
            raise Unhealthy(f"the login as {account.user} failed")
        return "answers in the binary protocol"

    def _http(self, sock: socket.socket, deadline: float) -> str:
        token = "" if self.account is None else f"Authorization: Bearer {self.account.user}:{self.account.password}\r\n"
        request = HTTP_REQUEST.format("/openapi.json", token).encode()
        match = HTTP_REPLY.match(_exchange(sock, request, deadline, lambda reply: False))
        if match is None:
            return ""
        if self.account is not None and match[1] == b"401":
            raise Unhealthy(f"the login as {self.account.user} failed")
        return "answers by HTTP"

    def _admin(self, sock: socket.socket, deadline: float) -> str:
        request = HTTP_REQUEST.format(self.admin_path, "").encode()
        reply = _exchange(sock, request, deadline, lambda reply: False, ADMIN_REPLY_LIMIT_BYTES)
        head, _, body = reply.partition(b"\r\n\r\n")
        try:
            answer = json.loads(body)
            said = answer["status"]
            reasons = [each["detail"] for each in answer["reasons"]]
        except (ValueError, KeyError, TypeError):
            return ""
        if head.startswith(b"HTTP/1.1 200 "):
            return str(said)
        what = f"the server is {said}: {'; '.join(map(str, reasons))}"
        raise NotReady(what) if said == "not ready" else Unhealthy(what)

    def _over_tls(self, probe: Probe, host: str) -> Probe:
        """Make a probe that uses another one over TLS."""

        def ask(sock: socket.socket, deadline: float) -> str:
            from memcache_kv.unpatched import ssl  # imported here, as most checks are answered before

            try:
                secured = (self.context or trusting()).wrap_socket(sock, server_hostname=host)
            except ssl.SSLCertVerificationError as error:
                raise Unhealthy(f"its certificate is not trusted: {error.verify_message}") from None
            except ssl.SSLError as error:
                if "_ALERT_" in (error.reason or ""):  # TLS 1.2 sends an alert within the handshake
                    return self._rejected()
                raise
            with secured:
                try:
                    return probe(secured, deadline)
                except (ssl.SSLError, ConnectionError):  # TLS 1.3 sends the alert after the handshake; it may get lost
                    return self._rejected()

        return ask

    def _rejected(self) -> str:
        """Return the answer of a server that rejects a client without a certificate; raise Unhealthy if it has one."""
        if self.has_certificate:
            raise Unhealthy("it rejects the certificate")
        return WANTS_CERTIFICATE


def _is_whole_packet(reply: bytes) -> bool:
    """Tell whether a binary reply is complete."""
    size = BINARY_HEADER.size
    return len(reply) >= size and len(reply) >= size + int.from_bytes(reply[BODY_SIZE_FIELD])


def _words(said: bytes) -> str:
    return said.decode("ascii", "replace")


def trusting() -> ssl.SSLContext:
    """Return what trusts any certificate: the server answers, whatever its certificate is."""
    from memcache_kv.unpatched import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline. Raises TimeoutError if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _is_whole_login(reply: bytes) -> bool:
    """Tell whether the replies to a text login and to the request after it are complete. A failed login may end all."""
    lines = reply.count(b"\n")
    return lines > 1 or (lines == 1 and reply.startswith(TEXT_LOGIN_FAILED))


def _exchange(
    sock: socket.socket,
    request: bytes,
    deadline: float,
    is_whole: Callable[[bytes], bool],
    limit_bytes: int = HEALTH_REPLY_LIMIT_BYTES,
) -> bytes:
    """Send a request, and read the reply until it is whole, too long, or the server closes the connection."""
    sock.sendall(request)
    reply = b""
    while not is_whole(reply) and len(reply) < limit_bytes:
        sock.settimeout(seconds_left(deadline))
        piece = sock.recv(limit_bytes)
        if not piece:
            break
        reply += piece
    return reply
