"""The storage commands, their outcomes, and the log that records every write."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from memcache_kv.store.entry import Entry


class Mode(enum.Enum):
    """The kind of a storage command (protocol.txt, "Storage commands")."""

    SET = "set"
    ADD = "add"
    REPLACE = "replace"
    APPEND = "append"
    PREPEND = "prepend"
    CAS = "cas"

    @property
    def joins(self) -> bool:
        """Whether it adds to the present value."""
        return self is Mode.APPEND or self is Mode.PREPEND


@dataclass(slots=True)
class Write:
    """A storage command with all options of all protocols."""

    mode: Mode
    key: bytes
    wire_bytes: bytes
    deadline: int = 0
    """Unix time or 0. APPEND and PREPEND keep the old value's deadline."""
    cas: int = 0
    """The CAS id that the old value must have for CAS, APPEND and PREPEND. 0 is no condition for the latter two."""
    new_cas: int = 0
    """The CAS id that the client chose for the new value; 0 lets the store choose."""
    needs_cas: bool = False
    """Whether the reply needs the new CAS id."""
    makes_missing: bool = False
    """Whether APPEND and PREPEND store their value if the key is missing."""
    takes_older: bool = False
    """Whether CAS with the id of an earlier value stores the new value all the same, as a stale one."""


class Outcome(enum.Enum):
    """The result of a write."""

    STORED = "stored"
    NOT_STORED = "not stored"
    EXISTS = "exists"
    NOT_FOUND = "not found"
    NO_MEMORY = "no memory"
    NON_NUMERIC = "non-numeric"
    DELETED = "deleted"


class WriteLog(Protocol):
    """A log that records every write, in the order in which the writes to a key happen.

    The store calls it while it holds the key's lock (`flushed` with all locks), so it must return at once.
    """

    refuses: bool
    """Whether the log can't record anything now, so that the store must reject all writes."""

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Record that this value is now stored for the key. `state` has the bits STALE and WON of `entry.py`."""

    def put(self, key: bytes, entry: Entry) -> None:
        """Record the same for an entry that is neither stale nor won, as most are."""

    def deleted(self, key: bytes) -> None:
        """Record that the key has no value any more."""

    def touched(self, key: bytes, deadline: int) -> None:
        """Record the key's new deadline."""

    def cas_assigned(self, key: bytes, cas: int) -> None:
        """Record that the key's present value was given this CAS id."""

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Record the deadline, CAS id (0: none yet) and state (STALE and WON) of the key's present value."""

    def flushed(self, at: int) -> None:
        """Record a flush of all items, at once (0) or at a unix time."""

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Record that the wall clock was stepped, and is now `wall_ahead` seconds ahead of the store's clock.

        Called with the locks of all keys held.
        """

    def new_second(self, now: int) -> None:
        """Record, before the next write, that it was made at this unix time or later."""
