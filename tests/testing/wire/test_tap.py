"""The tap passes on all that is said, knows the calls, and gives everything back."""

import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from memcache_kv import Server
from memcache_kv.testing.faults import fault
from memcache_kv.testing.wire import Tap
from memcache_kv.testing.wire.lane import LANE_LIMIT_BYTES
from memcache_kv.traffic.conversation import Call
from tests.ports import free_port
from tests.testing.wires import RawClient, packet


@contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    """A server of one connection that sends back what comes, and ends when its client has ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


# Passing on


@pytest.mark.parametrize("begin", [b"\x16\x03\x01", b"\x80", b"get ", b""], ids=["tls", "binary", "text", "noise"])
def test_bytes_of_any_form_pass_unchanged_in_both_directions(begin: bytes) -> None:
    data = begin + random.Random(1).randbytes(3 * LANE_LIMIT_BYTES)
    with echo_server() as address, Tap(address) as tap, RawClient(tap.address) as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        assert client.take(len(data)) == data
        sender.join()
        client.sock.shutdown(socket.SHUT_WR)
        assert client.is_closed()


def test_a_client_that_does_not_read_is_waited_for() -> None:
    """What neither it nor the server takes stays with the client, not in the tap."""
    with echo_server() as address, Tap(address) as tap, RawClient(tap.address) as client:
        client.sock.settimeout(0.2)
        sent, is_blocked = 0, False
        while not is_blocked and sent < 256 << 20:
            try:
                sent += client.sock.send(bytes(1 << 20))
            except TimeoutError:
                is_blocked = True
        assert is_blocked
        client.sock.settimeout(20)
        client.sock.shutdown(socket.SHUT_WR)
        assert len(client.take(sent + 1)) == sent


def test_the_end_of_the_server_is_the_end_for_the_client_behind_its_last_words(tap: Tap) -> None:
    with RawClient(tap.address) as client:
        client.expect(b"version\r\nquit\r\n", b"VERSION ")
        assert client.take(1000).endswith(b"\r\n")
        assert client.is_closed()


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with Tap(("127.0.0.1", free_port())) as tap:
        with pytest.raises(ConnectionResetError), RawClient(tap.address) as client:
            client.take(1)


def test_a_reset_by_the_client_reaches_the_server(server: Server, tap: Tap) -> None:
    with RawClient(tap.address) as client, RawClient(tap.address) as other:
        client.expect(b"mn\r\n", b"MN\r\n")
        other.expect(b"mn\r\n", b"MN\r\n")
        tap.close_connections(is_reset=True)
        with pytest.raises(ConnectionResetError):
            client.take(1)
    wait_while(lambda: has_connections(server))


def test_a_connection_is_closed_properly_though_its_client_has_sent_what_nobody_reads(tap: Tap) -> None:
    with RawClient(tap.address) as client, fault(tap, "stall", direction="upstream"):
        client.sock.setblocking(False)
        is_blocked, quiet = False, b"set a 0 0 60000 noreply\r\n" + bytes(60_000) + b"\r\n"
        while not is_blocked:
            try:
                client.sock.send(quiet)
            except BlockingIOError:
                is_blocked = client.hears_nothing()  # the tap has had time to take more
        tap.close_connections()
        client.sock.settimeout(20)
        assert client.is_closed()


def test_half_a_message_is_let_through_at_the_end_of_the_last_fault() -> None:
    with echo_server() as address, Tap(address) as tap, RawClient(tap.address) as client:
        with fault(tap, "error"):
            client.send(b"get a")
            assert client.hears_nothing()
        assert client.take(5) == b"get a"


# Calls


def test_the_calls_of_all_connections_are_known_in_both_protocols(tap: Tap) -> None:
    heard: list[Call] = []
    tap.listeners.append(heard.append)
    with RawClient(tap.address) as text, RawClient(tap.address) as binary:
        text.expect(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        binary.send(packet(0x00, b"a", opaque=7))
        assert len(binary.take(24 + 5)) == 29
        text.expect(b"set b 0 0 1 noreply\r\ny\r\nget a b\r\n", b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n")
    calls = [(call.connection, call.request.command, call.request.keys, call.reply[:6]) for call in tap.calls]
    assert calls == [
        (1, "set", (b"a",), b"STORED"),
        (2, "get", (b"a",), b"\x81\x00\x00\x00\x04\x00"),
        (1, "set", (b"b",), b""),
        (1, "get", (b"a", b"b"), b"VALUE "),
    ]
    assert tap.calls == heard
    assert all(call.asked_at <= call.answered_at for call in heard)
    tap.clear_calls()
    assert tap.calls == []


def test_a_call_without_a_reply_is_known_at_once(tap: Tap) -> None:
    is_over = threading.Event()
    tap.listeners.append(lambda call: is_over.set())
    with RawClient(tap.address) as client:
        client.send(b"set a 0 0 1 noreply\r\nx\r\n")
        assert is_over.wait(20)


def test_a_listener_that_fails_is_logged_and_harms_nobody(tap: Tap, caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: Call) -> None:
        raise ZeroDivisionError

    tap.listeners.append(fail)
    with RawClient(tap.address) as client:
        client.expect(b"mn\r\n", b"MN\r\n")
        client.expect(b"mn\r\n", b"MN\r\n")
    assert "a listener of the tap failed" in caplog.text


# Its thread, and what it takes


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def has_connections(server: Server) -> bool:
    return server.stats()["curr_connections"] != "0"


def wait_while(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; fail when it never does."""
    give_up_at = time.monotonic() + 20
    while condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not show open descriptors")
def test_a_stop_ends_the_thread_and_the_connections_and_gives_all_descriptors_back(server: Server) -> None:
    wait_while(lambda: has_connections(server))  # of tests before this one
    before, threads = descriptors(), threading.active_count()
    tap = Tap(server.address).start()
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(tap.address)) for _ in range(20)]
        for client in clients:
            client.expect(b"mn\r\n", b"MN\r\n")
        assert threading.active_count() == threads + 1
        with fault(tap, "stall"):
            clients[0].send(b"mn\r\n")
            clients[1].send(b"set a 0 0 10\r\nhalf")
            began = time.perf_counter()
            tap.stop()
            assert time.perf_counter() - began < 5
        assert all(client.is_closed() for client in clients)
    tap.stop()
    assert threading.active_count() == threads
    wait_while(lambda: has_connections(server) or descriptors() != before)


def test_one_thread_waits_without_any_work_while_nothing_is_to_do(tap: Tap) -> None:
    polls = []
    poll = tap.poller.poll

    class Counted:
        def __getattr__(self, name: str) -> object:
            return getattr(poller, name)

        def poll(self, timeout: float) -> object:
            polls.append(timeout)
            return poll(timeout)

    with RawClient(tap.address) as stalled, RawClient(tap.address) as half, RawClient(tap.address) as delayed:
        for client in (stalled, half, delayed):
            client.expect(b"mn\r\n", b"MN\r\n")
        with fault(tap, "stall", commands="get"), fault(tap, "delay", commands="mn", seconds=3600):
            stalled.send(b"get a\r\n")
            half.send(b"get a\r\n")
            half.sock.shutdown(socket.SHUT_WR)
            delayed.send(b"mn\r\n")
            assert delayed.hears_nothing()
            poller, tap.poller = tap.poller, Counted()  # type: ignore[assignment]
            delayed.send(b"mn\r\n")  # ends the wait that has begun
            assert delayed.hears_nothing()
            assert delayed.hears_nothing()
            assert len(polls) < 6
            tap.poller = poller


def tap_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("tap")


def test_many_connections_are_served_by_one_thread(tap: Tap) -> None:
    before = tap_threads()  # with those of other fixtures in this process
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(tap.address)) for _ in range(100)]
        for client in clients:
            client.send(b"mn\r\n")
        for client in reversed(clients):
            assert client.take(4) == b"MN\r\n"
        assert tap_threads() == before >= 1


def test_a_clock_that_a_test_stops_stops_no_delay(tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawClient(tap.address) as client, fault(tap, "delay", seconds=0.05):
        for name in ("time", "monotonic", "perf_counter"):
            monkeypatch.setattr(time, name, lambda: 1.0)
        client.expect(b"mn\r\n", b"MN\r\n")
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_no_connection_open(tap: Tap) -> None:
    with RawClient(tap.address) as client, RawClient(tap.address) as other:
        for each in (client, other):
            each.expect(b"mn\r\n", b"MN\r\n")
        fork = multiprocessing.get_context("fork")
        may_end = fork.Event()
        child = fork.Process(target=may_end.wait)
        child.start()
        with fault(tap, "reset", commands="mn"):
            client.send(b"mn\r\n")
            with pytest.raises(ConnectionResetError):
                client.take(1)
        other.expect(b"version\r\n", b"VERSION ")
        tap.stop()
        may_end.set()
        child.join()
        child.close()


def test_something_asked_of_a_stopped_tap_does_nothing(tap: Tap) -> None:
    lasting = fault(tap, "refuse")
    with lasting:
        tap.stop()
    with fault(tap, "delay", seconds=1):
        tap.close_connections()
