"""Real clients, all used alike: what a call returns or raises is put into words."""

from __future__ import annotations

import asyncio
import importlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from tests.closing import Closing
from tests.integration.client_library import Loop

TIMEOUT = 1.0
"""Seconds after which clients give up, where a fault makes them wait."""


class RealClient(Closing):
    """A client of one server, as its documentation says one makes it, with a timeout."""

    distribution: str
    """The name of its distribution."""
    made: str
    """How it is made, in Markdown, for the page."""

    @abstractmethod
    def __init__(self, host: str, port: int) -> None:
        """Make it; nothing is connected yet."""

    @abstractmethod
    def get(self, key: str) -> object:
        """Read a value."""

    @abstractmethod
    def set(self, key: str, value: str) -> object:
        """Store a value, and wait for the reply."""

    @abstractmethod
    def incr(self, key: str) -> object:
        """Add one to a number."""


class Pymemcache(RealClient):
    """pymemcache's client for one server."""

    distribution = "pymemcache"
    made = "`Client(address, connect_timeout=…, timeout=…)`"

    def __init__(self, host: str, port: int) -> None:
        base: Any = importlib.import_module("pymemcache.client.base")
        self._client = base.Client((host, port), connect_timeout=TIMEOUT, timeout=TIMEOUT)

    def get(self, key: str) -> object:
        """Read a value."""
        return self._client.get(key)

    def set(self, key: str, value: str) -> object:
        """Store a value, and wait for the reply."""
        return self._client.set(key, value, noreply=False)

    def incr(self, key: str) -> object:
        """Add one to a number."""
        return self._client.incr(key, 1)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


class Pylibmc(RealClient):
    """pylibmc, over libmemcached, in the text protocol."""

    distribution = "pylibmc"
    made = '`Client([server], behaviors={"connect_timeout": …, "_poll_timeout": …, "receive_timeout": …, …})`'

    def __init__(self, host: str, port: int) -> None:
        pylibmc: Any = importlib.import_module("pylibmc")
        milliseconds, microseconds = int(TIMEOUT * 1e3), int(TIMEOUT * 1e6)
        self._client = pylibmc.Client(
            [f"{host}:{port}"],
            behaviors={
                "connect_timeout": milliseconds,
                "_poll_timeout": milliseconds,
                "receive_timeout": microseconds,
                "send_timeout": microseconds,
            },
        )

    def get(self, key: str) -> object:
        """Read a value."""
        return self._client.get(key)

    def set(self, key: str, value: str) -> object:
        """Store a value, and wait for the reply."""
        return self._client.set(key, value)

    def incr(self, key: str) -> object:
        """Add one to a number."""
        return self._client.incr(key, 1)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect_all()


class Bmemcached(RealClient):
    """python-binary-memcached, in the binary protocol."""

    distribution = "python-binary-memcached"
    made = "`Client((server,), socket_timeout=…)`"

    def __init__(self, host: str, port: int) -> None:
        bmemcached: Any = importlib.import_module("bmemcached")
        self._client = bmemcached.Client((f"{host}:{port}",), socket_timeout=TIMEOUT)

    def get(self, key: str) -> object:
        """Read a value."""
        return self._client.get(key)

    def set(self, key: str, value: str) -> object:
        """Store a value, and wait for the reply."""
        return self._client.set(key, value)

    def incr(self, key: str) -> object:
        """Add one to a number."""
        return self._client.incr(key, 1)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect_all()


class Aiomcache(RealClient):
    """aiomcache, which has no timeout of its own: each call is in `asyncio.wait_for`."""

    distribution = "aiomcache"
    made = "`Client(host, port)`, and each call in `asyncio.wait_for(…, timeout=…)`"

    def __init__(self, host: str, port: int) -> None:
        aiomcache: Any = importlib.import_module("aiomcache")
        self._loop = Loop()
        self._client = aiomcache.Client(host, port)

    def _call(self, call: Awaitable[object]) -> object:
        async def limited() -> object:
            await asyncio.sleep(0.01)  # as in a program whose loop runs: it has seen what has become of connections
            return await asyncio.wait_for(call, TIMEOUT)

        return self._loop(limited())

    def get(self, key: str) -> object:
        """Read a value."""
        return self._call(self._client.get(key.encode()))

    def set(self, key: str, value: str) -> object:
        """Store a value, and wait for the reply."""
        return self._call(self._client.set(key.encode(), value.encode()))

    def incr(self, key: str) -> object:
        """Add one to a number."""
        return self._call(self._client.incr(key.encode(), 1))

    def close(self) -> None:
        """Disconnect."""
        self._loop(self._client.close())
        self._loop.close()


CLIENTS: dict[str, type[RealClient]] = {
    "pymemcache": Pymemcache,
    "pylibmc": Pylibmc,
    "bmemcached": Bmemcached,
    "aiomcache": Aiomcache,
}


def outcome_of(call: Callable[[], object]) -> str:
    """Make a call, and say what it returned or which exception it raised."""
    try:
        found = call()
    except Exception as error:
        return f"raises {type(error).__name__}"
    return repr(found.decode() if isinstance(found, bytes) else found)
