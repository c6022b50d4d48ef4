"""Servers that demand a SASL login of the binary protocol, for the tests with real clients."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.wire import DEADLINE, OURS, poll_until, server_command
from tests.ports import free_port
from tests.program import environment

USER, PASSWORD = "foo", "bär secret"
OTHER_USER, OTHER_PASSWORD = "baaaz", "quux"


def require_sasl(kind: str) -> None:
    """Skip where the memcached at hand is built without SASL, or takes its users only from the system (as Debian's)."""
    if kind == OURS:
        return
    binary = Path(server_command(kind)[0])
    if b"MEMCACHED_SASL_PWDB" not in binary.read_bytes():
        pytest.skip(f"{binary} has no SASL with a file of users: it is configured without --enable-sasl-pwdb")


class SaslServer:
    """A server of ours or memcached's that lets in only who logs in, with the two users of this file."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.host = "127.0.0.1"
        self.port = free_port()
        users = directory / "users"
        users.write_text("".join(self._lines(kind)), encoding="utf-8")
        users.chmod(0o600)
        (directory / "memcached.conf").write_text("mech_list: plain\n")
        flags = ["-S", "-Y", str(users)] if kind == OURS else ["-S"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [*server_command(kind), "-l", self.host, "-p", str(self.port), "-U", "0", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=environment() | {"SASL_CONF_PATH": str(directory), "MEMCACHED_SASL_PWDB": str(users)},
        )
        try:
            poll_until(self._listens, "the server listens")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _lines(kind: str) -> Iterator[str]:
        for name, password in ((USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)):
            yield f"{name}:{password}\n"
            if kind != OURS:  # Cyrus, memcached's library for SASL, looks for users of this machine by name
                yield f"{name}@{socket.gethostname()}:{password}\n"

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection((self.host, self.port), timeout=DEADLINE)

    def log(self) -> str:
        """What it has written on stderr."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        log = self.log()
        self._log.close()
        assert "Traceback" not in log, f"the server reported an exception\n{log}"


@contextmanager
def sasl_server(kind: str, directory: Path) -> Iterator[SaslServer]:
    """A running server for one test; skips where there is none with SASL."""
    require_sasl(kind)
    server = SaslServer(kind, directory)
    try:
        yield server
    finally:
        server.close()
