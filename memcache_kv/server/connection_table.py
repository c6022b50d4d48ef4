"""A worker's connections by number and by state, and what the poller watches for on each."""

from __future__ import annotations

from memcache_kv.server.connection import (
    CLOSING,
    HANDSHAKE,
    PAUSED,
    READING,
    THROTTLED,
    WAITING_FOR_JOURNAL,
    WAITING_FOR_MEMORY,
    WAITING_FOR_SOCKET,
    WATCHED,
    Connection,
    State,
)
from memcache_kv.server.poller import NOTHING, READABLE, Poller


class ConnectionTable:
    """Change the states of a worker's connections, and tell the poller what to watch for. Used only by that worker.

    Connections that are not READING are kept by state, in the order in which they entered it.
    """

    __slots__ = (
        "by_fd", "handshaking", "awaiting_journal", "awaiting_memory", "paused", "throttled", "waiting", "_by_state",
        "_poller",
    )  # fmt: skip

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self.by_fd: dict[int, Connection] = {}
        self.waiting = 0
        """How many connections are not READING."""
        self._by_state: dict[State, dict[Connection, None]] = {state: {} for state in State}
        self.handshaking = self._by_state[HANDSHAKE]
        self.awaiting_journal = self._by_state[WAITING_FOR_JOURNAL]
        self.awaiting_memory = self._by_state[WAITING_FOR_MEMORY]
        self.paused = self._by_state[PAUSED]
        self.throttled = self._by_state[THROTTLED]

    @property
    def has_replies(self) -> bool:
        """Whether any replies are still unsent. Lines for `watch` do not count."""
        held = (*self._by_state[WAITING_FOR_SOCKET], *self.throttled)
        return bool(self.awaiting_journal or self.paused) or any(c.protocol.watcher is None for c in held)

    def add(self, connection: Connection) -> None:
        """Add a connection whose descriptor the poller watches for input."""
        self.by_fd[connection.fd] = connection
        if connection.state is not READING:
            self.waiting += 1
            self._by_state[connection.state][connection] = None

    def enter(self, connection: Connection, state: State) -> None:
        """Put a connection into a state. Raises IllegalTransition if the state can't follow the current one."""
        before = connection.state
        connection.enter(state)
        if before is not READING:
            self.waiting -= 1
            del self._by_state[before][connection]
        if state is not READING:
            self.waiting += 1
            self._by_state[state][connection] = None
        # Most transitions lead from or to a state that needs READABLE, and need no call.
        if connection.watched != READABLE or state is WAITING_FOR_SOCKET or connection.tls is not None:
            self.watch(connection)

    def remove(self, connection: Connection) -> None:
        """Put a connection into CLOSING, and remove it from the table and from the poller."""
        if connection.state is not READING:
            self.waiting -= 1
            del self._by_state[connection.state][connection]
        connection.enter(CLOSING)
        del self.by_fd[connection.fd]
        self._poller.unregister(connection.fd)

    def watch(self, connection: Connection) -> None:
        """Have the poller watch for what the connection's state needs.

        If the state needs nothing, the poller keeps watching for input until some arrives. Mostly the connection is
        READING again by then, which saves two system calls.
        """
        needs = WATCHED[connection.state]
        if needs == READABLE and connection.tls is not None:
            needs = connection.tls.wants
        if needs != connection.watched and (needs != NOTHING or connection.watched != READABLE):
            self._poller.modify(connection.fd, needs)
            connection.watched = needs

    def watch_for_nothing(self, connection: Connection) -> None:
        """Stop watching after an event in a state that reads nothing: the poller would report it in every turn.

        A hang-up does not close the connection: earlier requests are carried out first.
        """
        if connection.watched != NOTHING:
            self._poller.modify(connection.fd, NOTHING)
            connection.watched = NOTHING
