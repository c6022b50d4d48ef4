"""When the replies that wait for an fsync get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.unpatched import time

if TYPE_CHECKING:
    from memcache_kv.journal import Journal


class CommitTimer:
    """Choose the moment at which one worker asks the journal to save what its connections wait for.

    Many writes then share an fsync. For the worker's thread only.

    journal: None if there is none; table: the worker's connections.
    """

    def __init__(self, journal: Journal | None, table: ConnectionTable) -> None:
        self._journal = journal
        self._table = table
        self.by = 0.0
        """The latest moment, in monotonic seconds; 0 if nothing waits."""
        self._quiet_until = 0.0
        """Until when more writes may come that share the next fsync, in monotonic seconds."""

    def start(self) -> None:
        """Begin to wait for further writes, for as long as an fsync takes, if that has not begun yet."""
        if not self.by and self._journal is not None:
            self.by = time.monotonic() + self._journal.average_sync_seconds

    def stop(self) -> None:
        """End the wait, as the journal is asked now."""
        self.by = 0.0

    def is_due(self, had_events: bool) -> bool:
        """Return whether no more writes are expected to share the next fsync.

        That is so once every connection waits, once none has sent anything for a part of the time of an fsync, and
        after the whole of that time.
        """
        journal, table = self._journal, self._table
        if journal is None or len(table.awaiting_journal) == len(table.by_fd):
            return True
        now = time.monotonic()
        if had_events:
            self._quiet_until = now + journal.gather_seconds
        return now > self.by or (not had_events and now >= self._quiet_until)
