"""Lifetimes: exptime in its forms, touch, and flush_all."""

import time

import pytest

from tests.integration.known_differences import BAD_EXPTIME, BAD_LINE
from tests.integration.wire import Wire, poll_until

MONTH = 60 * 60 * 24 * 30


def is_gone(wire: Wire, key: bytes) -> bool:
    """Whether a get finds nothing."""
    return wire.ask(b"get " + key + b"\r\n") == b"END\r\n"


@pytest.mark.parametrize("exptime", [b"0", b"1000", b"+5000", b"%d" % MONTH, b"2147483647", b"4294967296"])
def test_a_value_with_time_left_is_there(wire: Wire, exptime: bytes) -> None:
    wire.session(
        (b"set e 3 " + exptime + b" 1\r\nx\r\n", b"STORED\r\n"), (b"get e\r\n", b"VALUE e 3 1\r\nx\r\nEND\r\n")
    )


@pytest.mark.parametrize("exptime", [b"-1", b"-1000", b"%d" % (MONTH + 1), b"1000000000", b"2147483648"])
def test_a_value_whose_time_has_passed_is_stored_and_gone(wire: Wire, exptime: bytes) -> None:
    wire.session(
        (b"set e 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (b"set e 0 " + exptime + b" 1\r\nx\r\n", b"STORED\r\n"),
        (b"get e\r\n", b"END\r\n"),
        (b"incr e 1\r\n", b"NOT_FOUND\r\n"),
        (b"delete e\r\n", b"NOT_FOUND\r\n"),
        (b"touch e 0\r\n", b"NOT_FOUND\r\n"),
        (b"append e 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"replace e 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"cas e 0 0 1 1\r\nx\r\n", b"NOT_FOUND\r\n"),
        (b"add e 0 0 1\r\ny\r\n", b"STORED\r\n"),
        (b"get e\r\n", b"VALUE e 0 1\r\ny\r\nEND\r\n"),
    )


def test_an_absolute_time_to_come_is_kept_until_then(wire: Wire) -> None:
    later = int(time.time()) + 1000
    wire.session((b"set e 0 %d 1\r\nx\r\n" % later, b"STORED\r\n"), (b"get e\r\n", b"VALUE e 0 1\r\nx\r\nEND\r\n"))


def test_a_value_goes_when_its_seconds_are_over(wire: Wire) -> None:
    wire.session(
        (b"set short 0 1 1\r\nx\r\n", b"STORED\r\n"),
        (b"set long 0 1000 1\r\nx\r\n", b"STORED\r\n"),
        (b"set touched 0 1 1\r\nx\r\ntouch touched 1000\r\n", b"STORED\r\nTOUCHED\r\n"),
        (b"set absolute 0 %d 1\r\nx\r\n" % (int(time.time()) + 2), b"STORED\r\n"),
        (b"set shortened 0 1000 1\r\nx\r\n", b"STORED\r\n"),
        (b"gat 1 shortened\r\n", b"VALUE shortened 0 1\r\nx\r\nEND\r\n"),
    )
    for key in (b"short", b"absolute", b"shortened"):
        poll_until(lambda key=key: is_gone(wire, key), f"{key!r} expires")  # type: ignore[misc]
    wire.expect(b"get short long touched\r\n", b"VALUE long 0 1\r\nx\r\nVALUE touched 0 1\r\nx\r\nEND\r\n")
    wire.expect(b"add short 0 0 1\r\ny\r\n", b"STORED\r\n")


@pytest.mark.parametrize("word", [b"soon", b"1.5", b"1a", b"--1"])
def test_touch_with_a_time_that_is_no_number_is_refused(wire: Wire, word: bytes) -> None:
    wire.session(
        (b"set t 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"touch t " + word + b"\r\n", BAD_EXPTIME),
        (b"get t\r\n", b"VALUE t 0 1\r\nx\r\nEND\r\n"),
    )


def test_touch_finds_what_is_there(wire: Wire) -> None:
    wire.session(
        (b"touch t 0\r\n", b"NOT_FOUND\r\n"),
        (b"set t 4 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"touch t 0\r\n", b"TOUCHED\r\n"),
        (b"touch t 1000\r\n", b"TOUCHED\r\n"),
        (b"get t\r\n", b"VALUE t 4 1\r\nx\r\nEND\r\n"),
        (b"touch t -1\r\n", b"TOUCHED\r\n"),
        (b"get t\r\n", b"END\r\n"),
    )


def test_touch_of_a_key_too_long_is_refused(wire: Wire) -> None:
    wire.expect(b"touch " + b"k" * 251 + b" 0\r\n", BAD_LINE)


def test_touch_with_noreply_touches_in_silence_and_fails_in_silence(wire: Wire) -> None:
    wire.session(
        (b"set t 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"touch t soon noreply\r\n", b""),
        (b"touch nothing 0 noreply\r\n", b""),
        (b"touch " + b"k" * 251 + b" 0 noreply\r\n", b""),
        (b"get t\r\n", b"VALUE t 0 1\r\nx\r\nEND\r\n"),
        (b"touch t -1 noreply\r\n", b""),
        (b"get t\r\n", b"END\r\n"),
    )


@pytest.mark.parametrize("request_line", [b"flush_all", b"flush_all 0", b"flush_all -1", b"flush_all  0 "])
def test_flush_all_removes_what_was_there_and_nothing_later(wire: Wire, request_line: bytes) -> None:
    wire.session(
        (b"set f1 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"set f2 0 1000 1\r\nx\r\n", b"STORED\r\n"),
        (request_line + b"\r\n", b"OK\r\n"),
        (b"get f1 f2\r\n", b"END\r\n"),
        (b"incr f1 1\r\n", b"NOT_FOUND\r\n"),
        (b"append f1 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"set f1 0 0 1\r\ny\r\n", b"STORED\r\n"),
        (b"get f1 f2\r\n", b"VALUE f1 0 1\r\ny\r\nEND\r\n"),
    )


def test_flush_all_in_one_packet_with_what_surrounds_it_keeps_the_order(wire: Wire) -> None:
    wire.expect(
        b"set f 0 0 1\r\nx\r\nget f\r\nflush_all\r\nget f\r\nset f 0 0 1\r\ny\r\nget f\r\n",
        b"STORED\r\nVALUE f 0 1\r\nx\r\nEND\r\nOK\r\nEND\r\nSTORED\r\nVALUE f 0 1\r\ny\r\nEND\r\n",
    )


def test_flush_all_with_a_delay_removes_nothing_yet(wire: Wire) -> None:
    wire.session(
        (b"set f 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"flush_all 1000\r\n", b"OK\r\n"),
        (b"get f\r\n", b"VALUE f 0 1\r\nx\r\nEND\r\n"),
        (b"flush_all\r\n", b"OK\r\n"),
        (b"get f\r\n", b"END\r\n"),
    )


def test_flush_all_with_a_delay_removes_after_it(wire: Wire) -> None:
    wire.session((b"set f 0 0 1\r\nx\r\n", b"STORED\r\n"), (b"flush_all 2\r\n", b"OK\r\n"))
    poll_until(lambda: is_gone(wire, b"f"), "the delayed flush")
    wire.session((b"set g 0 0 1\r\ny\r\n", b"STORED\r\n"), (b"get f\r\n", b"END\r\n"))


def test_flush_all_with_noreply_flushes_in_silence(wire: Wire) -> None:
    for line in (b"flush_all noreply\r\n", b"flush_all 0 noreply\r\n"):
        wire.session((b"set f 0 0 1\r\nx\r\n", b"STORED\r\n"), (line, b""), (b"get f\r\n", b"END\r\n"))


@pytest.mark.parametrize("word", [b"x", b"1.5", b"0x", b"1a"])
def test_flush_all_with_a_delay_that_is_no_number_is_refused(wire: Wire, word: bytes) -> None:
    wire.session(
        (b"set f 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"flush_all " + word + b"\r\n", BAD_EXPTIME),
        (b"flush_all " + word + b" noreply\r\n", b""),
        (b"get f\r\n", b"VALUE f 0 1\r\nx\r\nEND\r\n"),
    )


def test_flush_all_does_not_reuse_numbers_for_cas(wire: Wire) -> None:
    wire.expect(b"set f 0 0 1\r\nx\r\n", b"STORED\r\n")
    before = wire.cas_of(b"f")
    wire.session((b"flush_all\r\n", b"OK\r\n"), (b"set f 0 0 1\r\nx\r\n", b"STORED\r\n"))
    assert wire.cas_of(b"f") > before
