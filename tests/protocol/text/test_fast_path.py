"""The short ways answer as the general ones do: whatever comes together is answered as if each part came by itself."""

from collections.abc import Iterator
from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.meta.fast_path import mg_plan, ms_form
from memcache_kv.protocol.text.fast_path import LINES, set_form
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import Entry, cas_of, deadline_of, wire_bytes_of
from tests.protocol.context_factory import Surroundings
from tests.protocol.spellings import all_spelled, line_ends, spelled

VALUES = st.one_of(
    st.binary(max_size=20).filter(lambda value: b"stats" not in value),  # as a command it tells of the process
    st.sampled_from(
        [
            b"mn",
            b"x",
            b"ab",
            b"mg v",
            b"get v",
            b"x" * 100,
            b"\r\nget a\r\n",
            b"a v\r\nmg b",
            b"\r\n",
            b"\n",
            b"set a 0 0 1\r\nx",
            b"y" * 5000,
            b"z" * 20_000,
        ]
    ),
)
KEYS = st.sampled_from(
    [b"a", b"b", b"c", b"v", b"flagged", b"brief", b"named", b"big", b"gone", b"k" * 250, b"k" * 251]
)
"""One is also a flag, so that two lines taken for one may still be a request."""
PRESENT = st.sampled_from([b"a", b"b", b"v", b"flagged", b"brief", b"named"])
FLAGS = st.sampled_from([b"0", b"5", b"255", b"256", b"00", b"-1", b"4294967295", b""]) | all_spelled(0, 7, 255)
EXPTIMES = st.sampled_from([b"0", b"100", b"-1", b"2592001", b"99999999999", b"x"]) | all_spelled(0, 100)
OPAQUES = st.sampled_from([b"O12", b"O", b"Ov", b"OO", b"O" + 31 * b"x", b"O" + 32 * b"x", b"O" + 40 * b"x"])
READ_FLAGS = st.lists(
    st.sampled_from([b"v", b"f", b"k", b"s", b"t", b"q", b"c", b"h", b"T50", b"b", b"vv"])
    | OPAQUES
    | spelled(50).map(lambda number: b"T" + number),
    max_size=4,
) | st.lists(OPAQUES, min_size=1, max_size=1)
STORE_FLAGS = st.lists(
    st.sampled_from([b"T100", b"F7", b"k", b"q", b"c", b"I", b"MA", b"T", b"F"])
    | OPAQUES
    | st.builds(lambda letter, number: letter + number, st.sampled_from([b"T", b"F"]), all_spelled(0, 100)),
    max_size=3,
) | st.lists(OPAQUES, min_size=1, max_size=1)
OFF = st.sampled_from([0, 0, 0, 0, 1, -1])
"""By how much a data block misses the length that its line tells."""


@st.composite
def classic_sets(draw: st.DrawFn, values: st.SearchStrategy[bytes] = VALUES) -> bytes:
    value = draw(values)
    length = draw(spelled(max(0, len(value) + draw(OFF))))
    line = b" ".join([b"set", draw(KEYS), draw(FLAGS), draw(EXPTIMES), length, *draw(TAILS)])
    return line + draw(line_ends) + value + b"\r\n"


@st.composite
def meta_sets(draw: st.DrawFn, values: st.SearchStrategy[bytes] = VALUES) -> bytes:
    value = draw(values)
    length = draw(spelled(max(0, len(value) + draw(OFF))))
    return b" ".join([b"ms", draw(KEYS), length, *draw(STORE_FLAGS)]) + draw(line_ends) + value + b"\r\n"


def plain_set(key: bytes, value: bytes) -> bytes:
    return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)


def plain_meta_set(key: bytes, value: bytes) -> bytes:
    return b"ms %b %d\r\n%b\r\n" % (key, len(value), value)


TAILS = st.sampled_from(
    [[], [], [], [b"noreply"], [b"x"], [b""], [b"x"] * 17 + [b"noreply"], [b"x"] * 18 + [b"noreply"]]
)
GETS = st.one_of(
    KEYS.map(lambda key: b"get " + key),
    st.lists(KEYS, min_size=1, max_size=4).map(lambda keys: b"get " + b" ".join(keys)),
    st.builds(
        lambda keys, times: b"get " + b" ".join(keys * times), st.lists(PRESENT, min_size=1), st.integers(1, 300)
    ),
    KEYS.map(lambda key: b"mg %b v" % key),
    st.builds(lambda key, flags: b" ".join([b"mg", key, *flags]), KEYS, READ_FLAGS),
)
SMALL = st.sampled_from([
    b"delete a", b"gets a", b"get  a", b"get", b"get ", b"getx a", b"set a", b"mg", b"mg a v ", b"mg a  v", b"ms a",
    b"", b"mn", b"incr a 1", b"mg a\nb v", b"set a\nb 0 0 1\r\nx", b"get a\nget b", b"stats reset", b"touch a 50",
    b"gat 60 a b", b"get a  b", b"get a b ", b"get a b\nget a", b"get a b\r\nget a gone", b"get a\rb c",
])  # fmt: skip
LINES_ALONE = st.builds(lambda line, end: line + end, GETS | SMALL, line_ends)
REQUESTS = st.one_of(
    LINES_ALONE,
    LINES_ALONE,
    classic_sets(),
    meta_sets(),
    st.builds(plain_set, KEYS, VALUES),
    st.builds(plain_meta_set, KEYS, VALUES),
)
SHORT = st.binary(max_size=8).filter(lambda value: b"stats" not in value) | st.sampled_from([b"1", b"mn\r\n", b"\r\n"])
SHORT_REQUESTS = st.one_of(LINES_ALONE, classic_sets(SHORT), meta_sets(SHORT)).filter(lambda sent: len(sent) < 60)


def make() -> tuple[Surroundings, TextProtocol]:
    around = Surroundings(shards=2)
    protocol = TextProtocol(around.context, 1)
    for request in (
        b"set a 0 0 1\r\n1\r\n", b"set b 0 0 3\r\nbbb\r\n", b"set v 0 0 1\r\nv\r\n", b"set flagged 9 0 4\r\nfour\r\n",
        b"set brief 0 500 5\r\nshort\r\n", b"set named 0 0 1\r\nn\r\n", b"gets named\r\n",
        b"set big 0 0 9000\r\n%b\r\n" % (b"B" * 9000), b"set expired 0 1 1\r\nx\r\n",
    ):  # fmt: skip
        tell(protocol, request)
    return around, protocol


def tell(protocol: TextProtocol, data: bytes) -> bytes:
    """Have it answer as a worker does, which reads nothing more from a connection that is to be closed."""
    if protocol.closing:
        return b""
    protocol.receive(data)
    while protocol.paused:
        protocol.resume()
    reply = b"".join(protocol.out)
    protocol.out.clear()
    return reply


def general(protocol: TextProtocol, data: bytes) -> bytes:
    """Have it answer in the general way alone, as it does while somebody watches."""
    if protocol.closing:
        return b""
    observers = protocol.context.observers
    observers.set_verbosity(2)
    try:
        protocol.receive(data)
        while protocol.paused:
            protocol.resume()
    finally:
        observers.set_verbosity(0)
    reply = b"".join(protocol.out)
    protocol.out.clear()
    return reply


def facts(entry: Entry) -> tuple[bytes, int, int]:
    return wire_bytes_of(entry), deadline_of(entry), cas_of(entry)


def kept(around: Surroundings) -> dict[bytes, tuple[bytes, int, int]]:
    return {key: facts(entry) for key, entry in around.store.items()}


def counted(counters: Counters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in Counters.__slots__ if name != "conn_yields"}


@settings(max_examples=800, deadline=None)
@given(st.lists(REQUESTS, max_size=12))
@example([b"ms a 4\r\r\nquit\r\n", b"get a\r\n"])
@example([b"get a\r\n"] * (LINES + 3))
@example([b"mg a v\r\n"] * (LINES + 3))
@example([b"mg a v\r\n", b"ms a 1\r\nx\r\n"] * LINES)
@example([b"set a 0 0 1\r\nx\r\n", b"get a\r\n"] * LINES)
@example([b"mg a v\r\n", b"get a\r\n", b"ms b 1\r\nx\r\n", b"set a 0 0 1\r\ny\r\n"] * 50)
@example([b"get a\r\n", b"delete a\r\n", b"get a\r\n", b"get b\r\n"])
@example([b"get a\r\n", b"\r\n"])
@example([b"set a 7 0 5000\r\n%b\r\n" % (b"z" * 5000), b"get a\r\n"])
@example([b"set a 0 0 1000\r\n%b\r\n" % (b"z" * 1000)] * 6 + [b"get a\r\n"])
@example([b"mg a v\r\n", b"set a 0 0 6\r\n v\r\nmg \r\n"])
@example([b"mg a Ox\n", b"mg v\r\n"])
@example([b"ms a 5 q Ox\n", b"hello\r\n", b"mg q1\r\n", b"mn\r\n"])
@example([b"set a 0 0 05000\r\n%b\r\n" % (b"z" * 5000), b"get a\r\n"])
def test_together_one_by_one_and_in_the_general_way_the_answers_are_the_same(requests: list[bytes]) -> None:
    (here, together), (there, single), (beyond, plain) = make(), make(), make()
    data = b"".join(requests)
    answer = tell(together, data)
    assert answer == b"".join([tell(single, request) for request in requests])
    assert answer == general(plain, data)
    assert kept(here) == kept(there) == kept(beyond)
    assert counted(here.context.counters) == counted(there.context.counters) == counted(beyond.context.counters)


LINES_OF_PAIRS = (
    b"get a",
    b"get v",
    b"get gone",
    b"get a b",
    b"mg a v",
    b"mg v",
    b"mg gone v",
    b"mg a Ox",
    b"mg a k Ox v",
    b"mg a O",
    b"mg v t s",
    b"mg a v q",
    b"mn",
    b"gets a",
    b"md b",
    b"delete b",
    b"get a " + b"k" * 250,
    b"mg " + b"k" * 250 + b" v",
)
HEADS_OF_PAIRS = (
    b"set a 0 0 %b",
    b"set a 1 0 %b noreply",
    b"set v 0 9 %b",
    b"ms a %b",
    b"ms a %b q Ox",
    b"ms a %b k O1",
    b"ms v %b q",
    b"ms a %b T9 F1",
    b"add c 0 0 %b",
    b"ms " + b"k" * 250 + b" %b",
)
SPELLINGS_OF_PAIRS = (b"%d", b"0%d", b"%022d", b"+%d", b"%d\n")


def pairs() -> Iterator[tuple[bytes, bytes]]:
    """Every request behind every other, its line ended in either way, its length spelled in several."""
    blocks = (b"mn", b"get v", b"x" * 4100)
    sets = [
        head % (spelling % len(block)) + end + block + b"\r\n"
        for head in HEADS_OF_PAIRS
        for spelling in SPELLINGS_OF_PAIRS
        for end in (b"\r\n", b"\n")
        for block in blocks
    ]
    first = [line + end for line in LINES_OF_PAIRS for end in (b"\r\n", b"\n")] + sets
    return product(first, [line + b"\r\n" for line in (b"", *LINES_OF_PAIRS)] + [b"set a 0 0 2\r\nmn\r\n"])


def test_any_two_in_one_packet_are_answered_as_one_by_one_and_in_the_general_way() -> None:
    for one, other in pairs():
        (here, together), (there, single), (beyond, plain) = make(), make(), make()
        answer = tell(together, one + other)
        assert answer == tell(single, one) + tell(single, other), (one, other)
        assert answer == general(plain, one + other), (one, other)
        assert kept(here) == kept(there) == kept(beyond), (one, other)


@settings(max_examples=50, deadline=None)
@given(st.lists(SHORT_REQUESTS, min_size=1, max_size=3))
@example([b"mg a Ox\n", b"mg v\r\n"])
@example([b"ms a 5 q Ox\n", b"hello\r\n", b"mg q1\r\n"])
def test_cut_at_any_byte_the_answers_are_the_same(requests: list[bytes]) -> None:
    data = b"".join(requests)
    whole, protocol = make()
    answer = tell(protocol, data)
    for cut in range(1, len(data)):
        around, parted = make()
        assert answer == tell(parted, data[:cut]) + tell(parted, data[cut:])
        assert kept(around) == kept(whole)


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, max_size=8), st.integers(0, 300))
@example([b"set a 0 0 0\r\n\r\n"], 13)
@example([b"mg a\nb v\r\n"], 5)
def test_where_the_input_is_cut_makes_no_difference(requests: list[bytes], cut: int) -> None:
    (here, together), (there, apart) = make(), make()
    data = b"".join(requests)
    assert tell(together, data) == tell(apart, data[:cut]) + tell(apart, data[cut:])
    assert kept(here) == kept(there)


def test_of_words_that_are_too_long_nothing_is_kept() -> None:
    _, protocol = make()
    long = b"x" * 10_000
    caches = (mg_plan, ms_form, set_form)
    before = [cache.cache_info().currsize for cache in caches]
    for request in (b"set a %b 0 1\r\nx\r\n" % long, b"ms a 1 %b\r\nx\r\n" % long, b"mg a %b\r\n" % long):
        protocol.receive(request * 2)
    assert [cache.cache_info().currsize for cache in caches] == before
