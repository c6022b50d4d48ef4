"""Numbers on a command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.protocol.numbers import signed32, stored_exptime, stored_flags, unsigned32, unsigned64

NO_NUMBERS = [b"x", b"1x", b"x1", b"1.5", b"0x10", b"1e3", b"--1", b"1-", b"1 ", b"\xb2", "٣".encode(), b"1_0", b"1\n"]


@pytest.mark.parametrize("token", [*NO_NUMBERS, b"", b"-", b"-1", b"+1", b" 1", b"18446744073709551616", b"9" * 100])
def test_no_unsigned_numbers_of_64_bits(token: bytes) -> None:
    assert unsigned64(token) is None


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0" * 21 + b"1", 1),
        (b"0018446744073709551615", 2**64 - 1),
        (b"0018446744073709551616", None),
        (b"0" * 22 + b"1", None),
    ],
)
def test_a_number_of_64_bits_has_up_to_22_digits(token: bytes, number: int | None) -> None:
    assert unsigned64(token) == number


@pytest.mark.parametrize(
    ("token", "number"), [(b"00000000001", 1), (b"000000000001", None), (b"-0000000001", -1), (b"-00000000001", None)]
)
def test_a_number_of_32_bits_has_up_to_11_characters(token: bytes, number: int | None) -> None:
    assert signed32(token) == number
    if not token.startswith(b"-"):
        assert unsigned32(token) == number


@given(st.integers(0, 2**64 - 1))
def test_every_unsigned_number_of_64_bits_is_read(number: int) -> None:
    assert unsigned64(b"%d" % number) == number


@pytest.mark.parametrize(
    ("token", "number"), [(b"0", 0), (b"007", 7), (b"4294967295", 2**32 - 1), (b"4294967296", None), (b"-1", None)]
)
def test_unsigned_numbers_of_32_bits(token: bytes, number: int | None) -> None:
    assert unsigned32(token) == number


@pytest.mark.parametrize(
    "token", [*NO_NUMBERS, b"+1", b" 1", b"2147483648", b"-2147483649", b"99999999999", b"9" * 100]
)
def test_no_signed_numbers_of_32_bits(token: bytes) -> None:
    assert signed32(token) is None


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_signed_number_of_32_bits_is_read(number: int) -> None:
    assert signed32(b"%d" % number) == number


def test_a_lone_minus_is_zero_as_in_memcached() -> None:
    assert signed32(b"-") == 0


@pytest.mark.parametrize("token", [*NO_NUMBERS, b"", b"-", b"9223372036854775808", b"-9223372036854775809", b"9" * 100])
def test_no_exptimes(token: bytes) -> None:
    assert stored_exptime(token) is None


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_exptime_of_32_bits_is_read(number: int) -> None:
    assert stored_exptime(b"%d" % number) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"+5", 5),
        (b"\t5", 5),
        (b"2147483648", -(2**31)),
        (b"4294967295", -1),
        (b"4294967296", 0),
        (b"4294967301", 5),
        (b"9223372036854775807", -1),
        (b"0" * 10_000 + b"5", 5),
        (b"-" + b"0" * 10_000 + b"5", -5),
    ],
)
def test_of_a_longer_exptime_the_low_bits_count(token: bytes, number: int) -> None:
    assert stored_exptime(token) == number


@pytest.mark.parametrize("token", [*NO_NUMBERS, b"", b"-", b"-1", b"18446744073709551616", b"9" * 100])
def test_no_flags(token: bytes) -> None:
    assert stored_flags(token) is None


@given(st.integers(0, 2**32 - 1))
def test_all_flags_of_32_bits_are_read(number: int) -> None:
    assert stored_flags(b"%d" % number) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"+5", 5),
        (b"4294967296", 0),
        (b"4294967297", 1),
        (b"007", 7),
        (b"0" * 10_000 + b"7", 7),
        (b"-0", 0),
        (b"-18446744073709551615", 1),
        (b"-9223372036854775809", 2**32 - 1),
        (b"-9223372036854775808", None),
        (b"-18446744073709551616", None),
        (b"18446744073709551615\t-", 2**32 - 1),
    ],
)
def test_of_longer_flags_the_low_bits_count(token: bytes, number: int | None) -> None:
    assert stored_flags(token) == number


@given(st.binary(max_size=30))
def test_any_token_is_a_number_in_range_or_none(token: bytes) -> None:
    for read, low, high in (
        (unsigned64, 0, 2**64),
        (unsigned32, 0, 2**32),
        (signed32, -(2**31), 2**31),
        (stored_exptime, -(2**31), 2**31),
        (stored_flags, 0, 2**32),
    ):
        number = read(token)
        assert number is None or low <= number < high
