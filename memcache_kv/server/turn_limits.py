"""How much the connections of one worker may do in one turn: less while memory is short, or many have requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.store.time import Time

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session

SHORT_REQUESTS = 8
"""The requests that a connection carries out in a short turn: their replies are kept together."""
SHORT_TIME_PART = 1 / 16
"""The part of the time of a turn that a short one may take."""
CROWD = 64
"""With so many connections that have something to do, each of them gets short turns, as all others wait for them."""
CROWD_SECONDS = 2
"""How long the turns stay short after the last crowd: going over all connections takes time too."""


class TurnLimits:
    """Set the limits of turns for all connections of one worker, which alone uses this.

    table: the worker's connections; requests_per_turn: the number of requests in a turn that is not short.
    """

    def __init__(self, table: ConnectionTable, clock: Time, requests_per_turn: int) -> None:
        self._table = table
        self._clock = clock
        self._requests_per_turn = requests_per_turn
        self._is_memory_short = False
        self.is_crowded = False
        self._crowded_until = 0

    @property
    def _are_short(self) -> bool:
        return self._is_memory_short or self.is_crowded

    def count_ready(self, ready: int) -> None:
        """Adapt the turns to the number of connections that have something to do now."""
        if ready >= CROWD:
            self._crowded_until = self._clock.now + CROWD_SECONDS
            self._set(self._is_memory_short, is_crowded=True)
        elif self.is_crowded and self._clock.now >= self._crowded_until:
            self._set(self._is_memory_short, is_crowded=False)

    def set_memory_short(self, is_memory_short: bool) -> None:
        """Adapt the turns to the memory of all connections."""
        self._set(is_memory_short, self.is_crowded)

    def apply(self, protocol: Session) -> None:
        """Limit the turns of a new protocol."""
        if self._are_short:
            self._limit(protocol)

    def _set(self, is_memory_short: bool, is_crowded: bool) -> None:
        before = self._are_short
        self._is_memory_short, self.is_crowded = is_memory_short, is_crowded
        if self._are_short is not before:
            for connection in self._table.by_fd.values():
                self._limit(connection.protocol)

    def _limit(self, protocol: Session) -> None:
        if self._are_short:
            protocol.limit_turn(min(SHORT_REQUESTS, self._requests_per_turn), SHORT_TIME_PART)
        else:
            protocol.limit_turn(self._requests_per_turn, 1)
