"""The protocol in datagrams, on ours and on memcached."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.wire import OURS, RunningServer, Wire, poll_until
from tests.ports import free_port

HEADER = struct.Struct("!HHHH")
PAYLOAD_BYTES = 1400 - HEADER.size
DEADLINE = 10


class Datagrams:
    """A client that sends one request in a datagram and puts the reply's datagrams in order."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", port))

    def ask(self, request: bytes, request_id: int = 7, datagrams: int = 1) -> list[bytes]:
        self.socket.send(HEADER.pack(request_id, 0, datagrams, 0) + request)
        parts: dict[int, bytes] = {}
        while True:
            data = self.socket.recv(65536)
            echoed, number, total, reserved = HEADER.unpack_from(data)
            assert (echoed, reserved) == (request_id, 0)
            parts[number] = data[HEADER.size :]
            if len(parts) == total:
                return [parts[number] for number in range(total)]


@contextmanager
def over_udp(make_server: MakeServer, *flags: str) -> Iterator[tuple[RunningServer, Datagrams]]:
    port = free_port()
    server = make_server("-U", str(port), *flags)
    client = Datagrams(port)
    try:
        yield server, client
    finally:
        client.socket.close()


def test_a_request_is_answered_with_its_id(make_server: MakeServer) -> None:
    with over_udp(make_server) as (server, client):
        assert client.ask(b"set k 5 0 3\r\nabc\r\n", 1) == [b"STORED\r\n"]
        assert client.ask(b"get k\r\n", 65535) == [b"VALUE k 5 3\r\nabc\r\nEND\r\n"]
        with Wire(server) as wire:
            wire.expect(b"get k\r\n", b"VALUE k 5 3\r\nabc\r\nEND\r\n")


def test_a_long_reply_comes_in_datagrams_of_1400_bytes(make_server: MakeServer) -> None:
    value = bytes(range(250)) * 20
    with over_udp(make_server) as (server, client):
        with Wire(server) as wire:
            wire.expect(b"set k 0 0 %d\r\n%b\r\n" % (len(value), value), b"STORED\r\n")
        parts = client.ask(b"get k\r\n")
        assert b"".join(parts) == b"VALUE k 0 %d\r\n%b\r\nEND\r\n" % (len(value), value)
        assert [len(part) for part in parts[:-1]] == [PAYLOAD_BYTES] * (len(parts) - 1)


def test_the_replies_to_one_datagram_come_in_order_from_ours_and_one_by_one_from_memcached(
    make_server: MakeServer,
) -> None:
    with over_udp(make_server) as (server, client):
        client.socket.send(HEADER.pack(7, 0, 1, 0) + b"set a 0 0 1\r\nx\r\nget a none\r\nget a a\r\n")
        end, value = b"END\r\n", b"VALUE a 0 1\r\nx\r\n"
        replies = [b"STORED\r\n", value, end, value, value + end]
        if server.kind == OURS:
            replies = [b"".join(replies)]
        for reply in replies:
            assert client.socket.recv(65536) == HEADER.pack(7, 0, 1, 0) + reply


def test_what_is_no_request_is_passed_over(make_server: MakeServer) -> None:
    with over_udp(make_server) as (_, client):
        client.socket.send(b"x")
        client.socket.send(b"")
        assert client.ask(b"version\r\n")[0].startswith(b"VERSION ")


def test_a_request_of_several_datagrams_is_refused_by_ours(ours: MakeServer) -> None:
    with over_udp(ours) as (_, client):
        assert client.ask(b"get k\r\n", datagrams=2) == [b"SERVER_ERROR multi-packet request not supported\r\n"]


def test_a_reply_over_a_megabyte_is_refused_by_ours(ours: MakeServer) -> None:
    with over_udp(ours) as (server, client):
        with Wire(server) as wire:
            wire.expect(b"set k 0 0 600000\r\n" + bytes(600_000) + b"\r\n", b"STORED\r\n")
        assert client.ask(b"get k k\r\n") == [b"SERVER_ERROR reply too large for UDP\r\n"]


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_change_by_datagram_is_in_the_journal(
    ours: MakeServer, tmp_path_factory: pytest.TempPathFactory, policy: str
) -> None:
    journal = str(tmp_path_factory.mktemp("journal"))
    with over_udp(ours, "--journal", journal, "--fsync", policy) as (server, client):
        assert client.ask(b"set k 0 0 1\r\nx\r\n") == [b"STORED\r\n"]
        with Wire(server) as wire:
            poll_until(lambda: wire.stats()["memcache_kv_journal_lag_records"] == "0", "the record to be on disk")
        server.kill()
    with over_udp(ours, "--journal", journal) as (_, client):
        assert client.ask(b"get k\r\n") == [b"VALUE k 0 1\r\nx\r\nEND\r\n"]
