"""Points the memcached tests of dogpile.cache to the server of the fixture."""

import sys
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _pointed(memcached_proc: Any) -> None:
    tests = sys.modules["tests.cache.test_memcached_backend"]
    tests.expect_memcached_running = True  # type: ignore[attr-defined]
    for suite in vars(tests).values():
        arguments = getattr(suite, "config_args", {}).get("arguments", {})
        if arguments.get("url") == tests.MEMCACHED_URL:
            arguments["url"] = memcached_proc.location
