"""A datagram's change that the disk does not take."""

import socket
from collections.abc import Iterator

import pytest

from memcache_kv.protocol.binary_frames import Opcode
from memcache_kv.udp import UdpServer
from tests.protocol.binary_packets import Packet, replies_in
from tests.protocol.context_factory import Surroundings
from tests.test_worker import FakeJournal

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
    assert server._carry_out(SET) == b"SERVER_ERROR out of memory storing object\r\n"


def test_a_binary_change_is_refused_in_binary(server: UdpServer) -> None:
    [reply] = replies_in(server._carry_out(Packet(Opcode.SET, b"a", bytes(8), b"x").to_bytes()))
    assert (reply.opcode, reply.status) == (Opcode.SET, 0x82)


def test_several_changes_at_once_are_not_answered(server: UdpServer) -> None:
    assert server._carry_out(SET + SET) == b""


def test_what_reads_is_answered(server: UdpServer) -> None:
    assert server._carry_out(b"get a\r\n") == b"END\r\n"
