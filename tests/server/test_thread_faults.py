"""What becomes of a server when one of its threads, or the socket of one client, fails."""

import errno
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.server import worker as worker_module
from memcache_kv.server.poller import SelectorPoller, WakeUp
from memcache_kv.threads import ServerThread
from tests.program import PATIENCE_SECONDS, environment, poll_until
from tests.server.test_worker import VERSION, Serving, ask

FAILING = {
    "worker": "memcache_kv.server.poller.WakeUp.clear",
    "listener": "memcache_kv.server.listener.MemcacheServer.get_request",
    "listener, of datagrams": "memcache_kv.server.udp.UdpServer.get_request",
    "journal": "memcache_kv.journal.writer.Journal._gather",
    "journal, in a step": "memcache_kv.journal.writer.Journal._write_and_sync",
    "compactor": "memcache_kv.journal.compaction.Compactor.is_due",
    "crawler": "memcache_kv.store.crawler.Crawler._round",
    "memory": "memcache_kv.server.memory.MemoryWatch.check",
}
"""What fails in each thread: something that it does within seconds, or once a client has sent a set and a datagram."""

PROGRAM = """
import importlib, sys
from memcache_kv.server import run
from memcache_kv import cli

module, of, name = sys.argv[1].rsplit(".", 2)
owner = getattr(importlib.import_module(module), of)
as_it_was = getattr(owner, name)
stop = run.ServerRun.stop

def fail(*arguments):
    raise LookupError("a fault for a test")

def heal_and_stop(self):
    setattr(owner, name, as_it_was)
    stop(self)

run.ServerRun.stop = heal_and_stop
setattr(owner, name, fail)
sys.exit(cli.main(sys.argv[2:]))
"""
"""A server with a function that fails until the server stops."""


def start(function: str, *flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, function, *flags], env=environment(), stderr=subprocess.PIPE, text=True
    )


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(port: int, udp_port: int) -> None:
    """Send a set and a datagram; whether anybody answers does not matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(bytes(8) + b"mn\r\n", ("127.0.0.1", udp_port))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
            client.sendall(b"set a 0 0 1\r\nx\r\n")
            client.recv(100)
    except OSError:
        pass


@pytest.mark.parametrize("thread", FAILING)
def test_a_thread_that_dies_ends_the_server(thread: str, tmp_path: Path) -> None:
    udp_port = free_udp_port()
    flags = ("-l", "127.0.0.1", "-p", "0", "-U", str(udp_port), "--journal", str(tmp_path / "journal"))
    with start(FAILING[thread], *flags) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (found := re.search(r"^listening on .*:([0-9]+)$", said, re.MULTILINE)):
                line = process.stderr.readline()
                assert line, said
                said += line
            send(int(found[1]), udp_port)
            said += process.communicate(timeout=PATIENCE_SECONDS)[1]
        finally:
            process.kill()
    assert process.returncode == 1
    assert re.search(rf"^the thread '{thread.partition(',')[0]}' ended by a fault of the server", said, re.MULTILINE)
    assert "Traceback" in said
    assert "LookupError: a fault for a test" in said
    assert FAILING[thread].rpartition(".")[2] + "(" in said, "the traceback shows where it was"


def test_a_thread_that_nobody_looks_after_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(told.exc_value))
    fault = LookupError("ours")

    def fail() -> None:
        raise fault

    thread = ServerThread("lonely", fail)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert seen == [fault]


# One client's socket


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    yield made
    made.close()


class Unwilling(SelectorPoller):
    """A poller that takes no more sockets while it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_more = True

    def register(self, fd: int, eventmask: int, /) -> None:
        if not self.takes_more:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().register(fd, eventmask)


def test_a_socket_that_cannot_be_watched_is_closed_and_the_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    poller = Unwilling()
    monkeypatch.setattr(worker_module, "new_poller", lambda: poller)
    serving = Serving()
    served = serving.connect()
    ask(served, b"version\r\n", VERSION)
    poller.takes_more = False
    refused = serving.connect()
    assert refused.recv(1) == b""
    assert serving.around.logged[-1].endswith("can't be served, and is closed: No space left on device")
    assert serving.totals.current == 1
    ask(served, b"version\r\n", VERSION)
    poller.takes_more = True
    ask(serving.connect(), b"version\r\n", VERSION)
    serving.close()


def test_a_worker_that_dies_closes_its_connections(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serving.connect()
    ask(client, b"version\r\n", VERSION)
    died: list[tuple[str, BaseException]] = []
    serving.worker.on_fault = lambda name, error: died.append((name, error))
    fault = LookupError("ours")

    def fail() -> None:
        raise fault

    monkeypatch.setattr(WakeUp, "clear", lambda wake_up: fail())
    serving.worker.wake()
    assert client.recv(1) == b""
    poll_until(lambda: died, "somebody is told")
    assert died == [("worker", fault)]
    assert serving.totals.current == 0
