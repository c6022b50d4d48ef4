"""The workloads that are compared, and the programs that produce them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADER_TIMEOUT_SECONDS = 60
MEMCASLAP_NAMES = ("memcaslap", "memaslap")
"""Debian renames libmemcached's load generator."""

NO_MEMCASLAP = "memcaslap not found; Debian has it in libmemcached-tools"


class LoadError(Exception):
    """A load program gave no figures; the message holds what it said."""


@dataclass(frozen=True)
class Workload:
    """Name a load, say in words what it does, and run it: (port, seconds) to operations done."""

    name: str
    description: str
    run: Callable[[int, int], int]
    needs_memcaslap: bool


def memcaslap_program() -> str | None:
    """Find the load generator of libmemcached."""
    return next((found for name in MEMCASLAP_NAMES if (found := shutil.which(name))), None)


def run_memcaslap(
    port: int, seconds: int, set_share: float, size: int = 100, connections: int = 48, options: Sequence[str] = ()
) -> int:
    """Keep one request in flight on each connection."""
    program = memcaslap_program()
    if program is None:
        raise LoadError(NO_MEMCASLAP)
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(f"key\n16 32 1\nvalue\n{size} {size} 1\ncmd\n0 {set_share}\n1 {1 - set_share}\n")
        config.flush()
        command = [program, "-s", f"127.0.0.1:{port}", "-T", "1", "-c", str(connections), "-t", f"{seconds}s"]
        output = output_of([*command, "-F", config.name, "-w", "2k", *options], seconds)
    match = re.search(r"Ops:\s*(\d+)", output)
    if not match or not int(match[1]):
        raise LoadError(f"memcaslap gave no figures: {output[-500:]}")
    return int(match[1])


def run_pipelined(port: int, seconds: int, *options: str) -> int:
    """Run our own loader in a process beside this one."""
    output = output_of([sys.executable, "-m", "benchmarks.pipelined_load", str(port), str(seconds), *options], seconds)
    if not output.strip().isdecimal() or not int(output):
        raise LoadError(f"the pipelining loader gave no figures: {output[-500:]}")
    return int(output)


def output_of(command: Sequence[str], seconds: float) -> str:
    """Run a load program that takes this long; return what it printed, and its complaints if it failed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=seconds + LOADER_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(command[:3])} did not end; does the server still answer?") from error
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def pipelined(name: str, description: str, *options: str) -> Workload:
    """Describe a load of our own loader's."""
    return Workload(name, description, lambda port, seconds: run_pipelined(port, seconds, *options), False)


WORKLOADS = (
    Workload(
        "get90",
        "90 % get, 10 % set, 100-byte values, 48 connections, one request in flight on each",
        lambda port, seconds: run_memcaslap(port, seconds, 0.1),
        needs_memcaslap=True,
    ),
    Workload(
        "set50",
        "50 % get, 50 % set, otherwise as get90",
        lambda port, seconds: run_memcaslap(port, seconds, 0.5),
        needs_memcaslap=True,
    ),
    Workload(
        "mget50",
        "98 % get, 50 keys in each request, 2 % set, otherwise as get90; an operation is a key",
        lambda port, seconds: run_memcaslap(port, seconds, 0.02, options=("-d", "50")),
        needs_memcaslap=True,
    ),
    pipelined("pipe32", "90 % get, 10 % set, 100-byte values, 20 connections, 32 requests in flight on each"),
    pipelined("pipe32set", "50 % get, 50 % set, otherwise as pipe32", "--sets", "0.5"),
    pipelined("meta32", "`mg` and `ms`, otherwise as pipe32", "--meta"),
    pipelined("meta32set", "`mg` and `ms`, otherwise as pipe32set", "--meta", "--sets", "0.5"),
    Workload(
        "big10k",
        "10,240-byte values, otherwise as get90",
        lambda port, seconds: run_memcaslap(port, seconds, 0.1, size=10240),
        needs_memcaslap=True,
    ),
    Workload(
        "binary90",
        "the binary protocol, otherwise as get90",
        lambda port, seconds: run_memcaslap(port, seconds, 0.1, options=("-B",)),
        needs_memcaslap=True,
    ),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
