"""Whatever bytes come in the binary protocol: nothing is raised, replies are whole, and it still serves.

For a long run, of ten minutes:

    FUZZ_SECONDS=600 python -m pytest --timeout 0 tests/fuzz
"""

import os
import time
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.auth.access import CommandClass
from memcache_kv.protocol.session import LARGEST_READ_BYTES, TURN_BYTES
from tests.fuzz.mutator import pieces
from tests.fuzz.victim import ITEM_LIMIT_BYTES, surroundings
from tests.protocol.binary.binary_cases import CASES, O
from tests.protocol.binary.binary_packets import HEAD, BinaryConversation, Packet, Reply, replies_in
from tests.protocol.context_factory import Surroundings

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ROUNDS = 250
CONVERSATIONS = 8
"""How many streams one seed sends to one server, one connection after the other."""
HELD_LIMIT_BYTES = LARGEST_READ_BYTES + ITEM_LIMIT_BYTES
TURN_LIMIT_BYTES = TURN_BYTES + 1000 * 4096
LONGEST_REQUEST_BYTES = 300
"""Longer ones of the table are left away."""
PATIENCE_BYTES = 200_000
"""A value of which more is outstanding is not waited for."""
MARK, ANSWER = Packet(O.NOOP, opaque=0xE0D), Reply(O.NOOP, opaque=0xE0D)
REQUESTS = [
    data for case in CASES for packet in case.requests if len(data := packet.to_bytes()) < LONGEST_REQUEST_BYTES
]
LOGINS = [Packet(op, b"PLAIN", value=b"\0user\0" + word).to_bytes() for op in (0x21, 0x22) for word in (b"pass", b"x")]

pytestmark = pytest.mark.timeout(max(120, 3 * SECONDS))


class OneUser:
    """Knows `user` with the password `pass`."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        return (name, password) == (b"user", b"pass")

    def has_user(self, name: bytes) -> bool:
        return name == b"user"

    def class_of(self, name: bytes) -> CommandClass | None:
        return None


class Victim:
    """A conversation that checks itself."""

    def __init__(self, around: Surroundings, guarded: bool) -> None:
        self.conversation = BinaryConversation(around, OneUser() if guarded else None)

    def feed(self, stream: list[bytes]) -> None:
        """Feed it, and check what has to hold after each piece."""
        for piece in stream:
            self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        conversation = self.conversation
        was_closing = conversation.protocol.closing
        conversation.turns.clear()
        reply = conversation.feed(piece)
        assert not (was_closing and reply), "a reply after the end"
        assert all(len(turn) <= TURN_LIMIT_BYTES for turn in conversation.turns), "a turn too long"
        list(replies_in(reply))  # whole packets, each from its turn
        assert 0 < conversation.protocol.want <= LARGEST_READ_BYTES
        assert conversation.held_bytes <= HELD_LIMIT_BYTES, "too much is held"
        store = conversation.around.store
        assert store.used_bytes <= store.limit_bytes * 1.1

    def still_serves(self) -> None:
        """End whatever is open, and see it answer; or it has closed."""
        protocol = self.conversation.protocol
        outstanding = protocol.block_bytes_left
        if outstanding > PATIENCE_BYTES:
            return
        self.feed([b"\x80" * outstanding] if outstanding else [])
        if protocol.held_bytes:  # half a request: what is still missing of it may be anything
            self.feed([b"\x80" * 600])
        elif not protocol.closing and protocol.is_open:
            assert self.conversation.feed(MARK.to_bytes()) == ANSWER.to_bytes()


def damage(source: Random, data: bytearray) -> None:
    """Change one place: a byte anywhere, a length in a head, something more or less."""
    place, kind = source.randint(0, len(data)), source.randrange(6)
    if kind == 0:
        data[place : place + 1] = source.randbytes(1)
    elif kind == 1:
        del data[place : place + source.choice((1, 2, 24))]
    elif kind == 2:
        data[place:place] = source.randbytes(source.choice((1, 4, 24)))
    elif kind == 3:
        data[place:place] = data[place : place + 60] * source.choice((1, 2, 30))
    else:
        head = data.find(b"\x80", place)
        if head >= 0:
            field, size = source.choice(((1, 1), (2, 2), (4, 1), (8, 4), (16, 8)))
            number = source.choice((0, 1, 2, 8, 20, 255, 256, 1 << 20, (1 << 30) + 1, (1 << 32) - 1))
            data[head + field : head + field + size] = (number % (1 << 8 * size)).to_bytes(size, "big")


def seeds() -> Iterator[int]:
    """As many as there are rounds, or go into the seconds given."""
    end = time.monotonic() + SECONDS / 2
    for seed in count():
        if time.monotonic() > end if SECONDS else seed >= ROUNDS:
            return
        yield seed


@pytest.mark.parametrize("guarded", [False, True])
def test_damaged_packets_leave_a_server_that_serves(guarded: bool) -> None:
    requests = LOGINS * 20 + REQUESTS if guarded else REQUESTS
    for seed in seeds():
        source, around = Random(seed), surroundings()
        for _ in range(CONVERSATIONS):
            data = bytearray(b"".join(source.choices(requests, k=source.randint(1, 8))))
            for _ in range(source.choice((0, 1, 1, 2, 3, 5))):
                damage(source, data)
            stream = pieces(source, data)
            victim = Victim(around, guarded)
            try:
                victim.feed(stream)
                victim.still_serves()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {stream!r}") from error
            around.clock.advance(source.choice((0, 1, 100)))
            around.store.new_second()


@st.composite
def any_packets(draw: st.DrawFn) -> bytes:
    """A head with any lengths, and something behind it."""
    small = st.integers(0, 30)
    key, extras = draw(small | st.integers(0, 65535)), draw(st.sampled_from((0, 4, 8, 20)) | st.integers(0, 255))
    body = draw(st.just(key + extras) | st.integers(key + extras, key + extras + 40) | st.integers(0, (1 << 32) - 1))
    head = HEAD.pack(0x80, draw(st.integers(0, 0x25) | st.integers(0, 255)), key, extras, 0, 0, body, 7, draw(small))
    return head + draw(st.binary(max_size=80))


@given(st.lists(any_packets() | st.sampled_from(REQUESTS) | st.binary(max_size=60), max_size=8), st.booleans())
def test_any_packets_and_bytes_leave_a_server_that_serves(stream: list[bytes], guarded: bool) -> None:
    victim = Victim(surroundings(), guarded)
    victim.feed(stream)
    victim.still_serves()


def test_the_check_sees_half_a_reply() -> None:
    victim = Victim(surroundings(), False)
    victim.conversation.protocol.out.append(b"\x81half")
    with pytest.raises(ValueError, match="half a head"):
        victim.feed([b"\x80"])


def test_the_check_sees_a_connection_that_serves_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Victim(surroundings(), False)
    monkeypatch.setattr(victim.conversation, "feed", lambda data: b"")
    with pytest.raises(AssertionError):
        victim.still_serves()
