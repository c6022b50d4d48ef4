"""A server as an object of another program: started, used, stopped and started again, and what it leaves behind."""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import aiomcache
import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv import ConfigError, JournalCorrupt, JournalLocked, ListenError, NotRunning, Server
from memcache_kv.api.server import Keeper
from memcache_kv.server import admin_loop, listener, worker
from tests.api.left_behind import has_proc, nothing_left_behind
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS, environment, poll_until

on_linux = pytest.mark.skipif(not has_proc, reason="descriptors are read from /proc")


def client_of(server: Server) -> Any:
    return closing(Client(server.address, timeout=PATIENCE_SECONDS, default_noreply=False))


# What is given back


@on_linux
def test_ten_servers_in_one_process_share_nothing_and_give_everything_back(tmp_path: Path) -> None:
    with nothing_left_behind():
        with ExitStack() as stack:
            servers = [stack.enter_context(Server(journal=tmp_path / str(number))) for number in range(10)]
            clients = [stack.enter_context(client_of(server)) for server in servers]
            for number, client in enumerate(clients):
                client.set("key", str(number))
            assert [client.get("key") for client in clients] == [str(number).encode() for number in range(10)]
            assert len({server.port for server in servers}) == 10
            assert [server.store.get("key") for server in servers] == [str(number).encode() for number in range(10)]
        assert not any(server.is_running for server in servers)


@on_linux
def test_a_start_that_fails_gives_everything_back(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest").write_text("no manifest")
    with Server(journal=tmp_path / "held") as holder:
        holder_address = f"127.0.0.1:{holder.port}"
        unsuitable: list[tuple[type[Exception], dict[str, Any]]] = [
            (ListenError, {"port": holder.port}),
            (ListenError, {"listen": ("127.0.0.1", holder_address)}),
            (JournalLocked, {"journal": tmp_path / "held"}),
            (JournalCorrupt, {"journal": tmp_path / "broken"}),
            (ConfigError, {"auth_file": tmp_path / "missing"}),
            (ConfigError, {"audit_log": tmp_path / "no folder" / "audit"}),
            (ListenError, {"admin_listen": (holder_address,)}),
        ]
        for error, fields in unsuitable:
            with nothing_left_behind():
                server = Server(**fields)
                with pytest.raises(error):
                    server.start()
                assert not server.is_running
                with pytest.raises(NotRunning):
                    server.store.get("key")
                server.stop()


@on_linux
def test_a_clients_shutdown_gives_everything_back(tmp_path: Path) -> None:
    with nothing_left_behind():
        server = Server(enable_shutdown=True, journal=tmp_path / "journal").start()
        with closing(socket.create_connection(server.address)) as client:
            client.sendall(b"set key 0 0 5 noreply\r\nvalue\r\nshutdown\r\n")
            assert client.recv(1) == b""
        poll_until(lambda: not server.is_running, "the server notices")
        with server:
            assert server.store.get("key") == b"value"


def test_who_sees_a_clients_shutdown_can_start_it_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's thread that ends the run may not have begun with it."""
    may_end = threading.Event()
    work = Keeper.work

    def work_late(keeper: Keeper) -> None:
        may_end.wait(PATIENCE_SECONDS)
        work(keeper)

    monkeypatch.setattr(Keeper, "work", work_late)
    with Server(enable_shutdown=True) as server:
        with closing(socket.create_connection(server.address)) as client:
            client.sendall(b"shutdown\r\n")
            assert client.recv(1) == b""
        assert not server.is_running
        threading.Timer(0.05, may_end.set).start()
        server.start()
        assert server.is_running
        with client_of(server) as client:
            assert client.set("key", "value")


def test_many_starts_and_stops_leave_no_descriptor_behind() -> None:
    server = Server()
    with nothing_left_behind() if has_proc else ExitStack():
        for _ in range(20):
            server.start()
            server.stop()
            server.stop()


# Stop and start


@pytest.mark.parametrize("way", ["plain", "journal and logins", "other listeners"])
def test_the_stop_of_an_idle_server_waits_for_no_time_to_pass(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With waits that never end by themselves, a thread that looks now and then whether it must stop never would."""
    (tmp_path / "nodes").write_text("127.0.0.1:11211\n")
    (tmp_path / "users").write_text("ann:secret\n")
    ways: dict[str, dict[str, Any]] = {
        "plain": {"idle_timeout": 3600},
        "journal and logins": {
            "journal": tmp_path / "journal",
            "rotate_seconds": 3600,
            "auth_file": tmp_path / "users",
            "cluster_file": tmp_path / "nodes",
            "operation_log": tmp_path / "operations",
            "http_listen": "127.0.0.1:0",
        },
        "other listeners": {
            "udp_port": free_port(),
            "admin_listen": "127.0.0.1:0",
            "line_listen": "127.0.0.1:0",
            "simple_listen": "127.0.0.1:0",
        },
    }
    wait = threading.Condition.wait
    monkeypatch.setattr(threading.Condition, "wait", lambda self, timeout=None: wait(self, timeout and 3600))
    for module, name in ((worker, "IDLE_SECONDS"), (listener, "POLL_SECONDS"), (admin_loop, "TURN_WAIT_SECONDS")):
        monkeypatch.setattr(module, name, 3600.0)
    server = Server(**ways[way]).start()
    with closing(socket.create_connection(server.address)) as idle:
        idle.sendall(b"version\r\n")
        assert idle.recv(100)
        stopper = threading.Thread(target=server.stop, daemon=True)
        stopper.start()
        stopper.join(PATIENCE_SECONDS / 2)
        assert not stopper.is_alive()
        assert idle.recv(1) == b""


def test_a_restart_keeps_the_port_and_what_the_journal_has(tmp_path: Path) -> None:
    server = Server(journal=tmp_path / "journal")
    ports = []
    for number in range(3):
        with server, client_of(server) as client:
            ports.append(server.port)
            assert [client.get(str(each)) for each in range(3)] == [b"value"] * number + [None] * (3 - number)
            client.set(str(number), "value")
    assert len(set(ports)) == 1


def test_without_a_journal_a_restart_is_empty() -> None:
    server = Server()
    with server:
        server.store.set("key", b"value")
    with server:
        assert (server.store.get("key"), len(server.store)) == (None, 0)


def test_a_server_that_runs_can_not_be_started() -> None:
    with Server() as server:
        with pytest.raises(RuntimeError, match="the server runs already"):
            server.start()
        assert server.store.get("key") is None


def test_starts_and_stops_of_many_threads_end_in_order() -> None:
    server = Server()

    def start_and_stop(_: int) -> None:
        with suppress(RuntimeError):  # it runs already
            server.start()
        server.stop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start_and_stop, range(40)))
    server.stop()
    assert not server.is_running
    with server, client_of(server) as client:
        assert client.set("key", "value")


def test_a_stop_that_ends_late_forgets_no_later_start(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Keeper.stop

    def stop_while_others_go_on(keeper: Keeper) -> None:
        monkeypatch.setattr(Keeper, "stop", stop)
        stop(keeper)
        server.stop()
        server.start()

    with Server() as server:
        monkeypatch.setattr(Keeper, "stop", stop_while_others_go_on)
        server.stop()
        assert server.is_running
        server.stop()
        assert not server.is_running


def test_what_a_stopped_server_knows_nothing_of() -> None:
    server = Server()
    for ask in (lambda: server.port, lambda: server.address, lambda: server.url, lambda: server.clock, server.stats):
        with pytest.raises(NotRunning, match="call `start` first"):
            ask()
    server.catch_up()
    server.stop()


def test_the_address_says_where_to_connect(tmp_path: Path) -> None:
    with Server() as server:
        assert (server.address, server.url) == (("127.0.0.1", server.port), f"memcached://127.0.0.1:{server.port}")
    with Server(listen="0.0.0.0") as server, client_of(server) as client:
        assert server.address[0] == "127.0.0.1"
        assert client.get("key") is None
    with Server(unix_socket=tmp_path / "socket") as server, closing(Client(f"{tmp_path}/socket")) as client:
        assert (server.port, server.url) == (0, f"memcached://{tmp_path}/socket")
        assert client.get("key") is None
        with pytest.raises(ValueError, match=r"connect to the unix socket .*socket$"):
            server.address  # noqa: B018


def test_statistics_are_those_that_clients_get() -> None:
    with Server() as server, client_of(server) as client:
        client.set("key", "value")
        assert (server.stats()["curr_items"], server.stats("settings")["verbosity"]) == ("1", "0")
        assert {name.encode() for name in server.stats()} == client.stats().keys()
        for what in ("items", "slabs", "sizes", "conns", "memcache_kv"):
            assert server.stats(what)
        with pytest.raises(ValueError, match="there are no statistics 'nothing'"):
            server.stats("nothing")


# Beside other things


async def ask_as_the_loop_does(tmp_path: Path) -> list[bytes | None]:
    async with Server(journal=tmp_path / "one") as one, Server() as two:
        clients = [aiomcache.Client(*server.address) for server in (one, two)]
        await asyncio.gather(*(client.set(b"key", b"%d" % number) for number, client in enumerate(clients)))
        found = await asyncio.gather(*(client.get(b"key") for client in clients))
        for client in clients:
            await client.close()
        return list(found)


def test_an_async_program_uses_it_in_an_async_with_block(tmp_path: Path) -> None:
    assert asyncio.run(ask_as_the_loop_does(tmp_path)) == [b"0", b"1"]


def test_the_handlers_of_signals_stay_as_they_are() -> None:
    numbers = sorted(signal.valid_signals())
    before = [signal.getsignal(number) for number in numbers]
    with Server():
        assert [signal.getsignal(number) for number in numbers] == before
        descriptor = signal.set_wakeup_fd(-1)
        assert descriptor == -1
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_log_goes_to_the_programs_logger(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.DEBUG, "memcache_kv"), Server(verbose=2, journal=tmp_path / "journal") as server:
        with client_of(server) as client:
            client.set("some-key", "value")
            client.get("some-key")
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "memcache_kv"]
    assert any(level == "INFO" and words.startswith("listening on 127.0.0.1:") for level, words in said)
    assert any(level == "DEBUG" and "some-key" in words for level, words in said)


SILENT = """
import sys
from pymemcache.client.base import Client
from memcache_kv import Server
for verbose in range(4):
    with Server(verbose=verbose, journal=sys.argv[1], enable_shutdown=True) as server:
        client = Client(server.address)
        client.set("key", "value", noreply=False)
        client.get("key")
        client.raw_command(b"mn")
        client.close()
try:
    Server(port=server.settings.port, listen="256.0.0.1").start()
except Exception:
    pass
"""


def test_nothing_is_printed_at_any_verbosity(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SILENT, str(tmp_path / "journal")]
    ended = subprocess.run(command, capture_output=True, env=environment(), timeout=PATIENCE_SECONDS, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_many_threads_use_the_items_of_a_server(tmp_path: Path) -> None:
    with Server(journal=tmp_path / "journal", fsync="always") as server, client_of(server) as client:

        def use(number: int) -> None:
            for turn in range(25):
                server.store.set(f"{number}-{turn}", b"value")
                server.store.incr("sum") or server.store.add("sum", b"0")
                server.store.append("text", b".") or server.store.add("text", b"")

        server.store.set("sum", b"0")
        server.store.set("text", b"")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(use, range(8)))
        assert (client.get("sum"), client.get("text")) == (b"200", b"." * 200)
        assert len(server.store) == 202
    with server:
        assert (len(server.store), server.store.get("sum")) == (202, b"200")
