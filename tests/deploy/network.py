"""A network of its own, in which the files of deploy/ are used as they are: with their host names and ports.

It is what `docker compose` would make, out of Linux' namespaces: no name or port outside is touched, and any number of
such networks exist side by side. The processes of a test start in it by `command`, and the test itself talks to them
through sockets that were connected inside (`connect`) and work outside as well.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.closing import Closing

IS_ROOT = os.geteuid() == 0
UNSHARE = ["unshare", "--net", "--mount", *([] if IS_ROOT else ["--user", "--map-current-user", "--keep-caps"])]
NSENTER = ["nsenter", "--net", "--mount", *([] if IS_ROOT else ["--user", "--preserve-credentials"])]
BEGIN = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
"""The names of the hosts take the place of this machine's, for the processes inside."""

GATEWAY = Path(__file__).parent / "gateway.py"
HOSTS = {"localhost": "127.0.0.1", "node1": "127.0.0.11", "node2": "127.0.0.12", "node3": "127.0.0.13"}


def why_there_is_none() -> str | None:
    """Why no network can be made here; None where it can."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "unshare and nsenter of Linux' util-linux are not installed"
    attempt = [*UNSHARE, "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    done = subprocess.run(attempt, capture_output=True, text=True, check=False)
    return f"this process may not make namespaces: {done.stderr.strip()}" if done.returncode else None


class Network(Closing):
    """One network; its processes may start once it is made."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()  # a short path, as those of unix sockets have to be
        hosts = Path(self._folder.name) / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in HOSTS.items()))
        self._gateway = f"{self._folder.name}/gateway"
        self._process = subprocess.Popen(
            [*UNSHARE, "sh", "-c", BEGIN, "sh", str(hosts), sys.executable, str(GATEWAY), self._gateway],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if said != "ready\n":
            self.close()
            raise AssertionError(f"the gateway said {said!r}")

    def command(self, *words: str) -> list[str]:
        """The command that runs another one inside."""
        return [*NSENTER, f"--target={self._process.pid}", "--wd", *words]

    def connect(self, inside: str, timeout_seconds: float = 30.0) -> socket.socket:
        """Connect to HOST:PORT inside; raise what `socket.connect` would raise there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.settimeout(timeout_seconds)
            asking.connect(self._gateway)
            asking.sendall(inside.encode())
            answer, descriptors, _, _ = socket.recv_fds(asking, 100, 1)
        if not descriptors:
            raise OSError(int(answer), os.strerror(int(answer)), inside)
        connection = socket.socket(fileno=descriptors[0])
        connection.settimeout(timeout_seconds)
        return connection

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


class NetworkSockets:
    """For pymemcache, in place of the module `socket`: its hosts and ports are those inside a network."""

    AF_UNSPEC, SOCK_STREAM, IPPROTO_TCP = socket.AF_UNSPEC, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, network: Network) -> None:
        self._network = network

    def getaddrinfo(self, host: str, port: int, *_: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """Leave the looking up to the inside."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]

    def socket(self, *_: int) -> "NetworkSocket":
        """Make a socket that is not connected yet."""
        return NetworkSocket(self._network)


class NetworkSocket(socket.socket):
    """A TCP socket whose `connect` leads inside a network."""

    def __init__(self, network: Network) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._network = network

    def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
        """Take the place of a socket that is connected inside."""
        host, port = address
        timeout_seconds = self.gettimeout()
        with self._network.connect(f"{host}:{port}") as connection:
            os.dup2(connection.fileno(), self.fileno(), inheritable=False)
        self.settimeout(timeout_seconds)
