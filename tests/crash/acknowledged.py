"""Loads whose clients know which of their writes were acknowledged when the server is killed.

Each client sets a key of its own to ever higher numbers. After a restart the key must hold the last acknowledged number
or a later one.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.wire import DEADLINE, OURS, RunningServer, Wire

STORED = b"STORED\r\n"
LOAD_SECONDS = (0.02, 0.3)
LONGEST_JOURNAL_BYTES = 100_000_000
BUSY_BYTES = 4 << 20
CLOSED_SECONDS = 1.0
"""So long after a connection was closed, what the server has to say about it is in its log."""
SLOW_SYNCS = """
import sys, time
from memcache_kv import cli
from memcache_kv.journal import disk, writer

sync = disk.SystemFile.sync

def slow_sync(file):
    time.sleep(0.05)
    sync(file)

disk.SystemFile.sync = slow_sync
writer.SYNC_SECONDS = 0.01
sys.exit(cli.main(sys.argv[1:]))
"""
"""A server whose fsyncs take 50 ms longer; under everysec, one is under way most of the time."""


@dataclass(frozen=True)
class Load:
    """How many clients write, how many requests each has in flight, and what else goes on."""

    clients: int
    in_flight: int = 1
    value_bytes: int = 100
    has_slow_syncs: bool = False
    rewrites: bool = False


LOADS = {
    "one request in flight on each connection": Load(48),
    "the same on a busy disk with slow fsyncs": Load(48, has_slow_syncs=True),
    "one pipelined writer": Load(1, 1000),
    "two pipelined writers": Load(2, 1000),
    "values of 8 MB": Load(3, 1, 8_000_000),
    "during rewrites": Load(16, 4, 1000, rewrites=True),
}


class Client:
    """A client with so many requests in flight.

    `acknowledged` is the last number whose reply was read or that was found after a restart.
    """

    def __init__(self, name: bytes, load: Load) -> None:
        self.name = name
        self.load = load
        self.sent = self.acknowledged = 0
        self.socket: socket.socket
        self._out = b""
        self._replies = b""

    def connect(self, server: RunningServer) -> None:
        """Begin anew, with the numbers after the last one that is known to be stored."""
        self.socket = socket.create_connection((server.host, server.port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.sent = self.acknowledged
        self._out = self._replies = b""

    def write(self) -> None:
        """Send as much as may be in flight."""
        if not self._out and self.sent - self.acknowledged <= self.load.in_flight // 2:
            numbers = range(self.sent + 1, self.acknowledged + self.load.in_flight + 1)
            self._out = b"".join(self._request(number) for number in numbers)
            self.sent = self.acknowledged + self.load.in_flight
        if self._out:
            self._out = self._out[self.socket.send(self._out) :]

    def _request(self, number: int) -> bytes:
        value = (b"%d " % number).ljust(self.load.value_bytes, b"x")
        return b"set %b 0 0 %d\r\n%b\r\n" % (self.name, len(value), value)

    def read(self) -> bool:
        """Read replies. Returns False when the server has gone."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._replies += data
        count = len(self._replies) // len(STORED)
        assert self._replies[: count * len(STORED)] == STORED * count, self._replies
        self._replies = self._replies[count * len(STORED) :]
        self.acknowledged += count
        return bool(data)

    @property
    def rest(self) -> bytes:
        """What was read and is no whole reply."""
        return self._replies

    def drain(self) -> None:
        """Read the replies that arrived before the server was killed."""
        self.socket.settimeout(DEADLINE)
        while self.read():
            pass
        self.socket.close()


class BusyDisk:
    """Another program's writes and fsyncs, for as long as the context lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._ended.is_set():
                file.seek(0)
                file.write(bytes(BUSY_BYTES))
                os.fsync(file.fileno())


class Kills:
    """A server that is killed under a load again and again. `lost` counts the acknowledged writes that were missing."""

    def __init__(self, directory: Path, fsync: str, load: Load, seed: int) -> None:
        self.directory = directory
        self.fsync = fsync
        self.load = load
        self.acknowledged = 0
        self.lost = 0
        self._is_running = False
        self._rng = random.Random(seed)
        self._clients = [Client(b"client-%d" % number, load) for number in range(load.clients)]
        self.server = self._start()
        if load.rewrites:
            self._fill()

    def _start(self) -> RunningServer:
        flags = ("--journal", str(self.directory / "journal"), "--fsync", self.fsync, "-I", "16m")
        program = (sys.executable, "-c", SLOW_SYNCS) if self.load.has_slow_syncs else None
        server = RunningServer(OURS, flags, program=program)
        self._is_running = True
        return server

    def _fill(self) -> None:
        with Wire(self.server) as wire:
            wire.send(b"".join(b"set fill-%d 0 0 100 noreply\r\n%100d\r\n" % (n, n) for n in range(10_000)))
            wire.ask(b"get fill-9999\r\n")

    def play(self) -> None:
        """Put load on the server, kill it, start it again, and look for what was acknowledged."""
        before = sum(client.acknowledged for client in self._clients)
        for client in self._clients:
            client.connect(self.server)
        self._load()
        self.server.process.kill()
        for client in self._clients:
            client.drain()
        self._end()
        self.acknowledged += sum(client.acknowledged for client in self._clients) - before
        self.server = self._start()
        self._check()
        self._begin_anew_if_long()

    def _load(self) -> None:
        poll = select.poll()
        by_fd = {client.socket.fileno(): client for client in self._clients}
        for fd in by_fd:
            poll.register(fd, select.POLLIN | select.POLLOUT)
        before = sum(client.acknowledged for client in self._clients)
        end = time.monotonic() + self._rng.uniform(*LOAD_SECONDS)
        rewrites = self._rewrites()
        while time.monotonic() < end or before == sum(client.acknowledged for client in self._clients):
            for fd, events in poll.poll(10):
                if events & select.POLLIN and not by_fd[fd].read():
                    raise AssertionError(self._why_closed(by_fd[fd]))
                by_fd[fd].write()
            next(rewrites, None)

    def _why_closed(self, client: Client) -> str:
        """Say what is known about a connection that the server has closed while it ran."""
        time.sleep(CLOSED_SECONDS)
        status, disk = self.server.process.poll(), shutil.disk_usage(self.directory)
        return (
            f"the server closed the connection of {client.name!r} after {client.acknowledged} of {client.sent} "
            f"replies, with {client.rest!r} behind them; exit status {status}, {disk.free >> 20} MiB of disk free\n"
            f"{self.server.log()}"
        )

    def _rewrites(self) -> Iterator[None]:
        """Ask for rewrites, one after the other, at each step."""
        if not self.load.rewrites:
            return
        with Wire(self.server) as wire:
            while True:
                wire.ask(b"journal compact\r\n")
                for _ in range(20):
                    yield

    def _check(self) -> None:
        with Wire(self.server) as wire:
            for client in self._clients:
                reply = wire.ask(b"get %b\r\n" % client.name)
                found = int(reply.split(b"\r\n")[1].split()[0]) if reply.startswith(b"VALUE") else 0
                if found < client.acknowledged:
                    self.lost += client.acknowledged - found
                    print(f"{client.name!r} {client.acknowledged}: {reply[:100]!r}\n{self.server.log()}")
                client.acknowledged = found

    def _begin_anew_if_long(self) -> None:
        journal = self.directory / "journal"
        if sum(file.stat().st_size for file in journal.iterdir()) < LONGEST_JOURNAL_BYTES:
            return
        self._end()
        shutil.rmtree(journal)
        self.server = self._start()
        for client in self._clients:
            client.acknowledged = 0
        if self.load.rewrites:
            self._fill()

    def _end(self) -> None:
        self._is_running = False
        self.server.kill()
        self.server.close()

    def close(self) -> None:
        """End the server, unless it could not be started again."""
        if self._is_running:
            self.server.close()
