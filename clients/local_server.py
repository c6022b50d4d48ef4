"""Start a server on a free loopback port, wait until it answers, measure it and end it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from clients.address import DEFAULT_HOST, Address

START_TIMEOUT_SECONDS = 120.0
"""How long a start may take; loading a big journal is part of it."""

STOP_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.005
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerStartError(Exception):
    """The server ended, or did not answer in time; the message holds what it said."""


def default_command() -> list[str]:
    """Give the command that runs memcache_kv with this interpreter."""
    return [sys.executable, "-m", "memcache_kv"]


def answers(address: Address) -> bool:
    """Tell whether a server accepts a connection and answers `version`."""
    try:
        with address.connect(1.0) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(100).startswith(b"VERSION")
    except OSError:
        return False


def accepts(address: Address) -> bool:
    """Tell whether a server accepts a connection: enough for one that wants TLS or a login first."""
    try:
        address.connect(1.0).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Find a loopback port that nobody listens on right now."""
    with socket.socket() as listener:
        listener.bind((DEFAULT_HOST, 0))
        return int(listener.getsockname()[1])


class LocalServer:
    """Run one server process; as a context manager, the process never outlives the block.

    is_ready: tells whether a server at this address serves. tls_port: where it listens with TLS besides, if the
    arguments ask for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str] = (),
        is_ready: Callable[[Address], bool] = answers,
        tls_port: int | None = None,
    ) -> None:
        """Start the server."""
        self.address = Address(DEFAULT_HOST, free_port())
        host, port = self.address.host, self.address.port
        listen = host if tls_port is None else f"notls:{host}:{port},{host}:{tls_port}"
        self.command = [*command, "-p", str(port), "-l", listen, *arguments]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop and kill
        started = time.monotonic()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=_environment(),
        )
        try:
            self._wait_until_ready(started + START_TIMEOUT_SECONDS, is_ready)
        except BaseException:
            self.kill()
            raise
        self.ready_seconds = time.monotonic() - started

    def __enter__(self) -> LocalServer:
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """Give the id of the server's first process."""
        return self._process.pid

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def stop(self) -> None:
        """Ask the process to end with SIGTERM; kill it when it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def resident_bytes(self) -> int:
        """Measure the memory of the process and its children (VmRSS)."""
        return sum(_kibibytes_of(pid, "VmRSS") * 1024 for pid in _process_tree(self.pid))

    def peak_resident_bytes(self) -> int:
        """Measure the most memory that the first process has had since `forget_peak` (VmHWM)."""
        return _kibibytes_of(self.pid, "VmHWM") * 1024

    def forget_peak(self) -> None:
        """Let the peak of the memory begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Measure the user and system time of the process and its children so far."""
        return sum(_cpu_seconds(pid) for pid in _process_tree(self.pid))

    def _wait_until_ready(self, deadline: float, is_ready: Callable[[Address], bool]) -> None:
        while not is_ready(self.address):
            if self._process.poll() is not None:
                raise ServerStartError(self._failure(f"ended with status {self._process.returncode}"))
            if time.monotonic() > deadline:
                raise ServerStartError(self._failure(f"did not answer in {START_TIMEOUT_SECONDS:g} s"))
            time.sleep(POLL_SECONDS)

    def _failure(self, what: str) -> str:
        self._output.seek(0)
        said = self._output.read()[-2000:].decode("utf-8", "backslashreplace").strip() or "(nothing)"
        return f"the server {what}; run it by hand to see why: {shlex.join(self.command)}\nit said: {said}"


def _environment() -> dict[str, str]:
    """Let the server import memcache_kv from beside this package, when it lies there uninstalled."""
    root = Path(__file__).resolve().parent.parent
    environment = dict(os.environ)
    if (root / "memcache_kv").is_dir():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment


def _process_tree(pid: int) -> list[int]:
    """List a process and all its descendants that run now."""
    tree = [pid]
    for parent in tree:  # grows while it is walked
        children = _read_proc(parent, f"task/{parent}/children")
        tree.extend(int(child) for child in children.split())
    return tree


def _cpu_seconds(pid: int) -> float:
    fields = _read_proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND if fields else 0.0


def _kibibytes_of(pid: int, name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", _read_proc(pid, "status"))
    return int(match[1]) if match else 0


def _read_proc(pid: int, name: str) -> str:
    """Read a file of /proc; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
