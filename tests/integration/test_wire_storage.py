"""set, add, replace, append, prepend and cas, byte for byte."""

import pytest

from tests.integration.known_differences import BAD_LINE, either
from tests.integration.wire import OURS, Wire

TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
STORAGE_COMMANDS = (b"set", b"add", b"replace", b"append", b"prepend")


def test_set_stores_and_replaces(wire: Wire) -> None:
    wire.session(
        (b"set s 1 0 3\r\nabc\r\n", b"STORED\r\n"),
        (b"set s 2 0 4\r\ndefg\r\n", b"STORED\r\n"),
        (b"get s\r\n", b"VALUE s 2 4\r\ndefg\r\nEND\r\n"),
    )


def test_add_stores_only_what_is_not_there(wire: Wire) -> None:
    wire.session(
        (b"add a 7 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"add a 8 0 1\r\ny\r\n", b"NOT_STORED\r\n"),
        (b"get a\r\n", b"VALUE a 7 1\r\nx\r\nEND\r\n"),
        (b"delete a\r\n", b"DELETED\r\n"),
        (b"add a 9 0 1\r\nz\r\n", b"STORED\r\n"),
    )


def test_replace_stores_only_over_what_is_there(wire: Wire) -> None:
    wire.session(
        (b"replace r 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"get r\r\n", b"END\r\n"),
        (b"set r 1 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"replace r 3 0 2\r\nyz\r\n", b"STORED\r\n"),
        (b"get r\r\n", b"VALUE r 3 2\r\nyz\r\nEND\r\n"),
    )


def test_append_and_prepend_add_to_what_is_there_and_keep_its_flags(wire: Wire) -> None:
    wire.session(
        (b"append p 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"prepend p 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"set p 7 0 3\r\nmid\r\n", b"STORED\r\n"),
        (b"append p 8 0 4\r\n-end\r\n", b"STORED\r\n"),
        (b"prepend p 9 0 6\r\nbegin-\r\n", b"STORED\r\n"),
        (b"get p\r\n", b"VALUE p 7 13\r\nbegin-mid-end\r\nEND\r\n"),
        (b"append p 0 0 0\r\n\r\n", b"STORED\r\n"),
        (b"get p\r\n", b"VALUE p 7 13\r\nbegin-mid-end\r\nEND\r\n"),
    )


def test_append_keeps_the_lifetime(wire: Wire) -> None:
    wire.session(
        (b"set l 0 1000 1\r\na\r\n", b"STORED\r\n"),
        (b"append l 0 -1 1\r\nb\r\n", b"STORED\r\n"),
        (b"prepend l 0 -1 1\r\nc\r\n", b"STORED\r\n"),
        (b"get l\r\n", b"VALUE l 0 3\r\ncab\r\nEND\r\n"),
    )


def test_append_gives_a_new_number_for_cas(wire: Wire) -> None:
    wire.expect(b"set n 0 0 1\r\na\r\n", b"STORED\r\n")
    before = wire.cas_of(b"n")
    wire.expect(b"append n 0 0 1\r\nb\r\n", b"STORED\r\n")
    assert wire.cas_of(b"n") != before


def test_cas_stores_when_the_number_still_holds(wire: Wire) -> None:
    wire.expect(b"set c 1 0 1\r\na\r\n", b"STORED\r\n")
    number = wire.cas_of(b"c")
    wire.session(
        (b"cas c 2 0 2 %d\r\nbc\r\n" % number, b"STORED\r\n"),
        (b"get c\r\n", b"VALUE c 2 2\r\nbc\r\nEND\r\n"),
    )


def test_cas_leaves_alone_what_was_changed_since(wire: Wire) -> None:
    wire.expect(b"set c 1 0 1\r\na\r\n", b"STORED\r\n")
    number = wire.cas_of(b"c")
    wire.session(
        (b"set c 1 0 1\r\nb\r\n", b"STORED\r\n"),
        (b"cas c 0 0 1 %d\r\nz\r\n" % number, b"EXISTS\r\n"),
        (b"cas c 0 0 1 0\r\nz\r\n", b"EXISTS\r\n"),
        (b"cas c 0 0 1 18446744073709551615\r\nz\r\n", b"EXISTS\r\n"),
        (b"get c\r\n", b"VALUE c 1 1\r\nb\r\nEND\r\n"),
    )


def test_cas_of_nothing_finds_nothing(wire: Wire) -> None:
    wire.session((b"cas c 0 0 1 1\r\nx\r\n", b"NOT_FOUND\r\n"), (b"get c\r\n", b"END\r\n"))


def test_only_one_of_two_cas_with_the_same_number_wins(wire: Wire) -> None:
    wire.expect(b"set c 0 0 1\r\na\r\n", b"STORED\r\n")
    number = wire.cas_of(b"c")
    with Wire(wire.server) as other:
        other.expect(b"cas c 0 0 1 %d\r\nx\r\n" % number, b"STORED\r\n")
    wire.session(
        (b"cas c 0 0 1 %d\r\ny\r\n" % number, b"EXISTS\r\n"),
        (b"get c\r\n", b"VALUE c 0 1\r\nx\r\nEND\r\n"),
    )


@pytest.mark.parametrize(
    ("word", "flags"),
    [
        (b"0", 0),
        (b"1", 1),
        (b"65536", 65536),
        (b"4294967295", 4294967295),
        (b"00012", 12),
        (b"+1", 1),
        (b"4294967296", 0),
        (b"4294967297", 1),
        (b"18446744073709551615", 4294967295),
    ],
)
def test_flags_are_kept_modulo_32_bits(wire: Wire, word: bytes, flags: int) -> None:
    wire.session(
        (b"set f " + word + b" 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"get f\r\n", b"VALUE f %d 1\r\nx\r\nEND\r\n" % flags),
    )


@pytest.mark.parametrize("command", STORAGE_COMMANDS)
@pytest.mark.parametrize("length", [b"-1", b"abc", b"1a", b"2147483647", b"99999999999999999999999"])
def test_a_length_that_is_none_is_refused_and_the_data_read_as_a_command(
    wire: Wire, command: bytes, length: bytes
) -> None:
    wire.expect(b"set k 0 0 3\r\nold\r\n", b"STORED\r\n")
    wire.expect(command + b" k 0 0 " + length + b"\r\nfoo\r\n", BAD_LINE + b"ERROR\r\n")
    wire.expect(b"get k\r\n", b"VALUE k 0 3\r\nold\r\nEND\r\n")


def test_data_longer_than_announced_is_refused_and_the_old_value_kept(wire: Wire) -> None:
    wire.session(
        (b"set b 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (b"set b 0 0 3\r\nabcdefgh\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get b\r\n", b"VALUE b 0 3\r\nold\r\nEND\r\n"),
    )


def test_data_without_its_line_end_is_refused_and_what_follows_is_read(wire: Wire) -> None:
    wire.session(
        (b"set b 0 0 3\r\nabcd\nmn\r\n", b"CLIENT_ERROR bad data chunk\r\nMN\r\n"),
        (b"set b 0 0 3\r\nabc\nget b\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get b\r\n", b"END\r\n"),
    )


def test_data_shorter_than_announced_swallows_what_follows(wire: Wire) -> None:
    wire.session(
        (b"set b 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (b"set b 0 0 10\r\nversion\r\nversion\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get b\r\n", b"VALUE b 0 3\r\nold\r\nEND\r\n"),
        (b"set b 0 0 3\r\nnew\r\n", b"STORED\r\n"),
    )


def test_data_for_an_empty_value_is_refused(wire: Wire) -> None:
    wire.session((b"set b 0 0 0\r\nabcde\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"), (b"get b\r\n", b"END\r\n"))


def _request(command: bytes, key: bytes, value: bytes, rest: bytes = b"") -> bytes:
    return b"%b %b 0 0 %d%b\r\n%b\r\n" % (command, key, len(value), rest, value)


def test_a_megabyte_less_a_little_is_stored(wire: Wire) -> None:
    value = b"0123456789" * 100_000
    wire.session(
        (_request(b"set", b"big", value), b"STORED\r\n"),
        (b"get big\r\n", b"VALUE big 0 1000000\r\n" + value + b"\r\nEND\r\n"),
    )


def test_set_of_a_megabyte_is_refused_and_removes_the_old_value(wire: Wire) -> None:
    wire.session(
        (b"set big 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (_request(b"set", b"big", bytes(1024 * 1024)), TOO_LARGE),
        (b"get big\r\n", b"END\r\n"),
        (b"set big 0 0 3\r\nnew\r\n", b"STORED\r\n"),
        (_request(b"set", b"big", bytes(1024 * 1024), b" noreply"), b""),
        (b"get big\r\n", b"END\r\n"),
    )


@pytest.mark.parametrize("command", STORAGE_COMMANDS[1:])
def test_other_commands_with_a_megabyte_are_refused_and_keep_the_old_value(wire: Wire, command: bytes) -> None:
    wire.session(
        (b"set big 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (_request(command, b"big", bytes(1024 * 1024)), TOO_LARGE),
        (b"get big\r\n", b"VALUE big 0 3\r\nold\r\nEND\r\n"),
    )


def test_cas_with_a_megabyte_is_refused_and_keeps_the_old_value(wire: Wire) -> None:
    wire.session(
        (b"set big 0 0 3\r\nold\r\n", b"STORED\r\n"),
        (_request(b"cas", b"big", bytes(1024 * 1024), b" 1"), TOO_LARGE),
        (b"get big\r\n", b"VALUE big 0 3\r\nold\r\nEND\r\n"),
    )


def test_append_beyond_a_megabyte_is_not_stored(wire: Wire) -> None:
    value = b"x" * 600_000
    wire.session(
        (_request(b"set", b"big", value), b"STORED\r\n"),
        (_request(b"append", b"big", value), b"NOT_STORED\r\n"),
        (_request(b"prepend", b"big", value), b"NOT_STORED\r\n"),
        (b"get big\r\n", b"VALUE big 0 600000\r\n" + value + b"\r\nEND\r\n"),
    )


def test_a_value_far_too_large_is_read_past(wire: Wire) -> None:
    wire.session(
        (_request(b"set", b"huge", bytes(5_000_000)) + b"get huge\r\n", TOO_LARGE + b"END\r\n"),
    )


def test_a_fourth_word_that_is_not_noreply_is_ignored(wire: Wire) -> None:
    wire.session(
        (b"set w 0 0 1 NOREPLY\r\nx\r\n", b"STORED\r\n"),
        (b"cas w 0 0 1 0 norepl\r\nx\r\n", b"EXISTS\r\n"),
    )


def test_storage_with_noreply_works_in_silence(wire: Wire) -> None:
    wire.session(
        (b"set q 1 0 1 noreply\r\na\r\n", b""),
        (b"append q 0 0 1 noreply\r\nb\r\n", b""),
        (b"prepend q 0 0 1 noreply\r\nc\r\n", b""),
        (b"get q\r\n", b"VALUE q 1 3\r\ncab\r\nEND\r\n"),
        (b"replace q 2 0 1 noreply\r\nd\r\n", b""),
        (b"add q2 3 0 1 noreply\r\ne\r\n", b""),
        (b"get q q2\r\n", b"VALUE q 2 1\r\nd\r\nVALUE q2 3 1\r\ne\r\nEND\r\n"),
    )
    number = wire.cas_of(b"q")
    wire.session((b"cas q 4 0 1 %d noreply\r\nf\r\n" % number, b""), (b"get q\r\n", b"VALUE q 4 1\r\nf\r\nEND\r\n"))


def test_storage_with_noreply_fails_in_silence(wire: Wire) -> None:
    wire.session(
        (b"replace q 0 0 1 noreply\r\na\r\n", b""),
        (b"append q 0 0 1 noreply\r\na\r\n", b""),
        (b"prepend q 0 0 1 noreply\r\na\r\n", b""),
        (b"cas q 0 0 1 1 noreply\r\na\r\n", b""),
        (b"get q\r\n", b"END\r\n"),
        (b"set q 0 0 1\r\na\r\n", b"STORED\r\n"),
        (b"add q 0 0 1 noreply\r\nz\r\n", b""),
        (b"cas q 0 0 1 0 noreply\r\nz\r\n", b""),
        (b"get q\r\n", b"VALUE q 0 1\r\na\r\nEND\r\n"),
    )


@pytest.mark.parametrize("length", [b"04074", b"0005000", b"00000005000", b"0070000"])
def test_a_length_with_zeros_is_told_without(wire: Wire, length: bytes) -> None:
    value = b"x" * int(length)
    told = b"VALUE z 0 %d\r\n%b\r\nEND\r\n" % (len(value), value)
    wire.send(b"set z 0 0 %b\r\n%b\r\n" % (length, value))
    wire.receive(b"STORED\r\n")
    wire.session((b"get z\r\n", told), (b"mg z s\r\n", b"HD s%d\r\n" % len(value)))


def test_a_refusal_waits_for_no_data_block(wire: Wire) -> None:
    """memcached answers when the block has been passed over, ours at once: nothing is kept for it."""
    wire.send(b"set a x 0 100\r\n")
    if wire.server.kind == OURS:
        wire.receive(BAD_LINE)
        wire.expect(bytes(100) + b"\r\n", b"")
    else:
        wire.expect(bytes(100) + b"\r\n", either(wire.server, before=BAD_LINE + b"ERROR\r\n", since=BAD_LINE))
