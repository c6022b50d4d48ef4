"""What carrying out a command needs of the connection that asks for it, and how watchers hear of the command."""

from __future__ import annotations

from typing import Protocol

from memcache_kv.observe.observers import Observers
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import Entry, deadline_of, wire_bytes_of
from memcache_kv.store.store import Store
from memcache_kv.store.writes import Mode, Outcome, Write


class Caller(Protocol):
    """The connection that asks for a command."""

    @property
    def store(self) -> Store:
        """The items."""

    @property
    def counters(self) -> Counters:
        """What the command is counted in."""

    @property
    def observers(self) -> Observers:
        """The log, watchers and prefix counts that see single requests."""

    @property
    def fd(self) -> int:
        """The number of the connection."""


def observe_lookup(caller: Caller, key: bytes) -> None:
    """Tell watchers that a command is about to look for this key."""
    if caller.observers.active:
        store = caller.store
        caller.observers.looked_up(caller.fd, key, store.kept(key), store.was_flushed(key))


def observe_fetch(caller: Caller, key: bytes, entry: Entry | None) -> None:
    """Tell watchers that a command wanted this key's value."""
    if caller.observers.active:
        caller.observers.fetched(caller.fd, key, entry)


def observe_creation(caller: Caller, key: bytes, entry: Entry) -> None:
    """Tell watchers that arithmetic made a new item: as memcached does, a second lookup and then an add."""
    if caller.observers.active:
        caller.observers.looked_up(caller.fd, key, None, False)
        write = Write(Mode.ADD, key, wire_bytes_of(entry), deadline_of(entry))
        caller.observers.stored(caller.fd, write, Outcome.STORED, entry)
