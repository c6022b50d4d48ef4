"""The admin listener of the real program, from before its items are loaded until it has stopped."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.exceptions import MemcacheUnexpectedCloseError  # type: ignore[import-untyped]

from tests.certificates import make_certificates
from tests.integration.admin_program import AdminProgram, loaded
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, Program, command, environment, poll_until

CURL = shutil.which("curl")


# Loading


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A data file that is as slow as the test wants."""
    path = tmp_path / "items"
    os.mkfifo(path)
    return path


def test_it_is_alive_and_not_ready_while_files_are_loaded(pipe: Path) -> None:
    port = free_port()
    with AdminProgram("--preload", str(pipe), "-p", str(port)) as program, pipe.open("wb") as items:
        items.write(b"a 1\n")
        items.flush()
        for _ in range(3):
            assert program.get("/livez") == (200, {"status": "alive", "reasons": []})
            assert program.reasons() == ["loading"]
        assert program.get("/stats.json")[0] == 503
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        items.close()
        program.wait_until_loaded()
        poll_until(lambda: program.reasons() == [], "it is ready")
        assert program.ask(b"get a\r\n") == b"VALUE a 0 1\r\n"
        assert program.get("/stats.json")[1]["stats"]["curr_items"] == 1
        assert program.end() == 0


def test_a_signal_while_files_are_loaded_stops_at_once(pipe: Path) -> None:
    with AdminProgram("--preload", str(pipe), "--drain-seconds", "1000") as program, pipe.open("wb"):
        assert program.reasons() == ["loading"]
        assert program.end() == 0


# The disk


def test_it_is_not_ready_while_the_disk_refuses_writes(tmp_path: Path) -> None:
    flags = ("--journal", str(tmp_path / "journal"), "--fsync", "always")
    with loaded(*flags, "--ready-needs-journal") as program:
        assert program.ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
        assert program.reasons() == []
        before = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert program.ask(b"set a 0 0 1\r\n2\r\n").startswith(b"SERVER_ERROR ")
        assert program.reasons() == ["journal"]
        assert program.get("/livez")[0] == 200
        assert program.ask(b"get a\r\n") == b"VALUE a 0 1\r\n"
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, before)
        poll_until(lambda: program.reasons() == [], "the disk takes writes again")
        assert program.end() == 0


@pytest.mark.long
def test_without_the_flag_a_server_that_only_reads_is_ready(tmp_path: Path) -> None:
    with loaded("--journal", str(tmp_path / "journal"), "--fsync", "always") as program:
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert program.ask(b"set a 0 0 1\r\n2\r\n").startswith(b"SERVER_ERROR ")
        assert program.reasons() == []


# The end


class Load:
    """A client that never rests, until it fails or is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.failure: BaseException | None = None
        self.done = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                client = Client(("127.0.0.1", self._port), timeout=PATIENCE_SECONDS)
                for number in range(50):
                    client.set(f"k{number}", b"v", noreply=False)
                    assert client.get(f"k{number}") == b"v"
                    self.done += 1
                client.close()
        except BaseException as error:
            self.failure = error

    def wait_for_more(self) -> None:
        """Wait until it has connected and stored anew."""
        wanted = self.done + 200
        poll_until(lambda: self.done > wanted or self.failure is not None, "clients are served")
        assert self.failure is None

    def wait(self) -> None:
        self._thread.join(PATIENCE_SECONDS)


CLOSED = OSError, MemcacheUnexpectedCloseError
"""What a client sees of a stop: no new connection, or the end of one on which it waits for a reply."""


@pytest.mark.parametrize(
    "signum",
    [signal.SIGTERM, *[pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGINT, signal.SIGUSR1)]],
)
def test_it_serves_while_it_drains_until_a_second_signal(signum: int) -> None:
    with loaded("--drain-seconds", "1000") as program:
        load = Load(program.port)
        load.wait_for_more()
        program.process.send_signal(signum)
        poll_until(lambda: program.reasons() == ["draining"], "it drains")
        assert program.get("/livez")[0] == 200
        program.process.send_signal(signal.SIGHUP)  # is no second one
        load.wait_for_more()
        assert program.end(signum) == 0
        load.wait()
        assert isinstance(load.failure, CLOSED)
    assert b"the server stops in 1000 s, or at the next signal\n" in program.said


def test_it_stops_by_itself_once_the_time_is_over() -> None:
    with loaded("--drain-seconds", "1") as program:
        began = time.monotonic()
        assert program.end() == 0
        assert time.monotonic() - began >= 1


def test_the_command_shutdown_does_not_drain() -> None:
    with loaded("--drain-seconds", "1000", "-A") as program:
        program.ask(b"shutdown\r\n")
        assert program.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.long
def test_it_answers_until_the_journal_is_closed(tmp_path: Path) -> None:
    """A file that is closed runs a command, which the stop waits for."""
    wait = tmp_path / "wait"
    os.mkfifo(wait)
    flags = ("--journal", str(tmp_path / "journal"), "--on-rotate", f"cat {wait}", "--rotate-seconds", "1")
    with loaded(*flags) as program, open(os.open(wait, os.O_RDWR), "wb"):
        assert program.ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
        poll_until(lambda: len(list((tmp_path / "journal").glob("increment-*"))) > 1, "a file is closed")
        program.process.send_signal(signal.SIGTERM)
        poll_until(lambda: program.reasons() == ["stopping"], "it says that it stops")
        assert program.get("/livez")[0] == 200
        assert program.process.wait(PATIENCE_SECONDS) == 0


# Full


def test_probes_and_statistics_are_answered_while_every_connection_is_taken_and_busy() -> None:
    with loaded("-c", "4") as program:
        clients = [socket.create_connection(("127.0.0.1", program.port), PATIENCE_SECONDS) for _ in range(4)]
        for client in clients:
            client.sendall(b"mn\r\n")
            assert client.recv(100) == b"MN\r\n"
        assert program.ask(b"version\r\n") == b"ERROR Too many open connections\r\n"
        busy = threading.Event()

        def flood(client: socket.socket) -> None:
            while not busy.is_set():
                client.sendall(b"get a\r\n" * 1000)
                left = 5 * 1000
                while left > 0:
                    left -= len(client.recv(1 << 16))

        floods = [threading.Thread(target=flood, args=(client,), daemon=True) for client in clients]
        for each in floods:
            each.start()
        try:
            for _ in range(20):
                assert program.get("/livez")[0] == program.get("/readyz")[0] == 200
            assert program.get("/stats.json")[1]["stats"]["curr_connections"] == 4
        finally:
            busy.set()
        for each in floods:
            each.join(PATIENCE_SECONDS)
        for client in clients:
            client.close()


# Ports, tokens and TLS


def test_the_ports_file_has_the_admin_listener(tmp_path: Path) -> None:
    path = tmp_path / "ports"
    flags = ("-p", "0", "-l", "127.0.0.1", "--admin-listen", "127.0.0.1:0")
    with Program(*flags, MEMCACHED_PORT_FILENAME=str(path)) as program:
        poll_until(path.exists, "the ports are written")
        port = re.search(r"^ADMIN INET: (\d+)$", path.read_text(), re.MULTILINE)
        assert port is not None
        assert f"the admin listener answers on 127.0.0.1:{port[1]}" in program.said.decode()


@pytest.mark.skipif(CURL is None and not os.environ.get("CI"), reason="curl is not installed")
def test_curl_reads_with_a_token_over_tls(tmp_path: Path) -> None:
    assert CURL is not None
    certificates = make_certificates(tmp_path / "certificates")
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    with loaded("--admin-tls", "-o", certificates.suboptions, "--admin-token-file", str(token)) as program:

        def curl(path: str, *flags: str) -> str:
            url = f"https://localhost:{program.admin_port}{path}"
            fixed = [CURL, "-s", "--cacert", str(certificates.authority), "-w", "%{http_code}", "-o", os.devnull]
            return subprocess.run([*fixed, *flags, url], capture_output=True, text=True, check=True).stdout

        assert curl("/livez") == curl("/readyz") == "200"
        assert curl("/metrics") == curl("/stats.json", "-H", "Authorization: Bearer wrong") == "401"
        assert curl("/metrics", "-H", "Authorization: Bearer secret") == "200"
        token.write_text("another\n")
        program.process.send_signal(signal.SIGHUP)
        poll_until(lambda: curl("/metrics", "-H", "Authorization: Bearer another") == "200", "the token is read again")


def test_without_h11_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "h11.py").write_text("raise ModuleNotFoundError(name='h11')\n")
    done = subprocess.run(
        command("-p", "0", "--admin-listen", "127.0.0.1:0"),
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "--admin-listen needs the package h11" in done.stderr
