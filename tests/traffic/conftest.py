"""Servers that recordings are made of, and replayed against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from memcache_kv import Server
from tests.integration.wire import MEMCACHED, RunningServer, ServerUnavailable, server_command

MakeAddress = Callable[[], tuple[str, int]]


@pytest.fixture
def ours() -> Iterator[MakeAddress]:
    """Start servers of ours, and return their addresses."""
    with ExitStack() as started:
        yield lambda: started.enter_context(Server()).address


@pytest.fixture
def memcached() -> Iterator[Callable[[], RunningServer]]:
    """Start memcacheds, as named in MEMCACHED or found on the PATH."""
    try:
        server_command(MEMCACHED)
    except ServerUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with ExitStack() as started:

        def start() -> RunningServer:
            server = RunningServer(MEMCACHED)
            started.callback(server.close)
            return server

        yield start
