"""The real program in a process of its own, for the tests of its command line."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from memcache_kv.compiled import PURE_VARIABLE

PATIENCE_SECONDS = 60.0
"""After this, what should have happened counts as not happening."""


def poll_until(condition: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"never happened: {what}"
        time.sleep(0.01)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "memcache_kv", *arguments]


def image_command(*arguments: str) -> list[str]:
    """Say how the container image starts the program."""
    return [sys.executable, "-P", "-m", "memcache_kv.container", *arguments]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without our settings, and with these variables."""
    ours = {name for name in os.environ if name.startswith("MEMCACHE_KV_")} - {PURE_VARIABLE}
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def run_to_its_end(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with flags with which it ends by itself."""
    return subprocess.run(
        command(*arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


class Program:
    """A server started with these flags, once it says that it listens."""

    pass_fds: tuple[int, ...] = ()
    """Descriptors that it inherits besides the standard streams."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            self.command(*arguments),
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self.pass_fds,
        )
        self.said = b""
        try:
            self.wait_for(b"listening on ")
        except BaseException:
            self.kill()
            raise

    def command(self, *arguments: str) -> list[str]:
        """Say how it is started."""
        return command(*arguments)

    def wait_for(self, text: bytes) -> None:
        """Read its log until it has said a line with this text."""
        assert self.process.stderr is not None
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not re.search(re.escape(text) + b".*\n", self.said):
            assert time.monotonic() < give_up_at, f"it only said {self.said!r}"
            if select.select([self.process.stderr], [], [], 1.0)[0]:
                piece = os.read(self.process.stderr.fileno(), 65536)
                assert piece, f"it ended after {self.said!r}"
                self.said += piece

    @property
    def listening(self) -> list[str]:
        """The addresses it says it listens on."""
        match = re.search(r"^listening on (.*)$", self.said.decode(), re.MULTILINE)
        assert match is not None
        return match[1].split(", ")

    @property
    def port(self) -> int:
        return int(self.listening[0].rpartition(":")[2])

    def ask(self, request: bytes, host: str = "127.0.0.1") -> bytes:
        """Send a request on a connection of its own; return the first line of the reply."""
        with socket.create_connection((host, self.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(request)
            return connection.makefile("rb").readline()

    def ask_in_binary(self, request: bytes) -> bytes:
        """Send a binary request on a connection of its own; return the magic byte and the opcode of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(2, socket.MSG_WAITALL)

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Ask it to end with a signal; return its exit status."""
        self.process.send_signal(signum)
        rest = self.process.communicate(timeout=PATIENCE_SECONDS)[1]
        self.said += rest
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Image(Program):
    """The server as the container image starts it."""

    def command(self, *arguments: str) -> list[str]:
        return image_command(*arguments)
