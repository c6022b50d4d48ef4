"""The short way and the general way through the text protocol do the same, whatever is asked and however it is cut."""

from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.config.settings import Settings
from memcache_kv.protocol.session import LARGEST_READ_BYTES
from memcache_kv.protocol.text.framing import MULTIGET_LIMIT_BYTES
from memcache_kv.store.entry import PLAIN_LIMIT_BYTES, deadline_of, wire_bytes_of
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.spellings import all_spelled, line_ends, spelled
from tests.protocol.text.text_cases import CASES, VERSION

KEYS = (b"a", b"b", b"n", b"\xff\x80", b"k" * 250, b"k" * 251, b"noreply", b"a\t", b"\r")
key_words = st.sampled_from(KEYS)
tails = st.sampled_from((b"", b"", b" noreply", b" ", b" x", b" x" * 17 + b" noreply", b" x" * 18 + b" noreply"))
exptimes = st.sampled_from(
    (b"0", b"0", b"0", b"10", b"00", b"-1", b"x", b"2592001", b"1700000100", b"+5")
) | all_spelled(0, 10)
flag_words = st.sampled_from(
    (b"0", b"1", b"255", b"256", b"007", b"4294967295", b"4294967296", b"-1", b"x", b"")
) | all_spelled(0, 9)


def large(size: int) -> bytes:
    """A value that makes no overlong line where it is taken for commands."""
    return (b"x" * 99 + b"\n") * (size // 100) + b"y" * (size % 100)


values = st.binary(max_size=30) | st.sampled_from(
    (b"10", large(PLAIN_LIMIT_BYTES - 21), large(PLAIN_LIMIT_BYTES - 20), large(6000))
)
values = values.filter(lambda value: b"stats" not in value)  # taken for a command, it tells of the process


@st.composite
def storage_requests(draw: st.DrawFn) -> bytes:
    command = draw(st.sampled_from((b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas")))
    value = draw(values)
    length = draw(st.sampled_from((0, 0, 0, 0, 0, 1, -1))) + len(value)
    words = [command, draw(key_words), draw(flag_words), draw(exptimes), draw(spelled(max(0, length)))]
    if command == b"cas":
        words.append(draw(all_spelled(1, 2, 99)))
    return b" ".join(words) + draw(tails) + draw(line_ends) + value + b"\r\n"


@st.composite
def line_requests(draw: st.DrawFn) -> bytes:
    command = draw(
        st.sampled_from(
            (
                b"get %b", b"get %b", b"get %b", b"get %b b a", b"get  %b", b"gets %b", b"gets %b a", b"gat # %b",
                b"gats # %b a", b"touch %b #", b"touch %b 0", b"incr %b #", b"decr %b #", b"delete %b", b"version",
                b"flush_all", b"flush_all #", b"stats reset", b"verbosity x", b"mn", b"get", b"", b"foo %b",
                b"mg %b v", b"mg %b O1 k v", b"mg %b v t T#", b"ma %b D#", b"md %b q",
            )
        )
    )  # fmt: skip
    line = command % draw(key_words) if b"%b" in command else command
    line = line.replace(b"#", draw(all_spelled(3, 5, 10)))
    return line + draw(tails) + draw(line_ends)


streams = st.lists(storage_requests() | line_requests(), max_size=12).map(b"".join)
piece_sizes = st.sampled_from((1 << 20, 1 << 20, 1, 7, 100, 4000))


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def content(around: Surroundings) -> dict[bytes, tuple[bytes, int]]:
    """What the store holds."""
    return {key: (wire_bytes_of(entry), deadline_of(entry)) for key, entry in around.store.items()}


@given(streams, piece_sizes)
def test_both_ways_reply_count_and_store_the_same(stream: bytes, size: int) -> None:
    short, general = Surroundings(), Surroundings(verbosity=2)
    assert Conversation(short).feed_pieces(*pieces_of(stream, size)) == Conversation(general).feed(stream)
    assert short.counts() == general.counts()
    assert content(short) == content(general)
    totals = [sum(shard.total_items for shard in around.store.shards) for around in (short, general)]
    assert totals[0] == totals[1]


@given(streams, piece_sizes, st.sampled_from((1, 2, 3)))
def test_short_turns_and_small_pieces_change_nothing(stream: bytes, size: int, requests: int) -> None:
    whole, cut = Surroundings(), Surroundings(Settings(max_reqs_per_event=requests))
    assert Conversation(cut).feed_pieces(*pieces_of(stream, size)) == Conversation(whole).feed(stream)
    assert cut.counts() == whole.counts()
    assert content(cut) == content(whole)


@given(streams)
def test_scarce_memory_changes_no_reply_while_nothing_is_evicted(stream: bytes) -> None:
    roomy, under_pressure = Surroundings(), Surroundings()
    under_pressure.store.records_access = True
    assert Conversation(under_pressure).feed(stream) == Conversation(roomy).feed(stream)


# Whatever a client sends

VALID = b"".join(case.request for case in CASES if len(case.request) < 1000)


def survives(pieces: list[bytes]) -> None:
    """Feed it anything: nothing is raised, little is kept, and it closes or still serves."""
    conversation = Conversation()
    protocol = conversation.protocol
    for piece in pieces:
        conversation.feed(piece)
        assert conversation.held_bytes <= max(MULTIGET_LIMIT_BYTES, conversation.around.store.item_limit_bytes + 2)
        assert 0 < protocol.want <= LARGEST_READ_BYTES
    if protocol.closing:
        return
    for _ in range(3):  # a data block may still be open: lines end it, or it is passed over
        outstanding = protocol.block_bytes_left
        if outstanding > 4_000_000:
            return
        conversation.feed(b"\n" * outstanding + b"\r\n\r\n")
    answer = conversation.feed(b"version\r\n")
    assert protocol.closing or answer.endswith(VERSION)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_leave_a_server_that_serves(pieces: list[bytes]) -> None:
    survives(pieces)


@given(
    st.lists(
        st.sampled_from(
            (b"get ", b"gets ", b"set ", b"cas ", b"gat ", b"incr ", b"a ", b"b ", b"0 ", b"1 ", b"-1 ",
             b"99999999999 ", b"noreply", b"\r\n", b"\n", b"\r", b" ", b"\0", b"\xff", b"k" * 300,
             b"stats ", b"settings", b"conns", b"items", b"flush_all ", b"verbosity ", b"cache_memlimit ",
             b"shutdown", b"quit", b"touch ")
        ),
        max_size=40,
    ).map(b"".join),
    piece_sizes,
)  # fmt: skip
def test_any_words_leave_a_server_that_serves(stream: bytes, size: int) -> None:
    survives(pieces_of(stream, size))


@given(st.data())
def test_any_damage_to_a_valid_stream_leaves_a_server_that_serves(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID) - 300))
    stream = bytearray(VALID[start : start + 300])
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(stream) - 1))
        kind = data.draw(st.sampled_from(("replace", "remove", "insert", "repeat")))
        if kind == "replace":
            stream[position] = data.draw(st.integers(0, 255))
        elif kind == "remove":
            del stream[position : position + data.draw(st.integers(1, 20))]
        elif kind == "insert":
            stream[position:position] = data.draw(st.binary(max_size=10))
        else:
            stream[position:position] = stream[position : position + 30] * data.draw(st.integers(1, 5))
        stream = stream or bytearray(b"x")
    survives(pieces_of(bytes(stream), data.draw(piece_sizes)))
