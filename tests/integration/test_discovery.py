"""Clients that discover the nodes of a cluster, while nodes join and leave.

One server is the address that the clients know; what it tells them comes from a file. The nodes are other servers.
"""

import io
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from tests.integration.client_library import TIMEOUT, Loop, require
from tests.program import poll_until

require("emcache", free_threaded=False)
require("django_elastipymemcache")

from django.conf import settings as django_settings  # type: ignore[import-untyped]  # noqa: E402
from django_elastipymemcache.backend import ElastiPymemcache  # type: ignore[import-untyped]  # noqa: E402
from emcache import MemcachedHostAddress, create_client  # noqa: E402

POLL_SECONDS = 0.02
"""How often the clients ask for the nodes; by default a minute, or never."""
KEYS = [f"key-{number}" for number in range(200)]


class Nodes:
    """A cluster: the server that tells of its nodes, and the nodes by their ports."""

    def __init__(self, path: Path, undo: ExitStack) -> None:
        self._path = path
        self._undo = undo
        self.by_port: dict[int, ServerRun] = {}
        self._members: list[int] = []
        first = self.start()
        self._write([first])
        self.endpoint = self._start(Settings(cluster_file=path))

    def _start(self, settings: Settings) -> ServerRun:
        server = ServerRun(settings._replace(port=0, listen=("127.0.0.1",)), log=Log(0, io.StringIO()))
        server.start()
        self._undo.callback(server.stop)
        return server

    def start(self) -> int:
        """Start a node, and return its port. Clients do not know it yet."""
        server = self._start(Settings())
        self.by_port[server.port] = server
        return server.port

    def join(self) -> int:
        """Start a node, and tell the clients of it."""
        port = self.start()
        self._write([*self._members, port])
        self.endpoint.reload()
        return port

    def leave(self, port: int) -> None:
        """Tell the clients that a node is no more."""
        self._write([other for other in self._members if other != port])
        self.endpoint.reload()

    def _write(self, ports: list[int]) -> None:
        self._members = ports
        self._path.write_text("\n".join(f"127.0.0.1:{port}" for port in ports))

    @property
    def members(self) -> set[int]:
        """The ports of the nodes that clients are told of."""
        return set(self._members)

    def used(self) -> set[int]:
        """The ports of the nodes that hold items."""
        return {port for port, server in self.by_port.items() if len(server.store)}

    def clear(self) -> None:
        for server in self.by_port.values():
            server.store.flush()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A cluster with one node."""
    with ExitStack() as undo:
        yield Nodes(tmp_path / "nodes", undo)


def follow(nodes: Nodes, has: Callable[[], set[int]], store: Callable[[], None]) -> None:
    """Let a node join, another one too, and the first one leave, and see that a client follows each time.

    has: returns the nodes that the client knows. store: stores all keys, and checks that each comes back.
    """
    (first,) = nodes.members
    for change in (lambda: None, nodes.join, nodes.join, lambda: nodes.leave(first), nodes.join):
        change()
        poll_until(lambda: has() == nodes.members, f"{has()} become {nodes.members}")
        nodes.clear()
        store()
        assert nodes.used() == nodes.members
    assert (len(nodes.members), first in nodes.members) == (3, False)
    assert not len(nodes.endpoint.store)


def test_emcache_follows_the_nodes(nodes: Nodes) -> None:
    with closing(Loop()) as loop:
        client = loop(
            create_client(
                [MemcachedHostAddress("127.0.0.1", nodes.endpoint.port)],
                timeout=TIMEOUT,
                autodiscovery=True,
                autodiscovery_poll_interval=POLL_SECONDS,
                autodiscovery_timeout=TIMEOUT,
            )
        )

        async def known() -> set[int]:
            return {address.port for address in client.cluster_managment().nodes()}  # type: ignore[union-attr]

        async def store() -> None:
            for key in KEYS:
                await client.set(key.encode(), b"value")
            found = await client.get_many([key.encode() for key in KEYS])
            assert len(found) == len(KEYS)

        follow(nodes, lambda: loop(known()), lambda: loop(store()))
        loop(client.close())


class Sockets:
    """The module `socket` for a client that does not close all that it opens."""

    def __init__(self) -> None:
        self._opened: list[socket.socket] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, *arguments: Any) -> socket.socket:
        opened = socket.socket(*arguments)
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


def test_djangos_cache_follows_the_nodes(nodes: Nodes) -> None:
    if not django_settings.configured:
        django_settings.configure()
    sockets = Sockets()
    options = {"discovery_interval": POLL_SECONDS, "timeout": TIMEOUT, "connect_timeout": TIMEOUT}
    place = f"127.0.0.1:{nodes.endpoint.port}"
    cache = ElastiPymemcache(place, {"OPTIONS": {**options, "socket_module": sockets}})

    def known() -> set[int]:
        nodes.clear()
        for key in KEYS:
            cache.set(key, "value", 100)
        return nodes.used()

    def store() -> None:
        known()
        assert all(cache.get(key) == "value" for key in KEYS)

    with closing(sockets):
        follow(nodes, known, store)


def test_a_change_by_a_client_is_followed_too(nodes: Nodes) -> None:
    """As by ElastiCache's own tools, with `config set`."""
    port = nodes.start()
    with closing(Loop()) as loop:
        client = loop(
            create_client(
                [MemcachedHostAddress("127.0.0.1", nodes.endpoint.port)],
                timeout=TIMEOUT,
                autodiscovery=True,
                autodiscovery_poll_interval=POLL_SECONDS,
            )
        )

        async def known() -> set[int]:
            return {address.port for address in client.cluster_managment().nodes()}  # type: ignore[union-attr]

        assert loop(known()) == nodes.members
        text = b"1\nlocalhost|127.0.0.1|%d\n" % port
        with socket.create_connection(("127.0.0.1", nodes.endpoint.port), timeout=TIMEOUT) as connection:
            connection.sendall(b"config set cluster 0 %d\r\n%b\r\n" % (len(text), text))
            assert connection.makefile("rb").readline() == b"STORED\r\n"
        poll_until(lambda: loop(known()) == {port}, "the new node")
        loop(client.close())
