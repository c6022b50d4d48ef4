"""A turn ends when its time is used up, and what goes on later is answered in full."""

import time
from itertools import count

import pytest

from memcache_kv.observe.prefixes import PREFIXES_AT_ONCE
from memcache_kv.protocol import session
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.stats.report import CONNECTIONS_AT_ONCE
from memcache_kv.store.listing import LISTED_AT_ONCE
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte

REQUESTS = 40
LONG_TURNS, SHORT_TURNS = 1e9, -1.0
"""So long that a turn never ends by time; and so short that each request uses it up."""


def many_rows(count: int) -> list[ConnectionStatus]:
    return [ConnectionStatus(fd, f"tcp:127.0.0.1:{fd}", "tcp:127.0.0.1:1", "conn_read", 0) for fd in range(count)]


def test_a_turn_of_text_ends_with_the_request_that_uses_up_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"delete a\r\nincr b 1\r\nversion\r\nmn\r\n" * (REQUESTS // 4)
    replies = []
    for seconds, turns in ((LONG_TURNS, 1), (SHORT_TURNS, REQUESTS)):
        monkeypatch.setattr(session, "TURN_SECONDS", seconds)
        conversation = Conversation()
        conversation.around.context.requests = None  # the compiled code has a constant
        replies.append(conversation.feed(lines))
        assert len(conversation.turns) == turns
    assert replies[0] == replies[1]


def test_a_turn_of_packets_ends_with_the_request_that_uses_up_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = Packet(Opcode.VERSION).to_bytes() * REQUESTS
    for seconds, turns in ((LONG_TURNS, 1), (SHORT_TURNS, REQUESTS)):
        monkeypatch.setattr(session, "TURN_SECONDS", seconds)
        conversation = BinaryConversation()
        assert len(conversation.feed(packets)) % REQUESTS == 0
        assert len(conversation.turns) == turns


@pytest.mark.parametrize("seconds", [LONG_TURNS, SHORT_TURNS])
def test_reports_of_connections_come_in_parts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", seconds)
    around = Surroundings()
    around.rows = many_rows(10 * CONNECTIONS_AT_ONCE)
    conversation = Conversation(around)
    reply = conversation.feed(b"stats conns\r\nmn\r\n")
    assert reply.count(b"STAT ") == 4 * len(around.rows)
    assert reply.endswith(b"END\r\nMN\r\n")
    assert max(map(len, conversation.turns)) == len(reply.removesuffix(b"MN\r\n")) or seconds is SHORT_TURNS
    if seconds is SHORT_TURNS:
        assert max(turn.count(b"STAT ") for turn in conversation.turns) == 4 * CONNECTIONS_AT_ONCE


def test_a_binary_dump_of_prefixes_is_made_in_parts_and_one_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", SHORT_TURNS)
    around = Surroundings()
    around.context.observers.count_prefixes(True)
    for number in range(10 * PREFIXES_AT_ONCE):
        around.context.observers.prefixes.stored(b"p%d:k" % number)
    around.context.observers.count_prefixes(False)
    conversation = BinaryConversation(around)
    replies = conversation.ask(*[Packet(Opcode.STAT, b"detail dump")] * 2)
    assert [reply.value.count(b"PREFIX p") for reply in replies] == [10 * PREFIXES_AT_ONCE, 0] * 2
    assert len(conversation.turns) > 20


def test_a_dump_takes_a_small_part_of_the_time_of_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation()
    for number in range(2000):
        conversation.feed(b"set %d 0 0 1\r\nx\r\n" % number)
    moments = count()
    monkeypatch.setattr(session, "TURN_SECONDS", 64.0)
    monkeypatch.setattr(session, "monotonic", lambda: float(next(moments)))
    conversation.turns.clear()
    assert conversation.feed(b"lru_crawler metadump all\r\n").count(b"key=") == 2000
    pieces = 2000 // LISTED_AT_ONCE  # each of which takes a 64th of a turn
    assert len(conversation.turns) >= pieces // 9


# Long lines


def test_a_long_line_that_goes_on_in_single_bytes_costs_what_its_bytes_cost() -> None:
    conversation = Conversation()
    conversation.feed(b"get " + b"key " * 400_000)
    began = time.process_time()
    for byte in byte_by_byte(b"some more keys " * 200):
        conversation.feed(byte)
    assert time.process_time() - began < 0.5  # to copy it for each byte would take more than ten times as long
    assert conversation.held_bytes == 4 + 4 * 400_000 + 15 * 200


def test_a_long_get_in_pieces_is_answered_in_full() -> None:
    conversation = Conversation()
    conversation.feed(b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\ny\r\n")
    line = b"gets  " + b"a  none " * 20_000 + b"b\r\nmn\r\n"
    reply = conversation.feed_pieces(*[line[at : at + 1000] for at in range(0, len(line), 1000)])
    assert reply.count(b"VALUE a 0 1 ") == 20_000
    assert b"VALUE b 0 1 " in reply
    assert reply.endswith(b"END\r\nMN\r\n")
    assert max(map(len, conversation.turns)) < 20_000
    counters = conversation.around.counters
    assert (counters.get_hits, counters.get_misses) == (20_001, 20_000)


@pytest.mark.parametrize("keys", [b"a " * 20_000 + b"k" * 251, b"k" * 40_000, b" " * 40_000])
def test_a_long_get_with_a_bad_key_or_none_answers_no_value(keys: bytes) -> None:
    conversation = Conversation()
    conversation.feed(b"set a 0 0 1\r\nx\r\n")
    reply = conversation.feed_pieces(b"get " + keys, b"\r\nmn\r\n")
    assert reply == b"CLIENT_ERROR bad command line format\r\nMN\r\n"


@pytest.mark.parametrize("spaces", [0, 100])
def test_a_long_get_may_begin_with_spaces(spaces: int) -> None:
    conversation = Conversation()
    assert conversation.feed_pieces(b" " * spaces + b"get " + b"k " * 20_000, b"k\r\n") == b"END\r\n"
    assert not conversation.protocol.closing
