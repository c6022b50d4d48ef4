"""A worker's connections by number and by state, and what the poller watches for on each."""

from __future__ import annotations

from memcache_kv.server.connection import (
    CLOSING,
    HANDSHAKE,
    PAUSED,
    READING,
    THROTTLED,
    WAITING_FOR_JOURNAL,
    WAITING_FOR_SOCKET,
    WATCHED,
    Connection,
    State,
)
from memcache_kv.server.poller import NOTHING, READABLE, Poller


class ConnectionTable:
    """Bring connections from state to state, and tell the poller what follows from it. For one worker's thread.

    Those that wait for something else than requests are kept by state, in the order in which they entered it.
    """

    __slots__ = ("by_fd", "handshaking", "awaiting_journal", "paused", "throttled", "_waiting", "_poller")

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self.by_fd: dict[int, Connection] = {}
        self._waiting: dict[State, dict[Connection, None]] = {state: {} for state in State}
        self.handshaking = self._waiting[HANDSHAKE]
        self.awaiting_journal = self._waiting[WAITING_FOR_JOURNAL]
        self.paused = self._waiting[PAUSED]
        self.throttled = self._waiting[THROTTLED]

    @property
    def has_replies(self) -> bool:
        """Whether replies have still to be sent. Lines for `watch` do not count."""
        held = (*self._waiting[WAITING_FOR_SOCKET], *self.throttled)
        return bool(self.awaiting_journal or self.paused) or any(c.protocol.watcher is None for c in held)

    def add(self, connection: Connection) -> None:
        """Add a connection whose descriptor the poller watches for input."""
        self.by_fd[connection.fd] = connection
        if connection.state is not READING:
            self._waiting[connection.state][connection] = None

    def enter(self, connection: Connection, state: State) -> None:
        """Bring a connection into a state. Raises IllegalTransition where the state can't follow its present one."""
        before = connection.state
        connection.enter(state)
        if before is not READING:
            del self._waiting[before][connection]
        if state is not READING:
            self._waiting[state][connection] = None
        # Most transitions lead from a state that needs READABLE, or to one, and cost no call.
        if connection.watched != READABLE or state is WAITING_FOR_SOCKET or connection.tls is not None:
            self.watch(connection)

    def remove(self, connection: Connection) -> None:
        """Bring a connection into CLOSING, and remove it from here and from the poller."""
        self._waiting[connection.state].pop(connection, None)
        connection.enter(CLOSING)
        del self.by_fd[connection.fd]
        self._poller.unregister(connection.fd)

    def watch(self, connection: Connection) -> None:
        """Have the poller watch for what the connection's state needs.

        Where that is nothing, the poller keeps watching for input until some arrives. Mostly the connection is READING
        again before that, and two system calls are saved.
        """
        needs = WATCHED[connection.state]
        if needs == READABLE and connection.tls is not None:
            needs = connection.tls.wants
        if needs != connection.watched and (needs != NOTHING or connection.watched != READABLE):
            self._poller.modify(connection.fd, needs)
            connection.watched = needs

    def watch_for_nothing(self, connection: Connection) -> None:
        """Stop watching after input, or a hang-up, that arrives while nothing is read: else it would be reported in
        every turn.

        A hang-up does not close the connection: what the client sent before is carried out first.
        """
        if connection.watched != NOTHING:
            self._poller.modify(connection.fd, NOTHING)
            connection.watched = NOTHING
