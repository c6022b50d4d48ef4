"""Port 0: one free port for all addresses, also if the first choice is in use at one of them."""

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.errors import ListenError
from memcache_kv.observe.log import Log
from memcache_kv.server import binding
from memcache_kv.server.listener import ListenerOptions, ListenerTraits, MemcacheServer
from memcache_kv.server.run import ServerRun

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others have only 127.0.0.1")

FIRST, SECOND = "127.0.0.1", "127.0.0.2"


class Occupied:
    """Sockets that take the ports which are about to be listened on at an address, so many times."""

    def __init__(self, opened: ExitStack) -> None:
        self.host, self.times = SECOND, 0
        self.ports: list[int] = []
        self._opened = opened

    def listen(self, address: Any, family: int, options: ListenerOptions, traits: ListenerTraits) -> MemcacheServer:
        """Do what `MemcacheServer` does, after somebody else took the port."""
        if address[0] == self.host and len(self.ports) < self.times:
            if address[1] not in self.ports:  # the system may choose a port a second time
                other = self._opened.enter_context(socket.socket(family))
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(address)
                other.listen()
            self.ports.append(address[1])
        return MemcacheServer(address, family, options, traits)


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Occupied]:
    with ExitStack() as opened:
        made = Occupied(opened)
        monkeypatch.setattr(binding, "MemcacheServer", made.listen)
        yield made


def ports_of(settings: Settings) -> list[int]:
    """Start and stop a server; return the ports that it listened on."""
    server = ServerRun(settings, log=Log(0, io.StringIO()))
    server.start()
    try:
        for listener in server.listeners:
            with socket.create_connection((str(listener.server_address[0]), listener.port), timeout=20) as client:
                client.sendall(b"mn\r\n")
                assert client.recv(4, socket.MSG_WAITALL) == b"MN\r\n"
        return [listener.port for listener in server.listeners]
    finally:
        server.stop()


def test_a_port_that_is_in_use_at_the_second_address_is_given_up(occupied: Occupied) -> None:
    occupied.times = 3
    first, second = ports_of(Settings(port=0, listen=(FIRST, SECOND)))
    assert first == second
    assert len(occupied.ports) == 3
    assert first not in occupied.ports


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_so_it_is_on_both_loopback_addresses(occupied: Occupied) -> None:
    occupied.host, occupied.times = "::1", 1
    first, second = ports_of(Settings(port=0))
    assert first == second != occupied.ports[0]


def test_a_port_that_was_asked_for_and_is_in_use_is_an_error_at_once(occupied: Occupied) -> None:
    with socket.socket() as probe:
        probe.bind((FIRST, 0))
        port = probe.getsockname()[1]
    occupied.times = 3
    with pytest.raises(ListenError, match=f"can't listen on {SECOND}:{port}: Address already in use"):
        ports_of(Settings(port=port, listen=(FIRST, SECOND)))
    assert occupied.ports == [port]


def test_it_does_not_try_for_ever(occupied: Occupied) -> None:
    occupied.times = 1000
    with pytest.raises(ListenError, match="Address already in use"):
        ports_of(Settings(port=0, listen=(FIRST, SECOND)))
    assert len(occupied.ports) == binding.FREE_PORT_TRIES
