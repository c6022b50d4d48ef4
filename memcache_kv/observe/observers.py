"""Those who want to see single requests: the verbose log, `watch`, and the counts per key prefix."""

from __future__ import annotations

from memcache_kv.clock import Clock
from memcache_kv.observe.log import Log
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import REQUEST_STREAMS, Stream, Watchers
from memcache_kv.store import Entry, Mode, Outcome
from memcache_kv.store.writes import Write


class Observers:
    """Tell of single requests to whoever wants to hear of them.

    The hot path looks at `active` alone, and takes its short ways only while that is False; what it is made of may
    change while the server runs, and whoever changes it calls `refresh`. Any thread may call any method.
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
        """Look again whether anybody wants to see single requests."""
        watched = self.watchers.is_watched(*REQUEST_STREAMS)
        self.active = self.log.verbosity > 1 or self.prefixes.counting or watched

    def set_verbosity(self, level: int) -> None:
        """Change what the log says, as `-v` and the command `verbosity` do."""
        self.log.verbosity = level
        self.refresh()

    def count_prefixes(self, counting: bool) -> None:
        """Begin or end the counts per prefix, as `stats detail on` and `off` do."""
        self.prefixes.counting = counting
        self.refresh()

    def looked_up(self, fd: int, key: bytes, entry: Entry | None, flushed: bool = False) -> None:
        """Tell that a command is about to look for a key, for which this is kept, expired or not.

        flushed: whether nothing is, because a flush took it.
        """
        if self.watchers.is_watched(Stream.FETCHERS):
            self.watchers.looked_up(fd, key, entry, flushed)

    def fetched(self, fd: int, key: bytes, entry: Entry | None) -> None:
        """Tell that a command of this connection looked for a key, and found this."""
        if self.prefixes.counting:
            self.prefixes.fetched(key, entry is not None)

    def stored(self, fd: int, write: Write, outcome: Outcome, entry: Entry | None = None) -> None:
        """Tell what became of a storage command, and what it stored."""
        if self.watchers.is_watched(Stream.MUTATIONS):
            self.watchers.stored(fd, write, outcome, entry)
        if self.prefixes.counting:
            self.prefixes.stored(write.key)

    def refused(self, fd: int, key: bytes, mode: Mode) -> None:
        """Tell that a value was too large to be stored."""
        if self.watchers.is_watched(Stream.MUTATIONS):
            self.watchers.refused(fd, key, mode)

    def deleted(self, fd: int, key: bytes, entry: Entry | None, command: str) -> None:
        """Tell that a command deleted a key, for which this was kept, or (None) found nothing to delete."""
        if entry is not None and self.watchers.is_watched(Stream.DELETIONS):
            self.watchers.deleted(key, entry, command)
        if self.prefixes.counting:
            self.prefixes.deleted(key)
