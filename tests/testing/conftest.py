"""A server and a tap for the tests of memcache_kv.testing."""

from collections.abc import Iterator

import pytest

from memcache_kv import Server
from memcache_kv.testing.wire import Tap


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """A server for all tests of a file."""
    with Server() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """That server, empty."""
    running.store.flush()
    return running


@pytest.fixture
def tap(server: Server) -> Iterator[Tap]:
    """A tap before that server."""
    with Tap(server.address) as tap:
        yield tap
