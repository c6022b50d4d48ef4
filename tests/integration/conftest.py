"""Servers for the tests: the same test runs against ours and against memcached."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.wire import MEMCACHED, OURS, RunningServer, ServerUnavailable, Wire, server_command

MakeServer = Callable[..., RunningServer]


@pytest.fixture(scope="session", params=[OURS, MEMCACHED])
def kind(request: pytest.FixtureRequest) -> str:
    """Which server a test runs against."""
    name: str = request.param
    try:
        server_command(name)
    except ServerUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    return name


@pytest.fixture(scope="session")
def shared_server(kind: str) -> Iterator[RunningServer]:
    """One server of each kind for all tests that need no flags of their own."""
    running = RunningServer(kind)
    yield running
    running.close()


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """The shared server, empty."""
    assert shared_server.process.poll() is None, shared_server.log()
    with Wire(shared_server) as wire:
        wire.expect(b"cache_memlimit 64\r\nflush_all\r\n", b"OK\r\nOK\r\n")
    return shared_server


@pytest.fixture
def wire(server: RunningServer) -> Iterator[Wire]:
    """A connection to the shared server."""
    with Wire(server) as connection:
        yield connection


def _factory(kind: str) -> Iterator[MakeServer]:
    with ExitStack() as started:

        def make(*flags: str, host: str = "127.0.0.1", unix: str | None = None) -> RunningServer:
            running = RunningServer(kind, flags, host=host, unix=unix)
            started.callback(running.close)
            return running

        yield make


@pytest.fixture
def make_server(kind: str) -> Iterator[MakeServer]:
    """Start servers of the tested kind with flags: `make_server("-M", "-m", "8")`."""
    yield from _factory(kind)


@pytest.fixture
def ours() -> Iterator[MakeServer]:
    """Start servers of ours, for what only ours does."""
    yield from _factory(OURS)
