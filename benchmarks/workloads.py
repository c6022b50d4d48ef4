"""The workloads that are compared, and the programs that produce them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LOADER_TIMEOUT_SECONDS = 60
MEMCASLAP_NAMES = ("memcaslap", "memaslap")
"""Debian renames libmemcached's load generator."""


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


def run_memcaslap(port: int, seconds: int, set_share: float) -> int:
    """Run 48 connections with one request in flight each, 100-byte values."""
    program = memcaslap_program()
    if program is None:
        raise LoadError("memcaslap is not installed; Debian has it in libmemcached-tools")
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(f"key\n16 32 1\nvalue\n100 100 1\ncmd\n0 {set_share}\n1 {1 - set_share}\n")
        config.flush()
        command = [program, "-s", f"127.0.0.1:{port}", "-T", "1", "-c", "48", "-t", f"{seconds}s"]
        output = _output_of([*command, "-F", config.name, "-w", "2k"], seconds)
    match = re.search(r"Ops:\s*(\d+)", output)
    if not match or not int(match[1]):
        raise LoadError(f"memcaslap gave no figures: {output[-500:]}")
    return int(match[1])


def run_pipelined(port: int, seconds: int) -> int:
    """Run our own loader in a process beside this one."""
    output = _output_of([sys.executable, "-m", "benchmarks.pipelined_load", str(port), str(seconds)], seconds)
    if not output.strip().isdecimal() or not int(output):
        raise LoadError(f"the pipelining loader gave no figures: {output[-500:]}")
    return int(output)


def _output_of(command: list[str], seconds: int) -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=root, timeout=seconds + LOADER_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]} did not end; does the server still answer?") from error
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


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
        "pipe32",
        "90 % get, 10 % set, 100-byte values, 20 connections, 32 requests in flight on each",
        run_pipelined,
        needs_memcaslap=False,
    ),
)
