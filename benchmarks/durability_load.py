"""Load a server, one request in flight on each connection; print throughput and latencies of each phase as JSON.

Run as its own process, so that its work is not counted as the server's:
python -m benchmarks.durability_load text|resp PORT [--connections N] [--writes SHARE] [--keys N]

It stores every key once, says {"ready": true}, and loads the server until its standard input ends. Each line that it
reads there begins a phase of that name; what is answered before the first of them is not counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import select
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

HOST = "127.0.0.1"
VALUE = b"x" * 100
REQUESTS = 20_000
"""Requests that are made beforehand, and sent over and over."""
FILL_AT_ONCE = 500
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
ANSWER_SECONDS = 60
STANDARD_INPUT = 0

Request = tuple[bytes, int]
"""What to send, and how many bytes answer it."""


class UnexpectedReplyError(Exception):
    """The server hung up, fell silent, or answered something else."""


@dataclass(frozen=True)
class Protocol:
    """Spell the requests of a protocol, and know the replies."""

    get_form: bytes
    set_form: bytes
    hit: bytes
    stored: bytes

    def get(self, key: int) -> Request:
        """Spell the get of a key that is there."""
        name = name_of(key)
        hit = self.hit.replace(b"KEY", name) + VALUE + b"\r\n"
        return self.get_form % name, len(hit + b"END\r\n" if self is TEXT else hit)

    def set(self, key: int) -> Request:
        """Spell the set of a key."""
        return self.set_form % (name_of(key), len(VALUE), VALUE), len(self.stored)


TEXT = Protocol(b"get %b\r\n", b"set %b 0 0 %d\r\n%b\r\n", b"VALUE KEY 0 %d\r\n" % len(VALUE), b"STORED\r\n")
RESP = Protocol(
    b"*2\r\n$3\r\nGET\r\n$8\r\n%b\r\n",
    b"*3\r\n$3\r\nSET\r\n$8\r\n%b\r\n$%d\r\n%b\r\n",
    b"$%d\r\n" % len(VALUE),
    b"+OK\r\n",
)
PROTOCOLS = {"text": TEXT, "resp": RESP}


def name_of(key: int) -> bytes:
    """Name a key, in 8 bytes."""
    return b"k%07d" % key


def make_requests(protocol: Protocol, keys: int, writes: float) -> list[Request]:
    """Prepare the requests beforehand: the same ones for every server."""
    rng = random.Random(7)
    picks = [(rng.randrange(keys), rng.random() < writes) for _ in range(REQUESTS)]
    return [protocol.set(key) if is_write else protocol.get(key) for key, is_write in picks]


def fill(protocol: Protocol, port: int, keys: int) -> None:
    """Store every key once, so that each get hits."""
    with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
        for first in range(0, keys, FILL_AT_ONCE):
            requests = [protocol.set(key)[0] for key in range(first, min(first + FILL_AT_ONCE, keys))]
            connection.sendall(b"".join(requests))
            expect(connection, protocol.stored * len(requests))


def expect(connection: socket.socket, wanted: bytes) -> None:
    """Receive exactly this. Raises UnexpectedReplyError."""
    found = b""
    while len(found) < len(wanted):
        data = connection.recv(len(wanted) - len(found))
        if not data:
            raise UnexpectedReplyError("the server hung up")
        found += data
    if found != wanted:
        raise UnexpectedReplyError(f"the server answered {found[:100]!r}")


class Lane:
    """One connection, its request in flight, and when that was sent."""

    __slots__ = ("awaited", "fd", "sent_at", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.socket.fileno()
        self.awaited = 0
        self.sent_at = 0.0


class Phase:
    """What was answered from one line of the standard input to the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.latencies = array("d")
        self.began = time.perf_counter()
        self.seconds = 0.0

    def end(self) -> None:
        """Note how long it was."""
        self.seconds = time.perf_counter() - self.began

    def report(self) -> dict[str, float]:
        """Tell the throughput, and the latencies in milliseconds."""
        ordered = sorted(self.latencies)
        count = len(ordered)
        found = {"operations": count, "seconds": self.seconds, "max": 1000 * ordered[-1] if count else 0.0}
        for name, part in QUANTILES.items():
            found[name] = 1000 * ordered[min(int(part * count), count - 1)] if count else 0.0
        return found


class Load:
    """Keep one request in flight on every connection until the standard input ends."""

    def __init__(self, port: int, connections: int, requests: list[Request]) -> None:
        self.phases = [Phase("")]
        self._requests = requests
        self._next = 0
        self._poller = select.epoll()
        self._lanes = {lane.fd: lane for lane in (Lane(port) for _ in range(connections))}
        self._poller.register(STANDARD_INPUT, select.EPOLLIN | select.EPOLLHUP)
        for fd in self._lanes:
            self._poller.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Load. The time between an answer's arrival and our turn at it counts only from one poll to the next."""
        for every in self._lanes.values():
            self._send(every)
        lanes, poll, clock = self._lanes, self._poller.poll, time.perf_counter
        going = True
        while going:
            events = poll(ANSWER_SECONDS)
            if not events:
                raise UnexpectedReplyError(f"no answer in {ANSWER_SECONDS} s")
            now, note = clock(), self.phases[-1].latencies.append
            for fd, _ in events:
                lane = lanes.get(fd)
                if lane is None:
                    going = self._turn_to_phase()
                elif self._receive(lane):
                    note(now - lane.sent_at)
                    self._send(lane)

    def close(self) -> None:
        """Close the connections."""
        for lane in self._lanes.values():
            lane.socket.close()
        self._poller.close()

    def _send(self, lane: Lane) -> None:
        self._next = number = (self._next + 1) % REQUESTS
        request, lane.awaited = self._requests[number]
        lane.sent_at = time.perf_counter()
        os.write(lane.fd, request)

    def _receive(self, lane: Lane) -> bool:
        """Receive what is there; tell whether the request is answered."""
        data = os.read(lane.fd, 4096)
        lane.awaited -= len(data)
        if lane.awaited and (not data or lane.awaited < 0 or data.startswith((b"-", b"SERVER_ERROR"))):
            raise UnexpectedReplyError(f"the server answered {data[:100]!r}")
        return lane.awaited == 0

    def _turn_to_phase(self) -> bool:
        """Begin the phase that is named on the standard input; False at its end."""
        self.phases[-1].end()
        lines = os.read(STANDARD_INPUT, 4096).decode().split()
        if lines:
            self.phases.append(Phase(lines[-1]))
        return bool(lines)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="durability_load.py", description=__doc__)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=48, metavar="N")
    parser.add_argument("--writes", type=float, default=0.5, metavar="SHARE")
    parser.add_argument("--keys", type=int, default=20_000, metavar="N")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, load and print; return the exit status."""
    options = parse_arguments(arguments)
    protocol = PROTOCOLS[options.protocol]
    gc.disable()
    try:
        fill(protocol, options.port, options.keys)
        load = Load(options.port, options.connections, make_requests(protocol, options.keys, options.writes))
        print(json.dumps({"ready": True}), flush=True)
        load.run()
        load.close()
    except (OSError, UnexpectedReplyError) as error:
        print(f"the load broke off: {error}", file=sys.stderr)
        return 1
    print(json.dumps({phase.name: phase.report() for phase in load.phases if phase.name}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
