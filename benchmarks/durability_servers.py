"""The servers whose durability is measured, started on free loopback ports, and the load that runs beside them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ways import Way, this_way
from benchmarks.workloads import LoadError
from clients.local_server import ServerStartError, free_port

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
MEMORY_MEGABYTES = 4096
READY_SECONDS = 300.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.01
LOADER_SECONDS = 120.0
"""How long the loader may take to store all keys, and to end."""
SLOW_SYNC_SECONDS = 0.005
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, LOADER_CORES = CORES[:-1], CORES[-1:]
"""Left to itself, the system puts two processes that wake each other with every request on one core, and the other
core idles: then it is their sum that is measured."""
OURS = "memcache_kv"
REDIS = "Redis"
NO_REDIS = "Redis skipped: redis-server not found; install it or set REDIS_SERVER to its path"

SLOW_DISK = f"""\
import sys, time
from memcache_kv.cli import main
from memcache_kv.journal.disk import SystemFile

def sync(self, sync=SystemFile.sync):
    time.sleep({SLOW_SYNC_SECONDS})
    sync(self)

SystemFile.sync = sync
sys.exit(main())
"""
"""Runs memcache_kv as if its disk took longer over each fsync."""


@dataclass(frozen=True)
class Kind:
    """Name a server program, the protocol it speaks and the request that finds out whether it serves."""

    name: str
    protocol: str
    question: bytes
    answer: bytes


KINDS = {
    OURS: Kind(OURS, "text", b"version\r\n", b"VERSION"),
    REDIS: Kind(REDIS, "resp", b"PING\r\n", b"+PONG"),
}


@dataclass(frozen=True)
class Start:
    """How a server is started: `command` is complete but for the port."""

    kind: Kind
    command: tuple[str, ...]
    port_option: str
    syncs_file: Path | None = None
    """Where strace, if the server runs under it, writes a line for every fsync."""
    preload: Path | None = None
    """A library that the server loads before all others."""


class ServerProcess:
    """Run one server; as a context manager, the process never outlives the block.

    apart: whether it leaves the last core to the loader.
    """

    def __init__(self, start: Start, log: Path, apart: bool = False) -> None:
        self.kind = start.kind
        self.port = free_port()
        self.syncs_file = start.syncs_file
        self._log = log
        self._command = [*start.command, start.port_option, str(self.port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if start.preload:
            environment["LD_PRELOAD"] = str(start.preload)
        began = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=ROOT
            )
        if apart:
            put_on_cores(self._process.pid, SERVER_CORES)
        try:
            self._wait_until_ready(began + READY_SECONDS)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self.ready_seconds = time.monotonic() - began

    def __enter__(self) -> ServerProcess:
        """Return the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server; kill it when it takes too long."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def peak_bytes(self) -> int:
        """Return the most memory that the process has occupied so far."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def said(self) -> str:
        """Return all that the server wrote."""
        return self._log.read_text("utf-8", "backslashreplace")

    def ask(self, request: bytes, end: bytes = b"\r\n") -> str:
        """Send a command and return its answer, up to what it ends with."""
        with socket.create_connection((HOST, self.port), 30) as connection:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(end):
                data = connection.recv(65536)
                if not data:
                    break
                answer += data
        return answer.decode()

    def stats(self) -> dict[str, str]:
        """Return what the server tells of itself: memcached's `stats`, Redis' `INFO`."""
        if self.kind.protocol == "text":
            lines = re.findall(r"^STAT (\S+) (\S+)\r$", self.ask(b"stats\r\n", b"END\r\n"), re.MULTILINE)
        else:
            lines = re.findall(r"^(\w+):([^\r]*)\r$", self.ask(b"INFO persistence\r\n"), re.MULTILINE)
        return dict(lines)

    def cpu_seconds(self) -> float:
        """Measure the user and system time of the process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND

    def syncs(self) -> int | None:
        """Count the fsyncs so far; None where nobody counts them."""
        if self.syncs_file is not None:
            return len(re.findall(r"\bf(?:data)?sync\(", self.syncs_file.read_text()))
        found = self.stats().get("memcache_kv_journal_fsyncs")
        return int(found) if found is not None else None

    def _wait_until_ready(self, deadline: float) -> None:
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerStartError(self._failure(f"ended with status {self._process.returncode}"))
            if time.monotonic() > deadline:
                raise ServerStartError(self._failure(f"did not answer in {READY_SECONDS:g} s"))
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            return self.ask(self.kind.question).startswith(self.kind.answer.decode())
        except OSError:
            return False

    def _failure(self, what: str) -> str:
        return f"the server {what}: {shlex.join(self._command)}\nit said: {self.said()[-2000:] or '(nothing)'}"


def ours(directory: Path | None, fsync: str = "everysec", slow: bool = False, way: Way | None = None) -> Start:
    """Start memcache_kv, with its journal in a directory or without one.

    way: by this interpreter if there is none.
    """
    program = ("-c", SLOW_DISK) if slow else ("-m", "memcache_kv")
    journal = () if directory is None else ("--journal", str(directory), "--fsync", fsync, "--compact-ratio", "0")
    user = ("-u", "root") if os.geteuid() == 0 else ()
    memory = ("-m", str(MEMORY_MEGABYTES))
    arguments = (*program, "-l", HOST, *user, *memory, *journal)
    return Start(KINDS[OURS], way.run(*arguments) if way else (sys.executable, *arguments), "-p")


def redis(directory: Path, fsync: str | None, preamble: bool = True, trace: Sequence[str] = ()) -> Start:
    """Start Redis with its files in a directory, and with an append-only file where `fsync` says when it is synced.

    trace: options of strace, under which it is run then.
    """
    directory.mkdir(exist_ok=True)
    syncs_file = directory / "syncs" if trace else None
    tracer = ("strace", "-D", "-f", "--seccomp-bpf", *trace, "-o", str(syncs_file)) if trace else ()
    options = {
        "--bind": HOST,
        "--dir": str(directory),
        "--save": "",
        "--appendonly": "no" if fsync is None else "yes",
        "--appendfsync": fsync or "no",
        "--aof-use-rdb-preamble": "yes" if preamble else "no",
        "--auto-aof-rewrite-percentage": "0",
    }
    flat = [word for pair in options.items() for word in pair]
    return Start(KINDS[REDIS], (*tracer, redis_program() or "redis-server", *flat), "--port", syncs_file)


def redis_program() -> str | None:
    """Find Redis by the environment's REDIS_SERVER, or on the PATH."""
    return shutil.which(os.environ.get("REDIS_SERVER") or "redis-server")


def strace_program() -> str | None:
    """Find strace, which counts the fsyncs of a program that does not."""
    return shutil.which("strace")


@dataclass
class Loader:
    """A load that runs as a process of its own; `phases` is filled once it has ended."""

    process: subprocess.Popen[str]
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    def begin(self, phase: str) -> None:
        """Count what is answered from now on as this phase's."""
        assert self.process.stdin is not None
        self.process.stdin.write(phase + "\n")
        self.process.stdin.flush()


def put_on_cores(pid: int, cores: Sequence[int]) -> None:
    """Let a process that was just started run on these cores alone, where there are several."""
    if SERVER_CORES:
        os.sched_setaffinity(pid, cores)


@contextlib.contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run this thread, and what it starts, on these cores."""
    before = os.sched_getaffinity(0)
    put_on_cores(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def loading(server: ServerProcess, apart: bool = False, **options: float) -> Iterator[Loader]:
    """Store all keys, then load a server while the block runs. Raises LoadError.

    apart: whether the loader has the last core, and no other.
    """
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.durability_load", server.kind.protocol, str(server.port), *flags]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        try:
            if apart:
                put_on_cores(process.pid, LOADER_CORES)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith('{"ready"'):
                raise LoadError(line + process.stdout.read())
            loader = Loader(process)
            yield loader
            output, _ = process.communicate(timeout=LOADER_SECONDS)
            if process.returncode != 0:
                raise LoadError(output)
            loader.phases = json.loads(output)
        except (BrokenPipeError, subprocess.TimeoutExpired) as error:
            raise LoadError(f"the loader did not go on: {error}") from error
        finally:
            process.kill()


def machine_line(directory: Path) -> str:
    """Describe what the figures were taken on."""
    program = redis_program()
    version = None
    if program:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=(\S+)", output)
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()},"
        f" {this_way().label}"
        f"{f', Redis {version[1]}' if version else ''}, files on {file_system(directory)},"
        f" load before: {os.getloadavg()[0]:.1f}"
    )


def file_system(directory: Path) -> str:
    """Name the type of the file system that a directory is on."""
    path, best, kind = f"{directory.resolve()}/", "", "an unknown file system"
    for line in Path("/proc/mounts").read_text().splitlines():
        point, name = line.split()[1:3]
        if path.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, name
    return kind
