"""The server as an object of another program."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from memcache_kv.api.fields import server_settings
from memcache_kv.api.forks import PARENTS
from memcache_kv.api.greenlets import check_patches, without_greenlets
from memcache_kv.api.host_log import host_log
from memcache_kv.api.items import Items
from memcache_kv.clock import Clock
from memcache_kv.config.settings import Settings
from memcache_kv.errors import JournalFailed, NotRunning, ThreadDied
from memcache_kv.server.run import ServerRun
from memcache_kv.stats import report, settings_report
from memcache_kv.store.time import Time
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading

CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # nosec B104
"""The address at which this machine reaches a server that listens on all of them."""


class Server:
    """A server in this program, in threads of its own.

    settings: what `Settings` has, or the fields as keyword arguments: `memory_limit`, `journal`, `unix_socket` and so
    on. Sizes are in bytes, times in seconds. Without an address it listens on 127.0.0.1, and without a port on a free
    one, which it keeps over restarts. clock: replaced by tests, see `memcache_kv.testing.time_travel`.

    A context manager and an async context manager; without them, call `start` and `stop`, from any thread. It can be
    started again: the items are then those of its journal, if it has one. Its log goes to the logger `memcache_kv`, and
    to no stream by itself. It handles no signals and changes nothing of the process. In a child that the process forks
    it has stopped, and the parent's goes on.

    It lives in real time, whatever freezegun or time-machine do to the clock; and it has real threads in a program of
    gevent's greenlets, which must call `monkey.patch_all` before it first uses this package.

    Raises ConfigError for settings that can't be.
    """

    def __init__(self, settings: Settings | None = None, /, *, clock: Time | None = None, **fields: Any) -> None:
        self.settings = self._asked = server_settings(settings, fields)
        self.store = Items()
        """The items by key, while the server runs."""
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        """Held while the server is started."""
        self._run: ServerRun | None = None
        self._keeper: Keeper | None = None

    def start(self) -> Self:
        """Recover the items from the journal, listen, and return once clients can connect.

        Raises RuntimeError if the server runs already, ListenError if it can't listen, and JournalError if the journal
        can't be used. May block for the journal.
        """
        check_patches()
        without_greenlets(self._start)
        return self

    def stop(self) -> None:
        """Send the replies that are ready, close the connections, and write and sync the journal.

        Does nothing if the server does not run. Blocks until done. Raises JournalFailed if the journal could not be
        written, and ThreadDied if a fault of the server had ended it.
        """
        if self._keeper is not None:
            without_greenlets(self._stop)

    @property
    def is_running(self) -> bool:
        """Whether clients can connect. A client's `shutdown` ends it too, with the setting `enable_shutdown`."""
        run = self._run
        return run is not None and not run.stopping.is_set()

    @property
    def port(self) -> int:
        """The port for memcached's protocols; 0 if there is only a unix socket. Raises NotRunning."""
        return self._running.port

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port to connect to. Raises NotRunning, and ValueError if there is only a unix socket."""
        for listener in self._running.listeners:
            if listener.dialect is None and listener.port:
                host = str(listener.server_address[0])
                return CONNECTABLE.get(host, host), listener.port
        raise ValueError(f"the server listens on no port: connect to the unix socket {self.settings.unix_socket}")

    @property
    def url(self) -> str:
        """The address as `memcached://HOST:PORT`, or `memcached:///PATH` for a unix socket. Raises NotRunning."""
        if not self.port:
            return f"memcached://{self.settings.unix_socket}"
        host, port = self.address
        return f"memcached://[{host}]:{port}" if ":" in host else f"memcached://{host}:{port}"

    @property
    def clock(self) -> Time:
        """The server's clock. Raises NotRunning."""
        return self._running.clock

    def stats(self, what: str = "") -> dict[str, str]:
        """Return the statistics that `stats WHAT` sends, by name; those of plain `stats` by default.

        what: settings, items, slabs, sizes, conns or memcache_kv, as docs/reference/statistics.md has them. Raises
        ValueError for anything else, and NotRunning.
        """
        return {name: _text(value) for name, value in self._report(what)}

    def catch_up(self) -> None:
        """Carry out now what is due by the clock: a flush that waits, the removal of expired items.

        For a `clock` that was moved. Blocks until done. Does nothing if the server does not run.
        """
        run = self._run
        if run is not None:
            run.catch_up()

    # Parts

    @property
    def inner(self) -> ServerRun:
        """The running server with all its parts, for `memcache_kv.testing` alone. Raises NotRunning."""
        return self._running

    def _start(self) -> None:
        with self._lock:
            if self.is_running:
                raise RuntimeError("the server runs already")
            if self._keeper is not None:  # a client's `shutdown` may not have done its work yet
                self._keeper.join()
            run = ServerRun(self.settings, self._clock or Clock(), host_log(self.settings.verbose))
            run.start()
            if not self.settings.port and run.port:
                self.settings = self.settings._replace(port=run.port)
            self.store.attach(run.store, run.observers, run.journal)
            self._run, self._keeper = run, Keeper(run, self._ends)
            self._keeper.start()
            PARENTS.add(self)

    def _stop(self) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        keeper.stop()
        with self._lock:
            is_first = self._keeper is keeper
            if is_first:  # otherwise it is None, or that of a later start, which others wait for
                self._keeper = None
        if is_first and keeper.failure is not None:
            raise keeper.failure

    @property
    def _running(self) -> ServerRun:
        if self._run is None:
            raise NotRunning("the server does not run: call `start` first, or use it in a `with` block")
        return self._run

    def _report(self, what: str) -> report.Report:
        context = self._running.condition.reported
        assert context is not None, "it is there once the server has started"
        if not what:
            return report.general(context)
        if what == "settings":
            return settings_report.settings(context)
        if what.encode() == report.OWN:
            return report.own(context)
        walks = {"conns": lambda server: report.connections(server, 0)}
        walk = walks.get(what) or report.WALKS.get(what.encode())
        if walk is None:
            raise ValueError(f"there are no statistics {what!r}")
        return (row for rows in walk(context) for row in rows)

    def _ends(self) -> None:
        """Let go of the run, which stops now."""
        PARENTS.discard(self)
        self.store.detach()
        self._run = None

    def forget(self) -> None:
        """Close what a forked child has inherited of the running server. For the child alone."""
        run = self._run
        self._begin()
        self.store.forget()
        if not self._asked.port:
            self.settings = self.settings._replace(port=0)  # the one that was chosen is the parent's
        if run is not None:
            run.forget()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import asyncio  # a program without it starts sooner

        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.stop)


class Keeper(ServerThread):
    """The thread that waits until a run is asked to stop, by its owner, by a client or by a fault, and stops it.

    ends: called before that.
    """

    def __init__(self, run: ServerRun, ends: Callable[[], None]) -> None:
        super().__init__("keeper")
        self._server_run = run
        self._ends = ends
        self.on_fault = self._report

    def work(self) -> None:
        """Wait, and stop the run."""
        run = self._server_run
        while not run.stopping.wait():
            pass
        self._ends()
        run.stop()

    def stop(self) -> None:
        """Ask the run to stop, and block until it has."""
        self._server_run.stopping.set()
        self.join()

    @property
    def failure(self) -> ThreadDied | JournalFailed | None:
        """What went wrong in the run; None if nothing did."""
        return self._server_run.failure

    def _report(self, name: str, error: BaseException) -> None:
        self._server_run.log.fatal("the server could not be stopped", error, "some of its threads may go on")


def _text(value: object) -> str:
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)
