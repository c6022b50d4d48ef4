"""Listeners of the line protocol and of the simple dialect: where they listen, and who may use them."""

import io
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memcache_kv.cli import parse
from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, ListenError
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from tests.certificates import make_certificates

LOCAL = Settings(port=0, listen=("127.0.0.1",))
PATIENCE_SECONDS = 20


class Serving:
    """A server, and its log."""

    def __init__(self, settings: Settings) -> None:
        self.stream = io.StringIO()
        self.server = ServerRun(settings, log=Log(settings.verbose, self.stream))

    def connect(self, dialect: str, number: int = 0) -> socket.socket:
        """Connect to one of the addresses of a dialect."""
        address = self.server.addresses_of(dialect)[number]
        if address.startswith("/"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE_SECONDS)
            client.connect(address)
            return client
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_SECONDS)

    def ask(self, dialect: str, request: bytes, number: int = 0) -> bytes:
        """All that a client gets for these requests, the last of which closes the connection."""
        with self.connect(dialect, number) as client:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(4096), b""))


@contextmanager
def serving(settings: Settings) -> Iterator[Serving]:
    made = Serving(settings)
    made.server.start()
    try:
        yield made
    finally:
        made.server.stop()


LINE_REQUEST, LINE_REPLY = b"PUT k v\nGET k\nQUIT\n", b"OK stored\nOK v\n"
SIMPLE_REQUEST, SIMPLE_REPLY = b"set k 1\r\nv\r\nget x\r\nquit\r\n", b"STORED\r\nNot-Exists\r\n"


def test_a_port_alone_listens_on_both_loopback_addresses() -> None:
    with serving(LOCAL._replace(line_listen=("0",), simple_listen=("0",))) as made:
        for dialect in ("line", "simple"):
            hosts, ports = zip(*(a.rsplit(":", 1) for a in made.server.addresses_of(dialect)), strict=True)
            assert hosts[0] == "127.0.0.1"
            assert set(hosts[1:]) <= {"[::1]"}
            assert len(set(ports)) == 1
        assert made.ask("line", LINE_REQUEST) == made.ask("line", LINE_REQUEST, -1) == LINE_REPLY
        assert made.ask("simple", SIMPLE_REQUEST, -1) == SIMPLE_REPLY
        assert len(made.server.addresses) == 1
        assert made.server.addresses[0].endswith(f":{made.server.port}")


def test_several_addresses_and_unix_sockets_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "line.sock"
    flags = ["--line-listen", f"127.0.0.1:0,{path}", "--line-listen", "127.0.0.2:0", "-p", "0", "-l", "127.0.0.1"]
    with serving(parse(flags)) as made:
        addresses = made.server.addresses_of("line")
        assert addresses[1] == str(path)
        assert [address.rpartition(":")[0] for address in addresses] == ["127.0.0.1", "", "127.0.0.2"]
        for number in range(3):
            assert made.ask("line", LINE_REQUEST, number) == LINE_REPLY
        assert path.stat().st_mode & 0o777 == 0o700
    assert not path.exists()


def test_they_need_no_listener_of_memcacheds_on_tcp(tmp_path: Path) -> None:
    settings = Settings(port=0, unix_socket=tmp_path / "text.sock", line_listen=("127.0.0.1:0",))
    with serving(settings) as made:
        assert made.server.port == 0
        assert made.server.addresses == [str(tmp_path / "text.sock")]
        assert made.ask("line", LINE_REQUEST) == LINE_REPLY


def test_the_log_and_the_file_of_ports_name_them(tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    settings = LOCAL._replace(line_listen=("127.0.0.1:0",), simple_listen=("127.0.0.1:0",), port_file=ports)
    with serving(settings) as made:
        server = made.server
        [line], [simple] = server.addresses_of("line"), server.addresses_of("simple")
        assert f"listening on {server.addresses[0]}, {line} (line), {simple} (simple)\n" in made.stream.getvalue()
        expected = [f"TCP INET: {server.port}", f"LINE INET: {line[10:]}", f"SIMPLE INET: {simple[10:]}"]
        assert ports.read_text().splitlines() == expected


@pytest.mark.parametrize("text", ["127.0.0.1", "localhost", "[::1]", "x:y", "70000", "a:b:c", "127.0.0.1:70000"])
def test_an_address_without_a_port_is_rejected(text: str) -> None:
    made = Serving(LOCAL._replace(line_listen=(text,)))
    with pytest.raises(ListenError, match="can't listen on"):
        made.server.start()


def test_a_port_in_use_is_an_error_and_leaves_no_socket_file(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = tmp_path / "line.sock"
        settings = LOCAL._replace(line_listen=(str(path), f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(ListenError, match="in use"):
            Serving(settings).server.start()
        assert not path.exists()


@pytest.mark.parametrize("first", [b"\x80", b"g", b"\n"])
def test_the_first_byte_decides_nothing(first: bytes) -> None:
    with serving(LOCAL._replace(line_listen=("127.0.0.1:0",), binding_protocol="binary")) as made:
        assert made.ask("line", first + b"\nQUIT\n").startswith(b"ERROR ")
        assert made.ask("line", LINE_REQUEST) == LINE_REPLY


def test_udp_is_not_served_on_their_hosts() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(LOCAL._replace(line_listen=("127.0.0.2:0",), udp_port=port)) as made:
        assert [listener.server_address[0] for listener in made.server.udp_listeners] == ["127.0.0.1"]


# TLS


def test_they_speak_tls_where_the_server_does(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    path = tmp_path / "line.sock"
    addresses = ("127.0.0.1:0", "notls:127.0.0.1:0", str(path))
    settings = LOCAL._replace(enable_ssl=True, tls=tls, line_listen=addresses, simple_listen=("127.0.0.1:0",))
    with serving(settings) as made:
        for dialect, request, reply in (
            ("line", LINE_REQUEST, LINE_REPLY),
            ("simple", SIMPLE_REQUEST, SIMPLE_REPLY),
        ):
            with certificates.connect(int(made.server.addresses_of(dialect)[0].rpartition(":")[2])) as client:
                client.sendall(request)
                assert b"".join(iter(lambda: client.recv(4096), b"")) == reply
        assert made.ask("line", LINE_REQUEST, 1) == made.ask("line", LINE_REQUEST, 2) == LINE_REPLY
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            assert made.ask("line", LINE_REQUEST) == LINE_REPLY


# Classes, logins and strangers


def test_a_listener_may_have_a_class() -> None:
    settings = LOCAL._replace(line_listen=("read:127.0.0.1:0", "127.0.0.1:0"), simple_listen=("read:127.0.0.1:0",))
    with serving(settings) as made:
        assert made.ask("line", b"PUT k v\nGET k\nQUIT\n").startswith(b"ERROR PUT not allowed here")
        assert made.ask("line", LINE_REQUEST, 1) == LINE_REPLY
        assert made.ask("line", b"GET k\nQUIT\n") == b"OK v\n"
        assert made.ask("simple", b"set k 1\r\nv\r\nquit\r\n") == b"CLIENT_ERROR set not allowed\r\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("user:pass\n")
    path.chmod(0o600)
    return path


def test_with_users_the_line_protocol_needs_a_class(users: Path) -> None:
    settings = LOCAL._replace(
        auth_file=users, binding_protocol="ascii", simple_listen=("127.0.0.1:0",), login_timeout=0,
        line_listen=("127.0.0.1:0", "read:127.0.0.1:0", "write:127.0.0.1:0"),
    )  # fmt: skip
    with serving(settings) as made:
        assert made.ask("line", b"PUT k v\nGET k\nQUIT\n") == b"ERROR authentication required\n" * 2
        assert made.ask("line", LINE_REQUEST, 2) == LINE_REPLY
        assert made.ask("line", b"GET k\nQUIT\n", 1) == b"OK v\n"
        login = b"set x 0 0 9\r\nuser pass\r\n"
        assert made.ask("simple", b"get k\r\n" + login + SIMPLE_REQUEST) == (
            b"CLIENT_ERROR unauthenticated\r\nSTORED\r\n" + SIMPLE_REPLY
        )


def test_who_does_not_log_in_is_closed_in_time_but_for_listeners_with_a_class(users: Path) -> None:
    settings = LOCAL._replace(
        auth_file=users, binding_protocol="ascii", line_listen=("127.0.0.1:0", "read:127.0.0.1:0"), login_timeout=1
    )
    with serving(settings) as made, made.connect("line") as stranger, made.connect("line", 1) as reader:
        assert stranger.recv(10) == b""
        reader.sendall(b"EXISTS k\n")
        assert reader.recv(10) == b"OK 0\n"


def far_address() -> str:
    """An address of this machine beyond loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beyond loopback")
        host: str = probe.getsockname()[0]
        return host


@pytest.mark.parametrize("field", ["line-listen", "simple-listen"])
def test_strict_protection_keeps_strangers_from_them(field: str, users: Path) -> None:
    host = far_address()
    strict = parse([f"--{field}", f"{host}:0", "-p", "0", "-l", "127.0.0.1", "--protected", "strict", "-u", "root"])
    with pytest.raises(ConfigError, match="can read and change everything"):
        Serving(strict).server.start()
    with_users = strict._replace(auth_file=users, binding_protocol="ascii")
    with serving(with_users):
        pass
    with_class = with_users._replace(**{field.replace("-", "_"): (f"write:{host}:0",)})  # type: ignore[arg-type]
    if field == "simple-listen":
        with serving(with_class):
            return
    with pytest.raises(ConfigError, match="can read and change everything"):
        Serving(with_class).server.start()


# What is counted and logged


def test_connections_of_all_kinds_share_the_limit_and_the_log() -> None:
    settings = LOCAL._replace(line_listen=("127.0.0.1:0",), simple_listen=("127.0.0.1:0",), conn_limit=2, verbose=2)
    with serving(settings) as made:
        with made.connect("line") as first, made.connect("simple") as second:
            first.sendall(b"GET k\n")
            assert first.recv(100) == b"ERROR key not found\n"
            second.sendall(b"get k\r\n")
            assert second.recv(100) == b"Not-Exists\r\n"
            with made.connect("line") as third:
                assert third.recv(100) == b"ERROR Too many open connections\r\n"
        said = made.stream.getvalue()
        assert "new line client connection from tcp:127.0.0.1:" in said
        assert "Accepting connection from tcp:127.0.0.1:" in said
        assert " GET k\n" in said
        assert " Not-Exists\n" in said
