"""The compiled encoder makes the lines of the Python one, byte by byte, and takes the same items from the store."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memcache_kv.journal.codec import take_live_items
from memcache_kv.journal.record import ENCODED, framed, queue_lines
from memcache_kv.store.entry import FETCHED, LAST_DEADLINE, STALE, WON, Entry, Item, make_entry, pack

journal_encoder = pytest.importorskip("memcache_kv.compiled.journal_encoder", exc_type=ImportError)

LARGE = 20_000
NUMBERS = st.integers(0, 2**64 - 1)
DEADLINES = st.just(0) | st.integers(0, LAST_DEADLINE) | st.integers(0, 2**62 - 1)
STATES = st.just(0) | st.sampled_from([FETCHED, STALE, WON, STALE | WON, FETCHED | STALE])
TEXTS = st.text(max_size=60).map(str.encode)
ESCAPED = st.text(st.sampled_from('a"\\/\b\t\n\f\r\0\v\x1f\x7fä€\U0001f600'), max_size=60).map(str.encode)
SURROGATES = st.integers(0xD800, 0xDFFF).map(lambda code: chr(code).encode(errors="surrogatepass"))
BROKEN = st.tuples(TEXTS, st.sampled_from([b"\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xff"]), TEXTS)
PIECES = TEXTS | ESCAPED | SURROGATES | st.binary(max_size=60) | BROKEN.map(b"".join)
LONG = st.tuples(PIECES, st.integers(0, LARGE)).map(lambda drawn: (drawn[0] * LARGE)[: drawn[1]])
Take = Callable[[dict[bytes, Entry], list[bytes], int, int, int], list[Entry]]
WALL_STEPS = st.just(0) | st.integers(-(2**33), 2**33)


@st.composite
def items(draw: st.DrawFn) -> tuple[bytes, Entry]:
    """A key and its entry of any form."""
    key, value = draw(PIECES), draw(PIECES | LONG)
    wire_bytes = pack(draw(st.just(0) | st.integers(0, 2**32 - 1)), value)
    return key, make_entry(key, wire_bytes, draw(DEADLINES), draw(st.just(0) | NUMBERS), 0, draw(STATES))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, Entry]:
    """An item, or a line that is encoded already."""
    if draw(st.integers(0, 9)) == 0:
        return ENCODED, framed(b"," + draw(st.binary(max_size=60)).replace(b"\n", b"")) * draw(st.integers(1, 3))
    return draw(items())


def flat(found: list[tuple[bytes, Entry]]) -> list[Entry]:
    return [each for pair in found for each in pair]


@settings(deadline=None, max_examples=400)
@given(st.lists(pairs(), max_size=30), WALL_STEPS)
@example([], 0)
@example([(b"", pack(0, b""))], 0)
@example([(ENCODED, Item(pack(0, b"x"), 0))], 0)
@example([(b"k", make_entry(b"k", pack(0, b"x"), 5))], -5)
def test_the_lines_are_those_of_the_python_encoder(found: list[tuple[bytes, Entry]], wall_ahead: int) -> None:
    queue = flat(found)
    assert journal_encoder.encode_queue(queue, wall_ahead, 9) == queue_lines(queue, wall_ahead, 9)


@pytest.mark.parametrize("lead", range(0x80, 0x100))
def test_every_pair_of_bytes_is_text_to_both_or_to_neither(lead: int) -> None:
    """With three places for what follows: at the end, before a letter, and before continuations."""
    queue: list[Entry] = []
    for second in range(0x100):
        for rest in (b"", b"a", b"\x80", b"\x80\x80", b"\x80\xc0"):
            queue += (b"key", pack(0, bytes((lead, second)) + rest))
    assert journal_encoder.encode_queue(queue, 0, 9) == queue_lines(queue, 0, 9)


@pytest.mark.parametrize("special", [b'"', b"\\", b"\n", b"\0", b"\x1f", b"\x7f", "ä".encode(), b"\xff"])
def test_a_special_character_is_found_at_any_place(special: bytes) -> None:
    values = [b"x" * before + special + b"y" * after for before in range(20) for after in range(20)]
    queue = flat([(b"key", pack(0, value)) for value in values])
    assert journal_encoder.encode_queue(queue, 0, 9) == queue_lines(queue, 0, 9)


@pytest.mark.parametrize("byte", [b"x", b"\xff"])
def test_a_value_of_any_length_makes_the_same_line(byte: bytes) -> None:
    for size in (*range(2000), 4095, 65536, 1 << 20):
        queue: list[Entry] = [b"key", Item(pack(0, byte * size))]
        assert journal_encoder.encode_queue(queue, 0, 9) == queue_lines(queue, 0, 9)


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\n",
        b"no wire bytes",
        b" 1\r\n",
        b"  1\r\nx\r\n",
        b" -1 1\r\nx\r\n",
        b" 12345678901 1\r\nx\r\n",
        b" 0 1\r\nx\r\x02",
        Item(pack(0, b"x"), deadline=1 << 62),
        Item(pack(0, b"x"), deadline=-1),
        Item(pack(0, b"x"), cas=1 << 64),
        Item(b""),
    ],
)
def test_an_unknown_form_is_left_to_the_python_encoder(entry: Entry) -> None:
    assert journal_encoder.encode_queue([b"key", pack(0, b"x"), b"other", entry], 0, 0) is None


@settings(deadline=None, max_examples=200)
@given(st.lists(pairs(), max_size=30), WALL_STEPS)
def test_the_lines_are_the_same_where_it_lets_other_threads_run(
    found: list[tuple[bytes, Entry]], wall_ahead: int
) -> None:
    queue = flat([*found, *[(b"key", pack(0, b"x" * LARGE))] * 10, *found])
    assert journal_encoder.encode_queue(queue, wall_ahead, 9) == queue_lines(queue, wall_ahead, 9)


# Taking items from the store


@settings(deadline=None, max_examples=400)
@given(st.lists(items(), max_size=60), st.data())
def test_the_items_taken_are_those_that_the_python_function_takes(
    found: list[tuple[bytes, Entry]], data: st.DataObject
) -> None:
    """Of a table from which some keys have gone since they were listed; some have expired."""
    table = dict(found)
    keys = [*table][::-1]
    for key in data.draw(st.sets(st.sampled_from(keys))) if keys else ():
        del table[key]
    now = data.draw(st.just(0) | DEADLINES)
    most_items, most_bytes = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 3 * LARGE))
    others = keys.copy()
    while keys or others:
        taken = journal_encoder.take_live(table, keys, now, most_items, most_bytes)
        assert taken == take_live_items(table, others, now, most_items, most_bytes)
        assert keys == others


@pytest.mark.parametrize("take", [journal_encoder.take_live, take_live_items])
@pytest.mark.parametrize(
    ("entry", "is_taken"),
    [
        (make_entry(b"key", pack(0, b"x"), 10), False),
        (make_entry(b"key", pack(0, b"x"), 11), True),
        (make_entry(b"key", pack(0, b"x"), 10, 7), False),
        (make_entry(b"key", pack(0, b"x"), 0, 7), True),
        (make_entry(b"key", pack(0, b"x"), LAST_DEADLINE, 7), True),
        (make_entry(b"a key", pack(0, b"x"), 10), False),
        (make_entry(b"a key", pack(0, b"x"), 11, 7, 0, STALE), True),
    ],
)
def test_what_has_expired_is_not_taken(take: Take, entry: Entry, is_taken: bool) -> None:
    keys = [b"key"]
    assert take({b"key": entry}, keys, 10, 100, 100) == [b"key", entry] * is_taken
    assert keys == []


@pytest.mark.parametrize("take", [journal_encoder.take_live, take_live_items])
def test_the_first_item_that_makes_them_too_long_is_the_last(take: Take) -> None:
    table: dict[bytes, Entry] = {b"%d" % number: pack(0, b"x" * 100) for number in range(100)}
    keys = [*table][::-1]
    assert take(table, keys, 1, 100, 250)[::2] == [b"0", b"1", b"2"]
    assert take(table, keys, 1, 5, 250_000)[::2] == [b"3", b"4", b"5", b"6", b"7"]
    assert keys == [*table][:7:-1]


def test_items_that_are_replaced_or_deleted_while_they_are_encoded_stay_as_they_were() -> None:
    table: dict[bytes, Entry] = {b"%d" % number: pack(0, b"%d" % number * 200) for number in range(2000)}
    table |= {b"item %d" % number: Item(pack(0, b"%d" % number * 2000), 0, number) for number in range(500)}
    expected = queue_lines(flat([*table.items()]), 0)
    found = journal_encoder.take_live(table, [*table][::-1], 1, len(table), 1 << 30)
    encoded: list[tuple[bytes, int] | None] = []
    encoder = threading.Thread(target=lambda: encoded.append(journal_encoder.encode_queue(found, 0, 0)))
    encoder.start()
    for key in [*table]:
        table[key] = pack(0, b"y" * (200 + len(key)))
    table.clear()
    encoder.join()
    assert encoded == [expected]
