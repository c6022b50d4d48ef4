"""Suites of other projects have the same results with our server as with memcached."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.wire import MEMCACHED, RunningServer, ServerUnavailable, server_command
from tests.suites.suite import INSTALL_SECONDS, RUN_SECONDS, Environment, InstallationFailed, Run, Suite
from tests.suites.suites import SUITES

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS)]


TRIES = 3
"""Runs of a suite with tests that a busy machine fails."""


def unavailable(reason: object) -> None:
    """Skip, or fail where CI demands that everything is there."""
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture
def memcached() -> str:
    """The command that starts memcached."""
    try:
        return shlex.join(server_command(MEMCACHED))
    except ServerUnavailable as reason:
        unavailable(reason)
        raise


@pytest.fixture(params=SUITES)
def environment(request: pytest.FixtureRequest, memcached: str, tmp_path: Path) -> Environment:
    """A suite, installed."""
    try:
        return Environment(SUITES[request.param], tmp_path)
    except InstallationFailed as reason:
        unavailable(reason)
        raise


@contextmanager
def with_memcached(environment: Environment, command: str) -> Iterator[Run]:
    """Run a suite with memcached in the place of our server, under the same fixtures where it uses pytest."""
    if not environment.suite.servers:
        yield environment.start("memcached", (f"--memcached-exec={command}",))
        return
    with ExitStack() as running:
        addresses = {}
        for variable in environment.suite.servers:
            server = running.enter_context(closing(RunningServer(MEMCACHED)))
            addresses[variable] = f"{server.host}:{server.port}"
        yield environment.start("memcached", variables=addresses)


def compare(environment: Environment, command: str) -> set[str]:
    """Run a suite with both servers at once; return the tests that fail, or that have other results with one of them."""
    with with_memcached(environment, command) as theirs:
        ours = environment.start("ours")
        expected, found = theirs.results(), ours.results()
    differing = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    failed = {name for name, outcome in found.items() if outcome == "failed"} - environment.suite.theirs
    by_speed = {name for name in differing | failed if re.search(environment.suite.by_speed, name)}
    assert differing <= by_speed, theirs.said() + ours.said()
    assert failed <= by_speed, ours.said()
    assert sum(outcome == "passed" for outcome in found.values()) >= environment.suite.least, ours.said()
    return by_speed


def test_the_results_are_those_with_memcached(environment: Environment, memcached: str) -> None:
    for _ in range(TRIES):
        by_speed = compare(environment, memcached)
        if not by_speed:
            return
    pytest.fail(f"the machine is too slow for {by_speed}, or they fail with our server alone")
