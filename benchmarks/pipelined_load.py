"""Load a server over many connections with many requests in flight on each; print the operations done.

Run as its own process, so that its work is not counted as the server's:
python -m benchmarks.pipelined_load PORT SECONDS [--depth N] [--connections N] [--sets SHARE] [--meta] [--tls]
[--line PORT]
"""

from __future__ import annotations

import argparse
import random
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

HOST = "127.0.0.1"
KEYS = 20_000
VALUE = b"x" * 100
BATCHES = 200


class UnexpectedReplyError(Exception):
    """The server hung up or answered with more bytes than the requests ask for."""


@dataclass(frozen=True)
class Batch:
    """Hold requests that are sent at once, and the size of all their replies."""

    requests: bytes
    reply_bytes: int


def connect(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """Open a connection, with TLS where there is a context for it."""
    connection = socket.create_connection((HOST, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(connection) if tls else connection


def trusting_context() -> ssl.SSLContext:
    """Make a context that takes any certificate: the server is our own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """Keep one batch in flight after the other."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket = connect(port, tls)
        self._awaited_bytes = 0

    def send(self, batch: Batch) -> None:
        """Send a batch; the one before must have been answered."""
        self._awaited_bytes = batch.reply_bytes
        self.socket.sendall(batch.requests)

    def receive(self) -> bool:
        """Receive what is there; return whether the batch is answered. Raises UnexpectedReplyError.

        With TLS that is at least one record, and more if they have been decrypted already.
        """
        self._take()
        while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            self._take()
        return self._awaited_bytes == 0

    def _take(self) -> None:
        data = self.socket.recv(1 << 20)
        self._awaited_bytes -= len(data)
        if not data or self._awaited_bytes < 0:
            raise UnexpectedReplyError("the reply is too long" if data else "the server hung up")


@dataclass(frozen=True)
class Dialect:
    """Spell the requests for a key, and know the replies."""

    get_form: bytes
    set_form: bytes
    hit: bytes
    stored: bytes


CLASSIC = Dialect(
    b"get k%07d\r\n",
    b"set k%%07d 0 0 %d\r\n%b\r\n" % (len(VALUE), VALUE),
    b"VALUE k0000000 0 %d\r\n%b\r\nEND\r\n" % (len(VALUE), VALUE),
    b"STORED\r\n",
)
META = Dialect(
    b"mg k%07d v\r\n",
    b"ms k%%07d %d\r\n%b\r\n" % (len(VALUE), VALUE),
    b"VA %d\r\n%b\r\n" % (len(VALUE), VALUE),
    b"HD\r\n",
)
LINE = Dialect(
    b"GET k%07d\n",
    b"PUT k%%07d %b\n" % VALUE,
    b"OK %b\n" % VALUE,
    b"OK stored\n",
)


def fill(port: int, tls: ssl.SSLContext | None = None) -> None:
    """Store every key once, so that each get hits."""
    with connect(port, tls) as connection:
        for first in range(0, KEYS, 500):
            keys = range(first, first + 500)
            connection.sendall(
                b"".join(b"set k%07d 0 0 %d noreply\r\n%b\r\n" % (key, len(VALUE), VALUE) for key in keys)
            )
        connection.sendall(b"version\r\n")
        connection.recv(100)


def make_batches(dialect: Dialect, depth: int, set_share: float) -> list[Batch]:
    """Prepare the batches beforehand: the same ones for every server."""
    rng = random.Random(7)
    return [_make_batch(rng, dialect, depth, set_share) for _ in range(BATCHES)]


def _make_batch(rng: random.Random, dialect: Dialect, depth: int, set_share: float) -> Batch:
    requests, reply_bytes = [], 0
    for _ in range(depth):
        key = rng.randrange(KEYS)
        is_set = rng.random() < set_share
        requests.append((dialect.set_form if is_set else dialect.get_form) % key)
        reply_bytes += len(dialect.stored if is_set else dialect.hit)
    return Batch(b"".join(requests), reply_bytes)


def run(port: int, seconds: float, batches: list[Batch], count: int, tls: ssl.SSLContext | None = None) -> int:
    """Load the server for the given time over this many connections; return the number of answered batches."""
    poller = select.epoll()
    connections = [Connection(port, tls) for _ in range(count)]
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    for index, connection in enumerate(connections):
        poller.register(connection.socket.fileno(), select.EPOLLIN)
        connection.send(batches[index % BATCHES])
    answered, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for descriptor, _ in poller.poll(1):
            connection = by_descriptor[descriptor]
            if connection.receive():
                answered += 1
                connection.send(batches[(answered + count) % BATCHES])
    for connection in connections:
        connection.socket.close()
    poller.close()
    return answered


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="pipelined_load.py", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--depth", type=int, default=32, metavar="N", help="requests in flight on each (default 32)")
    parser.add_argument("--connections", type=int, default=20, metavar="N", help="(default 20)")
    parser.add_argument("--sets", type=float, default=0.1, metavar="SHARE", help="(default 0.1)")
    parser.add_argument("--tls", action="store_true", help="connect with TLS; any certificate will do")
    parser.add_argument("--meta", action="store_true", help="mg and ms instead of get and set")
    parser.add_argument("--line", type=int, metavar="PORT", help="load the line protocol on this port of the server")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, load and print; return the exit status."""
    options = parse_arguments(arguments)
    dialect = LINE if options.line else META if options.meta else CLASSIC
    batches = make_batches(dialect, options.depth, options.sets)
    tls = trusting_context() if options.tls else None
    fill(options.port, tls)
    try:
        print(run(options.line or options.port, options.seconds, batches, options.connections, tls) * options.depth)
    except (OSError, UnexpectedReplyError) as error:
        print(f"the load broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
