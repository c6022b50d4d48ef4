"""The classic text protocol: every case whole, cut anywhere, and with more behind it."""

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol.session import FIRST_READ_BYTES, LARGEST_READ_BYTES, READ_BYTES, TURN_BYTES
from memcache_kv.protocol.text import framing, multiget
from memcache_kv.protocol.text.framing import LINE_LIMIT_BYTES, MULTIGET_LIMIT_BYTES
from memcache_kv.store import Mode
from memcache_kv.store.entry import pack
from tests.protocol.case import Case
from tests.protocol.command_cases import PLAIN_CASES, CommandCase, check
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte
from tests.protocol.text import spelled
from tests.protocol.text.text_cases import CASES, CLOSING, END, SET, STORED, VERSION

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
closing_by_name = pytest.mark.parametrize("case", CLOSING, ids=lambda case: case.name)

CUTS_OF_A_LONG_REQUEST = 40


def cuts(request: bytes) -> list[int]:
    """Where to cut a request: everywhere, or in a long one near both ends and here and there."""
    if len(request) <= 400:
        return list(range(1, len(request)))
    step = len(request) // CUTS_OF_A_LONG_REQUEST
    return sorted({*range(1, 30), *range(30, len(request), step), *range(len(request) - 10, len(request))})


@by_name
def test_a_request_is_answered_whole(case: Case) -> None:
    conversation = Conversation()
    assert conversation.feed(case.request) == case.reply
    assert not conversation.protocol.closing
    assert conversation.held_bytes == 0


@by_name
def test_a_request_is_answered_the_same_cut_anywhere(case: Case) -> None:
    for cut in cuts(case.request):
        assert Conversation().feed_pieces(case.request[:cut], case.request[cut:]) == case.reply, cut


@by_name
def test_a_request_is_answered_the_same_byte_by_byte(case: Case) -> None:
    head, tail = case.request[:5000], case.request[5000:]
    assert Conversation().feed_pieces(*byte_by_byte(head), tail) == case.reply


@by_name
def test_the_next_request_is_answered_too(case: Case) -> None:
    assert Conversation().feed(case.request + b"version\r\n") == case.reply + VERSION
    assert Conversation().feed_pieces(case.request + b"vers", b"ion\r\n") == case.reply + VERSION


@by_name
def test_the_log_changes_no_reply(case: Case) -> None:
    assert Conversation(Surroundings(verbosity=2)).feed(case.request) == case.reply


@by_name
def test_short_turns_change_no_reply(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiget, "KEYS_PER_TURN", 1)
    monkeypatch.setattr(framing, "TURN_BYTES", 1)
    assert Conversation(Surroundings(Settings(max_reqs_per_event=1))).feed(case.request) == case.reply


@closing_by_name
def test_some_requests_end_the_connection_after_what_was_asked_before(case: Case) -> None:
    conversation = Conversation()
    assert conversation.feed_pieces(case.request, b"version\r\n") == case.reply
    assert conversation.protocol.closing


@closing_by_name
def test_they_do_so_cut_anywhere(case: Case) -> None:
    for cut in cuts(case.request):
        conversation = Conversation()
        assert conversation.feed_pieces(case.request[:cut], case.request[cut:]) == case.reply
        assert conversation.protocol.closing


def test_a_request_without_its_end_is_not_answered_yet() -> None:
    conversation = Conversation()
    assert conversation.feed(b"get a") == b""
    assert conversation.feed(b"\r") == b""
    assert conversation.feed(b"\n") == END
    assert conversation.feed(b"set a 0 0 3\r\nfoo") == b""
    assert conversation.feed(b"\r") == b""
    assert conversation.feed(b"\n") == STORED


# Lines that are long


def test_a_line_may_be_as_long_as_its_limit() -> None:
    conversation = Conversation()
    assert conversation.feed(b"x" * LINE_LIMIT_BYTES) == b""
    assert not conversation.protocol.closing
    assert conversation.feed(b"\r\n") == b"ERROR\r\n"


@pytest.mark.parametrize("command", [b"get ", b"gets "])
def test_a_get_of_many_keys_may_be_longer(command: bytes) -> None:
    conversation = Conversation()
    conversation.feed(SET)
    keys = b"%010d" % 7 + b"".join(b" %010d" % number for number in range(100_000)) + b" a"
    request = command + keys + b"\r\n"
    with_id = b" 1" if command == b"gets " else b""
    pieces = [request[start : start + READ_BYTES] for start in range(0, len(request), READ_BYTES)]
    assert conversation.feed_pieces(*pieces) == b"VALUE a 5 3%b\r\nfoo\r\nEND\r\n" % with_id
    assert conversation.around.counters.cmd_get == 100_002
    assert conversation.around.counters.get_hits == 1


def test_a_get_of_too_many_keys_ends_the_connection() -> None:
    conversation = Conversation()
    piece = b" " + b"k" * 99
    conversation.feed(b"get a")
    fed = 0
    while not conversation.protocol.closing:
        assert conversation.feed(piece * 1000) == b""
        fed += len(piece) * 1000
        assert fed <= MULTIGET_LIMIT_BYTES + len(piece) * 1000
    assert fed > MULTIGET_LIMIT_BYTES - len(piece) * 1000


def test_reads_become_large_with_what_is_awaited_and_small_again_after_it() -> None:
    conversation = Conversation()
    protocol = conversation.protocol
    assert protocol.want == FIRST_READ_BYTES
    conversation.feed(b"set a 0 0 500000\r\n")
    conversation.feed(b"x" * 1000)
    assert READ_BYTES < protocol.want <= LARGEST_READ_BYTES
    conversation.feed(b"x" * 499_000 + b"\r\n")
    assert protocol.want == READ_BYTES


def test_reads_stay_short_while_a_long_line_comes() -> None:
    conversation = Conversation()
    conversation.feed(b"get " + b"k " * 50_000)
    conversation.feed(b"k")
    assert conversation.protocol.want == READ_BYTES
    assert conversation.feed(b"\r\n") == END


# Turns

STREAM = (
    b"".join(b"set key%d 0 0 5\r\n%05d\r\n" % (number, number) for number in range(50))
    + b"set big 0 0 9000\r\n" + b"x" * 9000 + b"\r\n"
    + b"".join(b"get key%d\r\nget key%d big none\r\n" % (number, number) for number in range(50))
    + b"gets big key1 key2 none key3\r\n"
    + b"delete key1\r\nincr key2 5\r\nget key1 key2\r\ngat 100 key3 key4\r\nversion\r\n"
)  # fmt: skip


@pytest.mark.parametrize("requests", [1, 2, 7, 1000])
@pytest.mark.parametrize("keys", [1, 2, 3, 4, 5, 512])
@pytest.mark.parametrize("turn_bytes", [1, 10_000, 1 << 20])
def test_turns_of_any_length_give_the_same_replies(
    requests: int, keys: int, turn_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, counts = Conversation().feed(STREAM), Surroundings()
    Conversation(counts).feed(STREAM)
    monkeypatch.setattr(multiget, "KEYS_PER_TURN", keys)
    monkeypatch.setattr(framing, "TURN_BYTES", turn_bytes)
    around = Surroundings(Settings(max_reqs_per_event=requests))
    conversation = Conversation(around)
    assert conversation.feed(STREAM) == expected
    assert around.counts() == counts.counts()
    cut = Conversation(Surroundings(Settings(max_reqs_per_event=requests)))
    assert cut.feed_pieces(*[STREAM[start : start + 1001] for start in range(0, len(STREAM), 1001)]) == expected


def test_a_turn_answers_no_more_requests_than_it_may() -> None:
    around = Surroundings(Settings(max_reqs_per_event=3))
    conversation = Conversation(around)
    conversation.feed(b"version\r\n" * 10)
    assert conversation.turns == [VERSION * 3] * 3 + [VERSION]
    assert around.counters.conn_yields == 3


def test_a_turn_answers_no_more_keys_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiget, "KEYS_PER_TURN", 2)
    conversation = Conversation()
    conversation.around.context.requests = None  # the compiled code has a constant
    conversation.feed(SET)
    conversation.turns.clear()
    conversation.feed(b"get a a a a a\r\nversion\r\n")
    one = b"VALUE a 5 3\r\nfoo\r\n"
    assert conversation.turns == [one * 2, one * 2, one + END + VERSION]


def test_what_arrives_with_a_long_get_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiget, "KEYS_PER_TURN", 2)
    conversation = Conversation()
    conversation.around.context.requests = None  # the compiled code has a constant
    protocol = conversation.protocol
    protocol.receive(b"get a b c d e\r\nversion\r\nver")
    assert (protocol.out, protocol.paused) == ([], True)
    protocol.resume()
    assert (protocol.out, protocol.paused) == ([], True)
    protocol.resume()
    assert (b"".join(protocol.out), protocol.paused) == (END + VERSION, False)
    protocol.out.clear()
    protocol.receive(b"sion\r\n")
    assert b"".join(protocol.out) == VERSION


LARGE = 400_000


@pytest.mark.parametrize(
    "request_line",
    [
        b"get large\r\n",
        b"gets large\r\n",
        b"get large none\r\n",
        b"gat 0 large\r\n",
        b"get large large large large\r\n",
        b"mg large v\r\n",
        b"mg large v t T0\r\n",
    ],
)
@pytest.mark.parametrize("verbosity", [0, 2])
def test_a_turn_sends_little_more_than_its_bytes(request_line: bytes, verbosity: int) -> None:
    around = Surroundings(verbosity=verbosity)
    around.store.store(Mode.SET, b"large", pack(0, b"x" * LARGE))
    conversation = Conversation(around)
    reply = conversation.feed(request_line * 50)
    assert reply.count(b"x" * LARGE) == 50 * request_line.count(b"large")
    assert reply.count(END) == 50 * request_line.startswith(b"g")
    assert max(map(len, conversation.turns)) <= TURN_BYTES + 2 * LARGE


def test_pipelined_gets_of_many_keys_take_several_turns() -> None:
    around = Surroundings()
    around.store.store(Mode.SET, b"a", pack(0, b"x" * 4000))
    conversation = Conversation(around)
    request = b"get " + b" ".join([b"a"] * 200) + b"\r\n"
    reply = conversation.feed(request * 10)
    assert reply.count(END) == 10
    assert max(map(len, conversation.turns)) <= TURN_BYTES + 2 * 200 * 4100


# The log


def logged(request: bytes, verbosity: int = 2) -> list[str]:
    around = Surroundings(verbosity=verbosity)
    Conversation(around, fd=30).feed(request)
    return around.logged


def test_requests_and_replies_are_logged_as_memcached_does() -> None:
    assert logged(SET + b"get a b\r\ndelete b\r\n") == [
        "<30 set a 5 0 3",
        ">30 STORED",
        "<30 get a b",
        ">30 sending key a",
        ">30 END",
        "<30 delete b",
        ">30 NOT_FOUND",
    ]


def test_silent_replies_are_logged_as_such() -> None:
    assert logged(b"set a 5 0 3 noreply\r\nfoo\r\n") == ["<30 set a 5 0 3 noreply", ">30 NOREPLY STORED"]


def test_bytes_that_are_no_text_are_logged_readably() -> None:
    assert logged(b"get \xff\xfe\r\n") == ["<30 get \\xff\\xfe", ">30 END"]


@pytest.mark.parametrize("verbosity", [0, 1])
def test_without_vv_requests_are_not_logged(verbosity: int) -> None:
    assert logged(SET + b"get a b\r\ndelete b\r\n", verbosity) == []


def test_the_verbosity_command_turns_the_log_on_and_off() -> None:
    around = Surroundings()
    conversation = Conversation(around, fd=30)
    conversation.feed_pieces(b"verbosity 2\r\n", b"version\r\n", b"verbosity 0\r\n", b"version\r\n")
    assert around.logged == [">30 OK", "<30 version", ">30 " + VERSION.decode().strip(), "<30 verbosity 0"]


# The commands that reach beyond the store


def test_shutdown_asks_for_the_stop_and_closes() -> None:
    around = Surroundings(Settings(enable_shutdown=True))
    conversation = Conversation(around)
    assert conversation.feed(b"shutdown\r\n") == b""
    assert (around.stops, conversation.protocol.closing) == (1, True)


def test_shutdown_may_be_graceful_and_nothing_else() -> None:
    around = Surroundings(Settings(enable_shutdown=True))
    conversation = Conversation(around)
    assert conversation.feed(b"shutdown now\r\n") == b"CLIENT_ERROR invalid shutdown mode\r\n"
    assert around.stops == 0
    assert conversation.feed(b"shutdown graceful\r\n") == b""
    assert around.stops == 1


def test_shutdown_that_is_off_stops_nothing() -> None:
    around = Surroundings()
    Conversation(around).feed(b"shutdown\r\n")
    assert around.stops == 0


def test_cache_memlimit_changes_the_store_and_is_logged() -> None:
    around = Surroundings(verbosity=1)
    assert Conversation(around).feed(b"cache_memlimit 100\r\n") == b"OK\r\n"
    assert around.store.limit_bytes == 100 << 20
    assert around.logged == ["maxbytes adjusted to 100m"]


def test_a_full_server_without_evictions_says_so() -> None:
    around = Surroundings(Settings(disable_evictions=True, memory_limit=1 << 20, max_item_size=1 << 19))
    conversation = Conversation(around)
    request = b"set k%d 0 0 100000\r\n" + b"x" * 100_000 + b"\r\n"
    replies = [conversation.feed(request % number) for number in range(12)]
    assert replies[0] == STORED
    assert replies[-1] == b"SERVER_ERROR out of memory storing object\r\n"
    assert around.counters.store_no_memory == replies.count(replies[-1])
    assert around.counters.cmd_set == 12


def test_expiry_follows_the_clock() -> None:
    conversation = Conversation()
    clock = conversation.around.clock
    conversation.feed(b"set a 0 10 1\r\nx\r\nset b 0 0 1\r\nx\r\ntouch b 20\r\n")
    clock.advance(9)
    assert conversation.feed(b"get a\r\n").startswith(b"VALUE a")
    clock.advance(1)
    assert conversation.feed(b"get a\r\n") == END
    clock.advance(10)
    assert conversation.feed(b"get b\r\n") == END


def test_a_delayed_flush_follows_the_clock() -> None:
    conversation = Conversation()
    clock = conversation.around.clock
    conversation.feed(SET + b"flush_all 10\r\n")
    clock.advance(8)
    conversation.around.store.new_second()
    assert conversation.feed(b"get a\r\n").startswith(b"VALUE a")
    clock.advance(2)
    conversation.around.store.new_second()
    assert conversation.feed(b"get a\r\n") == END


# Counting

COUNTED = [
    (b"get a\r\nget a\r\nget b\r\nget a b\r\n", {"cmd_get": 5, "get_hits": 3, "get_misses": 2}),
    (b"gets a b\r\n", {"cmd_get": 2, "get_hits": 1, "get_misses": 1}),
    (b"gat 0 a b\r\n", {"cmd_touch": 2, "touch_hits": 1, "touch_misses": 1}),
    (b"flush_all\r\nflush_all 5\r\n", {"cmd_flush": 2}),
    (b"set a 0 0 1100000\r\n" + b"x" * 1_100_000 + b"\r\n", {"store_too_large": 1, "rejected_too_large": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "counts"), COUNTED, ids=lambda value: "" if isinstance(value, dict) else None)
@pytest.mark.parametrize("verbosity", [0, 2])
def test_commands_are_counted(request_: bytes, counts: dict[str, int], verbosity: int) -> None:
    around = Surroundings(verbosity=verbosity)
    around.store.store(Mode.SET, b"a", pack(0, b"x"))
    around.store.store(Mode.SET, b"n", pack(0, b"1"))
    Conversation(around).feed(request_)
    assert {name: count for name, count in around.counts().items() if count} == counts


def test_stats_tell_of_all_requests_before_them_even_of_the_same_read() -> None:
    reply = Conversation().feed(SET + b"get a\r\n" * 3 + b"stats\r\n")
    assert b"STAT get_hits 3\r\n" in reply
    assert b"STAT cmd_get 3\r\n" in reply
    assert b"STAT cmd_set 1\r\n" in reply


def test_a_reset_forgets_all_requests_before_it_even_of_the_same_read() -> None:
    conversation = Conversation()
    conversation.feed(SET + b"get a\r\n" * 3 + b"stats reset\r\n")
    assert not any(conversation.around.counts().values())


# What every protocol can do


@pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda case: case.name)
def test_a_command_does_what_it_does_in_every_protocol(case: CommandCase) -> None:
    check(case, lambda around: spelled.read(Conversation(around).feed(spelled.written(case.command))))
