"""The binary protocol over a socket, ours and memcached's: every case, and what only a server shows."""

import pytest

from tests.integration.binary_wire import MARK, BinaryWire
from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import RunningServer, Wire
from tests.protocol.binary.binary_cases import CASES, NOT_FOUND, BinaryCase, O, counting, error, hit, storing
from tests.protocol.binary.binary_packets import Packet, Reply

WITHOUT_IDS = [case for case in CASES if not any(packet.cas for packet in case.requests)]
"""An id has to be seen before it can be sent."""
AT_ONCE = [case for case in WITHOUT_IDS if all(packet.magic == 0x80 for packet in case.requests)]
"""At another magic byte memcached throws away replies that have not left."""


@pytest.fixture(autouse=True)
def _resets_the_counts_per_prefix(server: RunningServer) -> None:
    with Wire(server) as text:
        text.expect(b"stats reset\r\n", b"RESET\r\n")


OTHER_BEFORE = ("version", "a body of more than a gigabyte")
"""Names of cases to which releases before 1.6.45 answer otherwise, or not at all."""


def skip_what_differs(server: RunningServer, case: BinaryCase) -> None:
    if case.name in OTHER_BEFORE and not has_rewritten_parser(server):
        pytest.skip("releases before 1.6.45 answer this otherwise")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_requests_one_by_one_get_the_replies_of_the_table(server: RunningServer, case: BinaryCase) -> None:
    skip_what_differs(server, case)
    replies = []
    with BinaryWire(server) as wire:
        for packet in case.requests:
            replies += wire.ask(packet)
        assert replies == [*case.replies]
        assert wire.is_closed == case.closes


@pytest.mark.parametrize("case", AT_ONCE, ids=lambda case: case.name)
def test_requests_in_one_packet_get_the_same_replies(server: RunningServer, case: BinaryCase) -> None:
    skip_what_differs(server, case)
    with BinaryWire(server) as wire:
        assert wire.ask(*case.requests) == [*case.replies]
        assert wire.is_closed == case.closes


@pytest.mark.parametrize("size", [1, 5, 23, 24, 25])
def test_requests_in_small_packets_get_the_same_replies(server: RunningServer, size: int) -> None:
    packets = [storing(O.SET), Packet(O.GETK, b"a"), Packet(O.GETQ, b"none"), storing(O.SETQ, b"b"), MARK]
    data = b"".join([packet.to_bytes() for packet in packets])
    with BinaryWire(server) as wire:
        for start in range(0, len(data), size):
            wire.send(data[start : start + size])
        assert wire.receive() == [Reply(O.SET, cas=1), hit(O.GETK, key=b"a")]


def test_both_protocols_are_served_at_once(server: RunningServer) -> None:
    with BinaryWire(server) as binary, Wire(server) as text:
        text.expect(b"set a 3 0 1\r\nx\r\n", b"STORED\r\n")
        assert binary.ask(Packet(O.GET, b"a"), counting(O.INCREMENT)) == [
            hit(O.GET, flags=3),
            Reply(O.INCREMENT, value=bytes(8), cas=2),
        ]
        text.expect(b"incr n 5\r\n", b"5\r\n")
        assert binary.ask(Packet(O.GET, b"n")) == [hit(O.GET, b"5", cas=3)]
        text.expect(b"delete a\r\n", b"DELETED\r\n")
        assert binary.ask(Packet(O.GET, b"a")) == [error(O.GET, NOT_FOUND)]


def test_a_value_of_many_reads_comes_back(server: RunningServer) -> None:
    value = bytes(range(256)) * 3000
    with BinaryWire(server) as wire:
        assert wire.ask(storing(O.SET, value=value), *[Packet(O.GETK, b"a")] * 20) == [
            Reply(O.SET, cas=1),
            *[hit(O.GETK, value, key=b"a")] * 20,
        ]


def test_ten_thousand_quiet_requests_are_carried_out_in_order(server: RunningServer) -> None:
    packets = [storing(O.SETQ, b"k%d" % n, b"%d" % n) for n in range(5000)]
    packets += [Packet(O.GETKQ, b"k%d" % n) for n in range(5000)]
    with BinaryWire(server) as wire:
        assert [reply.value for reply in wire.ask(*packets)] == [b"%d" % n for n in range(5000)]


def test_a_stat_has_the_rows_of_the_text_protocol(server: RunningServer) -> None:
    with BinaryWire(server) as binary, Wire(server) as text:
        replies = binary.ask(Packet(O.STAT))
        assert replies[-1] == Reply(O.STAT)
        assert [reply.key.decode() for reply in replies[:-1]] == list(text.stats())


@pytest.mark.parametrize("packet", [Packet(O.FLUSH), Packet(O.FLUSHQ)])
def test_flush_can_be_switched_off(make_server: MakeServer, packet: Packet) -> None:
    with BinaryWire(make_server("-F")) as wire:
        assert wire.ask(packet) == [error(packet.opcode, 0x20)]


def test_cas_can_be_switched_off(make_server: MakeServer) -> None:
    requests = [
        storing(O.SET),
        storing(O.SET, cas=9),
        storing(O.ADD, b"b", cas=9),
        Packet(O.GET, b"a"),
        Packet(O.APPEND, b"a", value=b"y", cas=9),
    ]
    with BinaryWire(make_server("-C")) as wire:
        assert wire.ask(*requests) == [Reply(O.SET), Reply(O.SET), Reply(O.ADD), hit(O.GET, cas=0), Reply(O.APPEND)]
        assert [
            reply.status for reply in wire.ask(Packet(O.DELETE, b"a", cas=9), counting(O.INCREMENT, b"n", cas=9))
        ] == [2, 0]


def test_a_full_server_that_evicts_nothing_says_so(make_server: MakeServer) -> None:
    server = make_server("-M", "-m", "8")
    with BinaryWire(server) as wire:
        for n in range(200):
            replies = wire.ask(storing(O.SET, b"k%d" % n, b"v" * 100_000))
            if replies[0].status:
                break
    assert (replies[0].status, replies[0].value) == (0x82, b"Out of memory allocating item")


def test_an_unknown_command_with_a_key_is_answered_and_passed_over(ours: MakeServer) -> None:
    """memcached passes over its key twice, and so over the beginning of what comes next."""
    with BinaryWire(ours()) as wire:
        assert wire.ask(Packet(0x50, b"key", b"extras", b"value")) == [error(0x50, 0x81)]
        assert not wire.is_closed


def test_replies_before_another_magic_byte_arrive(ours: MakeServer) -> None:
    """memcached throws away those that have not left."""
    with BinaryWire(ours()) as wire:
        assert wire.ask(Packet(O.VERSION), Packet(O.NOOP, magic=0x67))[0].opcode == O.VERSION
        assert wire.is_closed
