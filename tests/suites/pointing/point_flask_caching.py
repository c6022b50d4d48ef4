"""Points the tests of Flask-Caching's memcached backend to the server of the fixture.

Their conftest.py, which starts memcached on a fixed port, is left out; what these tests take of it is here.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture(scope="class")
def memcache_server(memcached_proc: Any) -> Iterator[None]:
    backends = import_module("flask_caching.backends")
    theirs = backends.MemcachedCache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            backends, "MemcachedCache", lambda servers, **more: theirs(servers=[memcached_proc.location], **more)
        )
        yield


@pytest.fixture
def clock() -> None:
    """Other backends have their time moved; this one's tests sleep."""
