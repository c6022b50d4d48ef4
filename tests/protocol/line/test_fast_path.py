"""The fast path of the line protocol answers exactly as the general path and as the text protocol do."""

from itertools import pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.protocol.line.framing import LineProtocol
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.line.line_talk import LineTalk


class GeneralLineProtocol(LineProtocol):
    """The line protocol without its fast path."""

    __slots__ = ()

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        return position, 0


KEYS = st.sampled_from([b"k", b"l", b"m" * 256, b"m" * 257, b"m" * 250, b"", b" ", b"k ", b"k\t", b"\xc3\xa9", b"\0"])
VALUES = st.sampled_from([b"v", b"v" * 256, b"v" * 257, b"", b"a b", b"\x7f", b"%", b"12", b"v\r"])
TTLS = st.sampled_from(
    [b"", b"0", b"00", b"1", b"999999999", b"1000000000", b"2147483647", b"2147483648", b"0000000000", b"+1", b"\xb2"]
)
LINES = st.one_of(
    st.builds(b"PUT %b %b".__mod__, st.tuples(KEYS, VALUES)),
    st.builds(b"PUT %b %b %b".__mod__, st.tuples(KEYS, VALUES, TTLS)),
    st.builds(b"%b %b".__mod__, st.tuples(st.sampled_from([b"GET", b"DELETE", b"EXISTS", b"get", b""]), KEYS)),
    st.sampled_from([b"", b" ", b"GET", b"x" * 1023, b"x" * 1024, b"x" * 1025, b"x" * 3000, b"GET  k", b" GET k"]),
    st.binary(max_size=12),
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\n", b"\r\n"])), max_size=30).map(
    lambda lines: b"".join([line + end for line, end in lines])
)
OTHERS = (
    b"set k 5 0 1\r\nx\r\n", b"set k 0 9 3\r\na b\r\n", b"set l 0 0 0\r\n\r\n", b"md k I\r\n", b"me l\r\n",
    b"set k 12 0 1\r\n1\r\n", b"set l 4294967295 0 3\r\nabc\r\n",
    b"gets k\r\n", b"set l 0 0 5000\r\n%b\r\n" % bytes(5000), b"delete k\r\n", b"flush_all\r\n",
)  # fmt: skip
"""What clients of the text protocol do meanwhile."""


def interpreted() -> LineTalk:
    """A conversation without the compiled modules."""
    around = Surroundings()
    around.context.requests = None
    return LineTalk(around)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=6), st.lists(st.sampled_from(OTHERS), max_size=3))
def test_all_paths_give_the_same_replies_and_counts(stream: bytes, cuts: list[int], others: list[bytes]) -> None:
    talks = [LineTalk(Surroundings(), GeneralLineProtocol), LineTalk(), interpreted()]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]
    for number, piece in enumerate(pieces):
        expected, *replies = [talk.feed(piece) for talk in talks]
        assert replies == [expected] * len(replies)
        for talk in talks:
            Conversation(talk.around).feed(others[number] if number < len(others) else b"get k\r\n")
            talk.around.clock.now += 1
    for talk in talks[1:]:
        assert talk.around.counts() == talks[0].around.counts()
        assert len(talk.around.store) == len(talks[0].around.store)


@pytest.mark.parametrize("flags", [0, 9, 10, 123, 4294967295])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_values_of_every_size_are_found_alone_and_together(flags: int, line_end: bytes) -> None:
    general, tested = LineTalk(Surroundings(), GeneralLineProtocol), interpreted()
    values = [b"x" * size for size in (*range(300), 999, 1000, 4000)] + [
        b"a b",
        b"a\n",
        b"\r",
        b"\xff",
        b"-",
        b"stored",
    ]
    for number, value in enumerate(values):
        for talk in (general, tested):
            Conversation(talk.around).feed(b"set k%d %d 0 %d\r\n%b\r\n" % (number, flags, len(value), value))
    requests = [b"GET k%d" % number + line_end for number in range(len(values) + 2)]
    expected = [general.feed(request) for request in requests]
    assert [tested.feed(request) for request in requests] == expected
    for start in range(0, len(requests), 3):
        assert tested.feed(*requests[start : start + 3]) == b"".join(expected[start : start + 3])
        assert tested.feed(b"".join(requests[start : start + 3])) == b"".join(expected[start : start + 3])
    assert tested.feed(b"".join(requests)) == b"".join(expected)


@given(STREAMS)
def test_every_line_before_quit_has_one_reply_line_that_ends_as_it_does(stream: bytes) -> None:
    lines, replies = stream.split(b"\n")[:-1], LineTalk().feed(stream).split(b"\n")[:-1]
    lines = list(takewhile(lambda line: line.removesuffix(b"\r") != b"QUIT", lines))
    assert len(lines) == len(replies)
    assert [line.endswith(b"\r") for line in lines] == [reply.endswith(b"\r") for reply in replies]
    assert all(reply.startswith((b"OK ", b"ERROR ")) for reply in replies)


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=250).map(str.encode)
FEW_KEYS = st.sampled_from([b"a", b"b", b"c:1"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("PUT"), FEW_KEYS, WORDS, st.sampled_from([0, 1, 2, 100, 2592000])),
        st.tuples(st.sampled_from(["GET", "DELETE", "EXISTS", "WAIT"]), FEW_KEYS, st.just(b""), st.just(0)),
    ),
    max_size=40,
)


def line_request(name: str, key: bytes, value: bytes, ttl: int) -> bytes:
    if name == "PUT":
        return b"PUT %b %b %d\n" % (key, value, ttl)
    return b"%b %b\n" % (name.encode(), key)


def text_request(name: str, key: bytes, value: bytes, ttl: int) -> bytes:
    if name == "PUT":
        return b"set %b 0 %d %d\r\n%b\r\n" % (key, ttl, len(value), value)
    return b"delete %b\r\n" % key if name == "DELETE" else b"get %b\r\n" % key


def as_line_reply(name: str, reply: bytes) -> bytes:
    """What the line protocol says where the text protocol says this."""
    if name == "EXISTS":
        return b"OK %d\n" % (reply != b"END\r\n")
    if reply.startswith(b"VALUE "):
        return b"OK " + reply.split(b"\r\n")[1] + b"\n"
    return {b"STORED\r\n": b"OK stored\n", b"DELETED\r\n": b"OK deleted\n"}.get(reply, b"ERROR key not found\n")


@given(ACTIONS, st.lists(st.booleans(), min_size=40, max_size=40))
def test_text_and_line_do_the_same_to_one_store(
    actions: list[tuple[str, bytes, bytes, int]], by_text: list[bool]
) -> None:
    """One store is asked by both protocols in turn, the other by text alone."""
    mixed, alone = Surroundings(), Surroundings()
    line, text, model = LineTalk(mixed), Conversation(mixed), Conversation(alone)
    for action, is_text in zip(actions, by_text, strict=False):
        if action[0] == "WAIT":
            mixed.clock.now += 1
            alone.clock.now += 1
            continue
        expected = model.feed(text_request(*action))
        if is_text:
            assert text.feed(text_request(*action)) == expected
        else:
            assert line.feed(line_request(*action)) == as_line_reply(action[0], expected)
    assert mixed.counts() == alone.counts()
