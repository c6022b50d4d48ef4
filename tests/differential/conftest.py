"""The two sides, each started once."""

import os
from collections.abc import Iterator

import pytest

from tests.differential.peers import MEMCACHED, OURS, Inside, Outside
from tests.integration.wire import ServerUnavailable, server_command


@pytest.fixture(scope="session")
def memcached(found: None) -> Iterator[Outside]:
    """memcached, as named in MEMCACHED or found on the PATH."""
    peer = Outside(MEMCACHED)
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def memcached_without_ids(found: None) -> Iterator[Outside]:
    """The same, whose items have no CAS ids."""
    peer = Outside(MEMCACHED, "-C")
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def found() -> None:
    """See that there is a memcached."""
    try:
        server_command(MEMCACHED)
    except ServerUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def server(memcached: Outside) -> Iterator[Outside]:
    """A server of ours, which takes items as large as the memcached beside it does."""
    peer = Outside(OURS, size_limit=memcached.size_limit)
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def inside() -> Inside:
    """Our protocol without a server."""
    return Inside()
