"""What a client that is not let in, that is slow or that sends nonsense can do: nothing that the others notice.

docs/explanation/security.md names these tests, and those elsewhere, line by line.
"""

import os
import resource
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

import tests
from tests.certificates import ask, stats
from tests.integration.conftest import MakeServer
from tests.integration.wire import RunningServer, Wire
from tests.program import PATIENCE_SECONDS, Program, poll_until, run_to_its_end

OPENS = 10_000
PIECE = 250
MEGABYTE = 1 << 20


def binary(opcode: int, key_bytes: int, extras_bytes: int, body_bytes: int, rest: bytes = b"") -> bytes:
    return struct.pack("!BBHBBHIIQ", 0x80, opcode, key_bytes, extras_bytes, 0, 0, body_bytes, 0, 0) + rest


@pytest.fixture
def server(ours: MakeServer) -> RunningServer:
    return ours("-I", "8m", "-m", "64")


# Half frames and giant lengths

HALF = [
    b"get",
    b"set a 0 0 100\r\nhalf",
    b"set a 0 0 8388000\r\n",
    b"ms a 8388000 T0\r\n",
    b"\x80",
    binary(0x01, 1, 8, 8_000_000, bytes(8) + b"a"),
    binary(0x00, 250, 0, 250),
]

GIANT = [
    b"set a 0 0 4294967295\r\n",
    b"set a 0 0 99999999999999999999\r\n",
    b"ms a 4294967295\r\n",
    b"get " + b"k" * 100_000,
    b"x" * 100_000,
    binary(0x01, 1, 8, 0xFFFFFFFF, bytes(8) + b"a"),
    binary(0x00, 0xFFFF, 0, 0xFFFFFFFF),
    binary(0xFF, 0xFFFF, 0xFF, 0x7FFFFFFF),
]


@pytest.mark.parametrize("said", HALF + GIANT)
def test_half_a_frame_or_a_giant_length_takes_no_memory_and_holds_up_nobody(server: RunningServer, said: bytes) -> None:
    with Wire(server) as other, ExitStack() as opened:
        before = server.resident_bytes()
        for _ in range(50):
            opened.enter_context(server.connect()).sendall(said)
        began = time.monotonic()
        for _ in range(50):
            other.expect(b"get none\r\n", b"END\r\n")
        assert time.monotonic() - began < 5
        assert server.resident_bytes() - before < 20 * MEGABYTE


# Many connections


def answered(told: Mapping[str, str]) -> int:
    """How many connections were accepted so far, be it to refuse them: the others still wait for the listener."""
    return int(told["total_connections"]) + int(told["rejected_connections"])


def test_ten_thousand_opens_are_refused_or_served_and_leave_nothing_behind(ours: MakeServer) -> None:
    server = ours("-c", "300")
    with Wire(server) as steady:
        before = server.resident_bytes()
        for _ in range(OPENS // PIECE):
            with ExitStack() as opened:
                for _ in range(PIECE):
                    opened.enter_context(server.connect())
            steady.expect(b"get none\r\n", b"END\r\n")
        poll_until(lambda: answered(steady.stats()) >= OPENS, "all were served or refused")
        poll_until(lambda: steady.stats()["curr_connections"] == "1", "all are gone")
        assert server.resident_bytes() - before < 20 * MEGABYTE


def test_ten_thousand_connections_at_once_are_held_and_one_works(ours: MakeServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = OPENS + 200
    if hard != resource.RLIM_INFINITY and hard < many:
        pytest.skip(f"this system allows {hard} files")
    server = ours("-c", str(OPENS + 10), "-b", "4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many), hard))
    try:
        with ExitStack() as opened, Wire(server) as working:
            before = server.resident_bytes()
            for _ in range(OPENS):
                opened.enter_context(server.connect())
            poll_until(lambda: working.stats()["curr_connections"] == str(OPENS + 1), "all are there")
            began = time.monotonic()
            working.expect(b"get none\r\n", b"END\r\n")
            assert time.monotonic() - began < 2
            assert server.resident_bytes() - before < OPENS * 8192
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Failed logins

RIGHT = b"set a 0 0 7\r\nfoo bar\r\n"
WRONG = b"set a 0 0 7\r\nfoo baz\r\n"
REFUSED = b"CLIENT_ERROR authentication failure\r\n"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Program]:
    users = tmp_path / "users"
    users.write_bytes(b"foo:bar\n")
    users.chmod(0o600)
    with Program("-p", "0", "-l", "127.0.0.1", "-Y", str(users)) as program:
        yield program


def test_failed_logins_are_delayed_and_block_no_other_client(guarded: Program) -> None:
    address = ("127.0.0.1", guarded.port)
    with ExitStack() as opened:
        known = opened.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))
        ask(known, RIGHT, b"STORED\r\n")
        answered = 0
        attackers = [opened.enter_context(socket.create_connection(address)) for _ in range(20)]
        for attacker in attackers:
            attacker.sendall(WRONG * 20)
        give_up_at = time.monotonic() + 3
        while time.monotonic() < give_up_at:
            ask(known)
            for attacker in attackers:
                attacker.setblocking(False)
                try:
                    answered += attacker.recv(4096).count(REFUSED)
                except BlockingIOError:
                    pass
            time.sleep(0.01)
        assert answered < 10
        late = opened.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))
        ask(late, RIGHT, b"STORED\r\n")


# Files


@pytest.mark.parametrize(("mask", "mode"), [([], 0o700), (["-a", "600"], 0o600), (["-a", "777"], 0o777)])
def test_the_unix_socket_has_the_permissions_asked_for_from_its_first_moment(
    tmp_path: Path, mask: list[str], mode: int
) -> None:
    path = tmp_path / "socket"
    before = os.umask(0)
    try:
        with Program("-s", str(path), *mask):
            assert path.stat().st_mode & 0o777 == mode
        assert not path.exists() or path.is_socket()
    finally:
        os.umask(before)


def test_a_file_in_the_way_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert run_to_its_end("-s", str(path)).returncode == 71
    assert path.read_text() == "data"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_users_file_that_everybody_can_read_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"foo:bar\n")
    users.chmod(mode)
    with Program("-p", "0", "-Y", str(users)) as program:
        assert (b"every user can read" in program.said) is warned


def test_nothing_a_client_says_shows_the_passwords(guarded: Program) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=PATIENCE_SECONDS) as client:
        ask(client, RIGHT, b"STORED\r\n")
        for what in (b"stats", b"stats settings", b"stats conns"):
            assert b"bar" not in ask(client, what + b"\r\n", b"END\r\n")


# The log


def test_a_full_pipe_at_standard_error_stops_nobody_and_not_the_end_either() -> None:
    with Program("-p", "0", "-l", "127.0.0.1", "-vv") as program:
        with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE_SECONDS) as client:
            request = b"get " + b"k" * 250 + b"\r\n"
            for _ in range(100):  # nobody reads the log, which has more of this than a pipe and the queue hold
                ask(client, request * 100, b"END\r\n" * 100)
            assert int(stats(client)["memcache_kv_log_dropped_lines"]) > 0
        program.process.terminate()
        assert program.process.wait(PATIENCE_SECONDS) == 0


# The table


def test_every_test_that_the_table_names_is_there() -> None:
    root = Path(tests.__file__).parent
    table = (root.parent / "docs/explanation/security.md").read_text()
    named = [word for word in table.replace("`", " ").split() if word.startswith("tests/")]
    assert len(named) > 10
    for word in named:
        path, _, name = word.partition("::")
        text = (root.parent / path).read_text()
        assert not name or f"def {name}(" in text, word
