"""CAS ids and absolute times are changed for the other server, and nothing else is."""

from __future__ import annotations

import pytest

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.traffic.adaptation import CasIds, adapted
from memcache_kv.traffic.conversation import Conversation
from tests.protocol.binary.binary_packets import Packet

SHIFT = 1000
LONG_AGO = b"1700000000"
LATER = b"1700001000"


def sent(data: bytes) -> bytes:
    """What is sent for a request, where the id 12 of the key a is 99 on the other server."""
    ids = CasIds()
    ids.match(b"a", 12, 99)
    (request,) = Conversation().asked(data)
    return adapted(request, ids, SHIFT)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("recorded", "other"),
    [
        (b"cas a 0 0 1 12\r\n1\r\n", b"cas a 0 0 1 99\r\n1\r\n"),
        (b"cas  a 0 0  1 12 noreply\n1\r\n", b"cas  a 0 0  1 99 noreply\n1\r\n"),
        (b"cas b 0 0 1 12\r\n1\r\n", b"cas b 0 0 1 12\r\n1\r\n"),
        (b"cas a 0 0 1 13\r\n1\r\n", b"cas a 0 0 1 13\r\n1\r\n"),
        (b"cas a 0 0 1 99\r\n1\r\n", b"cas a 0 0 1 %d\r\n1\r\n" % (99 | 1 << 62)),
        (b"cas a 0 0 1 x\r\n1\r\n", b"cas a 0 0 1 x\r\n1\r\n"),
        (b"cas a\r\n", b"cas a\r\n"),
        (b"ms a 2 C12 T0\r\nC1\r\n", b"ms a 2 C99 T0\r\nC1\r\n"),
        (b"ms YQ== 1 b C12\r\n1\r\n", b"ms YQ== 1 b C99\r\n1\r\n"),
        (b"md a C12 q\r\n", b"md a C99 q\r\n"),
        (b"set a 0 %b 1\r\n1\r\n" % LONG_AGO, b"set a 0 %b 1\r\n1\r\n" % LATER),
        (b"set a 0 2592000 1\r\n1\r\n", b"set a 0 2592000 1\r\n1\r\n"),
        (b"set a 0 2147483647 1\r\n1\r\n", b"set a 0 2147483647 1\r\n1\r\n"),
        (b"set a 0 -1 1\r\n1\r\n", b"set a 0 -1 1\r\n1\r\n"),
        (b"set a 0 0 5\r\n a b \r\n", b"set a 0 0 5\r\n a b \r\n"),
        (b"touch a %b\r\n" % LONG_AGO, b"touch a %b\r\n" % LATER),
        (b"gats %b a b\r\n" % LONG_AGO, b"gats %b a b\r\n" % LATER),
        (b"flush_all %b\r\n" % LONG_AGO, b"flush_all %b\r\n" % LATER),
        (b"flush_all noreply\r\n", b"flush_all noreply\r\n"),
        (b"mg a T%b N60\r\n" % LONG_AGO, b"mg a T%b N60\r\n" % LATER),
        (b"incr a %b\r\n" % LONG_AGO, b"incr a %b\r\n" % LONG_AGO),
        (b"get C12\r\n", b"get C12\r\n"),
    ],
)
def test_words_of_a_line(recorded: bytes, other: bytes) -> None:
    assert sent(recorded) == other


EARLIER, AFTERWARDS = number(int(LONG_AGO)), number(int(LATER))


@pytest.mark.parametrize(
    ("recorded", "other"),
    [
        (Packet(Opcode.SET, b"a", bytes(8), b"x", cas=12), Packet(Opcode.SET, b"a", bytes(8), b"x", cas=99)),
        (Packet(Opcode.DELETE, b"a", cas=12), Packet(Opcode.DELETE, b"a", cas=99)),
        (Packet(Opcode.SETQ, b"a", EARLIER * 2), Packet(Opcode.SETQ, b"a", EARLIER + AFTERWARDS)),
        (Packet(Opcode.TOUCH, b"a", EARLIER), Packet(Opcode.TOUCH, b"a", AFTERWARDS)),
        (Packet(Opcode.GATKQ, b"a", EARLIER), Packet(Opcode.GATKQ, b"a", AFTERWARDS)),
        (Packet(Opcode.FLUSH, b"", EARLIER), Packet(Opcode.FLUSH, b"", AFTERWARDS)),
        (Packet(Opcode.INCREMENT, b"a", EARLIER * 5), Packet(Opcode.INCREMENT, b"a", EARLIER * 4 + AFTERWARDS)),
        (Packet(Opcode.DECREMENT, b"a", b"\xff" * 20), Packet(Opcode.DECREMENT, b"a", b"\xff" * 20)),
        (Packet(Opcode.APPEND, b"a", b"", EARLIER * 2), Packet(Opcode.APPEND, b"a", b"", EARLIER * 2)),
    ],
)
def test_fields_of_a_packet(recorded: Packet, other: Packet) -> None:
    assert sent(recorded.to_bytes()) == other.to_bytes()


def test_an_id_must_meet_the_same_other_id_again() -> None:
    ids = CasIds()
    assert ids.match(b"a", 1, 7)
    assert ids.match(b"a", 1, 7)
    assert ids.match(b"b", 1, 8)
    assert not ids.match(b"a", 1, 9)
    assert not ids.match(b"a", 2, 9)
    assert ids.match(b"a", 0, 0)
    assert not ids.match(b"a", 3, 0)
