"""What a connection tells of itself."""

import contextlib
import fcntl
import os
import socket
import sys
import termios
from pathlib import Path

import pytest

from memcache_kv.protocol import TextProtocol
from memcache_kv.server.connection import UNSENT_BYTES, Connection, State, address_text, set_tcp_options
from tests.protocol.context_factory import Surroundings


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 11211), "tcp:127.0.0.1:11211"),
        (("::1", 11211, 0, 0), "tcp6:[::1]:11211"),
        ("/tmp/x.sock", "unix:/tmp/x.sock"),
        ("", "unix:"),
        (b"\0abstract", "unix:@abstract"),
    ],
)
def test_addresses_are_written_as_in_stats_conns(address: object, text: str) -> None:
    assert address_text(address) == text


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system has no limit of unsent data")
def test_the_kernel_keeps_little_for_a_client_that_does_not_read() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        served, _ = listener.accept()
        with served:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            set_tcp_options(served)
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
            served.setblocking(False)
            taken, piece = 0, bytes(1 << 16)
            with contextlib.suppress(BlockingIOError):
                while taken < 8 << 20:
                    taken += served.send(piece)
            assert taken < 8 << 20
            kept = int.from_bytes(fcntl.ioctl(served, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
            assert kept < 2 * UNSENT_BYTES


def test_an_address_that_is_no_text_can_be_written_back() -> None:
    assert os.fsencode(address_text(b"\0\xff")) == b"unix:@\xff"


def connection_on(sock: socket.socket, now: int = 100) -> Connection:
    return Connection(sock, TextProtocol(Surroundings().context, sock.fileno()), now)


def test_a_tcp_connection_tells_both_ends_and_how_long_it_is_idle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            served, _ = listener.accept()
            with served:
                status = connection_on(served).status(107)
                assert status.fd == served.fileno()
                assert status.address == f"tcp:127.0.0.1:{client.getsockname()[1]}"
                assert status.listen_address == f"tcp:127.0.0.1:{listener.getsockname()[1]}"
                assert (status.state, status.idle_seconds) == ("conn_read", 7)


def test_a_unix_connection_tells_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        served, _ = listener.accept()
        with served:
            status = connection_on(served).status(100)
            assert (status.address, status.listen_address) == (f"unix:{path}", f"unix:{path}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract addresses are Linux's")
def test_a_client_with_an_odd_name_of_its_own_is_told_of(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.bind(b"\0memcache_kv \xff %d" % os.getpid())
        client.connect(path)
        served, _ = listener.accept()
        with served:
            assert connection_on(served).status(100).address.startswith("unix:@memcache_kv ")


def test_one_that_waits_for_its_client_or_the_journal_says_so() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for state in (State.WAITING_FOR_SOCKET, State.WAITING_FOR_JOURNAL, State.THROTTLED):
            connection = connection_on(ours)
            connection.enter(state)
            assert connection.status(100).state == "conn_mwrite"


def test_one_that_was_closed_meanwhile_is_told_of_without_addresses() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        connection = connection_on(ours)
        ours.close()
        assert connection.status(100).address == "unix:"
