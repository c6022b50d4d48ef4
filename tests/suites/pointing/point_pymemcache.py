"""Points the integration tests of pymemcache to the server of the fixture."""

from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _pointed(pytestconfig: pytest.Config, memcached_proc: Any) -> None:
    pytestconfig.option.server, pytestconfig.option.port = memcached_proc.host, memcached_proc.port
