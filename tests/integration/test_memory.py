"""What `-m` promises, measured on the process: its resident size beyond that of an idle server, and whose it is."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from memcache_kv.journal.writer import queue_limit_bytes
from tests.certificates import ask, make_certificates, stats
from tests.integration.conftest import MakeServer
from tests.integration.wire import Wire
from tests.program import PATIENCE_SECONDS, Program, environment

pytestmark = pytest.mark.long

MEGABYTE = 1 << 20
LIMIT_MEGABYTES = 128
ROUNDS = 2.5
BLOCK = random.Random(1).randbytes(MEGABYTE)
VALUE = b"v" * 1000
BURST_LIMIT_MEGABYTES = 64

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")

MIXES: dict[str, Callable[[random.Random], int]] = {
    "small": lambda rnd: rnd.randrange(1, 500),
    "around a kilobyte": lambda rnd: rnd.randrange(500, 3000),
    "five kilobytes": lambda rnd: 5000,
    "ten kilobytes": lambda rnd: 10_240,
    "from a byte to most of a megabyte": lambda rnd: int(10 ** rnd.uniform(0, 5.9)),
    "tiny or huge": lambda rnd: rnd.choice((50, 50, 50, 50, 400_000)),
}


@on_linux
@pytest.mark.parametrize("mix", MIXES)
def test_the_process_takes_what_the_limit_says(ours: MakeServer, mix: str) -> None:
    server = ours("-m", str(LIMIT_MEGABYTES))
    rnd = random.Random(7)
    with Wire(server) as wire:
        wire.expect(b"get none\r\n", b"END\r\n")
        idle, sent, largest = server.resident_bytes(), 0, 0
        while sent < ROUNDS * LIMIT_MEGABYTES * MEGABYTE:
            batch = b"".join(_sets(rnd, MIXES[mix]))
            sent += len(batch)
            wire.expect(batch + b"version\r\n", b"VERSION 1.6.45\r\n")
            largest = max(largest, server.resident_bytes() - idle)
        final = server.resident_bytes() - idle
        assert int(wire.stats()["evictions"]) > 0
    assert largest < 1.2 * LIMIT_MEGABYTES * MEGABYTE
    assert final > 0.8 * LIMIT_MEGABYTES * MEGABYTE


def _sets(rnd: random.Random, size: Callable[[random.Random], int]) -> list[bytes]:
    """About a megabyte of silent sets."""
    lines, left = [], MEGABYTE
    while left > 0:
        length = size(rnd)
        lines.append(b"set key:%d 0 0 %d noreply\r\n%b\r\n" % (rnd.randrange(10**9), length, BLOCK[:length]))
        left -= length + 60
    return lines


@on_linux
def test_a_burst_of_changes_takes_what_the_journal_may(tmp_path: Path) -> None:
    flags = ("-p", "0", "-l", "127.0.0.1", "-m", str(BURST_LIMIT_MEGABYTES), "--journal", str(tmp_path / "journal"))
    with Program(*flags) as program, socket.create_connection(("127.0.0.1", program.port)) as client:
        idle = memory_of(program.process.pid, "VmRSS")
        for start in range(0, 150_000, 500):
            batch = [b"set %d 0 0 1000 noreply\r\n%b\r\n" % (number, VALUE) for number in range(start, start + 500)]
            ask(client, b"".join(batch) + b"mn\r\n")
        largest = memory_of(program.process.pid, "VmHWM") - idle
    most = 1.2 * BURST_LIMIT_MEGABYTES * MEGABYTE + 5 * queue_limit_bytes(BURST_LIMIT_MEGABYTES * MEGABYTE)
    assert largest < most


# What is not the items' costs them nothing

SMALL_LIMIT_MEGABYTES = 32
ALMOST_ALL = 0.8
"""Of the items that fit in otherwise: holes that others leave before anybody knows of them cost some."""


def memory_of(pid: int, name: str) -> int:
    """What the kernel tells of a process's memory: resident now (VmRSS) or at most so far (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def fill(client: socket.socket, begin: str) -> int:
    """Store three times what fits in, with time for whoever watches the memory; return how many items stay."""
    for part in range(3):
        keys = [b"%b-%d-%d" % (begin.encode(), part, number) for number in range(SMALL_LIMIT_MEGABYTES * 1000)]
        for start in range(0, len(keys), 500):
            batch = [b"set %b 0 0 1000 noreply\r\n%b\r\n" % (key, VALUE) for key in keys[start : start + 500]]
            ask(client, b"".join(batch) + b"mn\r\n")
        time.sleep(0.7)  # longer than between two looks at the memory
    return int(stats(client)["curr_items"])


@on_linux
def test_tls_connections_cost_no_items(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    flags = ("-p", "0", "-l", "127.0.0.1", "-m", str(SMALL_LIMIT_MEGABYTES), "-Z", "-o", certificates.suboptions)
    with Program(*flags) as program, ExitStack() as connections:
        client = connections.enter_context(certificates.connect(program.port))
        context = certificates.context()
        for _ in range(400):
            ask(connections.enter_context(certificates.connect(program.port, context)))
        fill(client, "together")
        assert int(stats(client)["bytes"]) > 0.85 * SMALL_LIMIT_MEGABYTES * MEGABYTE


@on_linux
def test_half_sent_values_cost_no_items(ours: MakeServer) -> None:
    server = ours("-m", str(SMALL_LIMIT_MEGABYTES))
    with ExitStack() as connections:
        client = connections.enter_context(server.connect())
        before = fill(client, "alone")
        for _ in range(50):
            half = connections.enter_context(server.connect())
            half.sendall(b"set half 0 0 1000000\r\n" + BLOCK[:990_000])
        assert fill(client, "together") > ALMOST_ALL * before
        resident = server.resident_bytes()
    with server.connect() as client:
        assert fill(client, "afterwards") > ALMOST_ALL * before
    assert server.resident_bytes() < resident - 40 * MEGABYTE


class Host:
    """A program with a server in it, in a process of its own: what other tests leave in this one is not there."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.integration.host_program", str(SMALL_LIMIT_MEGABYTES)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        self.port = int(self._answer())

    def tell(self, command: bytes) -> None:
        """Have it hold or drop memory of its own."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + b"\n")
        self._process.stdin.flush()
        assert self._answer() == b"done\n"

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=PATIENCE_SECONDS)


@on_linux
@pytest.mark.parametrize("size", [100, 1000, 150 * MEGABYTE])
def test_a_program_that_has_a_server_in_it_costs_no_items(size: int) -> None:
    with closing(Host()) as host, socket.create_connection(("127.0.0.1", host.port)) as client:
        before = fill(client, "alone")
        host.tell(b"hold %d" % size)
        assert fill(client, "together") > ALMOST_ALL * before
        host.tell(b"drop")
        assert fill(client, "afterwards") > ALMOST_ALL * before
