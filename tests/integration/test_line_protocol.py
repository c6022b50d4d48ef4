"""The line protocol and the simple dialect of a real server, beside memcached's protocols over one journal."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from tests.program import PATIENCE_SECONDS, Program

NC = shutil.which("nc")
FORMS = "PUT key value [ttl], GET key, DELETE key, EXISTS key, QUIT"


def address_of(program: Program, dialect: str) -> int:
    """The port of a dialect, as the server's log says."""
    match = re.search(rf"127\.0\.0\.1:(\d+) \({dialect}\)", program.said.decode())
    assert match is not None
    return int(match[1])


def start(*flags: str) -> Program:
    """A server with a listener of each kind."""
    listen = ("-p", "0", "-l", "127.0.0.1", "--line-listen", "127.0.0.1:0", "--simple-listen", "127.0.0.1:0")
    return Program(*listen, *flags)


def ask(port: int, request: bytes) -> bytes:
    """All that the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.skipif(NC is None, reason="nc is not installed")
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_nc_speaks_the_line_protocol(line_end: str) -> None:
    assert NC is not None
    lines = ["PUT color blue 60", "GET color", "EXISTS color", "DELETE color", "GET color", "DELETE color",
             "EXISTS color", "HELLO", "QUIT"]  # fmt: skip
    replies = ["OK stored", "OK blue", "OK 1", "OK deleted", "ERROR key not found", "ERROR key not found", "OK 0",
               f"ERROR unknown command; allowed: {FORMS}"]  # fmt: skip
    with start() as program:
        done = subprocess.run(
            [NC, "127.0.0.1", str(address_of(program, "line"))],
            input="".join(line + line_end for line in lines).encode(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
    assert done.stdout.decode() == "".join(reply + line_end for reply in replies)


def test_debug_logs_what_is_asked_and_answered() -> None:
    with start("--debug") as program:
        ask(address_of(program, "line"), b"PUT k v\nQUIT\n")
        ask(address_of(program, "simple"), b"set k 1\r\nv\r\nget none\r\nquit\r\n")
        assert program.end() == 0
    said = re.sub(rb"([<>])\d+", rb"\1N", re.sub(rb"127.0.0.1:\d+", b"ADDR", program.said)).decode()
    assert "<N new line client connection from tcp:ADDR\n<N PUT k v\n>N OK stored\n<N QUIT\n" in said
    assert (
        "<N Accepting connection from tcp:ADDR\n<N set k 1\n>N STORED\n<N get none\n>N Not-Exists\n<N quit\n"
    ) in said


def test_row_as_session_runs_as_its_documents_state() -> None:
    """Set with a byte count, get, update, a miss, and the same keys by a memcached client."""
    session = [
        (b"set name 5\r\nalice\r\n", b"STORED\r\n"),
        (b"get name\r\n", b"VALUE name 0 5\r\nalice\r\nEND\r\n"),
        (b"set name 3\r\nbob\r\n", b"STORED\r\n"),
        (b"get name\r\n", b"VALUE name 0 3\r\nbob\r\nEND\r\n"),
        (b"set age 1 0 2\r\n42\r\n", b"STORED\r\n"),
        (b"get age\r\n", b"VALUE age 1 2\r\n42\r\nEND\r\n"),
        (b"get nobody\r\n", b"Not-Exists\r\n"),
    ]
    with start() as program:
        port = address_of(program, "simple")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
            replies = client.makefile("rb")
            for request, reply in session:
                client.sendall(request)
                assert replies.read(len(reply)) == reply
        library = Client(("127.0.0.1", port))
        assert library.set("city", "Athens", noreply=False)
        assert library.get("city") == b"Athens"
        assert library.get("name") == b"bob"
        library.close()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_all_kinds_share_one_store_and_one_journal_which_survives_a_kill(tmp_path: Path, fsync: str) -> None:
    long_key = b"k" * 256
    flags = ("--journal", str(tmp_path / "journal"), "--fsync", fsync)
    with start(*flags) as program:
        line, simple, text = address_of(program, "line"), address_of(program, "simple"), program.port
        stored = b"OK stored\n" * 4
        puts = b"PUT by-line one\nPUT timed two 1000\nPUT %b v\nPUT gone x\nQUIT\n" % long_key
        assert ask(line, puts) == stored
        assert ask(simple, b"set by-simple 5\r\nthree\r\nquit\r\n") == b"STORED\r\n"
        assert ask(text, b"set by-text 7 0 4\r\nfour\r\ndelete gone\r\nquit\r\n") == b"STORED\r\nDELETED\r\n"
        assert ask(line, b"GET by-simple\nGET by-text\nGET gone\nQUIT\n") == (
            b"OK three\nOK four\nERROR key not found\n"
        )
        assert ask(simple, b"get by-line timed gone\r\nquit\r\n") == (
            b"VALUE by-line 0 3\r\none\r\nVALUE timed 0 3\r\ntwo\r\nEND\r\n"
        )
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(PATIENCE_SECONDS)
    with start(*flags) as program:
        line, simple, text = address_of(program, "line"), address_of(program, "simple"), program.port
        everything = b"GET by-line\nGET timed\nGET %b\nGET by-simple\nGET by-text\nGET gone\nQUIT\n" % long_key
        assert ask(line, everything) == b"OK one\nOK two\nOK v\nOK three\nOK four\nERROR key not found\n"
        assert ask(text, b"get by-text gone\r\nquit\r\n") == b"VALUE by-text 7 4\r\nfour\r\nEND\r\n"
        assert ask(simple, b"get gone\r\nquit\r\n") == b"Not-Exists\r\n"
        ttl = ask(text, b"mg timed t\r\nquit\r\n")
        assert ttl.startswith(b"HD t")
        assert 900 < int(ttl[4:]) <= 1000


def test_a_client_that_does_not_read_its_replies_delays_nobody() -> None:
    with start("-t", "1") as program:
        port = address_of(program, "line")
        assert ask(port, b"PUT k %b\nQUIT\n" % (b"v" * 256)) == b"OK stored\n"
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as deaf:
            try:
                for _ in range(1000):
                    deaf.sendall(b"GET k\n" * 10_000)
            except TimeoutError:
                pass  # the server does not read more until its replies are read
            else:
                raise AssertionError("the server went on reading")
            assert ask(port, b"EXISTS k\nQUIT\n") == b"OK 1\n"
