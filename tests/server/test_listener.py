"""What a listener logs of connections that it can't accept or hand over."""

import errno
import io
import os
import socket
from collections.abc import Iterator

import pytest

from memcache_kv.auth.access import CommandClass
from memcache_kv.observe.log import Log
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.server import listener as server_module
from memcache_kv.server.addresses import AddressLimits
from memcache_kv.server.listener import ListenerOptions, MemcacheServer
from memcache_kv.stats.connections import ConnectionTotals
from tests.program import PATIENCE_SECONDS

NO_LIMITS = AddressLimits(10, 0, has_half_open=False)


class Guarded:
    """A listener whose connections nobody takes, and its log."""

    def __init__(self, addresses: AddressLimits | None = None) -> None:
        self.stream = io.StringIO()
        self.totals = ConnectionTotals(10)
        options = ListenerOptions(
            self.totals, addresses or NO_LIMITS, self.refuse, Log(0, self.stream), 10, waits=False
        )
        self.server = MemcacheServer(("127.0.0.1", 0), socket.AF_INET, options)
        self.server.activate()

    def refuse(self, sock: socket.socket, listener_class: CommandClass | None, dialect: Dialect | None) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    @property
    def said(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.server.server_close()


def test_why_a_connection_is_dropped_is_logged_once_however_many_there_are(guarded: Guarded) -> None:
    guarded.server.start()
    names = []
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", guarded.server.port), timeout=PATIENCE_SECONDS) as client:
            names.append(client.getsockname())
            assert client.recv(1) == b""
    guarded.server.stop()
    host, port = names[0]
    assert guarded.said == [f"dropped a connection from tcp:{host}:{port}: {os.strerror(errno.ENOTCONN)}"]
    assert guarded.totals.current == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNABORTED])
def test_why_a_connection_cannot_be_accepted_is_logged(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(server: MemcacheServer) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("socketserver.TCPServer.get_request", fail)
    monkeypatch.setattr(server_module, "NO_FILES_PAUSE_SECONDS", 0)
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(number)):
            guarded.server.get_request()
    assert guarded.said == [f"can't accept a connection on {guarded.server.address}: {os.strerror(number)}"]
