"""The short ways answer as the general ones do: whatever comes together is answered as if each part came by itself."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.usual import LINES
from memcache_kv.protocol.usual_meta import _plan, _read_words
from memcache_kv.stats import Counters
from memcache_kv.store.item import Entry, cas_of, deadline_of, ready_of
from tests.protocol.context_factory import Surroundings

VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"x" * 100, b"\r\nget a\r\n", b"a v\r\nmg b", b"\r\n", b"\n", b"set a 0 0 1\r\nx", b"y" * 5000, b"z" * 20_000]
    ),
)
KEYS = st.sampled_from([b"a", b"b", b"c", b"flagged", b"brief", b"named", b"big", b"gone", b"k" * 250, b"k" * 251])
PRESENT = st.sampled_from([b"a", b"b", b"flagged", b"brief", b"named"])
FLAGS = st.sampled_from([b"0", b"5", b"255", b"256", b"00", b"-1", b"4294967295", b""])
EXPTIMES = st.sampled_from([b"0", b"100", b"-1", b"2592001", b"99999999999", b"x"])
READ_FLAGS = st.lists(
    st.sampled_from([b"v", b"f", b"k", b"s", b"t", b"q", b"O12", b"O" + 40 * b"x", b"c", b"h", b"T50", b"b", b"vv"]),
    max_size=4,
)
STORE_FLAGS = st.lists(
    st.sampled_from([b"T100", b"F7", b"k", b"q", b"O12", b"O" + 40 * b"x", b"c", b"I", b"MA", b"T", b"F"]), max_size=3
)


def classic_set(key: bytes, flags: bytes, exptime: bytes, value: bytes, wrong: int, noreply: bool) -> bytes:
    line = b"set %b %b %b %d%b" % (key, flags, exptime, len(value) + wrong, b" noreply" if noreply else b"")
    return b"%b\r\n%b\r\n" % (line, value)


def meta_set(key: bytes, value: bytes, flags: list[bytes]) -> bytes:
    return b"%b\r\n%b\r\n" % (b" ".join([b"ms", key, b"%d" % len(value), *flags]), value)


REQUESTS = st.one_of(
    st.builds(lambda key: b"get %b\r\n" % key, KEYS),
    st.builds(lambda keys: b"get %b\r\n" % b" ".join(keys), st.lists(KEYS, min_size=1, max_size=4)),
    st.builds(
        lambda keys, times: b"get %b\r\n" % b" ".join(keys * times), st.lists(PRESENT, min_size=1), st.integers(1, 300)
    ),
    st.builds(lambda key: b"mg %b v\r\n" % key, KEYS),
    st.builds(lambda key, flags: b"%b\r\n" % b" ".join([b"mg", key, *flags]), KEYS, READ_FLAGS),
    st.builds(classic_set, KEYS, FLAGS, EXPTIMES, VALUES, st.sampled_from([0, 0, 0, 1, -1]), st.booleans()),
    st.builds(classic_set, KEYS, st.just(b"0"), st.just(b"0"), VALUES, st.just(0), st.booleans()),
    st.builds(meta_set, KEYS, VALUES, STORE_FLAGS),
    st.builds(lambda key, value: meta_set(key, value, []), KEYS, VALUES),
    st.sampled_from([
        b"delete a\r\n", b"gets a\r\n", b"get a\n", b"get  a\r\n", b"get\r\n", b"get \r\n", b"getx a\r\n", b"set a\r\n",
        b"mg\r\n", b"mg a v \r\n", b"mg a  v\r\n", b"ms a\r\n", b"\r\n", b"mn\r\n", b"incr a 1\r\n", b"mg a\nb v\r\n",
        b"set a\nb 0 0 1\r\nx\r\n", b"get a\nget b\r\n", b"stats reset\r\n", b"touch a 50\r\n", b"gat 60 a b\r\n",
        b"get a  b\r\n", b"get a b \r\n", b"get a b\nget a\r\n", b"get a b\r\nget a gone\r\n",
        b"get a\rb c\r\n", b"get a b\n",
    ]),
)  # fmt: skip


def make() -> tuple[Surroundings, TextProtocol]:
    around = Surroundings(shards=2)
    protocol = TextProtocol(around.context, 1)
    for request in (
        b"set a 0 0 1\r\n1\r\n", b"set b 0 0 3\r\nbbb\r\n", b"set flagged 9 0 4\r\nfour\r\n",
        b"set brief 0 500 5\r\nshort\r\n", b"set named 0 0 1\r\nn\r\n", b"gets named\r\n",
        b"set big 0 0 9000\r\n%b\r\n" % (b"B" * 9000), b"set expired 0 1 1\r\nx\r\n",
    ):  # fmt: skip
        tell(protocol, request)
    return around, protocol


def tell(protocol: TextProtocol, data: bytes) -> bytes:
    """Have it answer as a worker does."""
    reply = protocol.answer_lone(data)
    if reply:
        return reply
    protocol.receive(data)
    while protocol.paused:
        protocol.resume()
    reply = b"".join(protocol.out)
    protocol.out.clear()
    return reply


def general(protocol: TextProtocol, data: bytes) -> bytes:
    """Have it answer in the general way alone, as it does while somebody watches."""
    protocol.context.observation.active = True
    try:
        protocol.receive(data)
        while protocol.paused:
            protocol.resume()
    finally:
        protocol.context.observation.active = False
    reply = b"".join(protocol.out)
    protocol.out.clear()
    return reply


def facts(entry: Entry) -> tuple[bytes, int, int]:
    return ready_of(entry), deadline_of(entry), cas_of(entry)


def kept(around: Surroundings) -> dict[bytes, tuple[bytes, int, int]]:
    return {key: facts(entry) for key, entry in around.store.items()}


def counted(counters: Counters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in Counters.__slots__ if name != "conn_yields"}


@settings(max_examples=400, deadline=None)
@given(st.lists(REQUESTS, max_size=12))
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
def test_together_one_by_one_and_in_the_general_way_the_answers_are_the_same(requests: list[bytes]) -> None:
    (here, together), (there, single), (beyond, plain) = make(), make(), make()
    data = b"".join(requests)
    answer = tell(together, data)
    assert answer == b"".join([tell(single, request) for request in requests])
    assert answer == general(plain, data)
    assert kept(here) == kept(there) == kept(beyond)
    assert counted(here.context.counters) == counted(there.context.counters) == counted(beyond.context.counters)


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, max_size=8), st.integers(0, 300))
@example([b"set a 0 0 0\r\n\r\n"], 13)
@example([b"mg a\nb v\r\n"], 5)
def test_where_the_input_is_cut_makes_no_difference(requests: list[bytes], cut: int) -> None:
    (here, together), (there, apart) = make(), make()
    data = b"".join(requests)
    assert tell(together, data) == tell(apart, data[:cut]) + tell(apart, data[cut:])
    assert kept(here) == kept(there)


def test_of_words_too_long_to_be_usual_nothing_is_kept() -> None:
    _, protocol = make()
    long = b"x" * 10_000
    before = _plan.cache_info().currsize, _read_words.cache_info().currsize
    requests = b"set a %b 0 1\r\nx\r\n" % long, b"ms a 1 %b\r\nx\r\n" % long, b"mg a %b\r\n" % long
    for request in requests:
        protocol.receive(request * 2)
    assert (_plan.cache_info().currsize, _read_words.cache_info().currsize) == before
    assert len(protocol._tail) < 100
