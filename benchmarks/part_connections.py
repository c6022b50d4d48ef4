"""What many open connections cost, and whether anything is left of those that were closed."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.contenders import OURS, both, running
from benchmarks.durability_report import COUNT, RATIO, Column, Section
from benchmarks.part_latency import LATENCY_ROUNDS, MILLISECONDS, Latencies, latencies, median_of
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.workloads import LoadError
from clients.local_server import LocalServer

OPEN = 10_000
ACTIVE = 200
ROOM = 1000
"""Descriptors that a process needs besides these connections."""
TIMEOUT_SECONDS = 30
SETTLE_SECONDS = 1.0
SOURCES = itertools.count(1)
PORTS_EACH = 5000
"""Connections from one address before the next one is taken: closed ones keep their port for a minute."""
COLUMNS = (
    Column("server"), Column("open", COUNT), Column("errors", COUNT), Column("bytes per idle connection", COUNT),
    Column("p99 of the active, ms", MILLISECONDS), Column("p99 without the idle, ms", MILLISECONDS),
    Column("with : without", RATIO),
)  # fmt: skip
CHURN_COLUMNS = (
    Column("server"), Column("when"), Column("descriptors", COUNT), Column("threads", COUNT),
    Column("KiB resident", COUNT), Column("connects/s", COUNT),
)  # fmt: skip


def connections(effort: Effort, tell: Tell) -> Findings:
    """Measure open connections, then those that come and go."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(OPEN, hard - ROOM)
    findings = Findings([_open(effort, count, tell), _reconnects(effort, tell)])
    if count < OPEN:
        findings.sections[0].notes.append(f"{OPEN:,} connections skipped: only {hard:,} descriptors (ulimit -n)")
    own = findings.sections[0].rows[0]
    findings.aim("bytes per idle connection", float(own[3] or 0), 8192)
    findings.aim(f"p99 of {ACTIVE} among {count:,} connections : p99 of those alone", float(own[6] or 0), 2)
    findings.aim("errors of open connections", float(own[2] or 0), 0)
    return findings


def _open(effort: Effort, count: int, tell: Tell) -> Section:
    section = Section(f"{count:,} connections, {ACTIVE} of them active at full speed", COLUMNS)
    for contender in both("-c", str(count + ROOM)):
        tell(f"{ACTIVE} connections: {contender.name}")
        with running(contender, apart=True) as server:
            alone = _active(server, effort)
            before = server.resident_bytes()
            tell(f"{count:,} connections: {contender.name}")
            with _idle_ones(server, count - ACTIVE) as (idle, errors):
                each = (server.resident_bytes() - before) / len(idle)
                among = _active(server, effort)
                errors += sum(not _serves(connection) for connection in idle)
        section.rows.append((
            contender.name, count, errors, each, among["p99"], alone["p99"], among["p99"] / alone["p99"],
        ))  # fmt: skip
    section.notes.append("every idle connection asked for the version once when it was opened, and once at the end")
    return section


def _active(server: LocalServer, effort: Effort) -> Latencies:
    seconds = max(effort.seconds / 2, 1)
    return median_of([latencies(server, seconds, connections=ACTIVE) for _ in range(LATENCY_ROUNDS)])


@contextlib.contextmanager
def _idle_ones(server: LocalServer, count: int) -> Iterator[tuple[list[socket.socket], int]]:
    """Open connections, and count those that are not served."""
    with contextlib.ExitStack() as stack:
        opened, errors = [], 0
        for _ in range(count):
            try:
                opened.append(stack.enter_context(server.address.connect(TIMEOUT_SECONDS)))
            except OSError:
                errors += 1
        if not opened:
            raise LoadError("no connection could be opened")
        yield opened, errors + sum(not _serves(connection) for connection in opened)


def _serves(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"version\r\n")
        return connection.recv(100).startswith(b"VERSION")
    except OSError:
        return False


@dataclass(frozen=True)
class Holdings:
    """What a server's process holds."""

    descriptors: int
    threads: int
    kibibytes: float


def holdings(server: LocalServer) -> Holdings:
    """Look at what the process holds now."""
    proc = f"/proc/{server.pid}"
    counts = len(os.listdir(f"{proc}/fd")), len(os.listdir(f"{proc}/task"))
    return Holdings(*counts, server.resident_bytes() / 1024)


def _reconnects(effort: Effort, tell: Tell) -> Section:
    section = Section(f"{effort.reconnects:,} connects and disconnects", CHURN_COLUMNS)
    for contender in both():
        tell(f"{effort.reconnects:,} connects: {contender.name}")
        with running(contender) as server:
            _connect_and_leave(server, effort.reconnects // 100)  # what is made once and kept is no leak
            time.sleep(SETTLE_SECONDS)
            before, began = holdings(server), time.monotonic()
            _connect_and_leave(server, effort.reconnects)
            seconds = time.monotonic() - began
            time.sleep(SETTLE_SECONDS)
            after = holdings(server)
        for when, found, rate in (("before", before, None), ("after", after, effort.reconnects / seconds)):
            section.rows.append((contender.name, when, found.descriptors, found.threads, found.kibibytes, rate))
    section.notes.append(f"{OURS} and memcached: each connection asks for the version once")
    return section


def _connect_and_leave(server: LocalServer, count: int) -> None:
    target = server.address.host, server.address.port
    for number in range(count):
        if number % PORTS_EACH == 0:
            source = (f"127.{1 + os.getpid() % 250}.1.{next(SOURCES)}", 0)
        with socket.create_connection(target, TIMEOUT_SECONDS, source_address=source) as connection:
            if not _serves(connection):
                raise LoadError(f"connection {number + 1:,} was not served")
