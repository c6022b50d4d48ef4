"""pytest-redis: a redis-server for the whole run, which is emptied after each test."""

import time
from typing import Any

import pytest
from backends import RedisBackend

from servers import Cache


@pytest.fixture
def cache(redisdb: Any) -> Cache:
    """An empty Redis. Nothing but waiting makes its time pass."""
    return Cache(RedisBackend(redisdb), lambda seconds: time.sleep(seconds + 0.01))
