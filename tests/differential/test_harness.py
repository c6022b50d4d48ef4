"""The comparison sees a difference where there is one, and only the differences it is to pass over are passed over."""

from collections.abc import Callable
from importlib import import_module
from operator import attrgetter

import pytest

from tests.differential.differences import Normaliser, is_omitted
from tests.differential.peers import Inside, cut, resolved, transcript
from tests.differential.requests import Request, is_compared
from tests.differential.streams import Batch, Move, Stream
from tests.differential.test_replies import compared
from tests.reference.differences import ROWS, Row


def stream_of(*lines: bytes) -> Stream:
    """One batch for each request."""
    return tuple(Batch((Request(*line.split(b"\r\n", 1)),)) for line in lines)


class Altered(Inside):
    """Our side with one change to what it answers."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self.change = change
        super().__init__()
        self.can_move = True

    def ask(self, pieces: list[bytes], filling: bytes) -> bytes:
        return self.change(super().ask(pieces, filling))


STREAM = stream_of(b"set a 0 0 1\r\nx\r\n", b"gets a\r\n", b"mg a c t l v kfoo\r\n", b"get b\r\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: reply.replace(b"STORED", b"NOT_STORED"),
        lambda reply: reply.replace(b"END\r\n", b"END\n"),
        lambda reply: reply + b"END\r\n",
        lambda reply: reply.replace(b"END\r\n", b""),
        lambda reply: reply.replace(b"VALUE a 0 1 1000", b"VALUE a 0 1 1001"),
        lambda reply: reply.replace(b" t-1", b" t0"),
        lambda reply: reply.replace(b" ka", b" kb"),
        lambda reply: reply.replace(b" l0", b""),
        lambda reply: reply.replace(b"x\r\n", b"y\r\n"),
        lambda reply: reply + b"<closed>",
    ],
    ids=["word", "line end", "one more", "one less", "another id", "time", "key", "flag", "value", "closed"],
)
def test_one_changed_reply_is_seen(change: Callable[[bytes], bytes]) -> None:
    assert transcript(Inside(), STREAM) != transcript(Altered(change), STREAM)


def test_the_same_replies_are_the_same() -> None:
    assert transcript(Inside(), STREAM) == transcript(Altered(bytes), STREAM)


def test_ids_are_compared_by_their_pattern_alone() -> None:
    one, other = Normaliser(True), Normaliser(False)
    assert one(b"VALUE a 0 1 5\r\nx\r\nEND\r\n") == other(b"VALUE a 0 1 77\r\nx\r\nEND\r\n")
    assert one(b"HD c6 t5\r\n") == other(b"HD c79 t5\r\n")
    assert one(b"HD c5\r\n") != other(b"HD c79\r\n")


def test_ids_that_a_client_gave_are_compared_as_they_are() -> None:
    assert Normaliser(True)(b"HD c1000000000000\r\n") != Normaliser(False)(b"HD c1000000000001\r\n")


def test_a_value_that_looks_like_a_reply_is_left_alone() -> None:
    reply = b"VA 9 l5\r\nHD l3 c77\r\nVALUE a 0 13\r\nHD c8 l9\r\nEND\r\nEND\r\n"
    assert Normaliser(True)(reply) == reply.replace(b"VA 9 l5", b"VA 9 l#")


@pytest.mark.parametrize(
    ("memcached", "ours"),
    [
        (b"CLIENT_ERROR bad command line format\r\n\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"HD l7 t5\r\n", b"HD l9 t5\r\n"),
        (b"HD t4294967233\r\n", b"HD t0\r\n"),
        (b"HD kYQ== b\r\n", b"HD ka\r\n"),
        (b"HD ktwo words W\r\n", b"HD kdHdvIHdvcmRz b W\r\n"),
        (
            b"ME a exp=-1 la=3 cas=5 fetch=no cls=1 size=61\r\n",
            b"ME YQ== exp=-1 la=0 cas=7 fetch=no cls=1 size=182\r\n",
        ),
    ],
)
def test_a_purposeful_difference_is_passed_over(memcached: bytes, ours: bytes) -> None:
    assert Normaliser(True)(memcached) == Normaliser(False)(ours)


@pytest.mark.parametrize(
    ("memcached", "ours"),
    [
        (b"ERROR\r\n\r\n", b"ERROR\r\n"),
        (b"CLIENT_ERROR bad command line format\r\n", b"CLIENT_ERROR bad command line format\r\n\r\n"),
        (b"HD t5\r\n", b"HD t4\r\n"),
        (b"HD t0\r\n", b"HD t4294967233\r\n"),
        (b"HD Ol5\r\n", b"HD Ol6\r\n"),
        (b"HD kYQ== b\r\n", b"HD kb\r\n"),
        (b"ME a exp=-1 la=3 cas=5 fetch=no cls=1 size=61\r\n", b"ME a exp=-1 la=3 cas=5 fetch=yes cls=1 size=61\r\n"),
    ],
)
def test_what_is_next_to_a_purposeful_difference_is_seen(memcached: bytes, ours: bytes) -> None:
    assert Normaliser(True)(memcached) != Normaliser(False)(ours)


K251 = b"k" * 251


@pytest.mark.parametrize(
    "line",
    [
        b"get a " + K251, b"gat 0 a " + K251, b"get " + K251 + b" noreply", b"touch noreply " + K251,
        b"flush_all 2592001", b"flush_all 1600000000 noreply", b"set a \t 0 1", b"cas a 0 \x0b 1 5", b"me a b",
        b"ms a 1 E0", b"ma a N0 E00 q", b"ma a T5", b"ma w2 MI E5",
    ],
)  # fmt: skip
def test_a_request_that_memcached_answers_otherwise_is_not_sent(line: bytes) -> None:
    assert is_omitted(line)
    assert not is_compared(Request(line))


@pytest.mark.parametrize(
    "line",
    [
        b"get " + K251, b"get " + K251 + b" a", b"gat 0 " + K251, b"get noreply a", b"flush_all 2592000",
        b"flush_all 0000000001", b"flush_all -1", b"flush_all <now+20>", b"set a 1\t 0 1", b"set \t 0 0 1",
        b"me a", b"me a b k", b"ms a 1 E5", b"ma a N0", b"ma w T5", b"ma dw== b T5", b"ma a MD T5", b"ma a D0 E5",
        b"mg a T5",
    ],
)  # fmt: skip
def test_what_is_next_to_such_a_request_is_sent(line: bytes) -> None:
    assert is_compared(Request(line))


RULES = [row for row in ROWS if row.compared or row.has_a_rule]


@pytest.mark.parametrize("row", RULES, ids=lambda row: row.here[:40])
def test_a_difference_that_is_passed_over_says_how_and_names_its_rule(row: Row) -> None:
    assert all((row.here, row.memcached, row.why, row.compared))
    assert row.has_a_rule


@pytest.mark.parametrize("code", sorted({row.code for row in RULES if row.code}))
def test_the_code_of_a_rule_exists(code: str) -> None:
    module, _, name = code.partition(":")
    assert attrgetter(name)(import_module(f"tests.differential.{module}")) is not None


def test_ids_and_times_are_filled_in_for_each_side() -> None:
    assert resolved(b"cas a 0 <now+20> 1 <id-1>\r\n", [7, 8], 100) == b"cas a 0 120 1 8\r\n"
    assert resolved(b"<id-2> <id-3>", [7, 8], 0) == b"7 1"


def test_a_batch_is_cut_where_it_says_and_nothing_is_lost() -> None:
    assert cut(b"abcdef", (1, 2, 9, 9)) == [b"a", b"bc", b"def"]


def test_time_passes_on_our_side() -> None:
    stream = (*stream_of(b"set a 0 5 1\r\nx\r\n"), Move(4), *stream_of(b"get a\r\n"), Move(1), *stream_of(b"get a\r\n"))
    assert transcript(Inside(), stream)[1:] == [b"VALUE a 0 1\r\nx\r\nEND\r\n", b"END\r\n"]


def test_a_difference_is_told_with_its_stream() -> None:
    told = compared(Altered(lambda reply: reply.replace(b"END", b"DNE")), Inside(), STREAM)  # type: ignore[arg-type]
    assert "get b" in told
    assert r"memcached: b'VALUE a 0 1 #0\r\nx\r\nDNE\r\n'" in told
