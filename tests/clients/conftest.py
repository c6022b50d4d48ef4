"""A server for the client programs."""

from collections.abc import Iterator

import pytest

from clients.local_server import LocalServer, default_command


# To be replaced by the package's own pytest plugin once it exists.
@pytest.fixture
def server() -> Iterator[LocalServer]:
    """Start `python -m memcache_kv` on a free port; stop it after the test."""
    with LocalServer(default_command()) as running:
        yield running
