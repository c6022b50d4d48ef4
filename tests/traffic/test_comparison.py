"""Replies that may rightly differ are alike, and all others are not."""

from __future__ import annotations

import pytest

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.traffic.adaptation import CasIds
from memcache_kv.traffic.comparison import are_alike
from memcache_kv.traffic.conversation import Conversation
from tests.protocol.binary.binary_packets import Packet, Reply

PASSED_SECONDS = 5
ME = b"ME a exp=%d la=%d cas=%d fetch=%b cls=%d size=%d\r\n"


def is_alike(asked: bytes, recorded: bytes, other: bytes, ids: CasIds | None = None) -> bool:
    (request,) = Conversation().asked(asked)
    return are_alike(request, recorded, other, ids or CasIds(), PASSED_SECONDS)


@pytest.mark.parametrize(
    ("asked", "recorded", "other"),
    [
        (b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
        (b"gets a b\r\n", b"VALUE a 0 1 5\r\nx\r\nEND\r\n", b"VALUE a 0 1 77\r\nx\r\nEND\r\n"),
        (b"mg a c t l v\r\n", b"VA 1 c5 t100 l3\r\nx\r\n", b"VA 1 c6 t95 l90\r\nx\r\n"),
        (b"mg a t\r\n", b"HD t-1\r\n", b"HD t-1\r\n"),
        (b"ms a 1 c\r\nx\r\n", b"HD c5\r\n", b"HD c500\r\n"),
        (b"me a\r\n", ME % (100, 0, 5, b"yes", 1, 63), ME % (96, 7, 9, b"no", 2, 200)),
        (b"version\r\n", b"VERSION 1.6.18\r\n", b"VERSION 1.6.45\r\n"),
        (b"stats\r\n", b"STAT pid 1\r\nEND\r\n", b"STAT pid 2\r\nSTAT more 1\r\nEND\r\n"),
        (b"stats items\r\n", b"END\r\n", b"STAT items:1:number 1\r\nEND\r\n"),
        (b"lru_crawler metadump all\r\n", b"OK\r\nkey=a exp=-1 \nEND\r\n", b"END\r\n"),
        (b"delete a noreply\r\n", b"", b""),
    ],
)
def test_alike_in_text(asked: bytes, recorded: bytes, other: bytes) -> None:
    assert is_alike(asked, recorded, other)
    assert is_alike(asked, other, recorded)


@pytest.mark.parametrize(
    ("asked", "recorded", "other"),
    [
        (b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"END\r\n"),
        (b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"VALUE a 0 1\r\ny\r\nEND\r\n"),
        (b"gets a\r\n", b"VALUE a 0 1 5\r\nx\r\nEND\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
        (b"gets a\r\n", b"VALUE a 0 1 5\r\nx\r\nEND\r\n", b"VALUE a 1 1 5\r\nx\r\nEND\r\n"),
        (b"gets a\r\n", b"VALUE a 0 1 5\r\nx\r\nEND\r\n", b"VALUE a 0 1 0\r\nx\r\nEND\r\n"),
        (b"mg a t\r\n", b"HD t-1\r\n", b"HD t2\r\n"),
        (b"mg a t\r\n", b"HD t100\r\n", b"HD t107\r\n"),
        (b"mg a t c\r\n", b"HD t1 c2\r\n", b"HD c2 t1\r\n"),
        (b"mg a s v\r\n", b"VA 1 s1\r\nx\r\n", b"VA 1 s2\r\nx\r\n"),
        (b"mg a v\r\n", b"VA 1\r\nx\r\n", b"VA 1 W\r\nx\r\n"),
        (b"mg a\r\n", b"HD\r\n", b"EN\r\n"),
        (b"me a\r\n", ME % (100, 0, 5, b"yes", 1, 63), ME % (-1, 0, 5, b"yes", 1, 63)),
        (b"stats\r\n", b"STAT pid 1\r\nEND\r\n", b"ERROR\r\n"),
        (b"stats reset\r\n", b"RESET\r\n", b"OK\r\n"),
        (b"version\r\n", b"VERSION 1.6.18\r\n", b"ERROR\r\n"),
        (b"lru_crawler metadump all\r\n", b"END\r\n", b"ERROR metadump not allowed\r\n"),
        (b"delete a noreply\r\n", b"", b"DELETED\r\n"),
        (b"incr n 1\r\n", b"5\r\n", b"6\r\n"),
        (b"set a 0 0 1\r\nx\r\n", b"STORED\r\n", b"NOT_STORED\r\n"),
    ],
)
def test_different_in_text(asked: bytes, recorded: bytes, other: bytes) -> None:
    assert not is_alike(asked, recorded, other)
    assert not is_alike(asked, other, recorded)


def test_a_cas_id_must_change_when_the_recorded_one_does() -> None:
    ids = CasIds()
    value = b"VALUE a 0 1 %d\r\nx\r\nEND\r\n"
    assert is_alike(b"gets a\r\n", value % 5, value % 50, ids)
    assert is_alike(b"mg a c\r\n", b"HD c5\r\n", b"HD c50\r\n", ids)
    assert not is_alike(b"gets a\r\n", value % 6, value % 50, ids)
    assert not is_alike(b"gets a\r\n", value % 5, value % 51, ids)


@pytest.mark.parametrize(
    ("asked", "recorded", "other", "alike"),
    [
        (Packet(Opcode.GET, b"a"), Reply(0, value=b"x", cas=5), Reply(0, value=b"x", cas=6), True),
        (Packet(Opcode.GET, b"a"), Reply(0, value=b"x", cas=5), Reply(0, value=b"y", cas=5), False),
        (Packet(Opcode.GET, b"a"), Reply(0, value=b"x", cas=5), Reply(0, value=b"x"), False),
        (Packet(Opcode.GET, b"a"), Reply(0, value=b"x"), Reply(0, extras=b"x"), False),
        (Packet(Opcode.GET, b"a"), Reply(0, 1, value=b"Not found"), Reply(0, value=b"Not found"), False),
        (Packet(Opcode.VERSION), Reply(0x0B, value=b"1.6.18"), Reply(0x0B, value=b"1.6.45"), True),
        (Packet(Opcode.STAT), Reply(0x10), Reply(0x10, 1, value=b"Not found"), False),
        (Packet(0x77), Reply(0x77, 0x81, value=b"Unknown command"), Reply(0x77, 0x81, value=b"?"), False),
    ],
)
def test_packets(asked: Packet, recorded: Reply, other: Reply, alike: bool) -> None:
    assert is_alike(asked.to_bytes(), recorded.to_bytes(), other.to_bytes()) is alike
    assert is_alike(asked.to_bytes(), other.to_bytes(), recorded.to_bytes()) is alike


def test_statistics_in_packets_are_not_compared() -> None:
    end = Reply(0x10).to_bytes()
    some = Reply(0x10, key=b"pid", value=b"1").to_bytes()
    assert is_alike(Packet(Opcode.STAT).to_bytes(), some + end, some + some + end)
