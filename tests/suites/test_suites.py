"""Suites of other projects have the same results with our server as with memcached."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.integration.wire import MEMCACHED, ServerUnavailable, server_command
from tests.suites.suite import INSTALL_SECONDS, RUN_SECONDS, TRIES, Environment, InstallationFailed
from tests.suites.suites import SUITES

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_SECONDS + TRIES * RUN_SECONDS)]


def unavailable(reason: Exception) -> None:
    """Skip, or fail where CI demands that everything is there."""
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture
def memcached() -> str:
    """The path of memcached."""
    try:
        return server_command(MEMCACHED)[0]
    except ServerUnavailable as reason:
        unavailable(reason)
        raise


ALL_OF_PYLIBMC = pytest.mark.skipif(sys.version_info >= (3, 12), reason="it needs pylibmc, which has no wheels here")


@pytest.fixture(
    params=[pytest.param(name, marks=ALL_OF_PYLIBMC) if name == "Flask-Caching" else name for name in SUITES]
)
def environment(request: pytest.FixtureRequest, memcached: str, tmp_path: Path) -> Environment:
    """A suite, installed."""
    try:
        return Environment(SUITES[request.param], tmp_path)
    except InstallationFailed as reason:
        unavailable(reason)
        raise


def differing_tests(environment: Environment, memcached: str) -> set[str]:
    """Run a suite with both servers at once; return the tests with other results, if they may be the machine's fault.

    Fails for any other test that has not the same result, or that fails.
    """
    suite = environment.suite
    with environment.started_with(memcached) as theirs, environment.started() as ours:
        expected, found = theirs.results(), ours.results()
    differing = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    failed = {name for name, outcome in found.items() if outcome == "failed"}
    by_speed = {name for name in differing | failed if re.search(suite.by_speed, name)}
    assert differing <= by_speed, theirs.said() + ours.said()
    assert failed <= by_speed, ours.said()
    assert sum(outcome == "passed" for outcome in found.values()) >= suite.least, ours.said()
    return differing


def test_the_results_are_those_with_memcached(environment: Environment, memcached: str) -> None:
    for _ in range(TRIES):
        differing = differing_tests(environment, memcached)
        if not differing:
            return
    pytest.fail(f"other results in each of {TRIES} runs, at last of {differing}")
