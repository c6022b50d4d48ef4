"""memcache_kv's pytest plugin: a server in the test process, whose time the tests move."""

import pytest
from backends import MemcachedBackend
from servers import Cache

from memcache_kv.testing import Memcached


@pytest.fixture
def cache(memcached: Memcached) -> Cache:
    """An empty server."""
    return Cache(MemcachedBackend(memcached.client()), memcached.travel)
