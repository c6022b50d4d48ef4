"""The pytest plugin: its options, its fixtures, and what it adds to the report of a failed test."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from memcache_kv.testing import factories
from memcache_kv.testing.plugin_options import add_plugin_options

memcached_proc = factories.memcached_proc()
memcached_noproc = factories.memcached_noproc()
memcached = factories.memcached()
memcached_nodes = factories.memcached_nodes()
memcached_cluster = factories.memcached_cluster()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    add_plugin_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last commands that the test's servers saw, if it has failed."""
    report = yield
    if report.failed and report.when != "teardown":
        for memcached in item.stash.get(factories.USED, []):
            if text := memcached.call_report():
                report.sections.append((f"memcached {memcached.location}", text))
    return report
