"""memcache_kv's pytest plugin: a server in the test process, whose time the tests move."""

import pytest
from backends import MemcachedBackend

from memcache_kv.testing import Memcached
from servers import Cache


@pytest.fixture
def cache(memcached: Memcached) -> Cache:
    """An empty server."""
    return Cache(MemcachedBackend(memcached.client()), memcached.travel)
