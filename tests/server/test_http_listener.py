"""Listeners of HTTP: TLS, classes, logins and what connections of all kinds share."""

import http.client
import ssl
import time
from pathlib import Path

import pytest

from memcache_kv.cli import parse
from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError
from tests.certificates import make_certificates
from tests.server.test_dialects import LOCAL, Serving, far_address, serving

PATIENCE_SECONDS = 20
PUT = b"PUT /k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 12\r\n\r\n" + b'{"value": 1}'
GET = b"GET /k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
TOKEN = b"Authorization: Bearer user:pass\r\n"


def with_token(request: bytes, token: bytes = TOKEN) -> bytes:
    return request.replace(b"Host:", token + b"Host:", 1)


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply
    return int(reply[9:12])


def test_it_speaks_tls_where_the_server_does(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    addresses = ("127.0.0.1:0", "notls:127.0.0.1:0", str(tmp_path / "http.sock"))
    with serving(LOCAL._replace(enable_ssl=True, tls=tls, http_listen=addresses)) as made:
        with certificates.connect(int(made.server.addresses_of("http")[0].rpartition(":")[2])) as client:
            client.sendall(PUT)
            assert status_of(b"".join(iter(lambda: client.recv(4096), b""))) == 200
        for number in (1, 2):
            assert made.ask("http", GET, number).endswith(b'{"value": 1}')
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            assert made.ask("http", GET).startswith(b"HTTP/1.1 ")


def test_a_listener_may_have_a_class() -> None:
    with serving(LOCAL._replace(http_listen=("read:127.0.0.1:0", "127.0.0.1:0"))) as made:
        assert status_of(made.ask("http", PUT)) == 403
        assert status_of(made.ask("http", PUT, 1)) == 200
        assert status_of(made.ask("http", GET)) == 200


@pytest.fixture
def guarded(tmp_path: Path) -> Settings:
    path = tmp_path / "users"
    path.write_text("user:pass\nreader:word:read\n")
    path.chmod(0o600)
    return LOCAL._replace(auth_file=path, binding_protocol="ascii", http_listen=("127.0.0.1:0",))


def test_with_users_every_request_needs_a_token(guarded: Settings) -> None:
    with serving(guarded) as made:
        assert status_of(made.ask("http", PUT)) == 401
        assert status_of(made.ask("http", with_token(PUT))) == 200
        assert status_of(made.ask("http", with_token(GET, b"Authorization: Bearer reader:word\r\n"))) == 200
        assert status_of(made.ask("http", with_token(PUT, b"Authorization: Bearer reader:word\r\n"))) == 403


def test_a_connection_that_is_logged_in_may_fail_further_logins(guarded: Settings) -> None:
    """The fourth failure is delayed, and the tenth closes the connection, as before the first login."""
    with serving(guarded) as made:
        port = int(made.server.addresses_of("http")[0].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

        def get(token: str) -> int:
            connection.request("GET", "/k", headers={"Authorization": f"Bearer {token}"})
            reply = connection.getresponse()
            reply.read()
            return reply.status

        assert [get("user:pass"), get("user:nope"), get("user:nope"), get("user:nope")] == [404, 401, 401, 401]
        before = time.monotonic()
        assert get("user:nope") == 401
        assert time.monotonic() - before >= 1
        assert get("user:pass") == 404
        connection.close()


def test_who_sends_no_token_is_closed_in_time(guarded: Settings) -> None:
    with serving(guarded._replace(login_timeout=1)) as made, made.connect("http") as stranger:
        assert stranger.recv(10) == b""


def test_strict_protection_keeps_strangers_out(guarded: Settings) -> None:
    flags = ["--http-listen", f"{far_address()}:0", "-p", "0", "-l", "127.0.0.1", "--protected", "strict", "-u", "root"]
    strict = parse(flags)
    with pytest.raises(ConfigError, match="can read and change everything"):
        Serving(strict).server.start()
    with serving(strict._replace(auth_file=guarded.auth_file, binding_protocol="ascii")):
        pass


def test_connections_of_all_kinds_share_the_limit_and_the_log() -> None:
    with serving(LOCAL._replace(http_listen=("127.0.0.1:0",), conn_limit=1, verbose=2)) as made:
        with made.connect("http") as first:
            first.sendall(GET.replace(b"Connection: close\r\n", b""))
            assert status_of(first.recv(1000)) == 404
            with made.connect("http") as second:
                assert status_of(second.recv(100)) == 503
        said = made.stream.getvalue()
        assert "new http client connection from tcp:127.0.0.1:" in said
        assert " GET /k\n" in said
