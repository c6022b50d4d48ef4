"""Restarts under load with the real systemd-socket-activate, and the units' command lines as they are written."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.activated import listening
from tests.deploy.booted import UNITS
from tests.deploy.cluster import program_of
from tests.program import PATIENCE_SECONDS, environment, poll_until

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL)
"""What ends the servers, one after the other."""
HOLD = 'import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); os.set_inheritable(3, True); \
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}; os.execv(sys.argv[2], sys.argv[2:])'
"""Passes a descriptor on as systemd does."""


class Loader:
    """Threads that connect again for each request."""

    def __init__(self, address: tuple[str, int], threads: int) -> None:
        self.stored = 0
        self.not_connected: list[OSError] = []
        self._address = address
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                client = socket.create_connection(self._address, timeout=PATIENCE_SECONDS)
            except OSError as error:
                with self._lock:
                    self.not_connected.append(error)
                continue
            with client:
                stored = self._store(client)
            with self._lock:
                self.stored += stored

    @staticmethod
    def _store(client: socket.socket) -> bool:
        """Store an item. A server that stops closes the connections that it has accepted, this one perhaps too."""
        try:
            client.sendall(b"set k 0 0 1\r\nv\r\n")
            return client.recv(100) == b"STORED\r\n"
        except ConnectionError:
            return False

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket that outlives the servers, as that of a socket unit."""
    sock = listening()
    yield sock
    sock.close()


def start(held: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    """Have systemd-socket-activate wait for a client, and become a server then."""
    activate = program_of("systemd", "systemd-socket-activate")
    server = [activate, sys.executable, "-m", "memcache_kv", "-m", "64"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", HOLD, str(held.fileno()), *server],
            env=environment(),
            pass_fds=(held.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def test_restarts_under_load_lose_no_connection_attempt(held: socket.socket, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(held, log)
    loader = Loader(held.getsockname(), 4)
    try:
        for signum in SIGNALS:
            before = loader.stored
            poll_until(lambda before=before: loader.stored >= before + 50, "the load is served")  # type: ignore[misc]
            process.send_signal(signum)
            status = process.wait(PATIENCE_SECONDS)
            assert status == (-signum if signum == signal.SIGKILL else 0), log.read_text()
            process = start(held, log)
        before = loader.stored
        poll_until(lambda: loader.stored >= before + 50, "the load is served")
    finally:
        loader.end()
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    assert loader.not_connected == []
    assert log.read_text().count("listening on ") == len(SIGNALS) + 1


@pytest.mark.parametrize(("name", "file"), [("memcache-kv.service", "memcache-kv"), ("memcache-kv@.service", "%i")])
def test_the_command_line_of_a_service_runs_as_it_is_written(name: str, file: str, tmp_path: Path) -> None:
    """With other paths only. The filters of system calls are not applied here, but where a real systemd starts it."""
    [line] = re.findall(r"^ExecStart=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == "/usr/local/bin/memcache-kv"
    assert arguments == ["--config", f"/etc/memcache-kv/{file}.conf"]
    config = tmp_path / "memcache-kv.conf"
    example = (UNITS / "memcache-kv.conf").read_text().replace("/var/lib/memcache-kv", str(tmp_path / "state"))
    config.write_text(f'{example}port = 0\nlisten = "127.0.0.1"\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-m", "memcache_kv", *arguments[:-1], str(config)],
            env=environment(NOTIFY_SOCKET=str(tmp_path / "notify")),
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            found = re.fullmatch(r"READY=1\nSTATUS=serving on 127\.0\.0\.1:(\d+)", notify.recv(4096).decode())
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=PATIENCE_SECONDS) as client:
                client.sendall(b"set a 0 0 1\r\nv\r\n")
                assert client.recv(100) == b"STORED\r\n"
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "state" / "manifest.json").exists()
