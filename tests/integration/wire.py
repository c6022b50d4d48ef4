"""Starting servers as subprocesses and speaking to them in bytes.

`RunningServer` is a server (ours or memcached) on a free loopback port; `Wire` is a connection to one which
compares replies byte for byte.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence

from tests.closing import Closing
from tests.ports import free_port
from tests.program import environment

OURS = "ours"
MEMCACHED = "memcached"

DEADLINE = 20.0
"""Seconds after which something that should have happened counts as not happening; never reached in passing."""


class ServerUnavailable(Exception):
    """There is no server of this kind on this machine."""


def poll_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition()` holds; fail when it never does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)


def server_command(kind: str) -> list[str]:
    """The words that start a server of this kind, without its flags."""
    if kind == OURS:
        return [sys.executable, "-m", "memcache_kv"]
    binary = os.environ.get("MEMCACHED") or shutil.which("memcached")
    if binary is None or not os.access(binary, os.X_OK):
        raise ServerUnavailable("memcached is not installed: set MEMCACHED to its binary or put it on the PATH")
    return [binary, "-u", "root"] if os.geteuid() == 0 else [binary]


class RunningServer:
    """A server process of ours or memcached's, ready to be connected to."""

    def __init__(
        self,
        kind: str,
        flags: Sequence[str] = (),
        *,
        host: str = "127.0.0.1",
        unix: str | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.kind = kind
        self.program = server_command(kind) if program is None else program
        self.host = host
        self.unix = unix
        self.flags = tuple(flags)
        self.port = 0
        self._killed = False
        self._log = tempfile.NamedTemporaryFile(prefix="server-stderr-")  # noqa: SIM115
        try:
            self.process = self._start()
            with Wire(self) as wire:
                self.version = wire.version
        except BaseException:
            self._log.close()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        for _ in range(5):
            process = self._launch()
            if self._ready(process):
                return process
            if self.unix is not None or "in use" not in self.log():
                break
        raise AssertionError(f"the server ended at once with status {process.returncode}\n{self.log()}")

    def _launch(self) -> "subprocess.Popen[bytes]":
        if self.unix is None:
            self.port = free_port(self.host)
            where = ["-p", str(self.port), "-l", self.host, "-U", "0", "-m", "64"]
        else:
            where = ["-s", self.unix, "-m", "64"]
        command = [*self.program, *where, *self.flags]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=environment(PYTHONFAULTHANDLER="1"),
        )

    def _ready(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait for the server to take connections; False when it ended instead."""
        deadline = time.monotonic() + DEADLINE
        while process.poll() is None:
            try:
                self.connect().close()
            except OSError:
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise AssertionError(f"the server never listened\n{self.log()}") from None
                time.sleep(0.02)
            else:
                return process.poll() is None
        return False

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens, in the form clients take."""
        return self.unix if self.unix is not None else (self.host, self.port)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def connect(self) -> socket.socket:
        """A new connection, as a plain socket."""
        if self.unix is None:
            connection = socket.create_connection((self.host, self.port), timeout=DEADLINE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE)
        try:
            connection.connect(self.unix)
        except OSError:
            connection.close()
            raise
        return connection

    def log(self) -> str:
        """What it has written on stderr."""
        with open(self._log.name, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def start_log(self) -> str:
        """What it has written, once that includes the last line of a start: a thread writes it meanwhile."""
        poll_until(lambda: "listening on " in self.log(), "the log says where it listens")
        return self.log()

    def resident_bytes(self) -> int:
        """The memory the process occupies, as the kernel counts it."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("the kernel tells no VmRSS")

    def stop(self) -> int:
        """Ask it to end, wait for that, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> int:
        """End it by force."""
        self._killed = True
        self.process.kill()
        return self._wait()

    def _wait(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(DEADLINE)
        self.process.send_signal(signal.SIGABRT)  # ours says then where each thread is
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(DEADLINE)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the server did not end when asked to\n{self.log()}")

    def close(self) -> None:
        """Stop it, and fail when it had died before, or told of an exception nobody caught."""
        died = None if self._killed else self.process.poll()
        try:
            if self.kind == OURS:
                self.stop()
            else:
                self.kill()  # memcached takes a second to end in peace, and has nothing to save
            log = self.log()
        finally:
            self._log.close()
        assert died in (None, 0), f"the server died with status {died}\n{log}"
        assert "Traceback" not in log, f"the server reported an exception\n{log}"


class Wire(Closing):
    """A connection that is written and read as bytes."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.socket = server.connect()
        try:
            self.version = self._ask_version()
        except BaseException:
            self.socket.close()
            raise

    def _ask_version(self) -> str:
        self.send(b"version\r\n")
        line = self.read_line()
        assert line.startswith(b"VERSION "), f"not a version: {line!r}"
        return line.removeprefix(b"VERSION ").rstrip().decode()

    def close(self) -> None:
        """Close our side."""
        self.socket.close()

    def send(self, request: bytes) -> None:
        """Send bytes and look at nothing."""
        self.socket.sendall(request)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send each of the pieces in a packet of its own."""
        for piece in pieces:
            self.socket.sendall(piece)

    def expect(self, request: bytes, reply: bytes) -> None:
        """Send a request and demand exactly this reply, and not one byte more."""
        got = self.ask(request, marks=reply.count(self._mark))
        assert got == reply, self._explain(request, reply, got)

    def session(self, *exchanges: tuple[bytes, bytes]) -> None:
        """Several requests one after the other, each with its reply."""
        for request, reply in exchanges:
            self.expect(request, reply)

    @property
    def _mark(self) -> bytes:
        return b"VERSION " + self.version.encode() + b"\r\n"

    def ask(self, request: bytes, *, marks: int = 0) -> bytes:
        """Send a request and return all of its reply, however long.

        The end of the reply is known by asking for the version behind it; `marks` is how many times the
        reply itself contains that answer.
        """
        try:
            self.socket.sendall(request)
            self.socket.sendall(b"version\r\n")
        except ConnectionError:
            pass  # closed by the server: what it said before is still to be read
        got = bytearray()
        mark = self._mark
        while not (got.endswith(mark) and got.count(mark) > marks):
            piece = self._receive()
            if not piece:
                return bytes(got) + b"<closed>"
            got += piece
        return bytes(got[: -len(mark)])

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 20)
        except ConnectionError:
            return b""

    def read(self, count: int) -> bytes:
        """Exactly this many bytes, or fewer when the server closes."""
        got = bytearray()
        while len(got) < count:
            piece = self.socket.recv(min(count - len(got), 1 << 20))
            if not piece:
                break
            got += piece
        return bytes(got)

    def read_line(self) -> bytes:
        """One line with its end."""
        got = bytearray()
        while not got.endswith(b"\n"):
            piece = self.socket.recv(1)
            if not piece:
                break
            got += piece
        return bytes(got)

    def receive(self, reply: bytes) -> None:
        """Demand these bytes next, without having sent anything."""
        got = self.read(len(reply))
        assert got == reply, self._explain(b"(nothing more)", reply, got)

    def closed(self, after: bytes = b"") -> None:
        """Demand that the server closes the connection, having said `after` and nothing else."""
        got = bytearray()
        while piece := self._receive():
            got += piece
        assert bytes(got) == after, self._explain(b"(until closed)", after, bytes(got))

    def stats(self, of: bytes = b"") -> dict[str, str]:
        """The answer to `stats`, as words."""
        reply = self.ask(b"stats " + of + b"\r\n" if of else b"stats\r\n")
        assert reply.endswith(b"END\r\n"), reply
        rows = [line.split(" ", 2) for line in reply.decode().split("\r\n")[:-2]]
        assert all(row[0] == "STAT" and len(row) == 3 for row in rows), reply
        return {name: value for _, name, value in rows}

    def cas_of(self, key: bytes) -> int:
        """The number `gets` gives for a key that is there."""
        line = self.ask(b"gets " + key + b"\r\n").split(b"\r\n")[0]
        assert line.startswith(b"VALUE " + key + b" "), line
        return int(line.split()[-1])

    def _explain(self, request: bytes, expected: bytes, got: bytes) -> str:
        return (
            f"{self.server.kind} {self.version}\n"
            f"request:  {_short(request)}\nexpected: {_short(expected)}\ngot:      {_short(got)}\n"
            f"{self.server.log()[-2000:]}"
        )


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= 600 else f"{data[:400]!r} ... {data[-100:]!r} ({len(data)} bytes)"
