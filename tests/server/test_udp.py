"""A datagram's change that the disk does not take."""

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.server.udp import HEADER, UdpServer
from tests.program import PATIENCE_SECONDS
from tests.protocol.binary.binary_packets import Packet, replies_in
from tests.protocol.context_factory import Surroundings
from tests.server.test_worker import FakeJournal

SET = b"set a 0 0 1\r\nx\r\n"


class FailsAtCommit(FakeJournal):
    """A journal whose disk fails at the first change that is to be written."""

    def commit(self) -> None:
        self.fail()


@pytest.fixture
def server() -> Iterator[UdpServer]:
    around = Surroundings()
    journal = FailsAtCommit()
    around.context.journal = journal  # type: ignore[assignment]
    around.store.log = journal
    with UdpServer(("127.0.0.1", 0), socket.AF_INET, around.context) as made:
        yield made


def test_a_text_change_is_refused_in_text(server: UdpServer) -> None:
    assert server.carry_out(SET) == b"SERVER_ERROR out of memory storing object\r\n"


def test_a_binary_change_is_refused_in_binary(server: UdpServer) -> None:
    [reply] = replies_in(server.carry_out(Packet(Opcode.SET, b"a", bytes(8), b"x").to_bytes()))
    assert (reply.opcode, reply.status) == (Opcode.SET, 0x82)


def test_several_changes_at_once_are_not_answered(server: UdpServer) -> None:
    assert server.carry_out(SET + SET) == b""


def test_what_reads_is_answered(server: UdpServer) -> None:
    assert server.carry_out(b"get a\r\n") == b"END\r\n"


# Over a socket

HEAD = HEADER.pack(7, 0, 1, 0)
VERSION = b"version\r\n"


@contextmanager
def answering(host: str = "127.0.0.1") -> Iterator[tuple[Surroundings, UdpServer, socket.socket]]:
    """A server with its thread, and a client of it."""
    around = Surroundings()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = UdpServer((host, 0), family, around.context)
    server.start()
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(server.server_address)
            yield around, server, client
    finally:
        server.stop()


def ask_version(client: socket.socket) -> None:
    """Have it answer, so that all that was sent before has been looked at."""
    client.send(HEAD + VERSION)
    assert client.recv(2000)[HEADER.size :].startswith(b"VERSION ")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_seems_to_come_from_the_server_itself_is_dropped(host: str) -> None:
    with answering(host) as (around, server, client):
        server.socket.sendto(HEAD + b"bogus\r\n", server.server_address)
        ask_version(client)
        assert around.counters.bytes_read == len(VERSION)
        assert [line for line in around.logged if "the address is this server's" in line] == around.logged[:1]


def test_the_same_port_of_another_machine_is_answered() -> None:
    with answering() as (_, server, _client):
        assert server.verify_request((HEAD + VERSION, server.socket), ("192.0.2.1", server.port))
        assert server.verify_request((HEAD + VERSION, server.socket), ("127.0.0.1", server.port ^ 1))
        assert not server.verify_request((HEAD + VERSION, server.socket), ("127.0.0.1", server.port))


@pytest.mark.parametrize(
    "said", [b"ERROR\r\n", b"SERVER_ERROR x\r\n", b"END\r\n", b"VALUE a 0 1\r\n", b"5\r\n", b"\x81"]
)
def test_a_reply_is_not_answered(said: bytes) -> None:
    with answering() as (around, _, client):
        for _ in range(3):
            client.send(HEAD + said)
        ask_version(client)
        assert around.counters.bytes_read == len(VERSION)
        assert [line.rpartition(": ")[2] for line in around.logged] == ["it is a reply"]


def test_why_a_datagram_was_not_answered_is_logged_once_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(server: UdpServer, data: bytes, origin: object = None) -> bytes:
        if data == VERSION:
            return b"VERSION "
        raise ValueError("ours")

    monkeypatch.setattr(UdpServer, "carry_out", fail)
    with answering() as (around, _, client):
        for _ in range(5):
            client.send(HEAD + b"get a\r\n")
        ask_version(client)
        host, port = client.getsockname()
        [line] = around.logged
        assert line.startswith(
            f"can't answer a datagram from {host}:{port}: ValueError: ours (at memcache_kv.server.udp:"
        )


def test_why_nothing_can_be_received_is_logged(server: UdpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(server.log, "stream", stream)
    server.socket.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        server.get_request()
    assert stream.getvalue() == f"can't receive on UDP 127.0.0.1:{server.port}: Bad file descriptor\n"
