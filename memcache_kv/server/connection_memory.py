"""The connections of one worker that keep memory between their turns, and what happens when it runs short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from memcache_kv.config.memcached_options import MIB
from memcache_kv.observe.log import Log
from memcache_kv.protocol.session import READ_BYTES
from memcache_kv.server.connection import READING, WAITING_FOR_MEMORY, Connection
from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.server.turn_limits import TurnLimits
from memcache_kv.stats.connections import ConnectionMemory
from memcache_kv.unpatched import time

UNCOUNTED_BYTES = 4096
"""A connection that keeps less is not counted: nearly all do, and no work is spent on them."""
SHARE_OF_FREE = 16
"""While memory is short, a connection may keep this part of what is free. Above it, no more input is read."""
RELIEF_PART = 7 / 8
"""Beyond the limit, the largest connections are closed until all others keep no more than this part of it."""
WAIT_SECONDS = 2.0
"""How long a connection waits for memory. Then others are closed: clients that only keep what they have must not stop
it for ever."""


class Backlog(Protocol):
    """What has records that wait to be written; a journal is one."""

    @property
    def is_behind(self) -> bool:
        """Whether they are so many that no large values should be read from clients."""


class Holders:
    """Count what the connections of one worker keep, and keep it within the limit. For the worker's thread only.

    While the journal is behind, no large value is read to its end: each would stay in memory until it is written,
    whatever -m says.

    memory: what all workers' connections keep together; table: the worker's connections; close: closes one of them;
    journal: None if there is none.
    """

    def __init__(
        self,
        memory: ConnectionMemory,
        table: ConnectionTable,
        close: Callable[[Connection], None],
        log: Log,
        limits: TurnLimits,
        journal: Backlog | None = None,
    ) -> None:
        self._memory = memory
        self._table = table
        self._close = close
        self._log = log
        self._limits = limits
        self._journal = journal
        self._is_behind = False
        """Whether the journal was behind when that was last checked."""
        self._counted: dict[Connection, None] = {}
        self._is_short = False
        """Whether this worker's connections were last told that memory is short."""

    def count(self, connection: Connection) -> None:
        """Count what a connection keeps now. This may close connections, this one among them."""
        kept = connection.kept_bytes()
        if kept < UNCOUNTED_BYTES:
            kept = 0
        if kept == connection.counted_bytes:
            return
        self._move(connection, kept)
        memory = self._memory
        if memory.is_short or self._is_short:
            self.adjust()

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection, as it is being closed."""
        if connection.counted_bytes:
            self._move(connection, 0)

    def _move(self, connection: Connection, kept: int) -> None:
        change, connection.counted_bytes = kept - connection.counted_bytes, kept
        if kept:
            self._counted[connection] = None
        else:
            del self._counted[connection]
        self._memory.add(change)

    def must_wait(self, connection: Connection) -> bool:
        """Return whether no more input is read from a connection.

        That is so if its unfinished request is large and the journal is behind, or if it keeps too much of it while
        memory is short.
        """
        if self._is_behind and _is_amid_much(connection):
            return True
        memory = self._memory
        if not memory.is_short or not connection.counted_bytes:
            return False
        return connection.protocol.held_bytes > (memory.limit_bytes - memory.used_bytes) // SHARE_OF_FREE

    def hold_back(self, connection: Connection) -> None:
        """Read no more from a connection that is READING until there is memory again."""
        connection.give_up_at = time.monotonic() + WAIT_SECONDS
        self._table.enter(connection, WAITING_FOR_MEMORY)

    def adjust(self) -> None:
        """Do what follows from the memory in use: limit turns and hold connections back, or end that; close some."""
        memory = self._memory
        if memory.is_exceeded:
            self._close_largest()
        if memory.is_short == self._is_short:
            return
        self._is_short = memory.is_short
        self._limits.set_memory_short(self._is_short)
        if self._is_short:
            for connection in [c for c in self._counted if c.state is READING and self.must_wait(c)]:
                self.hold_back(connection)

    def follow_journal(self) -> None:
        """Hold back the connections that are amid a large request, once the journal is behind; or end that."""
        is_behind = self._journal is not None and self._journal.is_behind
        if is_behind == self._is_behind:
            return
        self._is_behind = is_behind
        if is_behind:
            for connection in self._table.by_fd.values():
                if connection.state is READING and self.must_wait(connection):
                    self.hold_back(connection)

    def released(self) -> list[Connection]:
        """Return the connections that wait for memory or for the journal to be no longer behind, once they need not."""
        return [] if self._is_behind or self._memory.is_short else list(self._table.awaiting_memory)

    def end_long_waits(self) -> None:
        """If a connection has waited too long for memory, close others until there is enough.

        Those whose clients have sent nothing for longest go first: unfinished requests that never go on, and replies
        that nobody reads.
        """
        first = next(iter(self._table.awaiting_memory), None)
        if first is None or self._is_behind or not self._memory.is_short:
            return
        if first.give_up_at > time.monotonic():
            return
        for connection in sorted(self._counted, key=lambda each: (each.last_active, -each.counted_bytes)):
            if not self._memory.is_short:
                return
            self._close_for_memory(connection)

    def _close_largest(self) -> None:
        memory = self._memory
        enough = memory.limit_bytes * RELIEF_PART
        for connection in sorted(self._counted, key=lambda each: each.counted_bytes, reverse=True):
            if memory.used_bytes <= enough:
                return
            self._close_for_memory(connection)

    def _close_for_memory(self, connection: Connection) -> None:
        memory = self._memory
        memory.count_closed()
        self._log.say_rarely(
            "connection memory",
            f"<{connection.fd} closed for memory: it kept {connection.counted_bytes // 1024} KiB of input and replies, "
            f"and all connections {memory.used_bytes // MIB} MiB of the {memory.limit_bytes // MIB} MiB that "
            "--connection-memory allows; raise that, or have clients read their replies and finish their requests",
        )
        self._close(connection)


def _is_amid_much(connection: Connection) -> bool:
    """Return whether a connection's unfinished request may store a value that takes more than one read."""
    protocol = connection.protocol
    return protocol.block_bytes_left > 0 or protocol.held_bytes > READ_BYTES
