"""incr and decr, byte for byte."""

import pytest

from tests.integration.known_differences import BAD_LINE
from tests.integration.wire import Wire

BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
NOT_A_NUMBER = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
LARGEST = 2**64 - 1


def store(wire: Wire, value: bytes) -> None:
    """Put a value at the key n, with flags 5."""
    wire.expect(b"set n 5 0 %d\r\n%b\r\n" % (len(value), value), b"STORED\r\n")


def holds(wire: Wire, value: bytes) -> None:
    """Demand the value at the key n."""
    wire.expect(b"get n\r\n", b"VALUE n 5 %d\r\n%b\r\nEND\r\n" % (len(value), value))


def test_incr_and_decr_answer_the_new_number(wire: Wire) -> None:
    store(wire, b"10")
    wire.session(
        (b"incr n 5\r\n", b"15\r\n"),
        (b"decr n 1\r\n", b"14\r\n"),
        (b"incr n 0\r\n", b"14\r\n"),
        (b"incr n 007\r\n", b"21\r\n"),
    )
    holds(wire, b"21")


def test_a_number_that_grows_longer_makes_the_value_longer(wire: Wire) -> None:
    store(wire, b"99")
    wire.expect(b"incr n 1\r\n", b"100\r\n")
    holds(wire, b"100")


def test_a_number_that_grows_shorter_is_padded_with_spaces(wire: Wire) -> None:
    store(wire, b"10")
    wire.expect(b"decr n 1\r\n", b"9\r\n")
    holds(wire, b"9 ")
    wire.expect(b"incr n 1\r\n", b"10\r\n")
    holds(wire, b"10")


def test_leading_zeros_become_trailing_spaces(wire: Wire) -> None:
    store(wire, b"005")
    wire.expect(b"incr n 1\r\n", b"6\r\n")
    holds(wire, b"6  ")


def test_incr_wraps_at_64_bits(wire: Wire) -> None:
    store(wire, b"%d" % LARGEST)
    wire.expect(b"incr n 1\r\n", b"0\r\n")
    holds(wire, b"0" + b" " * 19)
    store(wire, b"%d" % LARGEST)
    wire.expect(b"incr n 10\r\n", b"9\r\n")


def test_the_largest_delta_is_accepted(wire: Wire) -> None:
    store(wire, b"0")
    wire.expect(b"incr n %d\r\n" % LARGEST, b"%d\r\n" % LARGEST)
    wire.expect(b"decr n %d\r\n" % LARGEST, b"0\r\n")


def test_decr_stops_at_zero(wire: Wire) -> None:
    store(wire, b"3")
    wire.expect(b"decr n 4\r\n", b"0\r\n")
    wire.expect(b"decr n 1\r\n", b"0\r\n")
    holds(wire, b"0")


@pytest.mark.parametrize("value", [b"abc", b"-1", b"1a", b"", b"18446744073709551616", b"1.5", b"0x1", b"\x00"])
def test_a_value_that_is_no_number_is_left_alone(wire: Wire, value: bytes) -> None:
    store(wire, value)
    wire.expect(b"incr n 1\r\n", NOT_A_NUMBER)
    wire.expect(b"decr n 1\r\n", NOT_A_NUMBER)
    holds(wire, value)


@pytest.mark.parametrize("value", [b" 1", b"1 ", b"000000000000000000001"])
def test_spaces_and_zeros_around_a_number_do_not_matter(wire: Wire, value: bytes) -> None:
    store(wire, value)
    wire.expect(b"incr n 1\r\n", b"2\r\n")


@pytest.mark.parametrize("delta", [b"-1", b"abc", b"18446744073709551616", b"1.5", b"1a", b"0x1"])
def test_a_delta_that_is_no_64_bit_number_is_refused(wire: Wire, delta: bytes) -> None:
    store(wire, b"10")
    wire.expect(b"incr n " + delta + b"\r\n", BAD_DELTA)
    wire.expect(b"decr n " + delta + b"\r\n", BAD_DELTA)
    holds(wire, b"10")


def test_a_bad_delta_is_told_before_a_missing_key(wire: Wire) -> None:
    wire.expect(b"incr nothing abc\r\n", BAD_DELTA)


def test_nothing_is_not_counted(wire: Wire) -> None:
    wire.session(
        (b"incr nothing 1\r\n", b"NOT_FOUND\r\n"),
        (b"decr nothing 1\r\n", b"NOT_FOUND\r\n"),
        (b"get nothing\r\n", b"END\r\n"),
    )


def test_a_key_too_long_is_refused(wire: Wire) -> None:
    key = b"k" * 251
    wire.session((b"incr " + key + b" 1\r\n", BAD_LINE), (b"decr " + key + b" 1\r\n", BAD_LINE))


def test_counting_changes_the_number_for_cas(wire: Wire) -> None:
    store(wire, b"10")
    before = wire.cas_of(b"n")
    wire.expect(b"incr n 1\r\n", b"11\r\n")
    after = wire.cas_of(b"n")
    assert after != before
    wire.expect(b"cas n 5 0 1 %d\r\nx\r\n" % before, b"EXISTS\r\n")
    holds(wire, b"11")


def test_counting_keeps_the_lifetime(wire: Wire) -> None:
    wire.session(
        (b"set n 5 1000 1\r\n1\r\n", b"STORED\r\n"),
        (b"incr n 1\r\n", b"2\r\n"),
        (b"incr n 98\r\n", b"100\r\n"),
        (b"touch n -1\r\n", b"TOUCHED\r\n"),
        (b"incr n 1\r\n", b"NOT_FOUND\r\n"),
    )


def test_noreply_counts_in_silence_and_fails_in_silence(wire: Wire) -> None:
    store(wire, b"10")
    wire.session(
        (b"incr n 5 noreply\r\n", b""),
        (b"decr n 1 noreply\r\n", b""),
        (b"incr n abc noreply\r\n", b""),
        (b"incr nothing 1 noreply\r\n", b""),
        (b"decr " + b"k" * 251 + b" 1 noreply\r\n", b""),
    )
    holds(wire, b"14")


def test_clients_counting_at_once_lose_nothing(wire: Wire) -> None:
    store(wire, b"0")
    others = [Wire(wire.server) for _ in range(10)]
    try:
        for other in others:
            other.send(b"incr n 1 noreply\r\n" * 100)
        for other in others:
            other.expect(b"", b"")
    finally:
        for other in others:
            other.close()
    wire.expect(b"incr n 0\r\n", b"1000\r\n")
