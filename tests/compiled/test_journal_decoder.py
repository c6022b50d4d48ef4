"""The compiled decoder makes of any line, be it damaged, what the Python one makes of it."""

import base64
from collections.abc import Callable
from itertools import product
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memcache_kv.journal.record import (
    FORMAT_VERSION,
    UNCHAINED,
    Record,
    check_line,
    decode_line,
    decode_lines,
    entry_line,
    framed,
    line_of,
    mark_record,
    put_key,
    queue_lines,
    rechained_lines,
)
from memcache_kv.store.entry import Entry, make_entry, pack, state_of, value_of, wire_bytes_of
from tests.compiled.test_journal_encoder import DEADLINES, NUMBERS, PIECES, STATES, pairs

journal_decoder = pytest.importorskip("memcache_kv.compiled.journal_decoder", exc_type=ImportError)

FLAGS = st.just(0) | st.integers(0, 2**32 - 1)

Meaning = list[tuple[object, ...]]
Lines = tuple[list[bytes], list[Entry | None]]
Decode = Callable[[bytes, int], Lines]


def meaning_of(decoded: Lines) -> Meaning | str:
    """What a server makes of decoded lines: keys and entries, or records; or that one is damaged."""
    found: Meaning = []
    for key, entry in zip(*decoded, strict=True):
        if entry is not None:
            found.append((key, meaning_of_entry(entry)))
            continue
        try:
            record = decode_line(key)
        except ValueError:
            return "damaged"
        if record.op == "set":
            wire_bytes = pack(record.flags, record.value_bytes())
            made = make_entry(record.key_bytes(), wire_bytes, record.exp, record.cas, 0, record.state)
            found.append((record.key_bytes(), meaning_of_entry(made)))
        else:
            found.append((record,))
    return found


def meaning_of_entry(entry: Entry) -> object:
    if isinstance(entry, bytes):
        return entry
    return entry.wire_bytes, entry.deadline, entry.cas, entry.state, entry.accessed


def compiled(block: bytes, before: int) -> Lines:
    """Decode with the compiled code."""
    parsed = journal_decoder.parse_block(block, before)
    lines: Lines = parsed.lines(0, len(parsed), 0)
    return lines


def decoded_by(decode: Decode, block: bytes, before: int) -> Meaning | str:
    """What a server makes of a block."""
    try:
        return meaning_of(decode(block, before))
    except ValueError:
        return "damaged"


def pure(block: bytes, before: int) -> Lines:
    """Decode with the Python code."""
    keys, entries = decode_lines(block, before)
    return keys, [*entries]


def plainly(block: bytes, before: int) -> Lines:
    """Decode with the plainest code that there is."""
    lines = block[:-1].split(b"\n")
    for line in lines:
        checksum = check_line(line, before)
        before = before if before == UNCHAINED else checksum
    return lines, [None] * len(lines)


def both(block: bytes) -> Meaning | str:
    """Decode a block with both, and with the plainest code that there is, and compare; then its lines chained."""
    expected = agreed(block, UNCHAINED)
    if expected != "damaged":
        assert agreed(rechained_lines(block, 77)[0], 77) == expected
    return expected


def agreed(block: bytes, before: int) -> Meaning | str:
    """Decode a block in all three ways, which must agree."""
    expected = decoded_by(plainly, block, before)
    assert decoded_by(pure, block, before) == expected
    assert decoded_by(compiled, block, before) == expected
    return expected


@st.composite
def other_lines(draw: st.DrawFn) -> bytes:
    """A line of another kind of record."""
    key = draw(PIECES)
    records = (
        put_key(Record("delete"), key),
        put_key(Record("touch", exp=draw(NUMBERS)), key),
        put_key(Record("cas", cas=draw(NUMBERS)), key),
        put_key(mark_record(draw(NUMBERS), draw(NUMBERS), draw(STATES)), key),
        Record("start", cas=draw(NUMBERS), at=draw(NUMBERS), version=FORMAT_VERSION),
        Record("flush", at=draw(NUMBERS)),
        Record("time", at=draw(NUMBERS), stepped=draw(st.integers(-9, 9))),
        Record("end", count=draw(NUMBERS)),
    )
    return line_of(draw(st.sampled_from(records)))


@st.composite
def set_lines(draw: st.DrawFn) -> bytes:
    key, value = draw(PIECES), draw(PIECES)
    return entry_line(key, make_entry(key, pack(draw(FLAGS), value), draw(DEADLINES), draw(NUMBERS), 0, draw(STATES)))


LINES = set_lines() | other_lines()


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES, min_size=1, max_size=20))
def test_what_was_written_is_decoded(lines: list[bytes]) -> None:
    assert both(b"".join(lines)) != "damaged"
    chained, _ = rechained_lines(b"".join(lines), 0)
    assert agreed(chained, 0) != "damaged"


@settings(deadline=None, max_examples=300)
@given(st.lists(pairs().filter(lambda pair: pair[0] != b"\n"), min_size=1, max_size=20))
def test_what_the_encoder_was_given_comes_back(found: list[tuple[bytes, Entry]]) -> None:
    decoded = agreed(queue_lines([each for pair in found for each in pair], 0, 5)[0], 5)
    assert [(key, value_of_any(entry)) for key, entry in decoded] == [  # type: ignore[str-unpack]
        (key, value_of(wire_bytes_of(entry))) for key, entry in found
    ]


def value_of_any(entry: object) -> bytes:
    wire_bytes = entry[0] if isinstance(entry, tuple) else entry
    assert isinstance(wire_bytes, bytes)
    return value_of(wire_bytes_of(wire_bytes))


@settings(deadline=None, max_examples=200)
@given(st.lists(LINES, min_size=3, max_size=8, unique=True), st.data())
def test_a_line_that_is_removed_repeated_or_moved_does_not_fit(lines: list[bytes], data: st.DataObject) -> None:
    chained = rechained_lines(b"".join(lines), 9)[0].splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 2))
    removed, repeated, moved = ([*chained] for _ in range(3))
    del removed[at]
    repeated.insert(at, repeated[at])
    moved[at : at + 2] = moved[at + 1], moved[at]
    for changed in (removed, repeated, moved):
        assert agreed(b"".join(changed), 9) == "damaged"
    assert agreed(b"".join(chained[1:]), 9) == "damaged"
    assert agreed(b"".join(chained), 8) == "damaged"


@settings(deadline=None, max_examples=30)
@given(LINES, LINES)
def test_a_line_with_any_byte_changed_gets_the_same_verdict(line: bytes, next_line: bytes) -> None:
    for at in range(len(line)):
        for changed in {line[at] ^ 1, line[at] ^ 0x80, line[at] ^ 0x20, 0, ord('"'), ord("\\"), ord("\n")} - {line[at]}:
            damaged = line[:at] + bytes([changed]) + line[at + 1 :] + next_line
            if damaged.endswith(b"\n"):
                assert both(damaged) == "damaged"


@settings(deadline=None, max_examples=60)
@given(LINES, LINES)
def test_a_line_that_is_cut_off_or_lacks_a_byte_gets_the_same_verdict(line: bytes, next_line: bytes) -> None:
    for at in range(len(line) - 1):
        assert both(line[:at] + b"\n" + next_line) == "damaged"
        assert both(line[:at] + line[at + 1 :] + next_line) == "damaged"
        assert both(line[at + 1 :] + next_line) == "damaged"


def remade(line: bytes, old: bytes, new: bytes) -> bytes:
    """Change a line's content, with a length and a checksum that fit."""
    body = line[line.index(b'"op"') : -1].replace(old, new, 1)
    return framed(body)


@settings(deadline=None, max_examples=300)
@given(LINES, st.data())
def test_any_content_whose_checksum_fits_gets_the_same_verdict(line: bytes, data: st.DataObject) -> None:
    body = line[line.index(b'"op"') : -1]
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 8)))
    inserted = data.draw(st.binary(max_size=6) | st.sampled_from(SPELLINGS))
    body = body[:start] + inserted.replace(b"\n", b"") + body[end:]
    both(framed(body))


SPELLINGS = [
    b"0",
    b"00",
    b"-1",
    b"1.0",
    b"1e3",
    b" ",
    b"\t",
    b",",
    b'"',
    b"{}",
    b"\\/",
    b"\\u0041",
    b"\\u001F",
    b"\\u001f",
    b"\\u0020",
    b"\\u00e4",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\x41",
    b"\\.",
    b"\\b",
    b"\x7f",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"=",
    b"==",
    b'"stale":true',
    b'"won":true,',
    b'"cas":1,',
    b'"flags":1,',
    b'"exp":1,',
    b'"key":"b",',
    b'"value":"b"',
    b"null",
    b'"exp":0,',
    b'"flags":0,',
    b'"cas":18446744073709551616,',
    b'"exp":4294967296,',
    b'"flags":4294967296,',
]
PLACES = [b'"key":', b"greeting", b'",', b'"value":', b"hello", b'"}', b"}", b""]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_that_the_writer_does_not_use_gets_the_same_verdict(spelling: bytes) -> None:
    line = entry_line(b"greeting", pack(0, b"hello"))
    for place in PLACES:
        both(remade(line, place, place + spelling))
        both(remade(line, place, spelling + place))
        both(remade(line, place, spelling))


@pytest.mark.parametrize("size", range(8))
def test_base64_in_any_spelling_gets_the_same_verdict(size: int) -> None:
    text = base64.b64encode(b"\xff" * size)
    line = entry_line(b"key", pack(0, b"\xff" * size or b"\xff"))
    right = base64.b64encode(b"\xff" * (size or 1))
    for spelling in (
        text,
        text.rstrip(b"="),
        text + b"=",
        text + b"==",
        text + b"A",
        b"=" + text,
        text[:-1],
        text.replace(b"/", b"_"),
        text.replace(b"8", b"9"),
        text.replace(b"w", b"x"),
        text + b" ",
        text[:1] + b"=" + text[1:],
        text + text,
    ):
        both(remade(line, right, spelling))


@pytest.mark.parametrize("character", [b"x", b'"', b"\n", b"\0", "ä".encode(), b"\xff"])
def test_values_of_all_lengths_are_decoded(character: bytes) -> None:
    sizes = (*range(40), 2040, 2048, 2049, *range(4080, 4098), 5000)
    for size, (flags, deadline, cas) in product(sizes, ((0, 0, 0), (1 << 31, 9, 0), (0, 0, 1 << 63), (1, 7, 5))):
        made = make_entry(b"key", pack(flags, character * size), deadline, cas)
        assert both(entry_line(b"key", made)) == [(b"key", meaning_of_entry(made))]
        assert state_of(made) == 0


def test_common_records_are_decoded_without_python() -> None:
    queue: list[Entry] = []
    for number in range(3000):
        value = (b"text", b'"escaped"\n', "ä€\U0001f600".encode(), b"\xffbinary")[number % 4]
        queue += (b"key%d" % number, make_entry(b"key", pack(number % 3, value), number % 5, number % 7))
    assert compiled(queue_lines(queue)[0], 0) == (queue[0::2], queue[1::2])


@settings(deadline=None)
@given(st.binary(max_size=200).map(lambda data: data + b"\n"))
@example(b"\n")
@example(b"\n\n")
@example(b'{"crc":"\n')
@example(b'{"crc":"%08x","len":0,\n' % crc32(b""))
def test_what_is_no_record_is_damaged_to_both(block: bytes) -> None:
    assert both(block) == "damaged"
