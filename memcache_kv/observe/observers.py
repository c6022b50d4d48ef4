"""The observers of single requests: the verbose log, `watch`, and the counts per key prefix."""

from __future__ import annotations

from memcache_kv.clock import Clock
from memcache_kv.observe.log import Log
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import REQUEST_STREAMS, Stream, Watchers
from memcache_kv.store import Entry, Mode, Outcome
from memcache_kv.store.writes import Write


class Observers:
    """Report single requests to the log, the watchers and the counts per prefix.

    The fast paths check only `active`, and are used only while it is False. Whoever changes what it depends on calls
    `refresh`. Any thread may call any method.
    """

    __slots__ = ("active", "log", "prefixes", "watchers")

    def __init__(self, log: Log, prefixes: Prefixes | None = None, watchers: Watchers | None = None) -> None:
        self.log = log
        self.prefixes = prefixes if prefixes is not None else Prefixes()
        self.watchers = watchers if watchers is not None else Watchers(Clock())
        self.watchers.follow(self.refresh)
        self.active = False
        self.refresh()

    def refresh(self) -> None:
        """Set `active` to whether anything observes single requests now."""
        watched = self.watchers.is_watched(*REQUEST_STREAMS)
        self.active = self.log.verbosity > 1 or self.prefixes.counting or watched

    def set_verbosity(self, level: int) -> None:
        """Change the verbosity of the log, as the command `verbosity` does."""
        self.log.verbosity = level
        self.refresh()

    def count_prefixes(self, counting: bool) -> None:
        """Turn the counts per prefix on or off, as `stats detail on` and `off` do."""
        self.prefixes.counting = counting
        self.refresh()

    def looked_up(self, fd: int, key: bytes, entry: Entry | None, flushed: bool = False) -> None:
        """Report a command's lookup of a key.

        fd: the connection's descriptor; entry: what is stored, expired or not; flushed: whether a flush removed it.
        """
        if self.watchers.is_watched(Stream.FETCHERS):
            self.watchers.looked_up(fd, key, entry, flushed)

    def fetched(self, fd: int, key: bytes, entry: Entry | None) -> None:
        """Report what a command got for a key: an entry, or None for a miss."""
        if self.prefixes.counting:
            self.prefixes.fetched(key, entry is not None)

    def stored(self, fd: int, write: Write, outcome: Outcome, entry: Entry | None = None) -> None:
        """Report the outcome of a storage command, and the entry that it stored."""
        if self.watchers.is_watched(Stream.MUTATIONS):
            self.watchers.stored(fd, write, outcome, entry)
        if self.prefixes.counting:
            self.prefixes.stored(write.key)

    def rejected(self, fd: int, key: bytes, mode: Mode) -> None:
        """Report a value that was too large to be stored."""
        if self.watchers.is_watched(Stream.MUTATIONS):
            self.watchers.rejected(fd, key, mode)

    def deleted(self, fd: int, key: bytes, entry: Entry | None, command: str) -> None:
        """Report the deletion of an entry by a command, or a miss (None)."""
        if entry is not None and self.watchers.is_watched(Stream.DELETIONS):
            self.watchers.deleted(key, entry, command)
        if self.prefixes.counting:
            self.prefixes.deleted(key)
