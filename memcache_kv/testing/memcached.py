"""The memcached of one test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest

from memcache_kv import Items, Server
from memcache_kv.testing.call_report import call_lines
from memcache_kv.testing.faults import KINDS, Fault, KeyPattern, fault
from memcache_kv.testing.process import MemcachedProc
from memcache_kv.testing.wire.lane import moment
from memcache_kv.traffic.conversation import Call

if TYPE_CHECKING:
    from pymemcache.client.base import Client  # type: ignore[import-untyped]

DJANGO_BACKENDS = {
    "pymemcache": "django.core.cache.backends.memcached.PyMemcacheCache",
    "pylibmc": "django.core.cache.backends.memcached.PyLibMCCache",
}


class Memcached:
    """A memcached that is empty when the test begins, which the fixture `memcached` returns.

    Any thread may call any method; each returns within milliseconds, unless the server does not answer. What needs the
    server in pytest's process skips the test where it runs elsewhere.
    """

    def __init__(self, proc: MemcachedProc) -> None:
        self._proc = proc
        self._began_at = moment()
        self._stack = contextlib.ExitStack()

    # Where it is

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port for clients, the same for the whole run."""
        return self._proc.address

    @property
    def host(self) -> str:
        """The host for clients."""
        return self._proc.host

    @property
    def port(self) -> int:
        """The port for clients."""
        return self._proc.port

    @property
    def location(self) -> str:
        """The address as `HOST:PORT`, as most libraries' settings have it."""
        return self._proc.location

    @property
    def url(self) -> str:
        """The address as `memcached://HOST:PORT`."""
        return self._proc.url

    # What is in it

    @property
    def store(self) -> Items:
        """The items, to read and write them past the clients, as they are after all that clients have sent so far."""
        server = self._embedded("memcached.store")
        self._proc.tap.settle()
        return server.store

    def stats(self, what: str = "") -> dict[str, str]:
        """Return what `stats WHAT` says, by name; plain `stats` by default. Its counters were 0 at the test's begin.

        what: settings, items, slabs and so on. Raises ValueError or ServerFailed for what there is not.
        """
        return self._proc.stats(what)

    @property
    def calls(self) -> list[Call]:
        """The last requests since the test's begin and their replies, the oldest first: 500 at most, and 4 MiB."""
        self._proc.tap.settle()
        return self._proc.tap.calls

    # For clients

    def client(self, **options: Any) -> Client:
        """Return a client of pymemcache, which is closed at the end of the test.

        options: those of pymemcache.client.base.Client. Other than there, changes wait for the reply by default
        (`default_noreply=False`), so that what the test looks at afterwards has them.
        """
        from pymemcache.client.base import Client

        client = Client(self.address, **{"default_noreply": False, **options})
        self._stack.callback(client.close)
        return client

    def django_cache(self, backend: str = "pymemcache", **settings: Any) -> dict[str, Any]:
        """Return settings of a cache for Django's CACHES.

        backend: "pymemcache" or "pylibmc". settings: more of them, such as TIMEOUT and KEY_PREFIX. Raises ValueError
        for any other backend.
        """
        if backend not in DJANGO_BACKENDS:
            raise ValueError(f"Django has no backend {backend!r} for memcached, but {' and '.join(DJANGO_BACKENDS)}")
        return {"BACKEND": DJANGO_BACKENDS[backend], "LOCATION": self.location, **settings}

    # What goes wrong

    def fault(
        self,
        kind: str,
        *,
        direction: str | None = None,
        commands: str | Iterable[str] | None = None,
        keys: KeyPattern | None = None,
        probability: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Fault:
        """Return a fault, which happens while its `with` block lasts.

        The arguments are those of `memcache_kv.testing.faults.fault`. Raises ValueError and TypeError as that does.
        """
        server = self._proc.server
        if kind in KINDS and KINDS[kind].needs_server:
            server = self._embedded(f"the fault {kind}")
        return fault(
            self._proc.tap, kind, server=server, direction=direction, commands=commands, keys=keys,
            probability=probability, seed=seed, **options,
        )  # fmt: skip

    # For the fixtures

    def __enter__(self) -> Self:
        self._proc.reset()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def call_report(self) -> str:
        """Return the last commands as lines, for people."""
        return call_lines(self.calls, self._began_at)

    def _embedded(self, what: str) -> Server:
        return self._proc.server or self._skip(what)

    def _skip(self, what: str) -> NoReturn:
        pytest.skip(f"{what} needs the server in pytest's process, and this is {self._proc.description}")
