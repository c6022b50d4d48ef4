"""delete, version, verbosity, quit, cache_memlimit and shutdown, byte for byte."""

import re

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.known_differences import BAD_LINE, either
from tests.integration.wire import RunningServer, Wire

TOO_SMALL = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"


def test_delete_removes_what_is_there(wire: Wire) -> None:
    wire.session(
        (b"set d 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"delete d\r\n", b"DELETED\r\n"),
        (b"get d\r\n", b"END\r\n"),
        (b"delete d\r\n", b"NOT_FOUND\r\n"),
    )


def test_delete_takes_the_historical_zero(wire: Wire) -> None:
    wire.session(
        (b"set d 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"delete d 0\r\n", b"DELETED\r\n"),
        (b"delete d 0\r\n", b"NOT_FOUND\r\n"),
        (b"delete d 0 noreply\r\n", b""),
    )


def test_delete_with_noreply_deletes_in_silence_and_fails_in_silence(wire: Wire) -> None:
    wire.session(
        (b"set d 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"delete d noreply\r\n", b""),
        (b"get d\r\n", b"END\r\n"),
        (b"delete d noreply\r\n", b""),
        (b"delete " + b"k" * 251 + b" noreply\r\n", b""),
        (b"set d 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"delete d 0 noreply\r\n", b""),
        (b"get d\r\n", b"END\r\n"),
    )


def test_delete_of_a_key_too_long_is_refused(wire: Wire) -> None:
    wire.expect(b"delete " + b"k" * 251 + b"\r\n", BAD_LINE)


def test_version_is_three_bare_numbers(wire: Wire) -> None:
    wire.send(b"version\r\n")
    assert re.fullmatch(rb"VERSION \d+\.\d+\.\d+\r\n", wire.read_line())


def test_version_ignores_what_follows(wire: Wire) -> None:
    reply = b"VERSION " + wire.version.encode() + b"\r\n"
    for line in (b"version", b"version ", b"version a", b"version noreply", b"version HTTP/1.1"):
        wire.expect(line + b"\r\n", reply)


def test_verbosity_is_accepted(wire: Wire) -> None:
    wire.session(
        (b"verbosity 1\r\n", b"OK\r\n"),
        (b"verbosity 1 noreply\r\n", b""),
        (b"verbosity noreply\r\n", b""),
        (b"verbosity  0\r\n", b"OK\r\n"),
    )


@pytest.mark.parametrize("word", [b"x", b"-1", b"1.5", b"1a"])
def test_verbosity_that_is_no_number_is_refused(wire: Wire, word: bytes) -> None:
    wire.session((b"verbosity " + word + b"\r\n", BAD_LINE), (b"verbosity " + word + b" noreply\r\n", b""))


@pytest.mark.parametrize("line", [b"quit\r\n", b"quit now\r\n", b"quit noreply\r\n", b"quit\n"])
def test_quit_closes_without_a_word(wire: Wire, line: bytes) -> None:
    wire.send(line)
    wire.closed()


def test_quit_comes_after_the_replies_before_it_and_ends_the_rest(wire: Wire) -> None:
    wire.send(b"set q 0 0 1\r\nx\r\nget q\r\nquit\r\nflush_all\r\n")
    wire.closed(after=b"STORED\r\nVALUE q 0 1\r\nx\r\nEND\r\n")
    with Wire(wire.server) as again:
        again.expect(b"get q\r\n", b"VALUE q 0 1\r\nx\r\nEND\r\n")


def test_the_memory_limit_can_be_changed(wire: Wire) -> None:
    wire.expect(b"cache_memlimit 100\r\n", b"OK\r\n")
    assert wire.stats()["limit_maxbytes"] == str(100 * 1024 * 1024)
    wire.expect(b"cache_memlimit 64 noreply\r\n", b"")
    assert wire.stats()["limit_maxbytes"] == str(64 * 1024 * 1024)


@pytest.mark.parametrize("word", [b"0", b"1", b"7"])
def test_a_memory_limit_below_eight_megabytes_is_refused(wire: Wire, word: bytes) -> None:
    wire.session((b"cache_memlimit " + word + b"\r\n", TOO_SMALL), (b"cache_memlimit 1 noreply\r\n", b""))
    assert wire.stats()["limit_maxbytes"] == str(64 * 1024 * 1024)


@pytest.mark.parametrize("words", [b"", b" abc", b" -1", b" 64m", b" 99999999999999999999"])
def test_a_memory_limit_that_is_no_number_is_an_error(wire: Wire, words: bytes) -> None:
    wire.expect(b"cache_memlimit" + words + b"\r\n", b"ERROR\r\n")
    assert wire.stats()["limit_maxbytes"] == str(64 * 1024 * 1024)


@pytest.mark.parametrize("line", [b"shutdown", b"shutdown graceful", b"shutdown now"])
def test_shutdown_is_refused_unless_enabled(wire: Wire, line: bytes) -> None:
    reply = either(
        wire.server,
        before=b"ERROR: shutdown not enabled\r\n",
        since=b"SERVER_ERROR: shutdown not enabled\r\n",
    )
    wire.expect(line + b"\r\n", reply)


@pytest.mark.parametrize("line", [b"shutdown\r\n", b"shutdown graceful\r\n"])
def test_shutdown_ends_the_process_in_peace_when_enabled(make_server: MakeServer, line: bytes) -> None:
    running = make_server("-A")
    with Wire(running) as wire:
        wire.expect(b"set k 0 0 1\r\nx\r\n", b"STORED\r\n")
        wire.send(line)
        wire.closed()
    assert running.process.wait(60) == 0


def test_shutdown_with_an_unknown_word_does_nothing_but_complain(make_server: MakeServer) -> None:
    running = make_server("-A")
    with Wire(running) as wire:
        wire.expect(b"shutdown now\r\n", b"CLIENT_ERROR invalid shutdown mode\r\n")


@pytest.mark.parametrize("line", [b"foo", b"VERSION", b"Get a", b"SET a 0 0 1", b"getx a", b"ge a", b"x y", b"statsx"])
def test_an_unknown_command_is_an_error(wire: Wire, line: bytes) -> None:
    wire.expect(line + b"\r\n", b"ERROR\r\n")


def test_mn_answers_mn(wire: Wire) -> None:
    wire.session((b"mn\r\n", b"MN\r\n"), (b"mn noreply\r\n", b"MN\r\n"))


def test_a_terminated_server_ends_with_status_zero(make_server: MakeServer) -> None:
    running: RunningServer = make_server()
    with Wire(running) as wire:
        assert running.stop() == 0
        wire.closed()
