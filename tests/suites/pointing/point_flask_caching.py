"""Points the tests of Flask-Caching's memcached backend to the server of the fixture."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _pointed(memcached_proc: Any) -> Iterator[None]:
    backends = import_module("flask_caching.backends")
    theirs = backends.MemcachedCache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            backends, "MemcachedCache", lambda servers, **more: theirs(servers=[memcached_proc.location], **more)
        )
        patch.setattr("conftest._server_is_running", lambda port: True)
        yield
