"""A server in a program whose tests set the clock with freezegun or time-machine: the server lives in real time.

Every wait here is for something that the server does after a second or two of real time, while the clock stands still.
"""

import logging
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv import Server
from memcache_kv.clock import unix_seconds
from memcache_kv.config.memcached_options import TlsOptions
from tests.certificates import Certificates, make_certificates
from tests.patched_clocks import PatchClock, both_libraries
from tests.program import PATIENCE_SECONDS, poll_until

MOMENT = datetime(2035, 1, 2, tzinfo=UTC)
LOGIN, WRONG = (b"set login 0 0 %d\r\n%s\r\n" % (len(words), words) for words in (b"ann secret", b"ann wrong"))
REFUSED = b"CLIENT_ERROR authentication failure\r\n"


@pytest.fixture(params=["before", "meanwhile"])
def starts(request: pytest.FixtureRequest) -> str:
    """Whether the server is started before the clock is patched, or while it is."""
    return str(request.param)


class Patched:
    """A server that is started before a clock is patched, or while it is."""

    def __init__(self, starts: str, **fields: Any) -> None:
        self.server = Server(**fields)
        self._starts = starts
        if starts == "before":
            self.server.start()

    def start(self) -> Server:
        """Start it if it was not."""
        return self.server.start() if self._starts != "before" else self.server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def guarded(starts: str, tmp_path: Path, certificates: Certificates) -> Iterator[Patched]:
    """A server with TLS, logins and limits of time."""
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    users.chmod(0o600)
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    patched = Patched(starts, enable_ssl=True, tls=tls, auth_file=users, idle_timeout=1, login_timeout=2)
    yield patched
    patched.server.stop()


def answer(client: ssl.SSLSocket, request: bytes) -> bytes:
    client.sendall(request)
    return client.recv(4096)


@both_libraries
def test_logins_are_throttled_and_idle_connections_closed_in_real_time(
    guarded: Patched, certificates: Certificates, patch_clock: PatchClock
) -> None:
    with patch_clock(MOMENT, False):
        port = guarded.start().port
        with certificates.connect(port) as client, certificates.connect(port) as stranger:
            for _ in range(3):
                assert answer(client, WRONG) == REFUSED
            began = unix_seconds()
            assert answer(client, WRONG) == REFUSED
            assert unix_seconds() - began > 0.9
            assert answer(client, LOGIN) == b"STORED\r\n"
            assert answer(client, b"mn\r\n") == b"MN\r\n"
            assert client.recv(1) == b"", "it was idle"
            assert stranger.recv(1) == b"", "it has not logged in"
        assert time.time() == MOMENT.timestamp(), "the clock is still patched"


@both_libraries
def test_items_expire_and_writes_are_synced_in_real_time(
    starts: str, tmp_path: Path, patch_clock: PatchClock, caplog: pytest.LogCaptureFixture
) -> None:
    patched = Patched(starts, journal=tmp_path / "journal", fsync="everysec", verbose=2)
    with caplog.at_level(logging.DEBUG, "memcache_kv"), patch_clock(MOMENT, False):
        server = patched.start()
        with closing(Client(server.address, timeout=PATIENCE_SECONDS, default_noreply=False)) as client:
            client.set("key", "value", expire=1)
            expires = server.store.gets("key").expires  # type: ignore[union-attr]
            assert abs(expires - unix_seconds()) < 30, "the server's clock is the real one"
            poll_until(lambda: server.stats()["memcache_kv_journal_lag_records"] == "0", "an fsync")
            poll_until(lambda: client.get("key") is None, "the item expires")
            assert abs(int(client.stats()[b"time"]) - unix_seconds()) < 30
        server.stop()
        with server:
            server.store.set("other", b"value", ttl=100)
        assert any("recovered" in record.getMessage() for record in caplog.records)
    with server:
        assert server.store.get("other") == b"value"
    times = re.findall(r'"at":(\d+)', "".join(each.read_text() for each in (tmp_path / "journal").glob("*-*")))
    assert times
    assert all(abs(int(at) - unix_seconds()) < 1000 for at in times), "the journal's times are real ones"
