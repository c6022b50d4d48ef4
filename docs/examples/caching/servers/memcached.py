"""A memcached for the whole run, in a process of its own, which is emptied before each test."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from backends import MemcachedBackend
from pymemcache.client.base import Client

from servers import Cache


@pytest.fixture(scope="session")
def memcached_port() -> Iterator[int]:
    """A memcached that runs until the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = os.environ.get("MEMCACHED", "memcached")
    process = subprocess.Popen([program, "-u", "nobody", "-l", "127.0.0.1", "-p", str(port)])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None, "memcached has ended"
            time.sleep(0.001)
    yield port
    process.terminate()
    process.wait()


@pytest.fixture
def cache(memcached_port: int) -> Iterator[Cache]:
    """That memcached, empty. Nothing but waiting makes its time pass; its clock has whole seconds."""
    client = Client(("127.0.0.1", memcached_port), no_delay=True)
    client.flush_all(noreply=False)
    yield Cache(MemcachedBackend(client), lambda seconds: time.sleep(seconds + 0.1))
    client.close()
