"""Counters of commands and bytes. Each worker has its own, so that counting takes no lock."""

from __future__ import annotations

from collections.abc import Iterable


class Counters:
    """Counts with memcached's names, in its order (memcached's protocol.txt, "General-purpose statistics")."""

    __slots__ = (
        "cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "cmd_meta",
        "get_hits", "get_misses", "delete_misses", "delete_hits",
        "incr_misses", "incr_hits", "decr_misses", "decr_hits",
        "cas_misses", "cas_hits", "cas_badval", "touch_hits", "touch_misses",
        "store_too_large", "store_no_memory", "auth_cmds", "auth_errors",
        "bytes_read", "bytes_written", "conn_yields", "longest_turn_us", "slow_turns", "hidden_errors",
        "stored_expired", "rejected_too_large",
    )  # fmt: skip

    cmd_get: int
    cmd_set: int
    cmd_flush: int
    cmd_touch: int
    cmd_meta: int
    get_hits: int
    get_misses: int
    delete_hits: int
    delete_misses: int
    incr_hits: int
    incr_misses: int
    decr_hits: int
    decr_misses: int
    cas_hits: int
    cas_misses: int
    cas_badval: int
    touch_hits: int
    touch_misses: int
    store_too_large: int
    store_no_memory: int
    auth_cmds: int
    auth_errors: int
    bytes_read: int
    bytes_written: int
    conn_yields: int
    longest_turn_us: int
    slow_turns: int
    hidden_errors: int
    """Errors that the client does not learn of, as it asked for no reply."""
    stored_expired: int
    """Values that had already expired when they were stored."""
    rejected_too_large: int
    """Values that were rejected as too large, over all protocols: `store_too_large` has only those of some."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set every count to 0, as `stats reset` does."""
        for name in self.__slots__:
            setattr(self, name, 0)

    def count(self, name: str) -> None:
        """Add one to the count with this name, for commands that make the name (`get_` + `hits`)."""
        setattr(self, name, getattr(self, name) + 1)

    def count_gets(self, hits: int, misses: int) -> None:
        """Count items that were retrieved, and keys without an item."""
        self.cmd_get += hits + misses
        self.get_hits += hits
        self.get_misses += misses

    def count_touches(self, hits: int, misses: int) -> None:
        """Count items that got a new deadline, and keys without an item."""
        self.cmd_touch += hits + misses
        self.touch_hits += hits
        self.touch_misses += misses


def total(counters: Iterable[Counters]) -> Counters:
    """Return the sums of several workers' counts, and the longest of their turns."""
    result = Counters()
    for each in counters:
        longest_turn_us = max(result.longest_turn_us, each.longest_turn_us)
        for name in Counters.__slots__:
            setattr(result, name, getattr(result, name) + getattr(each, name))
        result.longest_turn_us = longest_turn_us
    return result
