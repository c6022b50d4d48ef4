"""Points the tests of aiomcache to the server of the fixture."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

sys.modules["docker"] = ModuleType("docker")
"""Their fixtures import it for a container that no test asks for."""
sys.modules["docker"].Client = object  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _pointed(memcached_proc: Any) -> Iterator[None]:
    host, port = memcached_proc.address
    server = {"host": host, "port": port, "mcache_params": {"host": host, "port": port}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.conftest.mcache_server_actual", lambda host: server)
        yield
