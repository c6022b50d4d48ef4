"""What takes the place of the server's answer is what a server would answer."""

import pytest

from memcache_kv import Server
from memcache_kv.protocol.binary.frames import Opcode as Op
from memcache_kv.testing.faults.answers import INTERNAL_ERROR, error_for, miss_for
from memcache_kv.traffic.conversation import Conversation
from memcache_kv.traffic.wire import WireRequest
from tests.testing.wires import RawClient, packet

COUNTING = (1).to_bytes(8, "big") + (0).to_bytes(8, "big")
MISSES = [
    b"get key\r\n",
    b"gets key\r\n",
    b"gat 10 key\r\n",
    b"gats 10 key\r\n",
    b"touch key 10\r\n",
    b"touch key 10 noreply\r\n",
    b"delete key\r\n",
    b"delete key noreply\r\n",
    b"incr key 1\r\n",
    b"decr key 1\r\n",
    b"mg key v\r\n",
    b"mg key v q\r\n",
    b"mg key v k O123 s\r\n",
    b"mg a2V5 b k v\r\n",
    b"md key\r\n",
    b"md key q O1\r\n",
    b"ma key\r\n",
    b"ma key q k O7 v\r\n",
    packet(Op.GET, b"key", opaque=5),
    packet(Op.GETQ, b"key", opaque=5),
    packet(Op.GETK, b"key", opaque=5),
    packet(Op.GETKQ, b"key"),
    packet(Op.GAT, b"key", extras=bytes(4)),
    packet(Op.GATK, b"key", extras=bytes(4)),
    packet(Op.GATKQ, b"key", extras=bytes(4)),
    packet(Op.TOUCH, b"key", extras=bytes(4)),
    packet(Op.DELETE, b"key", opaque=9),
    packet(Op.DELETEQ, b"key", opaque=9),
    packet(Op.INCREMENT, b"key", extras=COUNTING + b"\xff" * 4),
    packet(Op.DECREMENTQ, b"key", extras=COUNTING + b"\xff" * 4),
]
FOR_THE_SERVER = [
    b"set key 0 0 1\r\nx\r\n",
    b"add key 0 0 1\r\nx\r\n",
    b"ms key 1\r\nx\r\n",
    b"mg key N30 v\r\n",
    b"ma key N30\r\n",
    b"mg key v v\r\n",
    b"version\r\n",
    b"flush_all\r\n",
    packet(Op.SET, b"key", b"x", extras=bytes(8)),
    packet(Op.INCREMENT, b"key", extras=COUNTING + bytes(4)),
    packet(Op.NOOP),
]


def request_of(data: bytes) -> WireRequest:
    """Return the one request that these bytes are."""
    (request,) = Conversation().asked(data)
    return request


def end_of(data: bytes) -> tuple[bytes, bytes]:
    """Return a request that every server answers, and its answer, in the protocol of some bytes."""
    if data[0] == 0x80:
        return packet(Op.NOOP, opaque=1), b"\x81\x0a" + bytes(10) + b"\0\0\0\1" + bytes(8)
    return b"mn\r\n", b"MN\r\n"


@pytest.mark.parametrize("data", MISSES, ids=repr)
def test_a_miss_is_what_a_server_without_the_item_answers(server: Server, data: bytes) -> None:
    request = request_of(data)
    answer, rest = miss_for(request, request.keys)
    ask_end, end = end_of(data)
    assert (answer is None, rest) == (False, data)
    with RawClient(server.address) as client:
        client.expect(data + ask_end, (answer or b"") + end)


@pytest.mark.parametrize("data", FOR_THE_SERVER, ids=repr)
def test_what_stores_something_or_needs_no_item_is_for_the_server(data: bytes) -> None:
    request = request_of(data)
    assert miss_for(request, request.keys) == (None, data)


@pytest.mark.parametrize(
    ("data", "missing", "left"),
    [
        (b"get a b c\r\n", [b"b"], b"get a c\r\n"),
        (b"gats 10 a b\r\n", [b"a"], b"gats 10 b\r\n"),
        (b"gets a\r\n", [], b"gets a\r\n"),
    ],
)
def test_of_several_keys_the_server_is_asked_for_the_others(data: bytes, missing: list[bytes], left: bytes) -> None:
    assert miss_for(request_of(data), missing) == (None, left)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"get a\r\n", b"SERVER_ERROR why\r\n"),
        (b"mg a v q\r\n", b"SERVER_ERROR why\r\n"),
        (b"set a 0 0 1 noreply\r\nx\r\n", b""),
        (b"delete a noreply\r\n", b""),
        (b"quit\r\n", None),
        (packet(Op.QUIT), None),
        (packet(Op.GETQ, b"a", opaque=6), b"\x81\x09\0\0\0\0\0\x84\0\0\0\3\0\0\0\6" + bytes(8) + b"why"),
    ],
)
def test_an_error_is_in_the_form_of_the_protocol(data: bytes, answer: bytes | None) -> None:
    assert error_for(request_of(data), b"why", INTERNAL_ERROR) == answer
