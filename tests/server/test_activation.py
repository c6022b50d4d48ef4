"""Sockets that a server inherits: what each is used for, what -p, -l, -s and -U add, and what can't be served."""

import io
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.cli import parse
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, ListenError, MemcacheKVError
from memcache_kv.observe.log import Log
from memcache_kv.server import activation
from memcache_kv.server.activation import is_activated, take_sockets
from memcache_kv.server.run import ServerRun
from memcache_kv.version import PROTOCOL_VERSION
from tests.activated import Activated, listening
from tests.certificates import Certificates, make_certificates
from tests.ports import free_port
from tests.program import PATIENCE_SECONDS

VERSION_REPLY = f"VERSION {PROTOCOL_VERSION}\r\n".encode()
FIRST_FDS = itertools.count(700, 10)
"""Where the sockets of the tests in this process are, as descriptor 3 is taken, and others belong to earlier tests."""


def ask(sock: socket.socket, request: bytes) -> bytes:
    """The first bytes that a server sends on a new connection to the address of a listening socket."""
    with socket.socket(sock.family) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(sock.getsockname())
        client.sendall(request)
        return client.recv(1000)


def datagrams(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Sockets to be closed at the end of a test."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


# The program


def test_every_kind_of_listener_is_served_on_inherited_sockets(tmp_path: Path, opened: list[socket.socket]) -> None:
    tcp, unix, abstract = listening(), listening(str(tmp_path / "line")), listening(f"@memcache-kv-{os.getpid()}")
    http, admin, udp = listening(), listening(), datagrams()
    opened += [tcp, unix, abstract, http, admin, udp]
    names = "memcached:line:simple:http:admin:memcache-kv-udp.socket"
    with Activated([tcp, unix, abstract, http, admin, udp], names) as program:
        assert program.listening == [
            f"127.0.0.1:{tcp.getsockname()[1]}",
            f"{tmp_path / 'line'} (line)",
            f"@memcache-kv-{os.getpid()} (simple)",
            f"127.0.0.1:{http.getsockname()[1]} (http)",
        ]
        assert ask(tcp, b"version\r\n") == VERSION_REPLY
        assert ask(tcp, bytes.fromhex("800b00000000000000000000000000000000000000000000"))[:2] == b"\x81\x0b"
        assert ask(unix, b"PUT k v\n") == b"OK stored\n"
        assert ask(abstract, b"set s 1\r\nv\r\n") == b"STORED\r\n"
        assert ask(http, b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert ask(admin, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.sendto(b"\0\1\0\0\0\1\0\0version\r\n", udp.getsockname())
            assert client.recv(100)[8:] == VERSION_REPLY
        conns = ask(tcp, b"stats conns\r\n").decode()
        assert f"unix:@memcache-kv-{os.getpid()}" in conns
        assert program.end() == 0
    assert (tmp_path / "line").is_socket(), "the socket file is systemd's"


def test_a_client_that_connects_between_two_servers_is_served_by_the_second(opened: list[socket.socket]) -> None:
    tcp = listening()
    opened.append(tcp)
    with Activated([tcp], "") as first:
        assert ask(tcp, b"version\r\n") == VERSION_REPLY
        assert first.end(signal.SIGUSR1) == 0
    with socket.create_connection(tcp.getsockname(), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"version\r\n")
        with Activated([tcp], ""):
            assert client.recv(100) == VERSION_REPLY


def test_tls_and_classes_follow_from_the_names(tmp_path: Path, opened: list[socket.socket]) -> None:
    certificates = make_certificates(tmp_path / "tls")
    secured, plain, strict = listening(), listening(), listening()
    opened += [secured, plain, strict]
    names = "memcached:memcached.read.notls:memcached.mtls"
    suboptions = f"{certificates.suboptions},ssl_ca_cert={certificates.authority}"
    with Activated([secured, plain, strict], names, "-Z", "-o", suboptions):
        with certificates.connect(secured.getsockname()[1]) as client:
            client.sendall(b"version\r\n")
            assert client.recv(100) == VERSION_REPLY
        assert ask(plain, b"version\r\n") == VERSION_REPLY
        assert ask(plain, b"set k 0 0 1\r\nv\r\n") == b"CLIENT_ERROR set not allowed\r\n"
        with certificates.connect(strict.getsockname()[1], certificates.context(with_client=True)) as client:
            client.sendall(b"version\r\n")
            assert client.recv(100) == VERSION_REPLY
        assert not answers(certificates, strict.getsockname()[1])


def answers(certificates: Certificates, port: int) -> bool:
    """Whether a server answers a client that has no certificate."""
    try:
        with certificates.connect(port) as client:
            client.sendall(b"version\r\n")
            return client.recv(100) != b""
    except OSError:
        return False


def test_variables_for_another_process_are_ignored(opened: list[socket.socket]) -> None:
    tcp = listening()
    opened.append(tcp)
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}
    assert not is_activated(environ)
    assert is_activated({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
    assert not is_activated({"LISTEN_PID": str(os.getpid())})


def test_commands_that_the_server_starts_do_not_see_the_sockets(tmp_path: Path, opened: list[socket.socket]) -> None:
    tcp, found = listening(), tmp_path / "found"
    opened.append(tcp)
    script = f"(env | grep -c ^LISTEN_; ls -l /proc/self/fd | grep -c socket:) > {found}.new; mv {found}.new {found}"
    journal = ["--journal", str(tmp_path / "journal"), "--on-rotate", script]
    with Activated([tcp], "", *journal) as program:
        ask(tcp, b"set k 0 0 1\r\nv\r\njournal compact\r\n")
        while not found.exists():
            program.process.poll()
            assert program.process.returncode is None
    assert found.read_text().split() == ["0", "0"]


# The rules


def take(sockets: list[socket.socket], names: str, *flags: str) -> tuple[Settings, activation.Inherited]:
    """Pass copies of sockets to this process, and have them taken."""
    first = next(FIRST_FDS)
    for index, sock in enumerate(sockets):
        os.dup2(sock.fileno(), first + index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activation, "FIRST_FD", first)
        return take_sockets(parse(flags), {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names})


def addresses_with(sockets: list[socket.socket], names: str, *flags: str) -> list[str]:
    """What a server listens on that is given these sockets and flags."""
    settings, inherited = take(sockets, names, *flags)
    server = ServerRun(settings, log=Log(0, io.StringIO()), inherited=inherited)
    server.start()
    try:
        return server.addresses + server.addresses_of("line") + [f"udp:{each.port}" for each in server.udp_listeners]
    finally:
        server.stop()


def test_inherited_sockets_replace_the_default_addresses_and_l_adds_some(opened: list[socket.socket]) -> None:
    tcp = listening()
    opened.append(tcp)
    ours, other = f"127.0.0.1:{tcp.getsockname()[1]}", free_port()
    assert addresses_with([tcp], "") == [ours]
    assert addresses_with([tcp], "unknown") == [ours]
    assert addresses_with([tcp], "memcache-kv.socket", "-p", str(other)) == [ours]
    assert addresses_with([tcp], "memcached", "-l", f"127.0.0.1:{other}") == [ours, f"127.0.0.1:{other}"]
    assert addresses_with([tcp], "memcached", "-p", str(tcp.getsockname()[1]), "-l", "127.0.0.1") == [ours], "not twice"


def test_sockets_of_other_protocols_leave_the_default_addresses(opened: list[socket.socket]) -> None:
    line = listening()
    opened.append(line)
    port = free_port()
    found = addresses_with([line], "line", "-p", str(port))
    assert f"127.0.0.1:{port}" in found
    assert f"127.0.0.1:{line.getsockname()[1]}" in found


def test_a_path_that_is_inherited_is_not_bound_again(tmp_path: Path, opened: list[socket.socket]) -> None:
    path = str(tmp_path / "socket")
    opened.append(listening(path))
    assert addresses_with(opened, "", "-s", path) == [path]
    assert Path(path).is_socket()


def test_datagrams_are_served_with_and_without_u(opened: list[socket.socket]) -> None:
    tcp, udp = listening(), datagrams()
    opened += [tcp, udp]
    port, other = udp.getsockname()[1], free_port()
    assert addresses_with([tcp, udp], "a.socket:b.socket")[1:] == [f"udp:{port}"]
    assert addresses_with([tcp, udp], "a.socket:b.socket", "-U", str(port))[1:] == [f"udp:{port}"]
    assert addresses_with([tcp, udp], "a.socket:b.socket", "-U", str(other))[1:] == [f"udp:{port}", f"udp:{other}"]


def test_ipv4_clients_of_an_ipv6_socket_are_who_they_are(opened: list[socket.socket]) -> None:
    try:
        dual = listening(("::", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    opened.append(dual)
    settings, inherited = take([dual], "")
    server = ServerRun(settings, log=Log(0, io.StringIO()), inherited=inherited)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", dual.getsockname()[1]), timeout=PATIENCE_SECONDS) as client:
            client.sendall(b"lru_crawler metadump all\r\n")
            assert client.recv(100).startswith(b"OK"), "a local client may use admin commands"
    finally:
        server.stop()


def test_inherited_sockets_are_not_inherited_by_other_programs(opened: list[socket.socket]) -> None:
    opened += [listening(), datagrams()]
    _, inherited = take(opened, "")
    assert not any(sock.get_inheritable() for sock in (*inherited.streams.values(), *inherited.datagrams))
    inherited.close()


def refusal(sockets: list[socket.socket], names: str, *flags: str) -> MemcacheKVError:
    with pytest.raises((ConfigError, ListenError)) as error:
        take(sockets, names, *flags)
    return error.value


@pytest.mark.parametrize(
    "name",
    ["lines", "http.", "http.read.write", "line.tls", "memcached.notls.mtls", "connection", "stored", "admin.read"],
)
def test_unknown_names_are_refused(name: str, opened: list[socket.socket]) -> None:
    opened.append(listening())
    error = refusal(opened, name, "-Z")
    assert repr(name) in str(error)
    assert "memcached, line, simple, http, admin" in str(error) or "no commands to choose from" in str(error)


def test_a_tls_mode_needs_tls(opened: list[socket.socket]) -> None:
    opened.append(listening())
    assert "needs TLS, which -Z turns on" in str(refusal(opened, "line.mtls"))


def test_what_does_not_listen_or_has_no_protocol_is_refused(opened: list[socket.socket]) -> None:
    one, other = socket.socketpair()
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened += [one, other, unix]
    assert "it does not listen: a socket unit needs Accept=no" in str(refusal([one], ""))
    assert "neither TCP nor UDP" in str(refusal([unix], ""))


@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("line", (), "there is no line by UDP"),
        ("memcached", ("-Y", "users"), "UDP has no login"),
        ("memcached", ("-Z",), "UDP has no TLS"),
    ],
)
def test_datagrams_bypass_neither_logins_nor_tls(
    name: str, flags: tuple[str, ...], reason: str, opened: list[socket.socket]
) -> None:
    opened.append(datagrams())
    assert reason in str(refusal(opened, name, *flags))


@pytest.mark.parametrize("count", ["", "x", "-1", "99999", "1001"])
def test_a_bad_count_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS must be a number"):
        take_sockets(Settings(), {"LISTEN_FDS": count})


def test_datagrams_for_strangers_are_warned_of(opened: list[socket.socket]) -> None:
    tcp, udp = listening(), datagrams("0.0.0.0")
    opened += [tcp, udp]
    settings, inherited = take([tcp, udp], "")
    stream = io.StringIO()
    server = ServerRun(settings, log=Log(0, stream), inherited=inherited)
    server.start()
    server.stop()
    assert f"anybody who can reach 0.0.0.0:{udp.getsockname()[1]} (UDP) can read and change" in stream.getvalue()


def test_a_socket_that_cannot_be_served_ends_the_start_in_one_line() -> None:
    starter = ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3</dev/null']
    done = subprocess.run(
        [*starter, "python3", "-m", "memcache_kv", "-p", "0"], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 71
    assert done.stderr.splitlines() == [
        "memcache-kv: LISTEN_FDS: descriptor 3 is no socket: Socket operation on non-socket"
    ]
