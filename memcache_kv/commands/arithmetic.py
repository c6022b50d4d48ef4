"""Increment and decrement a number: incr, decr, ma, increment, decrement (protocol.txt, "Increment/Decrement")."""

from __future__ import annotations

from typing import NamedTuple

from memcache_kv.commands.caller import Caller, observe_creation, observe_lookup
from memcache_kv.store.entry import (
    TRACKED,
    Entry,
    cas_of,
    deadline_of,
    flags_of,
    length_of,
    number_in,
    pack,
    state_of,
    wire_bytes_of,
)
from memcache_kv.store.store import ItemStore
from memcache_kv.store.writes import Outcome

LARGEST_NUMBER = (1 << 64) - 1
"""A larger sum wraps around to 0."""


class Arithmetic(NamedTuple):
    """A request to increment or decrement a number. Deadlines are unix times; 0 is never."""

    key: bytes
    amount: int
    is_up: bool = True
    cas: int = 0
    """The CAS id that the item must have; 0 for any."""
    needs_cas: bool = False
    """Whether the reply includes the new CAS id."""
    new_cas: int = 0
    """The CAS id that the client chooses; 0 lets the store choose it."""
    deadline: int | None = None
    """The new deadline of an existing item; None keeps the old one."""
    initial: int | None = None
    """The number to store if the key has no item; None stores nothing."""
    initial_deadline: int = 0


class Counted(NamedTuple):
    """The result: STORED, NOT_FOUND, EXISTS, NON_NUMERIC or NO_MEMORY. The other fields are set for STORED only."""

    outcome: Outcome
    number: int = 0
    cas: int = 0
    former_deadline: int = 0
    """The deadline before the request; 0 for a new item."""
    is_made: bool = False
    """Whether the request created the item."""


_NOT_FOUND = Counted(Outcome.NOT_FOUND)
_EXISTS = Counted(Outcome.EXISTS)
_NON_NUMERIC = Counted(Outcome.NON_NUMERIC)


def count(caller: Caller, request: Arithmetic) -> Counted:
    """Increment or decrement the number stored for a key. Raises WritesRejected.

    Hits and misses are counted as in memcached: a new item is neither, nor is an error.
    """
    store, key = caller.store, request.key
    observe_lookup(caller, key)
    result, made = _NOT_FOUND, None

    def decide(old: Entry | None) -> Entry | None:
        nonlocal result, made
        if old is not None:
            result, new = _changed(store, request, old)
            return new
        if request.initial is not None:
            result, made = _made(store, request, request.initial)
        return made

    if not store.update(key, decide):
        return Counted(Outcome.NO_MEMORY)
    name = "incr" if request.is_up else "decr"
    if made is not None:
        observe_creation(caller, key, made)
    elif result.outcome is Outcome.STORED:
        caller.counters.count(name + "_hits")
    elif result.outcome is Outcome.NOT_FOUND:
        caller.counters.count(name + "_misses")
    return result


def _made(store: ItemStore, request: Arithmetic, number: int) -> tuple[Counted, Entry]:
    """Create the missing item."""
    cas = _next_cas(store, request)
    entry = store.renewed(request.key, pack(0, b"%d" % number), request.initial_deadline, cas, 0)
    return Counted(Outcome.STORED, number, cas, is_made=True), entry


def _changed(store: ItemStore, request: Arithmetic, old: Entry) -> tuple[Counted, Entry]:
    """Return the result for an existing item, and the item's new entry, or the old one after an error.

    A sum wraps at 2^64, a difference stops at 0. A shorter number is padded with spaces to the old length. A longer one
    clears the flags STALE and WON. An empty value is NON_NUMERIC, whatever the CAS ids, and so is one that memcached
    would keep in chunks.
    """
    before = wire_bytes_of(old)
    length = length_of(before)
    if not length or store.sizes.is_chunked(request.key, before):
        return _NON_NUMERIC, old
    if request.cas not in (0, cas_of(old)):
        return _EXISTS, old
    number = number_in(before, len(before) - length - 2)
    if number is None:
        return _NON_NUMERIC, old
    amount = request.amount if request.is_up else -request.amount
    number = max(0, number + amount) & LARGEST_NUMBER
    digits = b"%d" % number
    state = state_of(old) if len(digits) <= length else state_of(old) & TRACKED
    wire_bytes = pack(flags_of(before), digits.ljust(length))
    deadline = deadline_of(old) if request.deadline is None else request.deadline
    cas = _next_cas(store, request)
    new = store.renewed(request.key, wire_bytes, deadline, cas, state)
    return Counted(Outcome.STORED, number, cas, deadline_of(old)), new


def _next_cas(store: ItemStore, request: Arithmetic) -> int:
    """Return the CAS id of the new value; 0 if the client needs none."""
    return request.new_cas or (store.next_cas() if request.needs_cas else 0)
