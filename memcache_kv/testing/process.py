"""A server of a test run, and the tap before it, through which all clients connect."""

from __future__ import annotations

from memcache_kv import Server
from memcache_kv.testing.changes import lasts
from memcache_kv.testing.servers.backing import BackingServer, ServerFailed
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.testing.turns import SharedTurns
from memcache_kv.testing.wire import Tap
from memcache_kv.traffic.conversation import Call


class MemcachedProc:
    """A memcached for all tests of a run, which the fixtures `memcached_proc` and `memcached_noproc` return.

    server: the server itself. host, port: the address for clients; port 0 is any free one. turns: held by whoever
    empties the server, where several processes share it.
    """

    def __init__(self, server: BackingServer, host: str, port: int, turns: SharedTurns) -> None:
        self._server = server
        self._asked_place = host, port
        self.turns = turns
        self.tap: Tap
        self._is_changed = False

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port for clients, the same for the whole run."""
        return self.tap.address

    @property
    def host(self) -> str:
        """The host for clients."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.address[1]

    @property
    def location(self) -> str:
        """The address as `HOST:PORT`, as most libraries' settings have it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def url(self) -> str:
        """The address as `memcached://HOST:PORT`."""
        return f"memcached://{self.location}"

    @property
    def server(self) -> Server | None:
        """The server as an object, if it runs in this process."""
        return self._server.embedded

    @property
    def time_travel(self) -> TimeTravel | None:
        """What moves the server's time, if it runs in this process."""
        return self._server.time_travel

    @property
    def description(self) -> str:
        """What the server is, for messages."""
        return self._server.description

    def stats(self, what: str = "") -> dict[str, str]:
        """Return what `stats WHAT` says, by name."""
        self.tap.settle()
        return self._server.stats(what)

    # For the fixtures

    def start(self) -> None:
        """Start the server, and let clients connect. Raises ServerFailed."""
        self._server.start()
        self.tap = Tap(self._server.address, self._asked_place)
        try:
            self.tap.start()
        except OSError as error:
            self._server.stop()
            host, port = self._asked_place
            raise ServerFailed(
                f"clients can't connect to {host}:{port}: {error.strerror}; without --memcached-port, each run takes a "
                "free port"
            ) from None
        self.tap.listeners.append(self._note)

    def stop(self) -> None:
        """Close the connections, and stop the server."""
        self.tap.stop()
        self._server.stop()

    def reset(self) -> None:
        """Empty the server, and undo what tests have changed. Connections of clients stay. Raises ServerFailed."""
        self.tap.settle()
        is_changed, self._is_changed = self._is_changed, False
        self._server.reset(is_changed)
        self.tap.upstream = self._server.address
        self.tap.clear_calls()

    def _note(self, call: Call) -> None:
        if lasts(call.request):
            self._is_changed = True
