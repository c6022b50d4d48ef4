"""A stream is let through, or cut at the ends of its messages, in any order of the two, and loses no byte."""

from hypothesis import given, settings
from hypothesis import strategies as st

from memcache_kv.testing.wire.feed import Feed, Portion

MESSAGES = st.lists(st.integers(0, 5), max_size=6).map(lambda sizes: [bytes([97 + i]) * n for i, n in enumerate(sizes)])


def test_messages_are_held_until_they_are_whole() -> None:
    feed = Feed()
    assert feed.cut(b"ab", []) == []
    assert feed.cut(b"cdef", [4]) == [Portion(b"abcd", True)]
    assert feed.let_go() == b"ef"


def test_of_a_message_whose_beginning_was_let_through_the_rest_is_no_whole_message() -> None:
    feed = Feed()
    assert feed.pass_through(b"ab", []) == b"ab"
    assert feed.cut(b"cdef", [4, 2]) == [Portion(b"cd", False), Portion(b"ef", True)]


def test_a_message_without_bytes_takes_none_of_the_next_one() -> None:
    feed = Feed()
    assert feed.pass_through(b"ab", []) == b"ab"
    assert feed.cut(b"cd", [0, 4]) == [Portion(b"", True), Portion(b"cd", False)]


@settings(max_examples=40)
@given(MESSAGES, st.data())
def test_every_byte_goes_through_once_and_in_order(messages: list[bytes], data: st.DataObject) -> None:
    feed, stream, sent, at, done = Feed(), b"".join(messages), b"", 0, 0
    ends = [sum(map(len, messages[: n + 1])) for n in range(len(messages))]
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        lengths = [len(message) for message, end in zip(messages, ends, strict=True) if at < end <= at + size]
        piece, at = stream[at : at + size], at + size
        if data.draw(st.booleans()):
            sent += feed.pass_through(piece, lengths)
            assert sent == stream[:at]
        else:
            portions = feed.cut(piece, lengths)
            assert [portion.data for portion in portions if portion.is_whole] == [
                messages[done + n] for n, portion in enumerate(portions) if portion.is_whole
            ] or not all(messages)
            sent += b"".join(portion.data for portion in portions)
            assert stream.startswith(sent)
        done += len(lengths)
    assert sent + feed.let_go() == stream
