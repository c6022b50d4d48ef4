"""What a command needs from the connection that requests it, and how commands are reported to observers."""

from __future__ import annotations

from typing import Protocol

from memcache_kv.observe.observers import Observers
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import Entry, deadline_of, wire_bytes_of
from memcache_kv.store.store import ItemStore
from memcache_kv.store.writes import Mode, Outcome, Write


class Caller(Protocol):
    """The connection that requests a command."""

    @property
    def store(self) -> ItemStore:
        """The store that holds the items."""

    @property
    def counters(self) -> Counters:
        """The counters for the command's hits and misses."""

    @property
    def observers(self) -> Observers:
        """The log, watchers and prefix counts that see single requests."""

    @property
    def fd(self) -> int:
        """The connection's number."""


def observe_lookup(caller: Caller, key: bytes) -> None:
    """Report to observers that a command is about to look up this key. Does nothing while there are none."""
    if caller.observers.active:
        store = caller.store
        caller.observers.looked_up(caller.fd, key, store.kept(key), store.was_flushed(key))


def observe_fetch(caller: Caller, key: bytes, entry: Entry | None) -> None:
    """Report to observers that a command fetched this key's value. Does nothing while there are none.

    entry: the entry that was found; None for a miss.
    """
    if caller.observers.active:
        caller.observers.fetched(caller.fd, key, entry)


def observe_creation(caller: Caller, key: bytes, entry: Entry) -> None:
    """Report to observers that a command created an item: a second lookup and an add, as in memcached."""
    if caller.observers.active:
        caller.observers.looked_up(caller.fd, key, None, False)
        write = Write(Mode.ADD, key, wire_bytes_of(entry), deadline_of(entry))
        caller.observers.stored(caller.fd, write, Outcome.STORED, entry)
