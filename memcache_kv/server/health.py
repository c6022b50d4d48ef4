"""`memcache-kv health`: check that a server answers, from a shell, a container or a unit.

It tries several probes, each on a connection of its own, until the server answers one (`probes.py`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from memcache_kv.config.loading import CONFIG_VARIABLE, PORT_FILE_VARIABLE, load_settings
from memcache_kv.config.settings import DEFAULT_PORT, TLS_PREFIXES, Settings, split_class_prefix
from memcache_kv.errors import ListenError, MemcacheKVError
from memcache_kv.server.binding import LOOPBACKS, split_address
from memcache_kv.server.probes import NOT_READY_STATUS, Account, Question, Unhealthy, seconds_left, trusting
from memcache_kv.unpatched import socket, time

if TYPE_CHECKING:
    from memcache_kv.unpatched import ssl

HEALTH_TIMEOUT_SECONDS = 3.0
DEFAULT_ADMIN_PORT = 9150
PASSWORD_VARIABLE = "MEMCACHED_PASSWORD"  # nosec B105: the name of a variable
"""The variable with the password for --user, as for the programs of `clients/`."""
ANY_ANSWER = Question()
ALL_INTERFACES = ("", "0.0.0.0", "::", "*")  # nosec B104: addresses to recognise, none to listen on


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
    """Run the check and return the exit status, which `--help` describes."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        address, question = _what_to_ask(parser, options)
        print(f"{address}: {check(address, question, options.timeout)}")
    except MemcacheKVError as error:
        print(f"memcache-kv health: {error}", file=sys.stderr)
        return error.status
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memcache-kv health",
        allow_abbrev=False,
        description="Check that a server answers. By default it need not let the client in: that it requires a login "
        "or a certificate is an answer too. The exit status is 0 if it answers, and is alive and ready where that is "
        "asked; 1 if it does not answer, is not alive, or does not accept the login or the certificate; 2 if a flag is "
        f"invalid; {NOT_READY_STATUS} if it is alive, but not ready (--ready).",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="HOST, HOST:PORT, [IPV6]:PORT or the path of a unix socket, of any listener "
        f"(default: the port in the file that {PORT_FILE_VARIABLE} names, or the address that a server with the same "
        "environment would listen on; if there is an admin listener and no --user, that one)",
    )
    parser.add_argument("--admin", action="store_true", help="ask the admin listener whether the server is alive")
    parser.add_argument("--ready", action="store_true", help="ask the admin listener whether the server is ready")
    parser.add_argument("--tls", action="store_true", help="only try TLS (default: try with and without TLS)")
    parser.add_argument(
        "--ca", metavar="FILE", help="with TLS, trust only the authorities in this file, and check the host's name"
    )
    parser.add_argument("--cert", metavar="FILE", help="with TLS, show this certificate, which must be accepted")
    parser.add_argument("--key", metavar="FILE", help="the certificate's key, unless it is in the same file")
    parser.add_argument(
        "--user",
        metavar="NAME",
        help=f"log in as this user where a login is required; the variable {PASSWORD_VARIABLE} has the password",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=HEALTH_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="total time to wait for an answer (default: %(default)g)",
    )
    return parser


def _what_to_ask(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Address, Question]:
    """Return what the flags ask of which address. Raises ConfigError; exits if they exclude each other."""
    is_admin = options.admin or options.ready
    if options.user is not None and is_admin:
        parser.error("--user: the admin listener has no users; leave out --admin and --ready")
    if options.key and not options.cert:
        parser.error("--key needs --cert")
    if options.address is not None:
        address = _read(parser, options.address, DEFAULT_ADMIN_PORT if is_admin else DEFAULT_PORT)
    else:
        address, is_admin = default_address(os.environ, is_admin, has_user=options.user is not None)
    only_tls = bool(options.tls or options.ca or options.cert)
    if only_tls and address.path:
        parser.error("--tls: a unix socket has no TLS; leave out --tls, --ca and --cert")
    path = "" if not is_admin else "/readyz" if options.ready else "/livez"
    account = None if options.user is None else _account(parser, options.user)
    return address, Question(only_tls, _tls_context(parser, options), bool(options.cert), account, path)


def default_address(environ: Mapping[str, str], is_admin: bool, has_user: bool) -> tuple[Address, bool]:
    """Return where to ask a server with this environment, and whether that is its admin listener.

    is_admin: whether it must be; has_user: whether it can't be. Raises ConfigError.
    """
    settings = settings_of(environ)
    found = None if has_user else admin_address(settings)
    if found is None and is_admin:
        found = Address(LOOPBACKS[0], DEFAULT_ADMIN_PORT)
    return (data_address(settings), False) if found is None else (found, True)


def _read(parser: argparse.ArgumentParser, text: str, port: int) -> Address:
    try:
        return read_address(text, port)
    except ListenError:
        parser.error(f"--address: {text!r} is not an address")


def _account(parser: argparse.ArgumentParser, user: str) -> Account:
    if not user or " " in user or ":" in user:
        parser.error("--user: a user's name is not empty and has no blanks and colons")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        parser.error(f"--user: set {PASSWORD_VARIABLE} to the password")
    return Account(user, password)


def _tls_context(parser: argparse.ArgumentParser, options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return what --ca and --cert ask for; None without them."""
    if not (options.ca or options.cert):
        return None
    from memcache_kv.unpatched import ssl

    context = trusting() if not options.ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if options.ca:
            context.load_verify_locations(options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key, password=lambda: b"")
    except OSError as error:  # ssl.SSLError too
        parser.error(f"--ca, --cert, --key: {error.strerror or error}")
    return context


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return float(text)


def read_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Read the value of --address. Raises ListenError if it is not an address."""
    if "/" in text:
        return Address("", 0, text)
    host, port = split_address(text, default_port)
    return Address(host or LOOPBACKS[0], port)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a server with this environment. Raises ConfigError if one is invalid."""
    config = environ.get(CONFIG_VARIABLE)
    return load_settings({}, Path(config) if config else None, environ)


def data_address(settings: Settings) -> Address:
    """Return the address on which a server with these settings serves items."""
    written = _written_port(settings.port_file, "TCP")
    if settings.unix_socket is not None and written is None and not settings.listen and not settings.port_given:
        return Address("", 0, str(settings.unix_socket))
    _, first = split_class_prefix(settings.listen[0] if settings.listen else "")
    return _reachable(_without_tls_prefix(first), settings.port, written)


def admin_address(settings: Settings) -> Address | None:
    """Return the address of the admin listener of a server with these settings; None if it has none."""
    written = _written_port(settings.port_file, "ADMIN")
    first = _without_tls_prefix(settings.admin_listen[0] if settings.admin_listen else "")
    if "/" in first:
        return Address("", 0, first)
    if not first and written is None:
        return None
    return _reachable(f"*:{first}" if first.isdigit() else first, DEFAULT_ADMIN_PORT, written)


def _without_tls_prefix(text: str) -> str:
    return text.removeprefix(next((prefix for prefix in TLS_PREFIXES if text.startswith(prefix)), ""))


class _WrittenPort(NamedTuple):
    port: int
    is_v6: bool


def _reachable(text: str, default_port: int, written: _WrittenPort | None) -> Address:
    """Return where a server is reached that listens on an address, on the port that it has written if there is one."""
    host, port = split_address(text, default_port)
    is_v6 = written.is_v6 if written is not None else host == "::"
    if host in ALL_INTERFACES:
        host = LOOPBACKS[is_v6]
    return Address(host, port if written is None else written.port)


def _written_port(path: Path | None, what: str) -> _WrittenPort | None:
    """Return the first port of a kind in a server's port file; None if there is none."""
    try:
        text = "" if path is None else path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(rf"^{what} INET(6?): (\d{{1,5}})$", text, re.MULTILINE)
    return None if match is None else _WrittenPort(int(match[2]), bool(match[1]))


def check(address: Address, question: Question = ANY_ANSWER, timeout: float = HEALTH_TIMEOUT_SECONDS) -> str:
    """Try the probes until the server answers, and return its answer or a description of it.

    timeout: the total time in seconds. Raises Unhealthy if no probe is answered, or a login fails, and NotReady.
    """
    deadline = time.monotonic() + timeout
    said = "it closes the connection"
    for probe in question.probes(address.host):
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
    what = "the admin listener of a memcache_kv server" if question.admin_path else "a memcached server"
    raise Unhealthy(f"{address} does not answer as {what} does: {said}")


def _connect(address: Address, deadline: float) -> socket.socket:
    try:
        return address.connect(seconds_left(deadline))
    except TimeoutError:
        raise
    except OSError as error:
        raise Unhealthy(f"can't connect to {address}: {error.strerror or error}") from None
