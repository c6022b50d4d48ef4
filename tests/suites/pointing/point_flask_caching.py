"""Points the tests of Flask-Caching's memcached backend to the server of the fixture."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _pointed(memcached_proc: Any) -> Iterator[None]:
    from flask_caching import backends

    theirs = backends.MemcachedCache
    address = "{}:{}".format(*memcached_proc.address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "MemcachedCache", lambda servers, **more: theirs(servers=[address], **more))
        patch.setattr("conftest._server_is_running", lambda port: True)
        yield
