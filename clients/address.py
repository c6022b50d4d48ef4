"""Where a server listens: HOST:PORT, or the path of a unix socket."""

from __future__ import annotations

import argparse
import socket
from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11211
MEANINGS = {"MemcacheUnexpectedCloseError": "the server closed the connection"}
"""What errors mean that come without a message, by their names: pymemcache need not be there."""


@dataclass(frozen=True)
class Address:
    """Name one server: a host and a port, or a unix socket's path (then host and port mean nothing)."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str = ""

    def __str__(self) -> str:
        """Spell the address the way it is typed."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, timeout_seconds: float) -> socket.socket:
        """Open a connection, blocking at most the given time; raise OSError when nobody answers."""
        if not self.path:
            connection = socket.create_connection((self.host, self.port), timeout_seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection

    def for_pymemcache(self) -> tuple[str, int] | str:
        """Give the form pymemcache's Client takes."""
        return f"unix:{self.path}" if self.path else (self.host, self.port)


def parse_address(text: str) -> Address:
    """Read HOST:PORT, HOST, :PORT, [IPV6]:PORT or a path with a slash; raise ArgumentTypeError otherwise."""
    if "/" in text:
        return Address(path=text.removeprefix("unix:"))
    host, port = _split_host_and_port(text)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address: write HOST:PORT (port 1 to 65535) or the path of a unix socket"
        )
    return Address(host or DEFAULT_HOST, int(port))


def _split_host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") or str(DEFAULT_PORT)
    if text.count(":") > 1:
        return text, str(DEFAULT_PORT)
    host, colon, port = text.partition(":")
    return host, port if colon else str(DEFAULT_PORT)


def broke_off(error: Exception) -> bool:
    """Tell whether an error came in the middle of the work, not from the attempt to connect."""
    refused = isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror, TimeoutError))
    return (isinstance(error, ConnectionError) and not refused) or not isinstance(error, OSError)


def cannot_connect(address: Address, error: OSError) -> str:
    """Say in one line why there is no connection, and what to do about it where nobody answers."""
    said = f"cannot connect to {address}: {reason_of(error)}"
    if not isinstance(error, (ConnectionRefusedError, FileNotFoundError, TimeoutError)):
        return said
    where = f"-s {address.path}" if address.path else f"-p {address.port} -l {address.host}"
    return f"{said}; start a server with: python -m memcache_kv {where}"


def reason_of(error: Exception) -> str:
    """Say what an error means, also where its own message is empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else ""
    said = first.decode("utf-8", "backslashreplace") if isinstance(first, bytes) else str(error)
    return said or MEANINGS.get(type(error).__name__, type(error).__name__)
