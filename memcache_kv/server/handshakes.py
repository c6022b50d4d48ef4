"""The TLS handshakes of one worker's connections: their start, steps, time limit and failures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from memcache_kv.observe.log import Log
from memcache_kv.server.connection import Connection
from memcache_kv.unpatched import time

if TYPE_CHECKING:
    from memcache_kv.server.tls import Tls

HANDSHAKE_SECONDS = 10.0
"""The time limit for a client's TLS handshake."""
STEPS_PER_TURN = 1
"""How many steps of handshakes one turn of the loop takes. The most expensive step takes about as long as a hundred
requests. A thread beside the loop would be worse: each of its steps ends with a wait for the GIL, and so does each
request of the others."""


class Handshakes:
    """Carry out handshakes step by step, and count and log failures. Used only by the connections' worker.

    tls: counts the handshakes; None counts nothing.
    """

    def __init__(self, tls: Tls | None, log: Log) -> None:
        self._tls = tls
        self._log = log
        self.ready: dict[Connection, None] = {}
        """The handshakes that can go on without waiting for their clients."""

    def start(self, connection: Connection) -> None:
        """Start the time limit of a handshake."""
        connection.give_up_at = time.monotonic() + HANDSHAKE_SECONDS

    def add_ready(self, connection: Connection) -> None:
        """Remember that a connection's handshake can go on. The first one that is added goes on first."""
        self.ready[connection] = None

    def take_ready(self) -> list[Connection]:
        """Return those whose handshakes go on in this turn, and forget them. The others stay for later turns."""
        taken = list(islice(self.ready, STEPS_PER_TURN))
        for connection in taken:
            del self.ready[connection]
        return taken

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is being closed."""
        self.ready.pop(connection, None)

    def step(self, connection: Connection) -> bool:
        """Continue as far as the socket allows; return whether the handshake is over. Raises OSError if it fails."""
        assert connection.tls is not None
        if not connection.tls.continue_handshake():
            return False
        self._count("resumed_sessions" if connection.tls.resumed else "new_sessions")
        return True

    def overdue(self, waiting: Iterable[Connection]) -> list[Connection]:
        """Return the connections whose time limit has passed.

        waiting: connections in HANDSHAKE, those that began first in front.
        """
        now = time.monotonic()
        return list(takewhile(lambda connection: connection.give_up_at <= now, waiting))

    def fail(self, connection: Connection, reason: str) -> None:
        """Count and log a handshake that failed."""
        self._count("handshake_errors")
        self._log.event(f"<{connection.fd} TLS handshake failed: {reason}")

    def _count(self, name: str) -> None:
        if self._tls is not None:
            self._tls.count(name)
