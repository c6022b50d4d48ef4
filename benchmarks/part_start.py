"""How long it takes from the start of the program to its first answer."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping

from benchmarks.contenders import OURS, Contender, both
from benchmarks.durability_report import Column, Section
from benchmarks.parts import Effort, Findings
from benchmarks.rounds import Tell
from benchmarks.workloads import LoadError
from clients.local_server import free_port

HOST = "127.0.0.1"
POLL_SECONDS = 0.0005
LIMIT_SECONDS = 30.0
MILLISECONDS = "{:.1f}"


def start(effort: Effort, tell: Tell) -> Findings:
    """Start both servers a number of times, in turns."""
    columns = (Column("server"), *(Column(name, MILLISECONDS) for name in ("median ms", "least ms", "most ms")))
    section = Section(f"from exec to the first answer, {effort.starts} starts", columns)
    contenders = both()
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with tempfile.TemporaryDirectory(prefix="bytecode.") as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        start_seconds(contenders[0], environment)  # compiles, as installing does
        for number in range(effort.starts):
            tell(f"start {number + 1} of {effort.starts}")
            for contender in contenders:
                found[contender.name].append(1000 * start_seconds(contender, environment))
    for name, times in found.items():
        section.rows.append((name, statistics.median(times), min(times), max(times)))
    findings = Findings([section])
    findings.aim("start: ms to the first answer", statistics.median(found[OURS]), 120)
    return findings


def start_seconds(contender: Contender, environment: Mapping[str, str]) -> float:
    """Start a server, and end it as soon as it has answered."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [*contender.command, "-p", str(port), "-l", HOST],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > LIMIT_SECONDS:
                raise LoadError(f"{contender.name} did not start")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), LIMIT_SECONDS) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(100).startswith(b"VERSION")
    except OSError:
        return False
