"""What is kept for a key: ready bytes, deadlines, numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.store.entry import (
    ITEM_COST_BYTES,
    LAST_DEADLINE,
    LONG_PAST,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    RELATIVE_LIMIT_SECONDS,
    Item,
    absolute_deadline,
    cas_of,
    deadline_of,
    flags_of,
    is_plain_key,
    length_of,
    make_entry,
    number_in,
    pack,
    value_of,
    wire_bytes_of,
)

NOW = 1_700_000_000
STARTED = NOW - 500


def test_ready_bytes_are_what_follows_the_key_in_a_reply() -> None:
    assert pack(7, b"abc") == b" 7 3\r\nabc\r\n"
    assert pack(0, b"") == b" 0 0\r\n\r\n"


@given(st.integers(0, 2**32 - 1), st.binary(max_size=300))
def test_what_is_packed_comes_out_again(flags: int, value: bytes) -> None:
    wire_bytes = pack(flags, value)
    assert (flags_of(wire_bytes), value_of(wire_bytes), length_of(wire_bytes)) == (flags, value, len(value))


@pytest.mark.parametrize("value", [b"\r\n", b"\n", b" 1 2\r\n", b"END\r\n", b"\0" * 10])
def test_values_full_of_line_ends_come_out_whole(value: bytes) -> None:
    wire_bytes = pack(2**32 - 1, value)
    assert (flags_of(wire_bytes), value_of(wire_bytes), length_of(wire_bytes)) == (2**32 - 1, value, len(value))


def test_a_small_value_with_nothing_rare_is_kept_as_bare_bytes() -> None:
    entry = make_entry(b"key", pack(0, b"v"), deadline=0)
    assert entry == b" 0 1\r\nv\r\n"
    assert wire_bytes_of(entry) is entry
    assert deadline_of(entry) == 0


def test_a_value_is_plain_up_to_its_limit_and_an_item_beyond() -> None:
    assert isinstance(make_entry(b"key", b"x" * PLAIN_LIMIT_BYTES, 0), bytes)
    assert isinstance(make_entry(b"key", b"x" * (PLAIN_LIMIT_BYTES + 1), 0), Item)


@pytest.mark.parametrize(
    ("deadline", "cas"), [(5, 0), (0, 5), (LAST_DEADLINE, 0), (1, 2**64 - 1), (0x0A0A0A0A, 0x0A0A0A0A0A0A0A0A)]
)
def test_deadline_and_id_are_marked_behind_a_small_value(deadline: int, cas: int) -> None:
    entry = make_entry(b"key", pack(3, b"v"), deadline, cas)
    assert isinstance(entry, bytes)
    assert entry[-1] != PLAIN
    assert len(entry) == len(pack(3, b"v")) + (11 if cas else 3)
    assert (wire_bytes_of(entry), deadline_of(entry), cas_of(entry)) == (b" 3 1\r\nv\r\n", deadline, cas)


@pytest.mark.parametrize(
    ("key", "deadline", "cas"),
    [(b"with space", 0, 0), (b"line\nfeed", 5, 0), (b"with space", 0, 5), (b"key", LAST_DEADLINE + 1, 0)],
)
def test_odd_keys_and_deadlines_make_an_item(key: bytes, deadline: int, cas: int) -> None:
    entry = make_entry(key, pack(3, b"v"), deadline, cas)
    assert isinstance(entry, Item)
    assert (wire_bytes_of(entry), deadline_of(entry), cas_of(entry)) == (b" 3 1\r\nv\r\n", deadline, cas)


def test_an_item_counts_its_own_bytes() -> None:
    assert len(Item(b"12345")) == 5 + ITEM_COST_BYTES


@pytest.mark.parametrize("key", [b"a", b"\xff\xfe", b"tab\there", b"k" * 250, b"return\rhere"])
def test_keys_that_a_line_can_name_are_plain(key: bytes) -> None:
    assert is_plain_key(key)


def test_an_exptime_of_zero_is_never() -> None:
    assert absolute_deadline(0, NOW, STARTED) == 0


@pytest.mark.parametrize("exptime", [-1, -2, -(2**31)])
def test_a_negative_exptime_is_long_past(exptime: int) -> None:
    assert absolute_deadline(exptime, NOW, STARTED) == LONG_PAST


@pytest.mark.parametrize("exptime", [1, 2, 3600, RELATIVE_LIMIT_SECONDS - 1, RELATIVE_LIMIT_SECONDS])
def test_an_exptime_up_to_thirty_days_counts_from_now(exptime: int) -> None:
    assert absolute_deadline(exptime, NOW, STARTED) == NOW + exptime


def test_thirty_days_are_2592000_seconds() -> None:
    assert RELATIVE_LIMIT_SECONDS == 2_592_000


@pytest.mark.parametrize("exptime", [RELATIVE_LIMIT_SECONDS + 1, STARTED - 1, STARTED])
def test_an_exptime_beyond_thirty_days_is_a_unix_time_and_before_the_start_long_past(exptime: int) -> None:
    assert absolute_deadline(exptime, NOW, STARTED) == LONG_PAST


@pytest.mark.parametrize("exptime", [STARTED + 1, NOW - 1, NOW, NOW + 1, 2**31 - 1])
def test_a_unix_time_after_the_start_is_taken_as_it_is(exptime: int) -> None:
    assert absolute_deadline(exptime, NOW, STARTED) == exptime


def test_on_a_machine_whose_clock_began_at_zero_thirty_days_and_a_second_is_in_the_future() -> None:
    assert absolute_deadline(RELATIVE_LIMIT_SECONDS + 1, 100, 50) == RELATIVE_LIMIT_SECONDS + 1


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"12", 12),
        (b"007", 7),
        (b"+5", 5),
        (b"  12", 12),
        (b"\t\n\v\f\r12", 12),
        (b" +12 ", 12),
        (b"12 abc", 12),
        (b"12\r\n", 12),
        (b"12\n", 12),
        (b"12\0rest", 12),
        (b"12   ", 12),
        (b"9223372036854775808", 2**63),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", None),
        (b"99999999999999999999", None),
        (b"9" * 5000, None),
        (b"0" * 70 + b"5", 5),
        (b"0" * 5000, 0),
        (b"0" * 64 + b"x", None),
        (b" " * 100 + b"5", 5),
        (b"", None),
        (b" ", None),
        (b"+", None),
        (b"abc", None),
        (b"12abc", None),
        (b"1.5", None),
        (b"-1", None),
        (b"- 1", None),
        (b"+ 1", None),
        (b"++1", None),
        (b"+-1", None),
        (b"0x10", None),
        (b"\xb2", None),
        ("٣".encode(), None),
        (b"\0", None),
    ],
)
def test_a_number_is_read_as_strtoull_reads_it(value: bytes, number: int | None) -> None:
    assert number_in(value) == number


@given(st.integers(0, 2**64 - 1), st.sampled_from([b"", b" ", b"\r\n", b" x", b"\0"]))
def test_every_number_of_64_bits_is_read(number: int, tail: bytes) -> None:
    assert number_in(b"%d%b" % (number, tail)) == number


@given(st.binary(max_size=100))
def test_any_value_is_a_number_of_64_bits_or_none(value: bytes) -> None:
    number = number_in(value)
    assert number is None or 0 <= number < 2**64
