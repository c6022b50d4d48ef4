"""Retrieve an item: get, gets, mg, me and the binary gets.

A mg can also change the item that it retrieves, atomically: so only one of many clients that find a stale item wins
(protocol.txt, "Meta Get").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from memcache_kv.commands.caller import Caller, observe_fetch, observe_lookup
from memcache_kv.store.entry import (
    FETCHED,
    STALE,
    TRACKED,
    WON,
    Entry,
    cas_of,
    deadline_of,
    pack,
    state_of,
    wire_bytes_of,
)
from memcache_kv.store.store import ItemStore

Finder: TypeAlias = Callable[[bytes], Entry | None]
"""Returns a key's entry, or None."""


def fetch(caller: Caller, key: bytes, find: Finder) -> Entry | None:
    """Look up a key with `find`, and report it to observers. Does not count hits or misses."""
    if not caller.observers.active:
        return find(key)
    observe_lookup(caller, key)
    entry = find(key)
    observe_fetch(caller, key, entry)
    return entry


def get_with_cas(caller: Caller, key: bytes) -> Entry | None:
    """Return a key's item with its CAS id, or None. Counts the hit or miss."""
    entry = fetch(caller, key, caller.store.gets)
    caller.counters.count_gets(int(entry is not None), int(entry is None))
    return entry


def inspect(caller: Caller, key: bytes) -> Entry | None:
    """Return a key's item for me, or None. This does not count as a read of the item.

    The item is tracked from now on.
    """
    caller.counters.cmd_meta += 1
    observe_lookup(caller, key)
    return caller.store.get_tracked(key)


class Retrieval(NamedTuple):
    """A mg request. Deadlines are unix times; 0 is never."""

    key: bytes
    needs_cas: bool = False
    """Whether the reply includes the CAS id."""
    is_read: bool = True
    """Whether this counts as a read of the item."""
    wants_access_metadata: bool = False
    """Whether the reply says when the item was last read, or whether it was read."""
    deadline: int | None = None
    """The item's new deadline; None keeps the old one."""
    initial_deadline: int | None = None
    """The deadline of an empty item to create if the key has none; None creates none. The client that creates it
    wins."""
    recache_deadline: int | None = None
    """The first client that finds an item with an earlier deadline than this wins."""
    recaches_after_touch: bool = False
    """Whether `recache_deadline` is compared with the new deadline instead of the old one."""
    new_cas: int = 0
    """The CAS id that the client chooses for a new item; 0 lets the store choose it."""
    is_cut_short: bool = False
    """Whether the reply will be an error. Changes before the error stay, but no client wins, and a hit is not
    counted."""

    @property
    def changes(self) -> bool:
        """Whether the request may need to change the item, under the key's lock."""
        return self.wants_access_metadata or not (
            self.deadline is None and self.initial_deadline is None and self.recache_deadline is None
        )


class Retrieved(NamedTuple):
    """The item that a mg retrieved, and its state before the request."""

    entry: Entry
    former_deadline: int
    """The deadline before the request; 0 for a new item."""
    accessed: int = 0
    """Unix time at which the item was last read or stored."""
    was_read: bool = False
    is_won: bool = False
    """Whether another client has already won."""
    is_stale: bool = False
    wins: bool = False
    """Whether this client wins: it is the one to store a fresh value."""
    is_made: bool = False
    """Whether the request created the item."""


def retrieve(caller: Caller, request: Retrieval) -> Retrieved | None:
    """Carry out a mg; return the item, or None for a miss. Raises WritesRejected if it would change something."""
    observe_lookup(caller, request.key)
    found = _retrieved_changed(caller.store, request) if request.changes else _retrieved(caller.store, request)
    if found is None:
        observe_fetch(caller, request.key, None)
        caller.counters.count_gets(0, 1)
    elif not request.is_cut_short:
        observe_fetch(caller, request.key, found.entry)
        if request.deadline is None:
            caller.counters.count_gets(1, 0)
        else:
            caller.counters.count_touches(1, 0)
    return found


def _retrieved(store: ItemStore, request: Retrieval) -> Retrieved | None:
    """Retrieve an item without a change, unless it is stale, won or needs a CAS id."""
    find = store.peek if not request.is_read else store.gets if request.needs_cas else store.get
    entry = find(request.key)
    if entry is None:
        return None
    if state_of(entry) & (STALE | WON) or (request.needs_cas and not cas_of(entry)):
        return _retrieved_changed(store, request)
    return Retrieved(entry, deadline_of(entry))


def _retrieved_changed(store: ItemStore, request: Retrieval) -> Retrieved | None:
    """Retrieve an item, and change or create it, under the key's lock."""
    key, found = request.key, None

    def decide(old: Entry | None) -> Entry | None:
        nonlocal found
        if old is not None:
            found = _changed(store, request, old)
        elif request.initial_deadline is not None:
            found = _made(store, request, request.initial_deadline)
        return None if found is None else found.entry

    expires = request.deadline is not None and 0 < request.deadline <= store.clock.now
    if not store.update(key, decide, forgets=expires) or found is None:
        return None
    if request.is_read and not request.is_cut_short:
        store.record_access(key, found.entry)
    return found


def _made(store: ItemStore, request: Retrieval, deadline: int) -> Retrieved:
    """Create the missing item with an empty value."""
    cas = request.new_cas or (store.next_cas() if request.needs_cas else 0)
    state = (0 if request.is_cut_short else WON) | TRACKED * request.wants_access_metadata
    entry = store.renewed(request.key, pack(0, b""), deadline, cas, state)
    return Retrieved(entry, 0, store.clock.now, wins=True, is_made=True)


def _changed(store: ItemStore, request: Retrieval, old: Entry) -> Retrieved:
    """Return the item with its new deadline, CAS id and state; with the old entry if none of them changes."""
    before, cas = deadline_of(old), cas_of(old)
    state = store.tracked_state(request.key, old) if request.wants_access_metadata else state_of(old)
    deadline = before if request.deadline is None else request.deadline
    if request.needs_cas and not cas:
        cas = store.next_cas()
    is_won, is_stale = bool(state & WON), bool(state & STALE)
    wins = not is_won and (is_stale or _runs_out(request, deadline if request.recaches_after_touch else before))
    after = state | WON if wins and not request.is_cut_short else state
    new = old
    if (deadline, cas, after) != (before, cas_of(old), state_of(old)):
        new = store.renewed(request.key, wire_bytes_of(old), deadline, cas, after, old)
    return Retrieved(new, before, store.accessed_at(new), bool(state & FETCHED), is_won, is_stale, wins)


def _runs_out(request: Retrieval, deadline: int) -> bool:
    return request.recache_deadline is not None and 0 < deadline < request.recache_deadline
