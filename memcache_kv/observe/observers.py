"""The observers of single requests: the verbose log, `watch`, and the counts per key prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memcache_kv.clock import Clock
from memcache_kv.observe.budget import Budget
from memcache_kv.observe.log import Log
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import REQUEST_STREAMS, Stream, Watchers
from memcache_kv.store import Entry, Mode, Outcome
from memcache_kv.store.writes import Write


class Observers:
    """Report single requests to the log, the watchers and the counts per prefix.

    Lines for the log and the watchers cost several times what a request costs. So they are made only while
    `takes_lines` is True, within a budget of time. Beyond it the fast paths carry out the requests, and the lines that
    these would have caused are counted as dropped. The counts per prefix leave nothing out: the fast paths report the
    keys of a batch together.

    The fast paths check only `active`. Whoever changes what it depends on calls `refresh`. Any thread may call any
    method.
    """

    __slots__ = ("active", "takes_lines", "log", "prefixes", "watchers", "_budget", "_has_lines", "_unlogged")

    def __init__(
        self,
        log: Log,
        prefixes: Prefixes | None = None,
        watchers: Watchers | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.log = log
        self.prefixes = prefixes if prefixes is not None else Prefixes()
        self.watchers = watchers if watchers is not None else Watchers(Clock())
        self._budget = budget if budget is not None else Budget()
        self.watchers.follow(self.refresh)
        self.active = False
        """Whether anything observes single requests."""
        self.takes_lines = False
        """Whether lines are made for the log or for watchers at the moment."""
        self._has_lines = False
        """Whether they are made when there is time."""
        self._unlogged = 0
        """The number of requests that are missing in the verbose log."""
        self.refresh()

    def refresh(self) -> None:
        """Set `active` to whether anything observes single requests now.

        Who has just begun to observe gets lines, even right after a flood.
        """
        self._budget.reopen()
        self._has_lines = self.log.verbosity > 1 or self.watchers.is_watched(*REQUEST_STREAMS)
        self.takes_lines = self._has_lines
        self.active = self._has_lines or self.prefixes.counting

    def set_verbosity(self, level: int) -> None:
        """Change the verbosity of the log, as the command `verbosity` does."""
        self.log.verbosity = level
        self.refresh()

    def count_prefixes(self, counting: bool) -> None:
        """Turn the counts per prefix on or off, as `stats detail on` and `off` do."""
        self.prefixes.counting = counting
        self.refresh()

    # The budget

    def begin_turn(self) -> None:
        """Note that the calling thread begins a turn: there may be time for lines again."""
        if self._has_lines:
            self.takes_lines = self._budget.begin_turn()

    def observe(self, act: Callable[[], bool]) -> bool:
        """Carry out requests, with lines about them if there is time, and charge for the time that this takes."""
        if not self._has_lines:
            return act()
        self.takes_lines = self._budget.begin_turn()
        try:
            return act()
        finally:
            if self.takes_lines:
                self.takes_lines = self._budget.end_turn()

    def pass_over(self, lookups: int, stores: int, requests: int) -> None:
        """Count the lines that requests of the fast path would have caused.

        lookups: how many keys were looked up, not counting those that were stored; requests: how many there were.
        """
        if not self._has_lines:
            return
        self.watchers.drop(Stream.FETCHERS, lookups + stores)
        self.watchers.drop(Stream.MUTATIONS, stores)
        if self.log.verbosity > 1:
            self._unlogged += requests

    def pass_over_set(self, key: bytes) -> None:
        """Count a set of the fast path, as `pass_over` does, and its key."""
        self.pass_over(0, 1, 1)
        if self.prefixes.counting:
            self.prefixes.stored(key)

    def _may_write(self, stream: Stream) -> bool:
        """Return whether to make a line of this stream; if it is watched and there is no time, count it as dropped."""
        if not self.watchers.is_watched(stream):
            return False
        if not self.takes_lines:
            self.watchers.drop(stream, 1)
            return False
        self.takes_lines = self._budget.has_time_after_line()
        return True

    # The verbose log

    def request(self, fd: int, line: bytes) -> None:
        """Report a request of the connection with this descriptor to the log, with -vv."""
        if self.log.verbosity < 2:
            return
        if not self.takes_lines:
            self._unlogged += 1
            return
        self.takes_lines = self._budget.has_time_after_line()
        if self._unlogged:
            self.log.say(f"skipped={self._unlogged} requests, which came too fast to be logged")
            self._unlogged = 0
        self.log.request(fd, line)

    def reply(self, fd: int, line: bytes) -> None:
        """Report a reply to the connection with this descriptor to the log, with -vv."""
        if self.takes_lines:
            self.log.reply(fd, line)

    # Commands

    def looked_up(self, fd: int, key: bytes, entry: Entry | None, flushed: bool = False) -> None:
        """Report a command's lookup of a key.

        fd: the connection's descriptor; entry: what is stored, expired or not; flushed: whether a flush removed it.
        """
        if self._may_write(Stream.FETCHERS):
            self.watchers.looked_up(fd, key, entry, flushed)

    def fetched(self, fd: int, key: bytes, entry: Entry | None) -> None:
        """Report what a command got for a key: an entry, or None for a miss."""
        if self.prefixes.counting:
            self.prefixes.fetched(key, entry is not None)

    def stored(self, fd: int, write: Write, outcome: Outcome, entry: Entry | None = None) -> None:
        """Report the outcome of a storage command, and the entry that it stored."""
        if self._may_write(Stream.MUTATIONS):
            self.watchers.stored(fd, write, outcome, entry)
        if self.prefixes.counting:
            self.prefixes.stored(write.key)

    def rejected(self, fd: int, key: bytes, mode: Mode) -> None:
        """Report a value that was too large to be stored."""
        if self._may_write(Stream.MUTATIONS):
            self.watchers.rejected(fd, key, mode)

    def deleted(self, fd: int, key: bytes, entry: Entry | None, command: str) -> None:
        """Report the deletion of an entry by a command, or a miss (None)."""
        if entry is not None and self._may_write(Stream.DELETIONS):
            self.watchers.deleted(key, entry, command)
        if self.prefixes.counting:
            self.prefixes.deleted(key)

    def fetched_together(self, keys: Sequence[bytes], missed: Sequence[bytes], stored: Sequence[bytes] = ()) -> None:
        """Count keys that a fast path looked up, those that it did not find, and those that it stored, by prefix."""
        if self.prefixes.counting:
            self.prefixes.count_keys(keys, missed, stored)
