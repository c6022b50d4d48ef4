"""Load a server over many connections with many requests in flight on each; print the operations done.

Run as its own process, so that its work is not counted as the server's:
python -m benchmarks.pipelined_load PORT SECONDS
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
KEYS = 20_000
VALUE = b"x" * 100
CONNECTIONS = 20
IN_FLIGHT = 32
SET_SHARE = 0.1
BATCHES = 200
STORED = b"STORED\r\n"


class UnexpectedReplyError(Exception):
    """The server hung up or answered with more bytes than the requests ask for."""


@dataclass(frozen=True)
class Batch:
    """Hold requests that are sent at once, and the size of all their replies."""

    requests: bytes
    reply_bytes: int


class Connection:
    """Keep one batch in flight after the other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._awaited_bytes = 0

    def send(self, batch: Batch) -> None:
        """Send a batch; the one before must have been answered."""
        self._awaited_bytes = batch.reply_bytes
        self.socket.sendall(batch.requests)

    def receive(self) -> bool:
        """Receive what is there; return whether the batch is answered. Raises UnexpectedReplyError."""
        data = self.socket.recv(1 << 20)
        self._awaited_bytes -= len(data)
        if not data or self._awaited_bytes < 0:
            raise UnexpectedReplyError("the reply is too long" if data else "the server hung up")
        return self._awaited_bytes == 0


def set_request(key: int, end: bytes = b"\r\n") -> bytes:
    """Spell the set of a key."""
    return b"set k%07d 0 0 %d%b%b\r\n" % (key, len(VALUE), end, VALUE)


def fill(port: int) -> None:
    """Store every key once, so that each get hits."""
    with socket.create_connection((HOST, port)) as connection:
        for first in range(0, KEYS, 500):
            keys = range(first, first + 500)
            connection.sendall(b"".join(set_request(key, b" noreply\r\n") for key in keys))
        connection.sendall(b"version\r\n")
        connection.recv(100)


def make_batches() -> list[Batch]:
    """Prepare the batches beforehand: the same ones for every server."""
    rng = random.Random(7)
    return [_make_batch(rng) for _ in range(BATCHES)]


def _make_batch(rng: random.Random) -> Batch:
    get_reply_bytes = len(b"VALUE k0000000 0 %d\r\n%b\r\nEND\r\n" % (len(VALUE), VALUE))
    requests, reply_bytes = [], 0
    for _ in range(IN_FLIGHT):
        key = rng.randrange(KEYS)
        is_set = rng.random() < SET_SHARE
        requests.append(set_request(key) if is_set else b"get k%07d\r\n" % key)
        reply_bytes += len(STORED) if is_set else get_reply_bytes
    return Batch(b"".join(requests), reply_bytes)


def run(port: int, seconds: float) -> int:
    """Load the server for the given time; return the number of answered requests."""
    batches = make_batches()
    poller = select.epoll()
    connections = [Connection(port) for _ in range(CONNECTIONS)]
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
                connection.send(batches[(answered + CONNECTIONS) % BATCHES])
    for connection in connections:
        connection.socket.close()
    poller.close()
    return answered * IN_FLIGHT


def main() -> int:
    """Fill, load and print; return the exit status."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    fill(port)
    try:
        print(run(port, seconds))
    except (OSError, UnexpectedReplyError) as error:
        print(f"the load broke off: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
