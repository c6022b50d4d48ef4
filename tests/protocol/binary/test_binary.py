"""The binary protocol: every case whole, cut anywhere, and with more behind it."""

import struct
from collections.abc import Callable

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol.session import LARGEST_READ_BYTES, READ_BYTES, TURN_BYTES
from memcache_kv.store import Mode
from memcache_kv.store.entry import FETCHED, TRACKED, Item, pack
from tests.protocol.binary import spelled
from tests.protocol.binary.binary_cases import (
    AUTH_ERROR,
    CASES,
    INVALID,
    MARK,
    MARKED,
    NOT_FOUND,
    OPEN,
    TOO_LARGE,
    UNKNOWN,
    BinaryCase,
    O,
    counting,
    error,
    hit,
    joining,
    number,
    storing,
    touching,
)
from tests.protocol.binary.binary_packets import HEAD, BinaryConversation, Packet, Reply, numbered
from tests.protocol.command_cases import CONDITIONAL_CASES, PLAIN_CASES, CommandCase, Result, check
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte

SHORT_BYTES = 2000
"""Longer cases are not fed in every possible way."""

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
short_by_name = pytest.mark.parametrize("case", [c for c in CASES if len(c.sent) < SHORT_BYTES], ids=lambda c: c.name)
open_by_name = pytest.mark.parametrize("case", OPEN, ids=lambda case: case.name)


def with_settings(**changes: object) -> BinaryConversation:
    return BinaryConversation(Surroundings(Settings(**changes)))  # type: ignore[arg-type]


@by_name
def test_a_request_gets_the_reply_of_memcached(case: BinaryCase) -> None:
    conversation = BinaryConversation()
    assert numbered(conversation.feed(case.sent)) == [*case.replies]
    assert conversation.protocol.closing == case.closes


@by_name
def test_each_packet_alone_gets_the_same_reply(case: BinaryCase) -> None:
    assert numbered(BinaryConversation().feed_pieces(*[packet.to_bytes() for packet in case.requests])) == [
        *case.replies
    ]


@short_by_name
def test_a_request_byte_by_byte_gets_the_same_reply(case: BinaryCase) -> None:
    conversation = BinaryConversation()
    assert numbered(conversation.feed_pieces(*byte_by_byte(case.sent))) == [*case.replies]
    assert conversation.protocol.closing == case.closes


@short_by_name
def test_a_request_cut_anywhere_gets_the_same_reply(case: BinaryCase) -> None:
    for cut in range(1, len(case.sent)):
        assert numbered(BinaryConversation().feed_pieces(case.sent[:cut], case.sent[cut:])) == [*case.replies]


@open_by_name
def test_more_behind_a_request_is_carried_out_too(case: BinaryCase) -> None:
    conversation = BinaryConversation()
    assert numbered(conversation.feed(case.sent + MARK.to_bytes())) == [*case.replies, MARKED]
    assert conversation.feed(MARK.to_bytes()) == MARKED.to_bytes()


@open_by_name
def test_one_request_a_turn_gets_the_same_replies(case: BinaryCase) -> None:
    conversation = with_settings(max_reqs_per_event=1)
    assert numbered(conversation.feed(case.sent)) == [*case.replies]


@open_by_name
def test_a_request_that_is_watched_gets_the_same_reply(case: BinaryCase) -> None:
    conversation = BinaryConversation(Surroundings(verbosity=2))
    conversation.around.context.observers.refresh()
    if "detail" not in case.name:
        assert numbered(conversation.feed(case.sent)) == [*case.replies]


@open_by_name
def test_requests_are_counted_alike_however_they_are_cut(case: BinaryCase) -> None:
    whole, cut = BinaryConversation(), BinaryConversation()
    whole.feed(case.sent)
    half = len(case.sent) // 2
    cut.feed_pieces(case.sent[:half], case.sent[half:])
    assert whole.around.counts() == cut.around.counts()


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


# CAS ids, and the other protocol's values


def test_a_value_of_the_text_protocol_has_an_id_in_the_first_reply_that_shows_it() -> None:
    conversation = BinaryConversation()
    Conversation(conversation.around).feed(b"set a 3 0 1\r\nx\r\n")
    replies = conversation.ask(Packet(O.GET, b"a"), Packet(O.GET, b"a"), touching(O.GAT), storing(O.SET, cas=1))
    assert replies == [hit(O.GET, flags=3), hit(O.GET, flags=3), hit(O.GAT, flags=3), Reply(O.SET, cas=2)]


def test_the_text_protocol_sees_value_flags_and_id() -> None:
    conversation = BinaryConversation()
    conversation.ask(storing(O.SET, flags=70000, value=b"v\r\n"))
    assert Conversation(conversation.around).feed(b"gets a\r\n") == b"VALUE a 70000 3 1\r\nv\r\n\r\nEND\r\n"


@pytest.mark.parametrize("packet", [storing(O.SET, cas=9), storing(O.ADD, cas=9), storing(O.REPLACE, cas=9)])
def test_without_ids_a_condition_is_passed_over(packet: Packet) -> None:
    conversation = with_settings(disable_cas=True)
    first, second = conversation.ask(storing(O.SET), packet._replace(opcode=O.SET))
    assert (first, second) == (Reply(O.SET), Reply(O.SET))


def test_without_ids_a_value_is_found_and_counted() -> None:
    conversation = with_settings(disable_cas=True)
    asked = [storing(O.SETQ), Packet(O.GET, b"a"), touching(O.GAT), counting(O.INCREMENT), joining(O.APPEND, cas=9)]
    replies = conversation.ask(*asked)
    assert replies == [hit(O.GET, cas=0), hit(O.GAT, cas=0), number(O.INCREMENT, 0, 0), Reply(O.APPEND)]


def test_without_ids_delete_and_increment_with_one_find_another() -> None:
    conversation = with_settings(disable_cas=True)
    conversation.ask(storing(O.SET, b"n", b"1"))
    replies = conversation.ask(Packet(O.DELETE, b"n", cas=1), counting(O.INCREMENT, cas=1))
    assert [reply.status for reply in replies] == [2, 2]


def test_a_change_gives_another_id_each_time() -> None:
    conversation = BinaryConversation()
    requests = [
        storing(O.SET, b"n", b"1"),
        counting(O.INCREMENT),
        joining(O.APPEND, b"n", b"1"),
        storing(O.REPLACE, b"n"),
    ]
    ids = [reply.cas for reply in conversation.ask(*requests)]
    assert len(set(ids)) == len(ids)
    assert 0 not in ids


# Time


def test_a_value_expires() -> None:
    conversation = BinaryConversation()
    conversation.ask(storing(O.SET, exptime=10))
    conversation.around.clock.advance(9)
    assert conversation.ask(Packet(O.GET, b"a")) == [hit(O.GET)]
    conversation.around.clock.advance(1)
    assert conversation.ask(Packet(O.GET, b"a")) == [error(O.GET, NOT_FOUND)]


@pytest.mark.parametrize("opcode", [O.TOUCH, O.GAT, O.GATQ, O.GATK, O.GATKQ])
def test_touching_changes_the_time(opcode: int) -> None:
    conversation = BinaryConversation()
    conversation.ask(storing(O.SET, exptime=10), touching(opcode, exptime=0))
    conversation.around.clock.advance(1000)
    assert conversation.ask(Packet(O.GET, b"a")) == [hit(O.GET)]


def test_a_flush_may_wait() -> None:
    conversation = BinaryConversation()
    around = conversation.around
    replies = conversation.ask(storing(O.SET), Packet(O.FLUSH, extras=struct.pack("!I", 10)), Packet(O.GET, b"a"))
    assert replies == [Reply(O.SET, cas=1), Reply(O.FLUSH), hit(O.GET)]
    around.clock.advance(10)
    around.store.new_second()
    assert conversation.ask(Packet(O.GET, b"a")) == [error(O.GET, NOT_FOUND)]


# Limits


def test_flush_can_be_switched_off() -> None:
    conversation = with_settings(disable_flush_all=True)
    replies = conversation.ask(storing(O.SET), Packet(O.FLUSH), Packet(O.FLUSHQ), Packet(O.GET, b"a"))
    assert replies == [Reply(O.SET, cas=1), error(O.FLUSH, AUTH_ERROR), error(O.FLUSHQ, AUTH_ERROR), hit(O.GET)]
    assert conversation.around.counters.cmd_flush == 0


@pytest.mark.parametrize("what", [b"detail on", b"detail dump"])
def test_details_can_be_switched_off(what: bytes) -> None:
    conversation = with_settings(disable_dumping=True)
    assert conversation.ask(Packet(O.STAT, what)) == [error(O.STAT, NOT_FOUND)]


def full_of_values() -> BinaryConversation:
    conversation = BinaryConversation(Surroundings(Settings(disable_evictions=True, memory_limit=2 << 20)))
    store = conversation.around.store
    while store.store(Mode.SET, b"key%d" % len(store), pack(0, b"v" * 50_000)).value == "stored":
        pass
    return conversation


def test_a_store_without_memory_is_refused_and_a_set_leaves_no_old_value() -> None:
    conversation = full_of_values()
    large = b"w" * 90_000
    requests = [storing(O.SET, b"key0", large), Packet(O.GET, b"key0"), storing(O.ADDQ, b"new", large)]
    replies = conversation.ask(*requests, joining(O.APPEND, b"key1", large))
    assert replies[1] == error(O.GET, NOT_FOUND)
    text = b"Out of memory allocating item"
    assert [replies[0], *replies[2:]] == [Reply(o, 0x82, value=text) for o in (O.SET, O.ADDQ, O.APPEND)]


def test_counting_without_memory_makes_nothing() -> None:
    conversation = with_settings(disable_evictions=True, memory_limit=2 << 20)
    conversation.around.store.reserve(2 << 20)
    reply = Reply(O.INCREMENTQ, 0x82, value=b"Out of memory allocating new item")
    assert conversation.ask(counting(O.INCREMENTQ)) == [reply]


# Hostile lengths


@pytest.mark.parametrize("opcode", [O.GET, O.SET, O.STAT, O.SASL_AUTH, 0x50])
def test_a_key_of_64k_is_refused_before_it_is_there(opcode: int) -> None:
    conversation = BinaryConversation()
    head = HEAD.pack(0x80, opcode, 65535, 0, 0, 0, 65535, 7, 0)
    assert conversation.feed(head) == error(opcode, INVALID)._replace(opaque=7).to_bytes()
    assert conversation.protocol.closing


def test_a_head_that_lies_about_its_body_ends_the_connection() -> None:
    conversation = BinaryConversation()
    head = HEAD.pack(0x80, O.NOOP, 65535, 255, 0, 0, 10, 7, 0)
    assert conversation.feed(head) == error(O.NOOP, UNKNOWN)._replace(opaque=7).to_bytes()
    assert conversation.protocol.closing


def test_a_gigabyte_that_is_announced_is_not_held() -> None:
    conversation = BinaryConversation()
    packet = storing(O.SET)._replace(body_bytes=1 << 30)
    assert conversation.feed(packet.to_bytes()) == error(O.SET, TOO_LARGE).to_bytes()
    for _ in range(50):
        assert conversation.feed(b"\x80" * 65536) == b""
    assert conversation.held_bytes == 0
    assert conversation.protocol.state == "conn_swallow"


def test_what_is_no_whole_head_yet_is_not_answered() -> None:
    conversation = BinaryConversation()
    assert conversation.feed(b"\xff" * (HEAD.size - 1)) == b""
    assert not conversation.protocol.closing
    assert conversation.feed(b"\xff") == b""
    assert conversation.protocol.closing


def test_nothing_is_carried_out_behind_the_end() -> None:
    conversation = BinaryConversation()
    quit_and_store = Packet(O.QUIT).to_bytes() + storing(O.SET).to_bytes()
    assert conversation.feed(quit_and_store) == Reply(O.QUIT).to_bytes()
    assert conversation.around.store.get(b"a") is None
    assert conversation.protocol.close_reason == "normal"


# Turns


def test_a_turn_ends_after_so_many_requests() -> None:
    conversation = with_settings(max_reqs_per_event=3)
    conversation.ask(storing(O.SET))
    conversation.turns.clear()
    conversation.feed(Packet(O.GET, b"a").to_bytes() * 5 + Packet(O.NOOP).to_bytes() * 3)
    assert [turn.count(b"\x81") for turn in conversation.turns] == [3, 3, 2]
    assert conversation.around.counters.conn_yields == 2


@pytest.mark.parametrize("opcode", [O.GET, O.GETK, O.GAT])
def test_a_turn_ends_after_a_megabyte_of_values(opcode: int) -> None:
    conversation = BinaryConversation()
    value = b"v" * 400_000
    conversation.ask(storing(O.SET, value=value))
    conversation.turns.clear()
    packet = touching(opcode) if opcode == O.GAT else Packet(opcode, b"a")
    reply = conversation.feed(packet.to_bytes() * 7)
    assert reply.count(value) == 7
    assert max(map(len, conversation.turns)) < TURN_BYTES + 500_000
    assert len(conversation.turns) == 3


def test_a_turn_ends_after_a_megabyte_of_small_values_too() -> None:
    conversation = BinaryConversation()
    value = b"v" * 4000
    conversation.ask(storing(O.SET, value=value))
    conversation.turns.clear()
    reply = conversation.feed(Packet(O.GET, b"a").to_bytes() * 600)
    assert reply.count(value) == 600
    assert max(map(len, conversation.turns)) < TURN_BYTES + 5000


def test_a_turn_that_ends_with_the_input_asks_for_no_other() -> None:
    conversation = with_settings(max_reqs_per_event=2)
    conversation.protocol.receive(Packet(O.NOOP).to_bytes() * 2)
    assert not conversation.protocol.paused


def test_half_a_request_waits_through_a_turn() -> None:
    conversation = with_settings(max_reqs_per_event=1)
    data = storing(O.SET).to_bytes()
    assert conversation.feed(Packet(O.NOOP).to_bytes() + data[:30]) == Reply(O.NOOP).to_bytes()
    assert conversation.feed(data[30:]) == Reply(O.SET, cas=1).to_bytes()


def test_a_large_value_asks_for_large_reads() -> None:
    conversation = BinaryConversation()
    data = storing(O.SET, value=b"v" * 900_000).to_bytes()
    assert conversation.feed(data[:100]) == b""
    assert READ_BYTES < conversation.protocol.want <= LARGEST_READ_BYTES
    assert conversation.protocol.state == "conn_nread"
    assert conversation.feed(data[100:]) == Reply(O.SET, cas=1).to_bytes()
    assert conversation.protocol.want == READ_BYTES
    assert conversation.protocol.state == "conn_read"


def test_counting_sizes_takes_as_many_turns_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.protocol.session.TURN_SECONDS", -1.0)
    conversation = with_settings(track_sizes=True)
    conversation.ask(*[storing(O.SETQ, b"k%d" % n) for n in range(1000)])
    replies = conversation.ask(Packet(O.STAT, b"sizes"), MARK)
    assert len(conversation.turns) > 3
    assert [int(reply.value) for reply in replies[:-2]] == [1000]
    assert replies[-2:] == [Reply(O.STAT), MARKED]


# Statistics


def rows(replies: list[Reply]) -> dict[bytes, bytes]:
    assert replies[-1] == Reply(O.STAT)
    return {reply.key: reply.value for reply in replies[:-1]}


@pytest.mark.parametrize("what", [b"", b"settings", b"settingsx", b"items", b"slabs", b"memcache_kv"])
def test_stat_tells_the_rows_of_the_text_protocol(what: bytes) -> None:
    conversation = BinaryConversation()
    conversation.ask(storing(O.SET))
    told = rows(conversation.ask(Packet(O.STAT, what)))
    lines = Conversation(conversation.around).feed(b"stats %b\r\n" % what.removesuffix(b"x")).split(b"\r\n")
    assert list(told) == [line.split(b" ")[1] for line in lines[:-2]]


def test_a_fast_get_is_counted_before_stat_tells() -> None:
    conversation = BinaryConversation()
    replies = conversation.ask(storing(O.SETQ), Packet(O.GETQ, b"a"), Packet(O.GET, b"a"), Packet(O.STAT))
    told = rows(replies[2:])
    assert (told[b"cmd_get"], told[b"get_hits"], told[b"cmd_set"]) == (b"2", b"2", b"1")


COUNTED = [
    ([storing(O.SET)], {"cmd_set": 1}),
    ([storing(O.SET, value=b"v" * (1 << 20))], {"rejected_too_large": 1}),
    ([Packet(O.GET, b"a"), Packet(O.GETKQ, b"a")], {"cmd_get": 2, "get_misses": 2}),
    ([storing(O.SET), Packet(O.GET, b"a"), Packet(O.GETK, b"a")], {"cmd_set": 1, "cmd_get": 2, "get_hits": 2}),
    ([touching(O.TOUCH), touching(O.GATQ)], {"cmd_touch": 2, "touch_misses": 2}),
    ([storing(O.SET), touching(O.TOUCH), touching(O.GAT)], {"cmd_set": 1, "cmd_touch": 2, "touch_hits": 2}),
    ([Packet(O.FLUSH), Packet(O.FLUSHQ)], {"cmd_flush": 2}),
]


@pytest.mark.parametrize(("packets", "counts"), COUNTED)
def test_commands_are_counted_as_memcached_counts_them(packets: list[Packet], counts: dict[str, int]) -> None:
    conversation = BinaryConversation()
    conversation.ask(*packets)
    assert {name: count for name, count in conversation.around.counts().items() if count} == counts


# The server's own


def test_verbosity_is_set() -> None:
    conversation = BinaryConversation()
    levels = [struct.pack("!I", level) for level in (2, 70000)]
    assert conversation.ask(Packet(O.VERBOSITY, extras=levels[0])) == [Reply(O.VERBOSITY)]
    assert conversation.around.context.log.verbosity == 2
    assert conversation.ask(Packet(O.VERBOSITY, extras=levels[1])) == [Reply(O.VERBOSITY)]
    assert conversation.around.context.log.verbosity == 5


def test_a_verbose_log_has_requests_and_replies_on_a_line_each() -> None:
    conversation = BinaryConversation(Surroundings(verbosity=2))
    conversation.ask(Packet(O.GET, b"a\nb"), Packet(O.NOOP))
    assert conversation.around.logged == ["<30 0x00 b'a\\nb'", ">30 Not found", "<30 0x0a b''", ">30 0x00"]


@pytest.mark.parametrize(
    ("ask", "noted"),
    [
        (lambda: [Packet(O.GET, b"p:a")], b"PREFIX p get 1 hit 0 set 0 del 0\r\n"),
        (lambda: [storing(O.SET, b"p:a"), Packet(O.GET, b"p:a")], b"PREFIX p get 1 hit 1 set 1 del 0\r\n"),
        (lambda: [touching(O.GAT, b"p:a")], b"PREFIX p get 1 hit 0 set 0 del 0\r\n"),
        (lambda: [Packet(O.DELETE, b"p:a", cas=4)], b"PREFIX p get 0 hit 0 set 0 del 1\r\n"),
    ],
)
def test_requests_count_for_their_prefix(ask: Callable[[], list[Packet]], noted: bytes) -> None:
    conversation = BinaryConversation()
    conversation.around.context.observers.count_prefixes(True)
    conversation.ask(*ask())
    assert b"".join(conversation.around.context.observers.prefixes.dump()) == noted + b"END\r\n"


@pytest.mark.parametrize("packet", [Packet(O.GET, b"a"), Packet(O.GETK, b"a"), touching(O.GAT), touching(O.TOUCH)])
def test_a_read_of_a_tracked_item_is_recorded(packet: Packet) -> None:
    conversation = BinaryConversation()
    store, clock = conversation.around.store, conversation.around.clock
    conversation.ask(storing(O.SET))
    store.get_tracked(b"a")
    conversation.ask(storing(O.SET))
    clock.advance(5)
    conversation.ask(packet)
    entry = store.peek(b"a")
    assert isinstance(entry, Item)
    assert (entry.accessed, entry.state) == (clock.now, TRACKED | FETCHED)


# What every protocol can do


@pytest.mark.parametrize("case", [*PLAIN_CASES, *CONDITIONAL_CASES], ids=lambda case: case.name)
def test_a_command_does_what_it_does_in_every_protocol(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        (reply,) = BinaryConversation(around).ask(spelled.written(case.command))
        return spelled.read(reply, case.command)

    check(case, carry_out)
