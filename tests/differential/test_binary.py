"""memcached and we answer every stream of binary packets alike, byte for byte; CAS ids by the order in which they came.

What is not compared is listed in tests/reference/differences.toml.

What counts a number begins a batch, since memcached keeps its length only while no reply with it waits.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memcache_kv.config.settings import Settings
from tests.differential.peers import Outside
from tests.integration.binary_wire import ANSWER, MARK, BinaryWire
from tests.protocol.binary.binary_cases import O, counting, joining, storing, touching
from tests.protocol.binary.binary_packets import OPAQUE, BinaryConversation, Ids, Packet, Reply, replies_in
from tests.protocol.context_factory import Surroundings

STREAMS = int(os.environ.get("DIFFERENTIAL_STREAMS", "300"))
STREAMS_PER_SLIP = 5000
"""In so many streams one difference may be gone when its stream is sent again: a second began between the two turns."""
ITEM_HEADER_BYTES = 59

pytestmark = pytest.mark.timeout(max(120, STREAMS))

Batch = list[Packet]
Answers = list[tuple[list[Reply], bool]]

keys = st.sampled_from((b"a", b"a", b"n", b"n", b"b c", b"\xff\x00", b"k" * 250))
ids = st.sampled_from((0, 0, 0, 0, 1, 2, 3, 50))
flags = st.sampled_from((0, 0, 1, 255, 0xFFFFFFFF))
exptimes = st.sampled_from((0, 0, 0, 100, 2592000, 2592001, 0xFFFFFFFE, 0xFFFFFFFF))
numbers = st.sampled_from((0, 1, 5, 99, (1 << 63), (1 << 64) - 1))
small_values = st.binary(max_size=8).filter(lambda value: not value or bool(value.strip())) | st.sampled_from(
    (
        b"1",
        b"10",
        b"99",
        b"007",
        b" 5",
        b"5 x",
        b"-1",
        b"+3",
        b"18446744073709551615",
        b"18446744073709551616",
        b"1\r\n",
    )
)


def values(limit: int) -> st.SearchStrategy[bytes]:
    """Small ones, and some near the limit for an item."""
    near = st.integers(limit - ITEM_HEADER_BYTES - 260, limit).map(lambda size: b"v" * size)
    return st.one_of(small_values, small_values, small_values, small_values, near)


def asked(
    opcode: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    cas: int = 0,
    opaque: int = OPAQUE,
    magic: int = 0x80,
    body_bytes: int | None = None,
) -> Packet:
    """A packet. Of a NamedTuple itself Hypothesis would draw every field."""
    return Packet(opcode, key, extras, value, cas, opaque, magic, body_bytes=body_bytes)


def opcodes(*names: int) -> st.SearchStrategy[int]:
    return st.sampled_from(names)


def packets(limit: int) -> st.SearchStrategy[Packet]:
    """Requests that fit their command."""
    stores = opcodes(O.SET, O.SET, O.SETQ, O.ADD, O.ADDQ, O.REPLACE, O.REPLACEQ)
    joins = opcodes(O.APPEND, O.APPENDQ, O.PREPEND, O.PREPENDQ)
    counts = opcodes(O.INCREMENT, O.INCREMENTQ, O.DECREMENT, O.DECREMENTQ)
    touches = opcodes(O.TOUCH, O.GAT, O.GATQ, O.GATK, O.GATKQ)
    unknown = st.integers(0x25, 0xFF) | opcodes(0x1F)
    return st.one_of(
        st.builds(storing, stores, keys, values(limit), flags, exptimes, ids),
        st.builds(storing, stores, keys, small_values, flags, exptimes, ids),
        st.builds(joining, joins, keys, values(limit), ids),
        st.builds(asked, opcodes(O.GET, O.GETQ, O.GETK, O.GETKQ), keys),
        st.builds(touching, touches, keys, exptimes),
        st.builds(counting, counts, keys, numbers, numbers, exptimes, ids),
        st.builds(asked, opcodes(O.DELETE, O.DELETEQ), keys, cas=ids),
        st.builds(asked, opcodes(O.FLUSH, O.FLUSHQ), extras=st.sampled_from((b"", bytes(4)))),
        st.builds(asked, opcodes(O.NOOP, O.VERSION, O.SASL_LIST), cas=ids, opaque=st.integers(0, 0xFFFFFFFF)),
        st.builds(asked, opcodes(O.STAT), st.sampled_from((b"reset", b"foo", b"detail", b"sizes", b"conns"))),
        st.builds(asked, opcodes(O.SASL_AUTH, O.SASL_STEP), st.just(b"PLAIN"), value=small_values),
        st.builds(asked, unknown, value=st.binary(max_size=40)),
    )


@st.composite
def faults(draw: st.DrawFn) -> Packet:
    """A request that ends the connection, by its wish or by its lengths."""
    known = opcodes(*[opcode for opcode in O if opcode != O.VERBOSITY])
    with_extras = opcodes(O.SET, O.SETQ, O.ADD, O.REPLACE, O.INCREMENT, O.DECREMENTQ, O.TOUCH, O.GATKQ, O.FLUSH)
    exact = opcodes(O.GET, O.GETKQ, O.DELETE, O.DELETEQ, O.INCREMENT, O.NOOP, O.VERSION, O.FLUSHQ, O.QUITQ, O.SASL_LIST)
    keyless = opcodes(O.NOOP, O.VERSION, O.FLUSH, O.QUIT, O.QUITQ, O.SASL_LIST)
    keyed = opcodes(O.GET, O.SET, O.APPENDQ, O.DELETE, O.INCREMENT, O.TOUCH, O.GATQ, O.SASL_AUTH)
    packet: Packet = draw(
        st.one_of(
            st.builds(asked, opcodes(O.QUIT, O.QUITQ)),
            st.builds(asked, known, st.just(b"k" * 251)),
            st.builds(asked, known, st.just(b"k"), body_bytes=st.just(0)),
            st.builds(asked, known, st.just(b"k"), st.just(bytes(9)), body_bytes=st.sampled_from((1, 9))),
            st.builds(asked, known, st.just(b"k"), body_bytes=st.sampled_from(((1 << 30) + 1, (1 << 32) - 1))),
            st.builds(asked, with_extras, keys, st.sampled_from((b"\0", bytes(7), bytes(19), bytes(21), bytes(255)))),
            st.builds(asked, exact, keys, st.sampled_from((b"", bytes(20))), st.just(b"value")),
            st.builds(asked, keyless, keys),
            st.builds(asked, keyed, extras=st.sampled_from((b"", bytes(4), bytes(8), bytes(20)))),
            st.builds(asked, known, magic=st.sampled_from((0, 0x0D, 0x67, 0x7F, 0x81, 0xFF))),
        )
    )
    return packet


@st.composite
def streams(draw: st.DrawFn, limit: int) -> list[Batch]:
    """Batches of requests, and now and then a fault behind them."""
    batches: list[Batch] = []
    for batch in draw(st.lists(st.lists(packets(limit), min_size=1, max_size=5), min_size=1, max_size=8)):
        batches += parted(batch)
    if draw(st.booleans()):
        batches.append([draw(faults())])
    return batches


def parted(batch: Batch) -> Iterator[Batch]:
    """Batches in which only the first request counts something."""
    begin = 0
    for place in range(1, len(batch)):
        if len(batch[place].extras) == 20:
            yield batch[begin:place]
            begin = place
    yield batch[begin:]


def theirs(memcached: Outside, stream: list[Batch]) -> Answers:
    """What memcached answers to each batch, and whether it has closed."""
    answers: Answers = []
    memcached.begin()
    assert memcached.server is not None
    with BinaryWire(memcached.server) as wire:
        wire.ask()  # so that the protocol is settled whatever comes
        for batch in stream:
            replies = wire.ask(*batch)
            answers.append((replies, wire.is_closed))
            if wire.is_closed:
                break
    return answers


def own(memcached: Outside, stream: list[Batch]) -> Answers:
    """The same of ours."""
    answers: Answers = []
    around = Surroundings(Settings(max_item_size=memcached.size_limit))
    around.clock.now = around.clock.started = memcached.now
    conversation, ids = BinaryConversation(around), Ids()
    for batch in stream:
        data = b"".join([ids.resolved(packet) for packet in batch]) + MARK.to_bytes()
        replies = [ids.numbered(reply) for reply in replies_in(conversation.feed(data))]
        closing = conversation.protocol.closing
        if not closing:
            assert replies.pop() == ANSWER
        answers.append((replies, closing))
        if closing:
            break
    return answers


def difference(memcached: Outside, stream: list[Batch]) -> str:
    """What differs, in words; nothing where the answers are the same."""
    for one, other in zip(theirs(memcached, stream), own(memcached, stream), strict=True):
        if one != other:
            sent = "\n".join(map(repr, (packet for each in stream for packet in each)))
            return f"{sent[:3000]}\nmemcached: {one!s:.2000}\nours:      {other!s:.2000}"
    return ""


def test_the_protocol_answers_as_memcached_does(memcached: Outside) -> None:
    if memcached.is_old:
        pytest.skip("compared with the release that ours follows")
    slips: list[str] = []

    @settings(
        max_examples=STREAMS,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(streams(memcached.size_limit))
    def compare(stream: list[Batch]) -> None:
        found = difference(memcached, stream)
        if found:
            assert not difference(memcached, stream), f"\n{found}"
            slips.append(found)

    compare()
    print(*slips, sep="\n")
    assert len(slips) <= 1 + STREAMS // STREAMS_PER_SLIP, slips


def test_a_difference_is_found(memcached: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [[storing(O.SET), Packet(O.GET, b"a"), Packet(O.NOOP)]]
    assert not difference(memcached, stream)
    monkeypatch.setattr("tests.differential.test_binary.own", lambda memcached, stream: [([], False)])
    assert "ours" in difference(memcached, stream)
