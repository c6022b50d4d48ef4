"""For the tests of servers in this process: ports that stay free while a server is stopped."""

import pytest

from memcache_kv.server.listener import MemcacheServer
from tests.ports import bind_as_told, free_port


@pytest.fixture(autouse=True)
def own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give servers that are not told a port one that no other process takes."""
    free_port()  # its first use opens a file, which no test of descriptors should meet
    monkeypatch.setattr(MemcacheServer, "server_bind", bind_as_told)
