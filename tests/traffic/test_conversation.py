"""A conversation's bytes become the same calls, however they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.protocol.binary.frames import REPLY, REPLY_MAGIC, Opcode, Status
from memcache_kv.traffic.conversation import Call, Conversation
from tests.protocol.binary.binary_packets import Packet

BIG = b"x" * 5000
MANY = tuple(b"k%d" % number for number in range(50))


class Exchange(NamedTuple):
    """A request, its command and its reply."""

    asked: bytes
    command: str
    answered: bytes = b""
    keys: tuple[bytes, ...] = ()


def packet(
    opcode: int, key: bytes = b"", value: bytes = b"", extras: bytes = b"", opaque: int = 0, cas: int = 0
) -> bytes:
    return Packet(opcode, key, extras, value, cas, opaque).to_bytes()


def reply(opcode: int, opaque: int = 0, key: bytes = b"", value: bytes = b"", status: int = 0) -> bytes:
    head = REPLY.pack(REPLY_MAGIC, opcode, len(key), 0, status, len(key + value), opaque, 7)
    return head + key + value


TEXT = [
    Exchange(b"set a 0 0 5\r\nEND\r\n\r\n", "set", b"STORED\r\n", (b"a",)),
    Exchange(b"get a b\r\n", "get", b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n", (b"a", b"b")),
    Exchange(b"gets a\n", "gets", b"VALUE a 0 5 12\r\nEND\r\n\r\nEND\r\n", (b"a",)),
    Exchange(b"gat 0 a b\r\n", "gat", b"END\r\n", (b"a", b"b")),
    Exchange(
        b"get %s\r\n" % b" ".join([b"k%d" % i for i in range(50)]),
        "get",
        b"END\r\n",
        tuple(b"k%d" % i for i in range(50)),
    ),
    Exchange(b"get a\r\n", "get", b"VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\n", (b"a",)),
    Exchange(b"cas a 0 0 1 12\r\nz\r\n", "cas", b"EXISTS\r\n", (b"a",)),
    Exchange(b"set a 0 0 1 noreply\r\nx\r\n", "set", keys=(b"a",)),
    Exchange(b"set big 0 0 5000\r\n" + BIG + b"\r\n", "set", b"SERVER_ERROR object too large for cache\r\n", (b"big",)),
    Exchange(b"append a 0 0 0\r\n\r\n", "append", b"STORED\r\n", (b"a",)),
    Exchange(b"set a 0 0 -1\r\n", "set", b"CLIENT_ERROR bad command line format\r\n", (b"a",)),
    Exchange(b"set a 0 0 noreply\r\n", "set", b"CLIENT_ERROR bad command line format\r\n", (b"a",)),
    Exchange(b"set a x 0 1\r\nx\r\n", "set", b"CLIENT_ERROR bad command line format\r\n", (b"a",)),
    Exchange(b"set a\r\n", "set", b"CLIENT_ERROR bad command line format\r\n"),
    Exchange(b"delete a\r\n", "delete", b"DELETED\r\n", (b"a",)),
    Exchange(b"delete a noreply\r\n", "delete", keys=(b"a",)),
    Exchange(b"incr n 1\r\n", "incr", b"12\r\n", (b"n",)),
    Exchange(b"decr n 1 noreply\r\n", "decr", keys=(b"n",)),
    Exchange(b"touch n 10\r\n", "touch", b"TOUCHED\r\n", (b"n",)),
    Exchange(b"mg a v k Oab\r\n", "mg", b"VA 4 ka Oab\r\nEN\r\n\r\n", (b"a",)),
    Exchange(b"mg YQ== b v\r\n", "mg", b"VA 1\r\nx\r\n", (b"a",)),
    Exchange(b"mg a\r\n", "mg", b"EN\r\n", (b"a",)),
    Exchange(b"ms a 2 T0\r\nHD\r\n", "ms", b"HD\r\n", (b"a",)),
    Exchange(b"ms a x\r\n", "ms", b"CLIENT_ERROR bad command line format\r\n", (b"a",)),
    Exchange(b"md a\r\n", "md", b"NF\r\n", (b"a",)),
    Exchange(b"ma n N0 v\r\n", "ma", b"VA 2\r\n12\r\n", (b"n",)),
    Exchange(b"me a\r\n", "me", b"ME a exp=-1 la=0 cas=1 fetch=no cls=1 size=63\r\n", (b"a",)),
    Exchange(b"mn\r\n", "mn", b"MN\r\n"),
    Exchange(b"stats\r\n", "stats", b"STAT pid 1\r\nSTAT END 2\r\nEND\r\n"),
    Exchange(b"stats reset\r\n", "stats", b"RESET\r\n"),
    Exchange(b"stats detail on\r\n", "stats", b"OK\r\n"),
    Exchange(b"stats detail dump\r\n", "stats", b"PREFIX a get 1 hit 0 set 1 del 0\r\nEND\r\n"),
    Exchange(b"stats cachedump 1 0\r\n", "stats", b"ITEM a [1 b; 0 s]\r\nEND\r\n"),
    Exchange(b"lru_crawler metadump all\r\n", "lru_crawler", b"key=a exp=-1\r\nkey=b exp=-1\r\nEND\r\n"),
    Exchange(b"lru_crawler mgdump hash\r\n", "lru_crawler", b"mg a\r\nmg b\r\nEN\r\n"),
    Exchange(b"lru_crawler metadump all\r\n", "lru_crawler", b"OK\r\nkey=a exp=-1 \nEND\r\n"),
    Exchange(b"lru_crawler enable\r\n", "lru_crawler", b"OK\r\n"),
    Exchange(b"config get cluster\r\n", "config", b"CONFIG cluster 0 6\r\n1\na|b|\r\nEND\r\n"),
    Exchange(b"config set cluster 0 3\r\n1\na\r\n", "config", b"STORED\r\n"),
    Exchange(b"flush_all\r\n", "flush_all", b"OK\r\n"),
    Exchange(b"flush_all noreply\r\n", "flush_all"),
    Exchange(b" verbosity 1\r\n", "verbosity", b"OK\r\n"),
    Exchange(b"version\r\n", "version", b"VERSION 1.6.45\r\n"),
    Exchange(b"nonsense\r\n", "?", b"ERROR\r\n"),
    Exchange(b" get a\r\n", "?", b"ERROR\r\n"),
    Exchange(b"\r\n", "?", b"CLIENT_ERROR bad command line format\r\n"),
    Exchange(b"shutdown\r\n", "shutdown", b"SERVER_ERROR: shutdown not enabled\r\n"),
    Exchange(b"quit\r\n", "quit"),
]
QUIET_TEXT = [
    Exchange(b"mg a v q Oa\r\n", "mg", keys=(b"a",)),
    Exchange(b"mg b v q Ob\r\n", "mg", b"VA 1 Ob\r\nx\r\n", (b"b",)),
    Exchange(b"mg c v q k\r\n", "mg", keys=(b"c",)),
    Exchange(b"mg d v q k\r\n", "mg", b"VA 1 kd\r\nx\r\n", (b"d",)),
    Exchange(b"ms e 1 q O1\r\nx\r\n", "ms", keys=(b"e",)),
    Exchange(b"md f q O9\r\n", "md", b"NF O9\r\n", (b"f",)),
    Exchange(b"mg h q\r\n", "mg", keys=(b"h",)),
    Exchange(b"ms i 1 q\r\nx\r\n", "ms", b"SERVER_ERROR out of memory storing object\r\n", (b"i",)),
    Exchange(b"ma g q\r\n", "ma", keys=(b"g",)),
    Exchange(b"nonsense\r\n", "?", b"ERROR\r\n"),
    Exchange(b"nonsense noreply\r\n", "?"),
    Exchange(b"mn\r\n", "mn", b"MN\r\n"),
]
BINARY = [
    Exchange(packet(Opcode.SET, b"a", b"x", bytes(8), 1), "set", reply(Opcode.SET, 1), (b"a",)),
    Exchange(packet(Opcode.SET, b"a", b"x", bytes(8), 1, 9), "cas", reply(Opcode.SET, 1, status=2), (b"a",)),
    Exchange(packet(Opcode.GETKQ, b"a", opaque=5), "get", keys=(b"a",)),
    Exchange(packet(Opcode.GETKQ, b"b", opaque=5), "get", reply(Opcode.GETKQ, 5, b"b", b"x"), (b"b",)),
    Exchange(packet(Opcode.GETQ, b"c", opaque=6), "get", keys=(b"c",)),
    Exchange(packet(Opcode.NOOP), "noop", reply(Opcode.NOOP)),
    Exchange(packet(Opcode.SETQ, b"a", b"x", bytes(8)), "set", keys=(b"a",)),
    Exchange(packet(Opcode.STAT, b"items"), "stats", reply(Opcode.STAT, key=b"a", value=b"1") + reply(Opcode.STAT)),
    Exchange(packet(0x77, b"a", b"x"), "?", reply(0x77, status=Status.UNKNOWN_COMMAND, value=b"?"), (b"a",)),
    Exchange(packet(Opcode.GET, b"a"), "get", reply(Opcode.GET, status=1, value=b"Not found"), (b"a",)),
    Exchange(packet(Opcode.SASL_AUTH, b"PLAIN", b"\0u\0p"), "sasl_auth", reply(Opcode.SASL_AUTH, status=0x20)),
    Exchange(packet(Opcode.QUITQ), "quit"),
]


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def calls_of(exchanges: Sequence[Exchange], size: int) -> list[Call]:
    """Pass all requests and then all replies, in pieces of this size, and end the conversation."""
    conversation = Conversation(3)
    for piece in pieces(b"".join(exchange.asked for exchange in exchanges), size):
        conversation.asked(piece)
    calls = conversation.answered(b"")
    for piece in pieces(b"".join(exchange.answered for exchange in exchanges), size):
        calls += conversation.answered(piece)
    assert conversation.is_known
    return calls + conversation.ended()


def told(calls: Iterable[Call]) -> list[Exchange]:
    return [Exchange(call.request.data, call.request.command, call.reply, call.request.keys) for call in calls]


@pytest.mark.parametrize("exchange", [*TEXT, *BINARY], ids=lambda exchange: repr(exchange.asked[:24]))
def test_each_exchange_is_one_call(exchange: Exchange) -> None:
    for size in (1, 7, 1 << 20):
        assert told(calls_of([exchange], size)) == [exchange]


@pytest.mark.parametrize("exchanges", [TEXT, QUIET_TEXT, BINARY], ids=["text", "quiet", "binary"])
@pytest.mark.parametrize("size", [1, 2, 3, 50, 1 << 20])
def test_pipelined_requests_become_the_same_calls_however_they_are_cut(exchanges: list[Exchange], size: int) -> None:
    calls = calls_of(exchanges, size)
    assert told(calls) == exchanges
    assert {call.connection for call in calls} == {3}
    assert all(call.asked_at <= call.answered_at for call in calls)


@pytest.mark.parametrize(
    ("line", "has_reply"),
    [
        (b"get a\r\n", True),
        (b"mg a q\r\n", False),
        (b"delete a noreply\r\n", False),
        (b"quit\r\n", False),
        (b"nonsense\r\n", True),
        (packet(Opcode.GET, b"a"), True),
        (packet(Opcode.GETQ, b"a"), False),
        (b"\x16\x03\x01", False),
    ],
)
def test_a_request_says_whether_it_is_always_answered(line: bytes, has_reply: bool) -> None:
    assert [request.has_reply for request in Conversation().asked(line)] == [has_reply]


def test_a_request_is_told_when_its_last_byte_is_there() -> None:
    conversation = Conversation()
    assert conversation.asked(b"set a 0 0 1\r\nx\r") == []
    assert conversation.incomplete == b"set a 0 0 1\r\nx\r"
    assert [request.command for request in conversation.asked(b"\nget b")] == ["set"]
    assert conversation.answered(b"STOR") == []
    assert [call.reply for call in conversation.answered(b"ED\r\n")] == [b"STORED\r\n"]


def test_silent_requests_are_over_as_soon_as_those_before_them_are() -> None:
    conversation = Conversation()
    conversation.asked(b"get a\r\ndelete a noreply\r\n")
    assert conversation.answered(b"") == []
    assert [call.request.command for call in conversation.answered(b"END\r\n")] == ["get", "delete"]
    conversation.asked(b"delete b noreply\r\n")
    assert [call.request.command for call in conversation.answered(b"")] == ["delete"]


def test_an_error_before_the_end_of_a_data_block_belongs_to_that_request() -> None:
    conversation = Conversation()
    conversation.asked(b"set a 0 0 9\r\nxxxx")
    assert conversation.answered(b"SERVER_ERROR object too large for cache\r\n") == []
    conversation.asked(b"xxxxx\r\n")
    assert [call.request.command for call in conversation.answered(b"")] == ["set"]


# Bytes of no known form


@pytest.mark.parametrize(
    "start",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n",
        b"x" * 2049,
        b"\x80\x00\x00\x09" + bytes(20),
        packet(Opcode.NOOP) + b"get a\r\n",
    ],
)
def test_what_no_server_reads_passes_as_it_comes(start: bytes) -> None:
    conversation = Conversation()
    requests = conversation.asked(start)
    assert b"".join(request.data for request in requests) == start
    assert (requests[-1].command, requests[-1].keys, requests[-1].has_reply) == ("?", (), False)
    assert [request.data for request in conversation.asked(b"get a")] == [b"get a"]
    if len(requests) == 1:
        calls = conversation.answered(b"anything")
        assert [(call.request.data, call.reply) for call in calls] == [(start, b""), (b"get a", b"anything")]
    assert [call.request.data for call in conversation.ended()] == (
        [start[:24], start[24:], b"get a"] if len(requests) > 1 else []
    )


def test_a_reply_that_does_not_fit_ends_the_telling_apart() -> None:
    conversation = Conversation()
    conversation.asked(b"get a\r\nget b\r\nset c 0")
    calls = conversation.answered(b"STORED\r\n")
    assert [(call.request.data, call.reply) for call in calls] == [(b"get a\r\n", b""), (b"get b\r\n", b"STORED\r\n")]
    assert not conversation.is_known
    assert [request.command for request in conversation.asked(b"get c\r\n")] == ["?"]
    assert [call.reply for call in conversation.answered(b"END\r\n")] == [b"END\r\n"]


def test_words_that_nobody_asked_for_are_a_call_without_a_request() -> None:
    conversation = Conversation()
    call = conversation.answered(b"ERROR Too many open connections\r\n")[0]
    assert (call.request.command, call.request.data) == ("?", b"")


def test_after_watch_all_lines_pass() -> None:
    conversation = Conversation()
    assert [request.command for request in conversation.asked(b"watch fetchers\r\nget a\r\n")] == ["watch", "?"]
    calls = conversation.answered(b"OK\r\nts=1 gid=1 type=item_get key=a\r\n")
    assert [call.reply for call in calls] == [b"OK\r\n", b"ts=1 gid=1 type=item_get key=a\r\n"]
    assert [call.reply for call in conversation.answered(b"more\r\n")] == [b"more\r\n"]


def test_a_connection_that_ends_leaves_its_calls_with_what_was_answered() -> None:
    conversation = Conversation()
    conversation.asked(b"get a\r\nmg b q\r\nset c 0 0 5\r\nxx")
    conversation.answered(b"VALUE a 0 3\r\nx")
    assert [(call.request.command, call.reply) for call in conversation.ended()] == [
        ("get", b"VALUE a 0 3\r\nx"),
        ("mg", b""),
        ("?", b""),
    ]


WORDS = [exchange.asked for exchange in (*TEXT, *QUIET_TEXT, *BINARY)]
REPLIES = [exchange.answered for exchange in (*TEXT, *QUIET_TEXT, *BINARY)]


@given(
    st.lists(
        st.tuples(st.booleans(), st.one_of(st.binary(max_size=40), st.sampled_from(WORDS), st.sampled_from(REPLIES)))
    ),
    st.sampled_from([b"", b"get a\r\n", packet(Opcode.NOOP)]),
)
def test_no_byte_is_lost_and_nothing_raises(steps: list[tuple[bool, bytes]], start: bytes) -> None:
    conversation = Conversation()
    asked, answered, calls = bytearray(start), bytearray(), []
    requests = conversation.asked(start)
    for is_asked, data in steps:
        if is_asked:
            asked += data
            requests += conversation.asked(data)
        else:
            answered += data
            calls += conversation.answered(data)
    assert asked == b"".join(request.data for request in requests) + conversation.incomplete
    calls += conversation.ended()
    assert b"".join(call.request.data for call in calls) == asked
    assert b"".join(call.reply for call in calls) == answered
