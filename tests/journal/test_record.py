"""One record as a line: what goes in comes out, and a damaged line is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memcache_kv.journal.record import (
    FORMAT_VERSION,
    MIN_BATCH_LINES,
    Op,
    Record,
    line_of,
    mark_record,
    parse_line,
    put_key,
    queue_lines,
    rechained_lines,
    set_line,
)
from memcache_kv.store.entry import (
    LAST_DEADLINE,
    PLAIN_LIMIT_BYTES,
    STALE,
    WON,
    cas_of,
    deadline_of,
    flags_of,
    is_plain_key,
    make_entry,
    pack,
    value_of,
    wire_bytes_of,
)

KEYS = st.binary(max_size=250) | st.text(max_size=60).map(str.encode)
VALUES = st.binary(max_size=400) | st.text(max_size=200).map(str.encode)
FLAGS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(0, 2**64 - 1)

STATES = st.sampled_from([0, STALE, WON, STALE | WON])

NOT_TEXT = b"\xff\xfe"

MANY = 4 * MIN_BATCH_LINES


@st.composite
def stored(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Keys with entries that are bytes: of one kind, or of all."""
    keys = draw(st.sampled_from([KEYS, st.text(max_size=60).map(str.encode)])).filter(is_plain_key)
    values = draw(st.sampled_from([VALUES, st.text(max_size=200).map(str.encode)]))
    flags = draw(st.sampled_from([st.just(0), FLAGS]))
    deadlines = draw(st.sampled_from([st.just(0), st.integers(0, LAST_DEADLINE)]))
    ids = draw(st.sampled_from([st.just(0), NUMBERS]))
    fewest = draw(st.sampled_from([0, MIN_BATCH_LINES]))
    found = draw(st.lists(st.tuples(keys, flags, values, deadlines, ids), min_size=fewest, max_size=MANY))
    entries = [(key, make_entry(key, pack(flags, value), exp, cas)) for key, flags, value, exp, cas in found]
    return [(key, entry) for key, entry in entries if isinstance(entry, bytes)]


def text_or_none(data: bytes) -> str | None:
    """Decode what is text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def set_lines(keys: list[bytes], entries: list[bytes]) -> bytes:
    """Encode many entries at once, behind a record with the checksum 3."""
    return queue_lines([each for pair in zip(keys, entries, strict=True) for each in pair], 0, 3)[0]


def line_of_entry(key: bytes, entry: bytes) -> bytes:
    """Make the line of a `set` of an entry from its Record."""
    wire_bytes = wire_bytes_of(entry)
    record = put_key(Record("set", flags=flags_of(wire_bytes), exp=deadline_of(entry), cas=cas_of(entry)), key)
    record.value = text_or_none(value_of(wire_bytes))
    if record.value is None:
        record.value64 = value_of(wire_bytes)
    return line_of(record)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of any kind of record, with its line feed."""
    op: Op = draw(st.sampled_from(["start", "set", "delete", "touch", "cas", "mark", "flush", "time", "end"]))
    if op == "set":
        return set_line(draw(KEYS), draw(FLAGS), draw(NUMBERS), draw(NUMBERS), draw(VALUES), draw(STATES))
    if op == "mark":
        return line_of(put_key(mark_record(draw(NUMBERS), draw(NUMBERS), draw(STATES)), draw(KEYS)))
    if op == "start":
        cas, at, limit, items = (draw(NUMBERS) for _ in range(4))
        return line_of(Record(op, cas=cas, at=at, version=FORMAT_VERSION, limit=limit, items=items))
    if op in ("flush", "time"):
        return line_of(Record(op, at=draw(NUMBERS)))
    if op == "end":
        return line_of(Record(op, count=draw(NUMBERS)))
    return line_of(put_key(Record(op, exp=draw(NUMBERS), cas=draw(NUMBERS)), draw(KEYS)))


def as_json(line: bytes) -> dict[str, Any]:
    """Read a line as any other program would."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    fields = json.loads(line.decode("utf-8"))
    assert isinstance(fields, dict)
    return fields


@settings(deadline=None)
@given(KEYS, FLAGS, NUMBERS, NUMBERS, VALUES)
@example(b"", 0, 0, 0, b"")
@example(b"\xed\xa0\x80", 2**32 - 1, 2**64 - 1, 2**64 - 1, b'a\r\nb\x00\xe2\x80\xa8"\\')
def test_a_set_comes_back_as_it_was(key: bytes, flags: int, exp: int, cas: int, value: bytes) -> None:
    line = set_line(key, flags, exp, cas, value)
    record = parse_line(line[:-1])
    assert record.op == "set"
    assert (record.key_bytes(), record.value_bytes()) == (key, value)
    assert (record.flags, record.exp, record.cas) == (flags, exp, cas)


@settings(deadline=None)
@given(stored())
def test_many_sets_at_once_make_the_lines_of_their_records(found: list[tuple[bytes, bytes]]) -> None:
    lines = b"".join(line_of_entry(key, entry) for key, entry in found)
    assert set_lines([key for key, _ in found], [entry for _, entry in found]) == rechained_lines(lines, 3)[0]


@pytest.mark.parametrize("value", [b"x", b"\xff"])
def test_a_plain_entry_of_any_length_makes_the_line_of_its_record(value: bytes) -> None:
    longest = PLAIN_LIMIT_BYTES - len(b" 0 1000\r\n\r\n")
    entries = [pack(0, value * length) for length in range(longest + 1)]
    assert len(entries[-1]) == PLAIN_LIMIT_BYTES
    lines = b"".join(line_of_entry(b"key", entry) for entry in entries)
    assert set_lines([b"key"] * len(entries), entries) == rechained_lines(lines, 3)[0]


def test_a_length_that_was_written_with_zeros_before_it_makes_the_same_line() -> None:
    for length in (*range(12), 95, 100, 989, 999, 1000):
        for zeros in range(1, 9):
            entry = b" 0 %b%d\r\n%b\r\n" % (b"0" * zeros, length, b"\n" * length)
            expected = line_of_entry(b"key", pack(0, b"\n" * length))
            assert (
                set_lines([b"key"] * MIN_BATCH_LINES, [entry] * MIN_BATCH_LINES)
                == rechained_lines(expected * MIN_BATCH_LINES, 3)[0]
            )


@settings(deadline=None)
@given(KEYS, NUMBERS, NUMBERS)
def test_delete_touch_and_cas_come_back_as_they_were(key: bytes, exp: int, cas: int) -> None:
    deleted = parse_line(line_of(put_key(Record("delete"), key))[:-1])
    touched = parse_line(line_of(put_key(Record("touch", exp=exp), key))[:-1])
    named = parse_line(line_of(put_key(Record("cas", cas=cas), key))[:-1])
    assert (deleted.op, deleted.key_bytes()) == ("delete", key)
    assert (touched.op, touched.key_bytes(), touched.exp) == ("touch", key, exp)
    assert (named.op, named.key_bytes(), named.cas) == ("cas", key, cas)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_records_without_a_key_come_back_as_they_were(cas: int, at: int, version: int) -> None:
    for record in (
        Record("start", cas=cas, at=at, version=version),
        Record("flush", at=at),
        Record("time", at=at),
        Record("end", count=cas),
    ):
        assert parse_line(line_of(record)[:-1]) == record


@settings(deadline=None)
@given(KEYS, NUMBERS, NUMBERS, STATES)
def test_rare_facts_come_back_as_they_were(key: bytes, exp: int, cas: int, state: int) -> None:
    mark = parse_line(line_of(put_key(mark_record(exp, cas, state), key))[:-1])
    assert (mark.op, mark.key_bytes(), mark.exp, mark.cas, mark.state) == ("mark", key, exp, cas, state)
    stored = parse_line(set_line(key, 0, exp, cas, b"value", state)[:-1])
    assert (stored.key_bytes(), stored.exp, stored.cas, stored.state) == (key, exp, cas, state)


@settings(deadline=None)
@given(lines())
def test_each_record_is_one_line_of_json_that_says_its_length_and_kind(line: bytes) -> None:
    fields = as_json(line)
    assert list(fields)[:3] == ["crc", "len", "op"]
    assert fields["len"] == len(line) - line.index(b'"op"') - 1


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=200))
def test_text_stays_text(key: str, value: str) -> None:
    fields = as_json(set_line(key.encode(), 0, 0, 0, value.encode()))
    assert (fields["key"], fields["value"]) == (key, value)
    assert "key64" not in fields
    assert "value64" not in fields


@settings(deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_what_is_not_utf_8_is_base64_under_a_name_of_its_own(key: bytes, value: bytes) -> None:
    fields = as_json(set_line(NOT_TEXT + key, 0, 0, 0, NOT_TEXT + value))
    assert base64.b64decode(fields["key64"]) == NOT_TEXT + key
    assert base64.b64decode(fields["value64"]) == NOT_TEXT + value
    assert "key" not in fields
    assert "value" not in fields


def test_a_text_key_stays_text_beside_a_binary_value_and_the_other_way_round() -> None:
    binary_value = as_json(set_line(b"greeting", 0, 0, 0, NOT_TEXT))
    binary_key = as_json(set_line(NOT_TEXT, 0, 0, 0, b"hello"))
    assert (binary_value["key"], "value64" in binary_value, "value" in binary_value) == ("greeting", True, False)
    assert (binary_key["value"], "key64" in binary_key, "key" in binary_key) == ("hello", True, False)


def test_the_example_of_the_format_is_what_is_written() -> None:
    line = set_line(b"greeting", 0, 0, 0, b"hello")
    assert line[line.index(b'"op"') :] == b'"op":"set","key":"greeting","value":"hello"}\n'
    assert line.startswith(b'{"crc":"')


@settings(deadline=None, max_examples=40)
@given(lines())
def test_any_single_bit_flip_is_refused(line: bytes) -> None:
    line = line[:-1]
    for bit in range(len(line) * 8):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            parse_line(bytes(damaged))


@settings(deadline=None)
@given(lines())
def test_a_line_that_lacks_its_end_or_its_beginning_is_refused(line: bytes) -> None:
    line = line[:-1]
    for cut in range(len(line)):
        with pytest.raises(ValueError):
            parse_line(line[:cut])
        with pytest.raises(ValueError):
            parse_line(line[cut + 1 :])


@settings(deadline=None)
@given(lines(), st.binary(min_size=1, max_size=30))
def test_a_line_with_something_behind_it_is_refused(line: bytes, more: bytes) -> None:
    with pytest.raises(ValueError):
        parse_line(line[:-1] + more)


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b'{"op":"set","key":"a","value":"b"}')
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_line(line)


def test_a_refusal_says_what_is_wrong() -> None:
    line = set_line(b"greeting", 0, 0, 0, b"hello")[:-1]
    with pytest.raises(ValueError, match="checksum"):
        parse_line(line.replace(b"hello", b"hallo"))
    with pytest.raises(ValueError, match="bytes long"):
        parse_line(line[:-3])
    with pytest.raises(ValueError, match="not a record"):
        parse_line(b"STAT pid 1")


def test_an_unknown_operation_is_refused_although_its_checksum_fits() -> None:
    strange = Record("set", key="a", value="b")
    strange.op = "rename"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="unknown form"):
        parse_line(line_of(strange)[:-1])
