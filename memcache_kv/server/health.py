"""`memcache-kv health`: check that a server answers.

The check needs no login, no certificate and no knowledge of the protocol: an error that a memcached server would send
is an answer too. It tries several probes, each on a connection of its own, until the server answers one.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memcache_kv.config.loading import CONFIG_VARIABLE, PORT_FILE_VARIABLE, load_settings
from memcache_kv.config.settings import DEFAULT_PORT, TLS_PREFIXES, split_class_prefix
from memcache_kv.errors import ListenError, MemcacheKVError
from memcache_kv.server.binding import LOOPBACKS, split_address

HEALTH_TIMEOUT_SECONDS = 3.0
TEXT_REPLY = re.compile(rb"VERSION |CLIENT_ERROR |SERVER_ERROR |ERROR Too many open connections")
BINARY_VERSION = 0x0B
BINARY_REQUEST = struct.pack(">BBHBBHIIQ", 0x80, BINARY_VERSION, 0, 0, 0, 0, 0, 0, 0)
TEXT_REQUEST = b"version".ljust(len(BINARY_REQUEST)) + b"\r\n"
"""As long as a binary request, so that a server that only speaks the binary protocol does not wait for more."""
BINARY_REPLY = re.compile(b"\x81\x0b", re.DOTALL)
WANTS_CERTIFICATE = "answers with TLS, and requires a client certificate"
HEALTH_REPLY_LIMIT_BYTES = 1024
ALL_INTERFACES = ("", "0.0.0.0", "::", "*")  # nosec B104: addresses to recognise, none to listen on


class Unhealthy(MemcacheKVError):
    """The server does not answer, or not like a memcached server."""


class Address(NamedTuple):
    """The address of a server: a host and a port, or the path of a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """Return the address as HOST:PORT, [IPV6]:PORT or a path."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, timeout: float) -> socket.socket:
        """Connect, and return the socket with this timeout in seconds. Raises OSError."""
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(self.path)
        except BaseException:
            sock.close()
            raise
        return sock


def main(arguments: Sequence[str]) -> int:
    """Run the check and return the exit status: 0 if the server answers, 1 if not, 2 if a flag is invalid."""
    options = _make_parser().parse_args(arguments)
    try:
        address = options.address or default_address(os.environ)
        print(f"{address}: {check(address, options.tls, options.timeout)}")
    except MemcacheKVError as error:
        print(f"memcache-kv health: {error}", file=sys.stderr)
        return error.status
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memcache-kv health",
        allow_abbrev=False,
        description="Check that a server answers. The exit status is 0 if it does, even if it requires a login or a "
        "certificate, 1 if it does not, and 2 if a flag is invalid.",
    )
    parser.add_argument(
        "--address",
        type=read_address,
        metavar="ADDR",
        help=f"HOST, HOST:PORT, [IPV6]:PORT or the path of a unix socket (default: the port in the file that "
        f"{PORT_FILE_VARIABLE} names, or the address that a server with the same environment would listen on)",
    )
    parser.add_argument("--tls", action="store_true", help="only try TLS (default: try with and without TLS)")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=HEALTH_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="total time to wait for an answer (default: %(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return float(text)


def read_address(text: str) -> Address:
    """Read the value of --address. Raises ArgumentTypeError if it is not an address."""
    if "/" in text:
        return Address("", 0, text)
    try:
        host, port = split_address(text, DEFAULT_PORT)
    except ListenError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address") from None
    return Address(host or LOOPBACKS[0], port)


def default_address(environ: Mapping[str, str]) -> Address:
    """Return the address that a server with this environment listens on. Raises ConfigError if a setting is invalid."""
    config = environ.get(CONFIG_VARIABLE)
    settings = load_settings({}, Path(config) if config else None, environ)
    written = _written_port(settings.port_file)
    if settings.unix_socket is not None and written is None and not settings.listen and not settings.port_given:
        return Address("", 0, str(settings.unix_socket))
    _, first = split_class_prefix(settings.listen[0] if settings.listen else "")
    tls_listener = next((tls_listener for tls_listener in TLS_PREFIXES if first.startswith(tls_listener)), "")
    host, port = split_address(first.removeprefix(tls_listener), settings.port)
    is_v6 = written.is_v6 if written is not None else host == "::"
    if host in ALL_INTERFACES:
        host = LOOPBACKS[is_v6]
    return Address(host, port if written is None else written.port)


class _WrittenPort(NamedTuple):
    port: int
    is_v6: bool


def _written_port(path: Path | None) -> _WrittenPort | None:
    """Return the first TCP port in a server's port file; None if there is none."""
    try:
        text = "" if path is None else path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r"^TCP INET(6?): (\d{1,5})$", text, re.MULTILINE)
    return None if match is None else _WrittenPort(int(match[2]), bool(match[1]))


def check(address: Address, only_tls: bool = False, timeout: float = HEALTH_TIMEOUT_SECONDS) -> str:
    """Try the probes until the server answers, and return its answer or a description of it.

    only_tls: whether to try TLS only; timeout: the total time in seconds. Raises Unhealthy if no probe is answered.
    """
    deadline = time.monotonic() + timeout
    said = "it closes the connection"
    for probe in TLS_PROBES if only_tls else (*PLAIN_PROBES, *TLS_PROBES):
        try:
            with _connect(address, deadline) as sock:
                answer = probe(sock, deadline)
        except TimeoutError:
            raise Unhealthy(f"{address} does not answer within {timeout:g} s") from None
        except (ConnectionResetError, BrokenPipeError):
            continue  # the server may expect another protocol
        except OSError as error:
            said = error.strerror or str(error)
            continue
        if answer:
            return answer
    raise Unhealthy(f"{address} does not answer as a memcached server does: {said}")


def _connect(address: Address, deadline: float) -> socket.socket:
    try:
        return address.connect(_seconds_left(deadline))
    except TimeoutError:
        raise
    except OSError as error:
        raise Unhealthy(f"can't connect to {address}: {error.strerror or error}") from None


def _seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline. Raises TimeoutError if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


Probe = Callable[[socket.socket, float], str]
"""Sends a request on a connection and waits until a deadline; returns the answer, or "" if it is not a server's."""


def _text(sock: socket.socket, deadline: float) -> str:
    reply = _exchange(sock, TEXT_REQUEST, deadline, lambda reply: b"\n" in reply)
    return reply.splitlines()[0].decode("ascii", "replace") if TEXT_REPLY.match(reply) else ""


def _binary(sock: socket.socket, deadline: float) -> str:
    reply = _exchange(sock, BINARY_REQUEST, deadline, lambda reply: len(reply) >= len(BINARY_REQUEST))
    return "answers in the binary protocol" if BINARY_REPLY.match(reply) else ""


def _over_tls(probe: Probe) -> Probe:
    """Make a probe that uses another one over TLS."""

    def ask(sock: socket.socket, deadline: float) -> str:
        import ssl  # imported here, as most checks are answered before

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the server answers, whatever its certificate is
        try:
            secured = context.wrap_socket(sock)
        except ssl.SSLError as error:
            if "_ALERT_" in (error.reason or ""):  # TLS 1.2 sends an alert within the handshake
                return WANTS_CERTIFICATE
            raise
        with secured:
            try:
                return probe(secured, deadline)
            except (ssl.SSLError, ConnectionError):  # TLS 1.3 sends the alert after the handshake; it may get lost
                return WANTS_CERTIFICATE

    return ask


PLAIN_PROBES: tuple[Probe, ...] = (_text, _binary)
TLS_PROBES: tuple[Probe, ...] = (_over_tls(_text), _over_tls(_binary))


def _exchange(sock: socket.socket, request: bytes, deadline: float, is_whole: Callable[[bytes], bool]) -> bytes:
    """Send a request, and read the reply until it is whole, too long, or the server closes the connection."""
    sock.sendall(request)
    reply = b""
    while not is_whole(reply) and len(reply) < HEALTH_REPLY_LIMIT_BYTES:
        sock.settimeout(_seconds_left(deadline))
        piece = sock.recv(HEALTH_REPLY_LIMIT_BYTES)
        if not piece:
            break
        reply += piece
    return reply
