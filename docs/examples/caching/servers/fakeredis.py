"""fakeredis: Redis' commands in the test process, without a server."""

import time

import fakeredis
import pytest
from backends import RedisBackend

from servers import Cache


@pytest.fixture
def cache() -> Cache:
    """An empty fake."""
    client = fakeredis.FakeRedis()
    client.flushall()
    return Cache(RedisBackend(client), lambda seconds: time.sleep(seconds + 0.01))
