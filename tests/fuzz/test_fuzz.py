"""Whatever bytes come: nothing is raised, nothing is answered unasked, little is held, and the connection still serves.

For a long run, of ten minutes:

    FUZZ_SECONDS=600 python -m pytest --timeout 0 tests/fuzz
"""

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import corpus, mutator
from tests.fuzz.victim import Victim, surroundings
from tests.protocol.context_factory import Conversation

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ROUNDS = 250
"""How many seeds the test suite tries."""
CONVERSATIONS = 8
"""How many streams one seed sends to one server, one connection after the other."""

pytestmark = pytest.mark.timeout(max(120, 3 * SECONDS))

SILENT = [
    b"set a 0 0 1 noreply\r\nx\r\n", b"add a 0 0 1 noreply\r\n1\r\n", b"replace a 0 0 1 noreply\r\nx\r\n",
    b"append a 0 0 1 noreply\r\nx\r\n", b"prepend a 0 0 1 noreply\r\n1\r\n", b"cas a 0 0 1 1 noreply\r\nx\r\n",
    b"incr a 1 noreply\r\n", b"decr a 18446744073709551615 noreply\r\n", b"touch a -1 noreply\r\n",
    b"touch a 0 noreply\r\n",
    b"delete a noreply\r\n", b"flush_all noreply\r\n", b"verbosity 0 noreply\r\n", b"incr a x noreply\r\n",
    b"mg missing v q\r\n", b"ms a 1 q\r\nx\r\n", b"md a q\r\n", b"foo bar noreply\r\n",
]  # fmt: skip
"""Requests that are never answered. md finds what the ms before it has stored."""


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authentication file."""
    path: Path = tmp_path_factory.mktemp("login") / "users"
    path.write_bytes(b"name:secret\nother:word\n")
    return path


def seeds() -> Iterator[int]:
    """As many as there are rounds, or go into the seconds given."""
    end = time.monotonic() + SECONDS / 2
    for seed in count():
        if time.monotonic() > end if SECONDS else seed >= ROUNDS:
            return
        yield seed


def one_seed(seed: int, requests: list[bytes], users: Path | None = None) -> None:
    """Send the streams of one seed to one server."""
    source, around = Random(seed), surroundings()
    for _ in range(CONVERSATIONS):
        pieces = mutator.pieces(source, mutator.stream(source, requests))
        victim = Victim(around, users)
        try:
            victim.feed(pieces)
            victim.still_serves()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {pieces!r}") from error
        around.clock.advance(source.choice((0, 1, 100)))
        around.store.new_second()


def test_damaged_requests_leave_a_server_that_serves() -> None:
    for seed in seeds():
        one_seed(seed, corpus.REQUESTS)


def test_damaged_requests_leave_a_guarded_server_that_serves(users: Path) -> None:
    requests = corpus.LOGIN * 20 + corpus.REQUESTS
    for seed in seeds():
        one_seed(seed, requests, users)


tokens = st.lists(st.sampled_from(corpus.TOKENS + corpus.META), max_size=30).map(b"".join)


@given(st.lists(st.binary(max_size=60) | tokens, max_size=6))
def test_any_words_and_bytes_leave_a_server_that_serves(pieces: list[bytes]) -> None:
    victim = Victim(surroundings())
    victim.feed(pieces)
    victim.still_serves()


@given(st.lists(st.binary(max_size=60) | tokens | st.sampled_from(corpus.LOGIN), max_size=6))
def test_any_words_and_bytes_leave_a_guarded_server_that_serves(users: Path, pieces: list[bytes]) -> None:
    victim = Victim(surroundings(), users)
    victim.feed(pieces)
    victim.still_serves()


@given(st.lists(st.sampled_from(SILENT[:14]), max_size=8), st.sampled_from((1, 3, 1000)))
def test_what_asks_for_silence_gets_it_whatever_is_stored(requests: list[bytes], size: int) -> None:
    data = b"".join(requests)
    pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
    assert Conversation(surroundings()).feed_pieces(*pieces) == b""


def test_silence_lasts_through_all_of_them() -> None:
    assert Conversation(surroundings()).feed(b"".join(SILENT)) == b""


@pytest.mark.parametrize("length", [2**31 - 3, 70_000, 65_400])
def test_a_long_data_block_is_not_held_beyond_the_limit_for_an_item(length: int) -> None:
    victim = Victim(surroundings())
    victim.feed([b"set a 0 0 %d\r\n" % length, *[b"x" * 16384] * 20])
    assert victim.conversation.held_bytes <= 1 << 16


def test_the_check_sees_a_reply_without_a_request() -> None:
    victim = Victim(surroundings())
    victim.protocol.out.append(b"END\r\n")
    with pytest.raises(AssertionError, match="without a request"):
        victim.feed([b"ge"])


def test_the_check_sees_a_connection_that_serves_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Victim(surroundings())
    monkeypatch.setattr(victim.conversation, "feed", lambda data: b"")
    with pytest.raises(AssertionError, match="no answer any more"):
        victim.still_serves()
