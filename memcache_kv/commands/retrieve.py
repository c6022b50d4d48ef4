"""Retrieve an item: get, gets, mg, me and the binary gets.

A mg can also change what it retrieves, with nobody in between: so of many clients that find an item stale, one alone
wins (protocol.txt, "Meta Get").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from memcache_kv.commands.caller import Caller, observe_fetch, observe_lookup
from memcache_kv.store.entry import FETCHED, STALE, WON, Entry, cas_of, deadline_of, pack, state_of, wire_bytes_of
from memcache_kv.store.store import Store

Finder: TypeAlias = Callable[[bytes], Entry | None]
"""Returns a key's entry."""


def fetch(caller: Caller, key: bytes, find: Finder) -> Entry | None:
    """Return what `find` finds for a key, and tell watchers. The caller counts it."""
    if not caller.observers.active:
        return find(key)
    observe_lookup(caller, key)
    entry = find(key)
    observe_fetch(caller, key, entry)
    return entry


def get_with_cas(caller: Caller, key: bytes) -> Entry | None:
    """Return the item of a key with its CAS id, or None; count it."""
    entry = fetch(caller, key, caller.store.gets)
    caller.counters.count_gets(int(entry is not None), int(entry is None))
    return entry


def inspect(caller: Caller, key: bytes) -> Entry | None:
    """Return the item of a key for somebody who wants to know all about it, as me does: that is not a read.

    From the first time on access metadata is kept of every item.
    """
    caller.store.keep_access_metadata()
    caller.counters.cmd_meta += 1
    observe_lookup(caller, key)
    return caller.store.get_with_cas(key)


class Retrieval(NamedTuple):
    """What a mg asks for. Deadlines are unix times; 0 is never."""

    key: bytes
    needs_cas: bool = False
    """Whether the client wants to know the CAS id."""
    is_read: bool = True
    """Whether the item counts as read; otherwise it leaves no trace."""
    wants_access_metadata: bool = False
    """Whether the client wants to know when it was last read, or whether it was."""
    deadline: int | None = None
    """The item's new deadline; None keeps it."""
    initial_deadline: int | None = None
    """The deadline of an empty item that is made where nothing is kept; None makes none. Its maker has won."""
    recache_deadline: int | None = None
    """The first to find that the item expires before this has won."""
    recaches_after_touch: bool = False
    """Whether that is asked of the new deadline."""
    new_cas: int = 0
    """The CAS id that the client chooses for an item that is made; 0 leaves it to the store."""
    is_cut_short: bool = False
    """Whether the request is answered with an error: what it changed stays, but nobody wins and it is not counted."""

    @property
    def changes(self) -> bool:
        """Whether it needs the key to itself."""
        return self.wants_access_metadata or not (
            self.deadline is None and self.initial_deadline is None and self.recache_deadline is None
        )


class Retrieved(NamedTuple):
    """What was retrieved, and how it was before."""

    entry: Entry
    former_deadline: int
    """0 for an item that was made."""
    accessed: int = 0
    """Unix time at which it was last read or stored."""
    was_read: bool = False
    is_won: bool = False
    """Whether another client has won before."""
    is_stale: bool = False
    wins: bool = False
    """Whether this client is the one to store it anew."""
    is_made: bool = False


def retrieve(caller: Caller, request: Retrieval) -> Retrieved | None:
    """Carry out a mg; None where nothing is kept. Raises WritesRejected where it would change something."""
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


def _retrieved(store: Store, request: Retrieval) -> Retrieved | None:
    """Retrieve an item and change nothing, unless it is stale and waits for a winner."""
    find = store.peek if not request.is_read else store.gets if request.needs_cas else store.get
    entry = find(request.key)
    if entry is None:
        return None
    if state_of(entry) & (STALE | WON) or (request.needs_cas and not cas_of(entry)):
        return _retrieved_changed(store, request)
    return Retrieved(entry, deadline_of(entry))


def _retrieved_changed(store: Store, request: Retrieval) -> Retrieved | None:
    """Retrieve an item with the key to itself."""
    key, found = request.key, None
    if request.wants_access_metadata:
        store.keep_access_metadata()

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
    if store.records_access and request.is_read and not request.is_cut_short:
        store.record_access(key, found.entry)
    return found


def _made(store: Store, request: Retrieval, deadline: int) -> Retrieved:
    """Make the empty item that is missing."""
    cas = request.new_cas or (store.next_cas() if request.needs_cas else 0)
    state = 0 if request.is_cut_short else WON
    entry = store.renewed(request.key, pack(0, b""), deadline, cas, state)
    return Retrieved(entry, 0, store.clock.now, wins=True, is_made=True)


def _changed(store: Store, request: Retrieval, old: Entry) -> Retrieved:
    """Return an item with its new deadline, CAS id and state: the old entry where none of them changes."""
    before, state, cas = deadline_of(old), state_of(old), cas_of(old)
    deadline = before if request.deadline is None else request.deadline
    if request.needs_cas and not cas:
        cas = store.next_cas()
    is_won, is_stale = bool(state & WON), bool(state & STALE)
    wins = not is_won and (is_stale or _runs_out(request, deadline if request.recaches_after_touch else before))
    after = state | WON if wins and not request.is_cut_short else state
    new = old
    if (deadline, cas, after) != (before, cas_of(old), state):
        new = store.renewed(request.key, wire_bytes_of(old), deadline, cas, after, old)
    return Retrieved(new, before, store.accessed_at(old), bool(state & FETCHED), is_won, is_stale, wins)


def _runs_out(request: Retrieval, deadline: int) -> bool:
    return request.recache_deadline is not None and 0 < deadline < request.recache_deadline
