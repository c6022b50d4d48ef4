"""How many acknowledged writes are missing after kill -9, beside Redis.

Each client sets a key of its own to ever higher numbers. After a restart the key must hold the last acknowledged
number or a later one.
"""

from __future__ import annotations

import random
import select
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.durability_load import PROTOCOLS, Protocol, UnexpectedReplyError
from benchmarks.durability_report import COUNT, Column, Section
from benchmarks.durability_rounds import Tell
from benchmarks.durability_servers import HOST, OURS, REDIS, ServerProcess, Start, ours, redis, redis_program

COLUMNS = (
    Column("policy"), Column("server"), Column("kills", COUNT), Column("acknowledged", COUNT), Column("missing", COUNT),
)  # fmt: skip
POLICIES = {"never": "no", "everysec": "everysec", "always": "always"}
CLIENTS = 8
IN_FLIGHT = 100
VALUE_BYTES = 100
LOAD_SECONDS = (0.02, 0.25)
REWRITE_CHANCE = 0.3
PATIENCE_MILLISECONDS = 30_000
SEED = 7


class Writer:
    """A client that writes with many requests in flight, and knows how many were acknowledged."""

    def __init__(self, number: int, protocol: Protocol) -> None:
        self.name = b"w%07d" % number
        self.acknowledged = self.sent = 0
        self.socket: socket.socket
        self._protocol = protocol
        self._rest = b""

    def connect(self, port: int) -> None:
        """Begin anew behind the last acknowledged number."""
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent, self._rest = self.acknowledged, b""

    def send(self) -> None:
        """Send as many requests as may be in flight, if half of them are answered."""
        if self.sent - self.acknowledged <= IN_FLIGHT // 2:
            numbers = range(self.sent + 1, self.acknowledged + IN_FLIGHT + 1)
            form, name = self._protocol.set_form, self.name
            values = ((b"%d " % number).ljust(VALUE_BYTES, b"x") for number in numbers)
            self.socket.sendall(b"".join(form % (name, len(value), value) for value in values))
            self.sent = numbers[-1]

    def receive(self) -> bool:
        """Count replies; False when the server has gone. Raises UnexpectedReplyError."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        stored = self._protocol.stored
        self._rest += data
        count = len(self._rest) // len(stored)
        if self._rest[: count * len(stored)] != stored * count:
            raise UnexpectedReplyError(f"the server answered {self._rest[:100]!r}")
        self._rest = self._rest[count * len(stored) :]
        self.acknowledged += count
        return bool(data)

    def drain(self) -> None:
        """Count the replies that had arrived when the server was killed."""
        while self.receive():
            pass
        self.socket.close()


def kills(directory: Path, count: int, tell: Tell) -> Section:
    """Kill each server under each policy so many times."""
    section = Section(f"kill -9: {CLIENTS} clients, {IN_FLIGHT} writes in flight each", COLUMNS)
    for policy in POLICIES:
        for name, start in _starts(policy).items():
            with tempfile.TemporaryDirectory(prefix="durability.", dir=directory) as files:
                row = _kill_often(start(Path(files) / "files"), Path(files) / "log", count, tell, f"{policy}, {name}")
                section.rows.append((policy, name, count, *row))
    section.notes.append(
        f"killed after {LOAD_SECONDS[0]:g} to {LOAD_SECONDS[1]:g} s of load, often during a rewrite (never: Redis' no)"
    )
    return section


def _starts(policy: str) -> dict[str, Callable[[Path], Start]]:
    starts: dict[str, Callable[[Path], Start]] = {OURS: lambda files: ours(files, policy)}
    if redis_program():
        starts[REDIS] = lambda files: redis(files, POLICIES[policy])
    return starts


def _kill_often(start: Start, log: Path, count: int, tell: Tell, what: str) -> tuple[int, int]:
    """Return how many writes were acknowledged, and how many of them were missing."""
    rng = random.Random(SEED)
    protocol = PROTOCOLS[start.kind.protocol]
    writers = [Writer(number, protocol) for number in range(CLIENTS)]
    missing = 0
    server = ServerProcess(start, log)
    for number in range(count):
        tell(f"kill {number + 1} of {count}: {what}")
        with server:
            _load(server, writers, rng)
            server.kill()
        for writer in writers:
            writer.drain()
        server = ServerProcess(start, log)
        missing += sum(max(0, writer.acknowledged - number_at(server, writer.name)) for writer in writers)
    with server:
        return sum(writer.acknowledged for writer in writers), missing


def _load(server: ServerProcess, writers: list[Writer], rng: random.Random) -> None:
    poll = select.poll()
    for writer in writers:
        writer.connect(server.port)
        poll.register(writer.socket.fileno(), select.POLLIN)
        writer.send()
    if rng.random() < REWRITE_CHANCE:
        server.ask(b"journal compact\r\n" if server.kind.name == OURS else b"BGREWRITEAOF\r\n")
    by_fd = {writer.socket.fileno(): writer for writer in writers}
    end = time.monotonic() + rng.uniform(*LOAD_SECONDS)
    while time.monotonic() < end:
        events = poll.poll(PATIENCE_MILLISECONDS)
        if not events:
            raise UnexpectedReplyError("the server does not answer")
        for fd, _ in events:
            if not by_fd[fd].receive():
                raise UnexpectedReplyError(f"the server hung up: {server.said()[-1000:]}")
            by_fd[fd].send()


def number_at(server: ServerProcess, name: bytes) -> int:
    """Return the number that a key holds; 0 if it is not there."""
    if server.kind.protocol == "text":
        answer = server.ask(b"get %b\r\n" % name, b"END\r\n")
    else:
        answer = server.ask(b"GETRANGE %b 0 19\r\n" % name)
    lines = answer.split("\r\n")
    return int(lines[1].split()[0]) if len(lines) > 2 and lines[1].strip() else 0
