"""The login of -Y over the wire, the same on memcached: replies, ends of connections, the file read again; and ours of
both protocols at once."""

import os
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest

from tests.integration.known_differences import REWRITTEN_PARSER
from tests.integration.wire import DEADLINE, OURS, poll_until, server_command
from tests.ports import free_port
from tests.program import Program, run_to_its_end

LOGIN = b"set any 0 0 7\r\nfoo bar\r\n"
STORED = b"STORED\r\n"
UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
FAILURE = b"CLIENT_ERROR authentication failure\r\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_bytes(b"foo:bar\nbaaaz:quux\n")
    path.chmod(0o644)
    return path


class GuardedServer:
    """A server that asks for a login, of ours or memcached's."""

    def __init__(self, kind: str, users: Path) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        flags = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-Y", str(users)]
        self.process = subprocess.Popen([*server_command(kind), *flags], stderr=self._log)
        poll_until(self._listens, "it listens")

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


MakeGuarded = Callable[[str, Path], GuardedServer]


@pytest.fixture
def make_guarded() -> Iterator[MakeGuarded]:
    with ExitStack() as started:

        def make(kind: str, users: Path) -> GuardedServer:
            server = GuardedServer(kind, users)
            started.callback(server.close)
            return server

        yield make


@pytest.fixture
def guarded(make_guarded: MakeGuarded, kind: str, users: Path) -> GuardedServer:
    return make_guarded(kind, users)


@pytest.fixture
def newest(guarded: GuardedServer) -> GuardedServer:
    """A server that reads a login as memcached has since its parser was rewritten."""
    with guarded.connect() as client:
        exchange(client, LOGIN, STORED)
        version = ask(client, b"version\r\n").split()[1]
    if tuple(map(int, version.split(b"."))) < REWRITTEN_PARSER:
        pytest.skip("releases before the rewritten parser read odd logins in other ways")
    return guarded


def ask(client: socket.socket, request: bytes) -> bytes:
    """Send a request; return the first line of the reply."""
    client.sendall(request)
    line = b""
    while not line.endswith(b"\n"):
        piece = client.recv(1)
        assert piece, line
        line += piece
    return line


def exchange(client: socket.socket, request: bytes, reply: bytes) -> None:
    """Send a request and demand exactly this reply."""
    client.sendall(request)
    said = b""
    while len(said) < len(reply):
        piece = client.recv(4096)
        assert piece, said
        said += piece
    assert said == reply


def until_closed(client: socket.socket) -> bytes:
    """All that the server says before it closes."""
    said = b""
    try:
        while piece := client.recv(4096):
            said += piece
    except ConnectionError:  # memcached leaves what it did not read
        pass
    return said


EXCHANGES = [
    (b"get foo\r\n", UNAUTHENTICATED),
    (b"set foo 0 0 2\r\nhi\r\n", b"CLIENT_ERROR bad authentication token format\r\n"),
    (b"set foo 0 0 7\r\nfoo bab\r\n", FAILURE),
    (b"set foo 0 0 7\r\nfoo barXX", b"CLIENT_ERROR bad command line termination\r\n"),
    (b"set foo 0 0 16385\r\n", b"CLIENT_ERROR auth token too long\r\n"),
    (b"set foo 0 0 7\n", UNAUTHENTICATED),
    (b"set foo 0 0 000000000007\r\n", UNAUTHENTICATED),
    (b"set foo 0 0\r\n", UNAUTHENTICATED),
    (b"set foo 0 0 10\r\nbaaaz quux\r\n", STORED),
    (b"set foo 0 0 7X\nfoo bar\r\n", STORED),
    (b"set foo 0 0 7\r\r\nfoo bar\r\n", STORED),
    (b"set foo 0 0 00000000007\r\nfoo bar\r\n", STORED),
    (b"sets foo 0 0 7 8 9\r\nfoo bar\r\n", STORED),
    (LOGIN + b"get foo\r\n", STORED + b"END\r\n"),
]


@pytest.mark.parametrize(("request_", "reply"), EXCHANGES)
def test_a_request_is_answered_as_memcached_answers_it(newest: GuardedServer, request_: bytes, reply: bytes) -> None:
    with newest.connect() as client:
        exchange(client, request_, reply)
        if not reply.startswith(STORED):
            exchange(client, LOGIN, STORED)
        exchange(client, b"get none\r\n", b"END\r\n")


@pytest.mark.parametrize("request_", [b"mn\r\n", b"quit\r\n", b"x" * 3000])
def test_what_cannot_become_a_login_ends_the_connection(newest: GuardedServer, request_: bytes) -> None:
    with newest.connect() as client:
        client.sendall(request_)
        assert until_closed(client) == b""


def test_logins_are_counted(guarded: GuardedServer) -> None:
    with guarded.connect() as client:
        exchange(client, b"set foo 0 0 7\r\nfoo bab\r\n", FAILURE)
        exchange(client, LOGIN, STORED)
        client.sendall(b"stats\r\nquit\r\n")
        said = until_closed(client)
    assert b"STAT auth_cmds 2\r\n" in said
    assert b"STAT auth_errors 1\r\n" in said


def test_the_file_is_read_again_on_sighup(guarded: GuardedServer, users: Path) -> None:
    new_login = b"set foo 0 0 7\r\neve new\r\n"
    with guarded.connect() as known, guarded.connect() as stranger:
        exchange(known, LOGIN, STORED)
        users.write_bytes(b"eve:new\n")
        exchange(stranger, new_login, FAILURE)
        os.kill(guarded.process.pid, signal.SIGHUP)
        poll_until(lambda: ask(stranger, new_login) == STORED, "the new user is known")
        exchange(known, b"get none\r\n", b"END\r\n")
    with guarded.connect() as late:
        exchange(late, LOGIN, FAILURE)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_file_that_became_unusable_or_empty_leaves_the_old_users(
    make_guarded: MakeGuarded, users: Path, is_gone: bool
) -> None:
    server = make_guarded(OURS, users)
    if is_gone:
        users.unlink()
    else:
        users.write_bytes(b"")
    os.kill(server.process.pid, signal.SIGHUP)
    poll_until(lambda: "the old users stay in use" in server.log(), "it is said")
    assert server.log().count("the old users stay in use") == 1
    with server.connect() as client:
        exchange(client, LOGIN, STORED)


@pytest.mark.parametrize(
    ("text", "said"),
    [("no colon", "has a malformed entry. Should be 'user:password'"), (None, "Could not open authfile")],
)
def test_a_server_without_usable_users_does_not_start(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "users"
    if text is not None:
        path.write_text(text)
    done = run_to_its_end("-p", "0", "-Y", str(path))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert said in done.stderr


# Both logins at once


def packet(opcode: int, key: bytes = b"", value: bytes = b"") -> bytes:
    """A request of the binary protocol."""
    return struct.pack("!BBHBBHIIQ", 0x80, opcode, len(key), 0, 0, 0, len(key) + len(value), 0, 0) + key + value


def converse(client: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send a request of the binary protocol; return the reply's status and body."""
    client.sendall(request)
    head = read_exactly(client, 24)
    status, length = struct.unpack("!6xHI12x", head)
    return status, read_exactly(client, length)


def read_exactly(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        assert piece, f"the server closed after {data!r}"
        data += piece
    return data


def plain(user: bytes, password: bytes) -> bytes:
    return packet(0x21, b"PLAIN", b"\0" + user + b"\0" + password)


@pytest.fixture
def hashed(tmp_path: Path) -> Path:
    """Users of whom one has a hashed password."""
    path = tmp_path / "hashed"
    path.write_bytes(b"foo:bar\nann:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(5)) + b"\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def both(hashed: Path) -> Iterator[Program]:
    """A server for both protocols, whose logins are of one file."""
    with Program("-p", "0", "-l", "127.0.0.1", "-Y", str(hashed), "-S", "-v") as program:
        yield program


def connect(program: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", program.port), timeout=DEADLINE)


@pytest.mark.parametrize(("user", "password"), [(b"foo", b"bar"), (b"ann", b"s3cret")])
def test_the_users_of_one_file_log_in_by_text_and_by_binary(both: Program, user: bytes, password: bytes) -> None:
    with connect(both) as text, connect(both) as binary:
        token = user + b" " + password
        exchange(text, b"set any 0 0 %d\r\n%b\r\n" % (len(token), token), STORED)
        exchange(text, b"set a 0 0 1\r\nx\r\n", STORED)
        assert converse(binary, plain(user, password)) == (0, b"Authenticated")
        assert converse(binary, packet(0x00, b"a")) == (0, b"\0\0\0\0x")


@pytest.mark.parametrize(
    "request_", [b"get a\r\n", b"set a 0 0 1\r\nx\r\n", b"flush_all\r\n", b"stats\r\n", b"me key\r\n"]
)
def test_nothing_else_works_before_the_login_by_text(both: Program, request_: bytes) -> None:
    with connect(both) as client:
        assert ask(client, request_).startswith(b"CLIENT_ERROR ")


@pytest.mark.parametrize("opcode", [0x00, 0x01, 0x04, 0x05, 0x08, 0x09, 0x0A, 0x10, 0x1C, 0x1D])
def test_nothing_else_works_before_the_login_by_binary(both: Program, opcode: int) -> None:
    with connect(both) as client:
        status, _ = converse(client, packet(opcode, b"a" if opcode in (0, 4, 9) else b""))
        assert status == 0x20


@pytest.mark.parametrize(
    ("user", "password"), [(b"foo", b"baz"), (b"ann", b"bar"), (b"ann", b"S3cret"), (b"eve", b"bar"), (b"", b"bar")]
)
def test_a_wrong_password_is_refused_by_both(both: Program, user: bytes, password: bytes) -> None:
    with connect(both) as text, connect(both) as binary:
        token = user + b" " + password
        exchange(text, b"set any 0 0 %d\r\n%b\r\n" % (len(token), token), FAILURE)
        assert converse(binary, plain(user, password))[0] == 0x20


def test_failures_of_both_are_counted_and_logged_without_names_and_passwords(both: Program) -> None:
    with connect(both) as text, connect(both) as binary:
        exchange(text, b"set any 0 0 10\r\nmary tudor\r\n", FAILURE)
        converse(binary, plain(b"mary", b"tudor"))
    both.wait_for(b"failed login from 127.0.0.1, 1 recently")
    with connect(both) as client:
        exchange(client, LOGIN, STORED)
        client.sendall(b"stats\r\nquit\r\n")
        said = until_closed(client)
    assert b"STAT auth_errors 2\r\n" in said
    both.end()
    assert b"mary" not in both.said
    assert b"tudor" not in both.said


def test_hashed_users_are_read_again_on_sighup_and_one_too_costly_leaves_the_old(both: Program, hashed: Path) -> None:
    with connect(both) as client:
        hashed.write_bytes(b"eve:$2b$31$" + b"x" * 53 + b"\n")
        os.kill(both.process.pid, signal.SIGHUP)
        both.wait_for(b"the old users stay in use")
        exchange(client, LOGIN, STORED)
    hashed.write_bytes(b"eve:" + bcrypt.hashpw(b"new", bcrypt.gensalt(4)) + b"\n")
    os.kill(both.process.pid, signal.SIGHUP)
    both.wait_for(b"read the users again")
    with connect(both) as client:
        exchange(client, LOGIN, FAILURE)
        exchange(client, b"set any 0 0 7\r\neve new\r\n", STORED)


def test_sasl_alone_takes_memcacheds_variable(hashed: Path) -> None:
    with Program("-S", "-p", "0", "-l", "127.0.0.1", MEMCACHED_SASL_PWDB=str(hashed)) as program:
        with connect(program) as client:
            assert converse(client, plain(b"ann", b"s3cret")) == (0, b"Authenticated")
