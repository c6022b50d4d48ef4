"""What a storage command asks of the store, what becomes of it, and whoever is told of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from memcache_kv.store.entry import Entry


class Mode(enum.Enum):
    """What a storage command asks for (protocol.txt, "Storage commands")."""

    SET = "set"
    ADD = "add"
    REPLACE = "replace"
    APPEND = "append"
    PREPEND = "prepend"
    CAS = "cas"

    @property
    def joins(self) -> bool:
        """Whether it adds to the value that is there."""
        return self is Mode.APPEND or self is Mode.PREPEND


@dataclass(slots=True)
class Write:
    """A storage command with all that any protocol can ask of it."""

    mode: Mode
    key: bytes
    wire_bytes: bytes
    deadline: int = 0
    """Unix time or 0; what is joined to an old value leaves that one's."""
    cas: int = 0
    """The id that the old value must have for CAS, APPEND and PREPEND; 0 is no condition of the latter two."""
    new_cas: int = 0
    """The id that the client wants it to have; 0 leaves it to the store."""
    needs_cas: bool = False
    """Whether the client wants to know its id."""
    makes_missing: bool = False
    """Whether APPEND and PREPEND store what they have where there is nothing to add to."""
    takes_older: bool = False
    """Whether CAS with the id of an earlier value stores it all the same, as a stale one."""


class Outcome(enum.Enum):
    """What became of a change."""

    STORED = "stored"
    NOT_STORED = "not stored"
    EXISTS = "exists"
    NOT_FOUND = "not found"
    NO_MEMORY = "no memory"
    NON_NUMERIC = "non-numeric"


class WriteLog(Protocol):
    """Whoever wants to hear of every change, in the order in which it happens to a key.

    Called with the key's lock held (`flushed` with all of them): it must only take note and return.
    """

    refuses: bool
    """Whether it can't take note of anything now, so that nothing may be changed."""

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Note that this is now kept for the key; `state` has the bits STALE and WON of `item.py`."""

    def put(self, key: bytes, entry: Entry) -> None:
        """Note that this entry, which is neither stale nor won, is now kept for the key: what most changes are."""

    def deleted(self, key: bytes) -> None:
        """Note that nothing is kept for the key any more."""

    def touched(self, key: bytes, deadline: int) -> None:
        """Note the key's new deadline."""

    def cas_assigned(self, key: bytes, cas: int) -> None:
        """Note that the key's present value was given this CAS id."""

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Note the rare facts of the key's present value: deadline, CAS id (0: none yet), STALE and WON."""

    def flushed(self, at: int) -> None:
        """Note that all was forgotten (0), or will be at this unix time."""

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Note that the wall clock was stepped, and is now so many seconds ahead of the clock that deadlines follow.

        Called with the locks of all keys held.
        """

    def new_second(self, now: int) -> None:
        """Let what follows be known to have happened at this unix time or later."""
