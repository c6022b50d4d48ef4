"""Delete a key, or leave an empty or a stale item in its place: delete and md."""

from __future__ import annotations

from typing import NamedTuple

from memcache_kv.commands.caller import Caller, observe_lookup
from memcache_kv.store.entry import STALE, TRACKED, WON, Entry, cas_of, deadline_of, pack, state_of, wire_bytes_of
from memcache_kv.store.store import ItemStore
from memcache_kv.store.writes import Outcome


class Deletion(NamedTuple):
    """A request to delete, empty or invalidate an item."""

    key: bytes
    cas: int | None = None
    """The CAS id that the item must have; None for any."""
    empties: bool = False
    """Whether the item stays, with an empty value."""
    invalidates: bool = False
    """Whether the item stays, marked as stale."""
    flags: int = 0
    """The client flags of the empty value."""
    deadline: int | None = None
    """The new deadline (unix time) of an item that stays. None keeps a stale item's deadline; an item that was emptied
    then never expires."""
    new_cas: int = 0
    """The CAS id that the client chooses for an item that stays; 0 lets the store choose it."""
    command: str = "delete"
    """The command's name for observers."""
    counts_mismatch: bool = False
    """Whether a different CAS id counts as a miss, as it does in memcached's meta protocol only."""


def delete(caller: Caller, request: Deletion) -> Outcome:
    """Carry out a deletion. Raises WritesRejected.

    Returns DELETED, NOT_FOUND, or EXISTS if the item has a different CAS id.
    """
    key = request.key
    observe_lookup(caller, key)
    if request.cas is None and not request.empties and not request.invalidates:  # most deletes: fewer steps
        found = caller.store.delete(key)
        outcome = Outcome.NOT_FOUND if found is None else Outcome.DELETED
    else:
        outcome, found = _delete_on_condition(caller.store, request)
    _count(caller, request, outcome)
    if caller.observers.active:
        caller.observers.deleted(caller.fd, key, None if request.invalidates else found, request.command)
    return outcome


def _delete_on_condition(store: ItemStore, request: Deletion) -> tuple[Outcome, Entry | None]:
    """Check the item and delete or replace it, atomically. Returns the result, and the old entry if DELETED."""
    outcome, found = Outcome.NOT_FOUND, None

    def decide(old: Entry | None) -> Entry | None:
        nonlocal outcome, found
        if old is None:
            return None
        if request.cas is not None and not store.has_cas(old, request.cas):
            outcome = Outcome.EXISTS
            return old
        outcome, found = Outcome.DELETED, old
        return _remainder(store, request, old)

    store.update(request.key, decide, forgets=True)
    return outcome, found


def _remainder(store: ItemStore, request: Deletion, old: Entry) -> Entry | None:
    """Return the entry that replaces the item: empty, stale or both; None if the item is deleted."""
    if not request.empties and not request.invalidates:
        return None
    wire_bytes, deadline, cas, state = wire_bytes_of(old), deadline_of(old), cas_of(old), state_of(old)
    before: Entry | None = old
    if request.empties:
        wire_bytes, deadline, state, before = pack(request.flags, b""), 0, state & TRACKED, None
    if request.deadline is not None:
        deadline = request.deadline
    if request.invalidates:
        state = (state | STALE) & ~WON
        cas = store.next_cas()
    return store.renewed(request.key, wire_bytes, deadline, request.new_cas or cas, state, before)


def _count(caller: Caller, request: Deletion, outcome: Outcome) -> None:
    """Count a hit or a miss; an invalidated item is neither."""
    if outcome is Outcome.DELETED:
        caller.counters.delete_hits += not request.invalidates
    elif outcome is Outcome.NOT_FOUND or request.counts_mismatch:
        caller.counters.delete_misses += 1
