"""A memcached that runs already, and that is not ours to start and stop."""

from __future__ import annotations

from memcache_kv import Server
from memcache_kv.testing.servers.backing import ServerFailed
from memcache_kv.testing.servers.control import ControlConnection
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.unpatched import socket

EMPTYING = {"flush_all": "OK", "stats reset": "RESET"}
"""What empties a server and sets its counters to 0, and the answers."""


class ServerElsewhere:
    """A server at an address. timeout_seconds: how long it may take to answer."""

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self.address = (host, port)
        self.embedded: Server | None = None
        self.time_travel: TimeTravel | None = None
        self.description = f"the running server at {host}:{port}"
        self._timeout_seconds = timeout_seconds
        self._control: ControlConnection

    def start(self) -> None:
        """Find its address, and make sure that it answers. Raises ServerFailed."""
        host, port = self.address
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ServerFailed(f"there is no host {host}: {error.strerror}") from None
        for *_, place in found:
            self.address = (str(place[0]), port)
            self._control = ControlConnection(self.address, self._timeout_seconds)
            try:
                self._control.ask("version")
            except (OSError, EOFError) as error:
                failure = error
            else:
                return
        raise ServerFailed(
            f"no memcached answers at {host}:{port} ({failure}); start one, or say where it is with --memcached-host "
            "and --memcached-port"
        )

    def stop(self) -> None:
        """Close our connection."""
        self._control.close()

    def reset(self, is_changed: bool) -> None:
        """Remove all items, and reset the counters. Nothing else is undone. Raises ServerFailed."""
        self._control.demand(EMPTYING)

    def stats(self, what: str) -> dict[str, str]:
        """Return what `stats WHAT` says. Raises ServerFailed."""
        return self._control.stats(what)
