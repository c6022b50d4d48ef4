"""What a server tells a service manager (sd_notify), and when the watchdog is left to end it."""

import io
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.errors import StoppedEarly
from memcache_kv.observe.log import Log
from memcache_kv.server.notifier import REPORT_SECONDS, Notifier, Supervision
from memcache_kv.server.run import ServerRun
from memcache_kv.server.worker import Worker
from tests.program import PATIENCE_SECONDS, Program, poll_until

Message = dict[str, str]


class ServiceManager:
    """The socket of a service manager. address: a path, or an abstract name as @NAME."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0") if address.startswith("@") else address)
        self._socket.settimeout(PATIENCE_SECONDS)

    def next(self) -> Message:
        """Wait for a message."""
        return self._read(self._socket.recv(4096))

    def wait_for(self, key: str) -> Message:
        """Wait for a message with this key."""
        while key not in (message := self.next()):
            pass
        return message

    def present(self) -> list[Message]:
        """The messages that are there already."""
        found = []
        while select.select([self._socket], [], [], 0)[0]:
            found.append(self.next())
        return found

    def close(self) -> None:
        self._socket.close()

    @staticmethod
    def _read(data: bytes) -> Message:
        return dict(line.split("=", 1) for line in data.decode().split("\n"))


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(str(tmp_path / "notify") if request.param == "path" else f"@memcache-kv-test-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(str(tmp_path / "notify"))
    yield made
    made.close()


def microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


# The program


def test_it_says_when_it_serves_reads_its_files_again_and_stops(manager: ServiceManager) -> None:
    with Program("-p", "0", "-l", "127.0.0.1", NOTIFY_SOCKET=manager.address) as program:
        assert manager.next() == {"READY": "1", "STATUS": f"serving on 127.0.0.1:{program.port}"}
        before = microseconds()
        program.process.send_signal(signal.SIGHUP)
        again = manager.next()
        assert again["RELOADING"] == "1"
        assert before <= int(again["MONOTONIC_USEC"]) <= microseconds()
        assert manager.next() == {"READY": "1", "STATUS": f"serving on 127.0.0.1:{program.port}"}
        assert program.end() == 0
    assert manager.present() == [{"STOPPING": "1", "STATUS": "stopping"}]


def test_the_watchdog_hears_of_it_while_it_serves(one: ServiceManager) -> None:
    with Program("-p", "0", NOTIFY_SOCKET=one.address, WATCHDOG_USEC="400000") as program:
        one.wait_for("READY")
        for _ in range(3):
            assert one.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
        assert program.end() == 0


def test_a_watchdog_of_another_process_hears_nothing(one: ServiceManager) -> None:
    environ = {"NOTIFY_SOCKET": one.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    notifier = Notifier(environ, Log())
    notifier.close()
    assert notifier.watchdog_seconds == 0
    assert environ == {}, "commands that the server starts do not see them"


def test_a_start_that_fails_is_not_said_to_be_ready(one: ServiceManager) -> None:
    with Program("-p", "0", "-l", "127.0.0.1") as other, pytest.raises(AssertionError, match="Address already in use"):
        Program("-p", str(other.port), "-l", "127.0.0.1", NOTIFY_SOCKET=one.address)
    assert one.present() == []


def test_without_a_service_manager_it_runs_all_the_same(tmp_path: Path) -> None:
    for address in (str(tmp_path / "nobody"), "vsock:1:2"):
        with Program("-p", "0", NOTIFY_SOCKET=address, WATCHDOG_USEC="100000") as program:
            assert program.ask(b"version\r\n").startswith(b"VERSION ")
            assert program.end() == 0
            assert b"service manager" in program.said


# Progress


def test_a_long_load_is_given_more_time_once_a_second(one: ServiceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": one.address}, Log())
    now = 100.0
    monkeypatch.setattr("memcache_kv.server.notifier.time.monotonic", lambda: now)
    notifier.loading(40, 100)
    notifier.loading(41, 100)
    now += REPORT_SECONDS
    notifier.loading(5, 0)
    assert one.present() == [
        {"STATUS": "loading 40 %", "EXTEND_TIMEOUT_USEC": "60000000"},
        {"STATUS": "loading", "EXTEND_TIMEOUT_USEC": "60000000"},
    ]
    notifier.close()


def stopped_server(**settings: object) -> ServerRun:
    return ServerRun(Settings(port=0, listen=("127.0.0.1",))._replace(**settings), log=Log(0, io.StringIO()))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["journal", "preload"])
def test_a_server_that_loads_reports_how_far_it_is(tmp_path: Path, kind: str) -> None:
    rows = tmp_path / "rows"
    rows.write_text("".join(f"key{n} {n}\n" for n in range(20000)))
    settings: dict[str, object] = {"preload": (str(rows),)}
    if kind == "journal":
        settings["journal"] = tmp_path / "journal"
        first = stopped_server(**settings)
        first.start()
        first.stop()
    server, seen = stopped_server(**settings), []
    server.on_loading = lambda done, total: seen.append((done, total))
    server.start()
    server.stop()
    assert seen
    assert all(0 < done <= total for done, total in seen)


def test_a_stop_ends_a_load(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.write_text("a 1\n")
    server = stopped_server(preload=(str(rows),))
    server.on_loading = lambda done, total: server.stopping.set()
    with pytest.raises(StoppedEarly):
        server.start()


# A running server


class Watched:
    """A server whose supervision looks at it when a test wants that."""

    def __init__(self, manager: ServiceManager, **settings: object) -> None:
        self.manager = manager
        self.server = stopped_server(enable_shutdown=True, **settings)
        environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
        self.notifier = Notifier(environ, self.server.log)
        self.supervision = Supervision(self.notifier, self.server)
        self.server.start()
        self.supervision.loaded()
        assert "READY" in manager.next()

    def is_said_to_live(self) -> bool:
        self.supervision.look()
        return {"WATCHDOG": "1"} in self.manager.present()

    def close(self) -> None:
        self.server.stop()
        self.notifier.close()


@pytest.fixture
def watched(one: ServiceManager) -> Iterator[Watched]:
    made = Watched(one)
    yield made
    made.close()


def test_a_stuck_worker_is_left_to_the_watchdog(watched: Watched) -> None:
    poll_until(watched.is_said_to_live, "an idle worker takes a turn when it is asked")
    is_stuck, ends = threading.Event(), threading.Event()

    def block(is_graceful: bool) -> None:
        is_stuck.set()
        ends.wait(PATIENCE_SECONDS)

    [worker] = watched.server.workers
    worker.context.stop = block
    with socket.create_connection(("127.0.0.1", watched.server.port)) as client:
        client.sendall(b"shutdown\r\n")
        assert is_stuck.wait(PATIENCE_SECONDS)
        watched.is_said_to_live()  # the turn with the command may have begun since the last look
        assert not any(watched.is_said_to_live() for _ in range(20))
        ends.set()
        poll_until(watched.is_said_to_live, "it takes turns again")


def test_a_server_that_stops_is_not_ended_by_the_watchdog(watched: Watched) -> None:
    watched.supervision.stopping()
    assert watched.is_said_to_live()


def test_a_stop_waits_for_a_look_which_wakes_workers(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, ends = threading.Event(), threading.Event()

    def wake_late(worker: Worker) -> None:
        looks.set()
        assert ends.wait(PATIENCE_SECONDS)

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "wake", wake_late)
        look = threading.Thread(target=watched.supervision.look)
        look.start()
        assert looks.wait(PATIENCE_SECONDS)
        stop = threading.Thread(target=watched.supervision.stopping)
        stop.start()
        stop.join(0.2)
        assert stop.is_alive(), "it has to wait"
        ends.set()
        look.join()
        stop.join()
        looks.clear()
        assert watched.is_said_to_live()
        assert not looks.is_set(), "workers that end are not woken"


def test_a_journal_that_cannot_be_written_is_in_the_status(tmp_path: Path, one: ServiceManager) -> None:
    watched = Watched(one, journal=tmp_path / "journal")
    serving = {"STATUS": f"serving on 127.0.0.1:{watched.server.port}"}
    journal = watched.server.journal
    assert journal is not None
    try:
        watched.supervision.look()
        assert serving not in one.present(), "only changes are reported"
        journal.refuses = True
        watched.supervision.look()
        assert {"STATUS": "refuses writes: the journal can't be written"} in one.present()
        journal.refuses = False
        watched.supervision.look()
        assert serving in one.present()
    finally:
        watched.close()
