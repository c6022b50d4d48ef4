"""Chooses what the tests run on: `pytest --server memcached`."""

import pytest

WAYS = ("memcache_kv", "memcached", "fakeredis", "redis")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=WAYS, default=WAYS[0], help="what the tests run on")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin(f"servers.{config.getoption('--server')}")
