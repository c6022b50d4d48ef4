"""The memcached of one test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest

from memcache_kv import Items, Server
from memcache_kv.testing.call_report import call_lines
from memcache_kv.testing.process import MemcachedProc
from memcache_kv.testing.time_travel import TimeTravel, Undo
from memcache_kv.testing.wire.lane import moment
from memcache_kv.traffic.conversation import Call

if TYPE_CHECKING:
    from pymemcache.client.base import Client  # type: ignore[import-untyped]

    from memcache_kv.testing.faults import Fault, KeyPattern
    from memcache_kv.traffic.recording import Recorder

DJANGO_BACKENDS = {
    "pymemcache": "django.core.cache.backends.memcached.PyMemcacheCache",
    "pylibmc": "django.core.cache.backends.memcached.PyLibMCCache",
}


class Memcached:
    """A memcached that is empty when the test begins, which the fixture `memcached` returns.

    Any thread may call any method; each returns within milliseconds, unless the server does not answer. What needs the
    server in pytest's process skips the test where it runs elsewhere. folder: returns one for files of the test.
    """

    def __init__(self, proc: MemcachedProc, folder: Callable[[], Path]) -> None:
        self._proc = proc
        self._folder = folder
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

    @contextlib.contextmanager
    def record(self, path: Path | str | None = None) -> Iterator[Recorder]:
        """Record what clients ask and are answered while a `with` block lasts; `memcache-kv replay` reads the file.

        path: the file, which is replaced if it exists; by default `memcached-PORT.jsonl` in the test's `tmp_path`. The
        recorder has it as `path`. Raises OSError.
        """
        from memcache_kv.traffic.recording import Recorder

        tap = self._proc.tap
        tap.settle()
        with Recorder(self._folder() / f"memcached-{self.port}.jsonl" if path is None else path) as recorder:
            tap.listeners = [*tap.listeners, recorder]
            try:
                yield recorder
            finally:
                tap.settle()
                tap.listeners = [listener for listener in tap.listeners if listener is not recorder]

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

    # What time it is

    def travel(self, seconds: float) -> None:
        """Move the server's time by so many seconds, back if negative, until the end of the test.

        What is due by then happens before this returns: items expire, a delayed flush_all is carried out. A time that
        stands still does so afterwards, too. Raises ValueError if that is before 1970 or after 2106.
        """
        self._time_travel("travel in time").travel(seconds)

    def freeze(self, moment: datetime | None = None) -> Undo:
        """Let the server's time stand still, now or at a moment, but for `travel` and `at`.

        This lasts until the end of the test, or of a `with` block. Raises ValueError as `travel` does.
        """
        return self._time_travel("a time that stands still").freeze(moment)

    def at(self, moment: datetime) -> Undo:
        """Move the server's time to a moment; one without a time zone is in UTC. It runs on from there.

        This lasts until the end of the test, or of a `with` block. Raises ValueError as `travel` does.
        """
        return self._time_travel("travel in time").at(moment)

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
        from memcache_kv.testing.faults import FAULTS, fault

        server = self._proc.server
        if kind in FAULTS and FAULTS[kind].needs_server:
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
        if self._proc.time_travel is not None:
            self._proc.time_travel.reset()

    def call_report(self) -> str:
        """Return the last commands as lines, for people."""
        return call_lines(self.calls, self._began_at)

    def _embedded(self, what: str) -> Server:
        return self._proc.server or self._skip(what)

    def _time_travel(self, what: str) -> TimeTravel:
        time_travel = self._proc.time_travel or self._skip(what)
        self._proc.tap.settle()  # what was sent before belongs to the time before
        return time_travel

    def _skip(self, what: str) -> NoReturn:
        pytest.skip(f"{what} needs the server in pytest's process, and this is {self._proc.description}")
