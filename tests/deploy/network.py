"""A network of its own, in which the files of deploy/ are used as they are: with their host names and ports.

It is what `docker compose` would make, out of Linux' namespaces: no name or port outside is touched, and any number of
such networks exist side by side. The processes of a test start in it by `command`, and the test itself talks to them
through unix sockets (`address`), which do not belong to a network.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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

    def __init__(self, addresses: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()  # a short path, as those of unix sockets have to be
        hosts = Path(self._folder.name) / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in HOSTS.items()))
        self._process = subprocess.Popen(
            [
                *UNSHARE,
                "sh",
                "-c",
                BEGIN,
                "sh",
                str(hosts),
                sys.executable,
                str(GATEWAY),
                self._folder.name,
                *addresses,
            ],
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

    def address(self, inside: str) -> str:
        """The path of the unix socket that leads to an address inside."""
        return f"{self._folder.name}/{inside}"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()
