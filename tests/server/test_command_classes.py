"""Classes of commands of a whole server: by listener, over UDP, and in the audit log."""

import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memcache_kv.auth.access import CommandClass
from memcache_kv.config.settings import AdminCommands, Settings, split_class_prefix
from memcache_kv.errors import ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.server.connection import origin_of
from memcache_kv.server.health import default_address
from memcache_kv.server.run import ServerRun
from memcache_kv.server.udp import UdpServer
from tests.protocol.context_factory import Surroundings

REFUSED = b"CLIENT_ERROR flush_all not allowed\r\n"


@contextmanager
def serving(settings: Settings) -> Iterator[ServerRun]:
    server = ServerRun(settings, log=Log(0, io.StringIO()))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(server: ServerRun, request: bytes) -> bytes:
    """All that a client gets for these requests."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(request + b"quit\r\n")
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_a_listener_may_have_a_class_of_its_own() -> None:
    listen = ("127.0.0.1", "write:127.0.0.1:0", "read:127.0.0.1:0", "admin:127.0.0.1:0")
    requests = b"set a 0 0 1\r\nx\r\nflush_all\r\n"
    with serving(Settings(port=0, listen=listen[:1])) as server:
        assert ask(server, requests) == b"STORED\r\nOK\r\n"
    expected = (b"STORED\r\n" + REFUSED, b"CLIENT_ERROR set not allowed\r\n" + REFUSED, b"STORED\r\nOK\r\n")
    for text, replies in zip(listen[1:], expected, strict=True):
        with serving(Settings(port=0, listen=(text,))) as server:
            assert ask(server, requests) == replies


def test_never_refuses_loopback_too() -> None:
    with serving(Settings(port=0, listen=("127.0.0.1",), admin_commands=AdminCommands.NEVER)) as server:
        assert ask(server, b"flush_all\r\n") == REFUSED


@pytest.mark.parametrize("policy", AdminCommands)
def test_a_datagram_never_carries_an_admin_command(policy: AdminCommands) -> None:
    around = Surroundings(Settings(admin_commands=policy))
    server = UdpServer(("127.0.0.1", 0), socket.AF_INET, around.context)
    try:
        assert server.carry_out(b"set a 0 0 1\r\nx\r\nflush_all\r\n") == b"STORED\r\n" + REFUSED
    finally:
        server.server_close()


def test_a_unix_socket_and_loopback_are_local() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert origin_of(ours, CommandClass.READ) == ("unix", True, CommandClass.READ)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        assert origin_of(client, None) == (f"tcp:127.0.0.1:{listener.getsockname()[1]}", True, None)


def test_a_client_that_is_gone_is_not_local() -> None:
    with socket.socket() as never_connected:
        assert not origin_of(never_connected, None).is_local


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("read:10.0.0.1:11211", ("read", "10.0.0.1:11211")),
        ("admin:mtls:[::1]:11211", ("admin", "mtls:[::1]:11211")),
        ("write:*", ("write", "*")),
        ("write:host", ("write", "host")),
        ("read:11211", ("", "read:11211")),
        ("reader:11211", ("", "reader:11211")),
        ("::1", ("", "::1")),
    ],
)
def test_what_is_a_class_before_an_address(text: str, parts: tuple[str, str]) -> None:
    assert split_class_prefix(text) == parts


def test_the_health_check_finds_an_address_with_a_class() -> None:
    address, _ = default_address({"MEMCACHE_KV_LISTEN": "write:127.0.0.5:1234"}, is_admin=False, has_user=False)
    assert (address.host, address.port) == ("127.0.0.5", 1234)


def test_a_reload_opens_the_audit_log_again(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    with serving(Settings(port=0, listen=("127.0.0.1",), audit_log=path)) as server:
        assert ask(server, b"flush_all\r\n") == b"OK\r\n"
        renamed = path.rename(tmp_path / "audit.1")
        server.reload()
        assert ask(server, b"flush_all 5\r\n") == b"OK\r\n"
    before, after = (json.loads(each.read_text()) for each in (renamed, path))
    assert (before["command"], after["command"]) == ("flush_all", "flush_all 5")
    assert before["address"].startswith("tcp:127.0.0.1:")


def test_an_audit_log_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    server = ServerRun(Settings(port=0, listen=("127.0.0.1",), audit_log=tmp_path), log=Log(0, io.StringIO()))
    with pytest.raises(ConfigError, match="can't write the audit log"):
        server.start()
