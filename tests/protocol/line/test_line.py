"""The line protocol: its replies, however the input is cut, its limits, and what it shares with the other protocols."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.config.settings import Settings
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.observe.watchers import Stream
from memcache_kv.protocol.line.framing import LINE, ClosedLineProtocol, LineProtocol, open_line
from tests.protocol.case import Case
from tests.protocol.context_factory import Conversation, Surroundings, byte_by_byte
from tests.protocol.credentials import AtOnce, OneUser
from tests.protocol.line.line_talk import CASES, DELETED, NOT_FOUND, STORED, TOO_LONG, LineTalk

NEXT = Case("the next request", b"EXISTS next\n", b"OK 0\n")

each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def observed() -> LineTalk:
    """A conversation whose requests all take the general path, as the log wants them."""
    return LineTalk(Surroundings(verbosity=2))


@each
def test_a_request_has_its_reply(case: Case) -> None:
    assert LineTalk().feed(case.request) == case.reply


@each
def test_the_general_path_gives_the_same_replies(case: Case) -> None:
    assert observed().feed(case.request) == case.reply


@each
def test_lines_may_end_in_two_bytes(case: Case) -> None:
    if b"\r" in case.request or case.name == "the longest line of all":
        return
    with_two = LineTalk().feed(case.request.replace(b"\n", b"\r\n"))
    assert with_two == case.reply.replace(b"\n", b"\r\n")


@each
def test_it_may_be_cut_anywhere(case: Case) -> None:
    step = max(1, len(case.request) // 100)
    for cut in range(0, len(case.request), step):
        assert LineTalk().feed(case.request[:cut], case.request[cut:]) == case.reply


@each
def test_it_may_come_byte_by_byte(case: Case) -> None:
    assert LineTalk().feed(*byte_by_byte(case.request)) == case.reply


@each
def test_the_next_request_is_answered(case: Case) -> None:
    reply = case.reply if case.name == "quit" else case.reply + NEXT.reply
    assert LineTalk().feed(case.request + NEXT.request) == reply


def test_replies_are_the_same_in_turns_of_one_request() -> None:
    for case in CASES:
        assert LineTalk(Surroundings(Settings(max_reqs_per_event=1))).feed(case.request) == case.reply


def test_quit_closes_the_connection() -> None:
    talk = LineTalk()
    talk.feed(b"QUIT\r\n")
    assert talk.protocol.closing
    assert talk.protocol.close_reason == "normal"


def test_a_ttl_ends() -> None:
    talk = LineTalk()
    talk.feed(b"PUT a 1 10\nPUT b 2 2147483647\nPUT c 3\n")
    talk.around.clock.now += 9
    assert talk.feed(b"GET a\nEXISTS a\n") == b"OK 1\nOK 1\n"
    talk.around.clock.now += 1
    assert talk.feed(b"GET a\nEXISTS a\nDELETE a\n") == NOT_FOUND + b"OK 0\n" + NOT_FOUND
    talk.around.clock.now += 40 * 24 * 3600
    assert talk.feed(b"GET b\nGET c\n") == b"OK 2\nOK 3\n"


def test_a_ttl_of_more_than_thirty_days_counts_from_now() -> None:
    talk, text = LineTalk(), 31 * 24 * 3600
    talk.feed(b"PUT a 1 %d\n" % text)
    talk.around.clock.now += text - 1
    assert talk.feed(b"GET a\n") == b"OK 1\n"
    talk.around.clock.now += 1
    assert talk.feed(b"GET a\n") == NOT_FOUND


# Limits


def test_of_a_line_that_is_too_long_one_byte_is_kept() -> None:
    talk = LineTalk()
    for _ in range(200):
        assert talk.feed(b"x" * 10_000) == b""
        assert talk.protocol.held_bytes <= 1
    assert talk.feed(b"\nEXISTS k\n") == TOO_LONG + b"OK 0\n"
    assert talk.protocol.held_bytes == 0


def test_an_incomplete_line_is_kept_up_to_its_limit() -> None:
    talk = LineTalk()
    for _ in range(1024):
        talk.feed(b"x")
    assert talk.protocol.held_bytes == 1024
    assert talk.protocol.is_amid_request


def test_many_requests_take_several_turns() -> None:
    talk = LineTalk(Surroundings(Settings(max_reqs_per_event=10)))
    protocol = talk.protocol
    protocol.receive(b"GET k\n" * 25)
    assert b"".join(protocol.out) == NOT_FOUND * 10
    assert protocol.paused
    assert talk.around.counters.conn_yields == 1
    protocol.resume()
    protocol.resume()
    assert b"".join(protocol.out) == NOT_FOUND * 25
    assert not protocol.paused


# Values of other protocols


@pytest.fixture
def beside() -> tuple[LineTalk, Conversation]:
    """A conversation in each of two protocols, over one store."""
    around = Surroundings()
    return LineTalk(around), Conversation(around)


@pytest.mark.parametrize("fits", [b"v", b"v" * 256, b'{"a":1}'])
def test_a_value_of_the_text_protocol_can_be_read(beside: tuple[LineTalk, Conversation], fits: bytes) -> None:
    line, text = beside
    text.feed(b"set k 7 100 %d\r\n%b\r\n" % (len(fits), fits))
    assert line.feed(b"GET k\n") == b"OK " + fits + b"\n"
    text.feed(b"gets k\r\n")  # it has a CAS id now
    assert line.feed(b"GET k\n") == b"OK " + fits + b"\n"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", b"the value has 0 bytes; this protocol carries 1 to 256"),
        (b"v" * 257, b"the value has 257 bytes; this protocol carries 1 to 256"),
        (b"v" * 5000, b"the value has 5000 bytes; this protocol carries 1 to 256"),
        (b"a b", b"the value has white space or is not printable ASCII; only memcached's protocols can read it"),
        (b"a\r\nOK b", b"the value has white space or is not printable ASCII; only memcached's protocols can read it"),
        (b"\xc3\xa9", b"the value has white space or is not printable ASCII; only memcached's protocols can read it"),
    ],
)
@pytest.mark.parametrize("exptime", [0, 100])
def test_a_value_that_it_cannot_carry_is_an_error(
    beside: tuple[LineTalk, Conversation], value: bytes, error: bytes, exptime: int
) -> None:
    line, text = beside
    text.feed(b"set k 0 %d %d\r\n%b\r\n" % (exptime, len(value), value))
    assert line.feed(b"GET k\nEXISTS k\nDELETE k\n") == b"ERROR " + error + b"\nOK 1\n" + DELETED


def test_a_stale_value_is_an_error(beside: tuple[LineTalk, Conversation]) -> None:
    line, text = beside
    line.feed(b"PUT k v\n")
    text.feed(b"md k I\r\n")
    assert line.feed(b"GET k\n") == b"ERROR the value is stale; only memcached's protocols can read it\n"
    assert line.feed(b"PUT k w\nGET k\n") == STORED + b"OK w\n"


def test_a_tracked_item_can_be_read(beside: tuple[LineTalk, Conversation]) -> None:
    line, text = beside
    line.feed(b"PUT k v\n")
    text.feed(b"me k\r\n")
    assert line.feed(b"GET k\n") == b"OK v\n"
    assert b" h1" in text.feed(b"mg k h\r\n")


def test_its_values_can_be_read_by_text(beside: tuple[LineTalk, Conversation]) -> None:
    line, text = beside
    line.feed(b"PUT k hello\nPUT t world 100\n")
    assert text.feed(b"get k t\r\n") == b"VALUE k 0 5\r\nhello\r\nVALUE t 0 5\r\nworld\r\nEND\r\n"
    assert text.feed(b"mg t t\r\n") == b"HD t100\r\n"


# Classes and logins


def talk_from(origin: Origin) -> LineTalk:
    talk = LineTalk()
    talk.feed(b"PUT k v\n")
    talk.protocol.permit(origin)
    return talk


def test_a_reader_changes_nothing() -> None:
    talk = talk_from(Origin("tcp:10.0.0.9:1", False, CommandClass.READ))
    refused = b" not allowed here; allowed: GET key, EXISTS key, QUIT\n"
    reply = talk.feed(b"PUT k w\nDELETE k\nGET k\nEXISTS k\nPUT k w 5\n")
    assert reply == b"ERROR PUT" + refused + b"ERROR DELETE" + refused + b"OK v\nOK 1\nERROR PUT" + refused


def test_clients_from_afar_may_read_and_write() -> None:
    talk = talk_from(Origin("tcp:10.0.0.9:1", False))
    assert talk.feed(b"PUT k w\nDELETE k\n") == STORED + DELETED


def test_without_a_login_nothing_is_answered_where_one_is_needed() -> None:
    around = Surroundings()
    protocol = open_line(around.context, 30, AtOnce(OneUser()), Origin())
    assert type(protocol) is ClosedLineProtocol
    protocol.receive(b"PUT k v\r\nGET k\nbad\n\n")
    assert b"".join(protocol.out) == b"ERROR authentication required\r\n" + b"ERROR authentication required\n" * 3
    assert len(around.store) == 0
    protocol.receive(b"QUIT\n")
    assert protocol.closing


def test_a_listener_with_a_class_needs_no_login() -> None:
    assert LINE.asks_for_login(None)
    assert not LINE.asks_for_login(CommandClass.READ)
    assert type(open_line(Surroundings().context, 30, None, Origin())) is LineProtocol


# Counts and observers


def test_requests_are_counted_as_those_of_text() -> None:
    requests = b"PUT k v\nPUT k w 9\nGET k\nGET x\nEXISTS k\nEXISTS x\nDELETE k\nDELETE k\n"
    for talk in (LineTalk(), observed()):
        talk.feed(requests)
        counts = {name: count for name, count in talk.around.counts().items() if count}
        assert counts == {"cmd_set": 2, "cmd_get": 4, "get_hits": 2, "get_misses": 2, "delete_hits": 1,
                          "delete_misses": 1}  # fmt: skip


def test_the_log_has_requests_and_replies() -> None:
    talk = observed()
    talk.feed(b"PUT k v\r\nGET k\nGET x\n" + b"y" * 2000 + b"\n")
    assert talk.around.logged == [
        "<30 PUT k v", ">30 OK stored", "<30 GET k", ">30 OK v", "<30 GET x", ">30 ERROR key not found",
        "<30 (too long)", ">30 ERROR line too long; allowed: 1024 bytes",
    ]  # fmt: skip


def test_watchers_and_prefixes_see_its_requests() -> None:
    talk = LineTalk()
    text = Conversation(talk.around, 31)
    text.feed(b"stats detail on\r\n")
    talk.feed(b"PUT a:1 v\nGET a:1\nGET a:2\nDELETE a:1\n")
    assert text.feed(b"stats detail dump\r\n") == b"PREFIX a get 2 hit 1 set 1 del 1\r\nEND\r\n"
    streams = frozenset({Stream.FETCHERS, Stream.MUTATIONS, Stream.DELETIONS})
    watcher = talk.around.context.observers.watchers.add(streams, lambda: None)
    assert watcher is not None
    talk.feed(b"PUT a v\nGET a\nDELETE a\n")
    lines = b"".join(watcher.take())
    assert [part in lines for part in (b"type=item_store", b"type=item_get", b"type=deleted")] == [True] * 3


# Writes that fail


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[LineTalk]:
    """A conversation with a server whose journal can't be written."""
    talk = LineTalk()
    talk.feed(b"PUT k v\n")
    around = talk.around
    journal = Journal(JournalDirectory(tmp_path), Fsync.EVERYSEC)
    around.store.log = around.context.journal = journal
    around.renew_requests()
    journal.refuses = True
    yield talk
    journal.refuses = False
    journal.close()


NOT_SAVED = b"ERROR not saved, as the journal can't be written; allowed until it can: GET, EXISTS, QUIT\n"


def test_nothing_changes_while_the_journal_cannot_be_written(refusing: LineTalk) -> None:
    reply = refusing.feed(b"PUT k w\nDELETE k\nPUT k w 5\nGET k\n")
    assert reply == NOT_SAVED * 3 + b"OK v\n"
    assert refusing.around.context.journal is not None
    assert refusing.around.context.journal.refusals == 3
    assert refusing.around.counters.cmd_set >= 1


def test_a_reply_whose_write_is_lost_becomes_an_error() -> None:
    for line_end in (b"\n", b"\r\n"):
        talk = LineTalk()
        talk.protocol.receive(b"PUT k v" + line_end)
        talk.protocol.take_back()
        assert talk.protocol.out == [NOT_SAVED[:-1] + line_end]
        talk.protocol.out.clear()
        talk.protocol.receive(b"PUT k v\nPUT l v\n")
        talk.protocol.take_back()
        assert talk.protocol.closing


def test_full_memory_is_an_error_where_nothing_is_evicted() -> None:
    talk = LineTalk(Surroundings(Settings(memory_limit=1 << 20, max_item_size=1 << 19, disable_evictions=True)))
    replies = {talk.feed(b"PUT k%d %b\n" % (number, b"v" * 256)) for number in range(4000)}
    assert replies == {
        STORED, b"ERROR out of memory; nothing is evicted, so something must be deleted first\n",
    }  # fmt: skip


def test_a_closed_session_keeps_nothing() -> None:
    talk = LineTalk()
    talk.feed(b"GET ")
    talk.protocol.close()
    assert talk.protocol.held_bytes == 0
