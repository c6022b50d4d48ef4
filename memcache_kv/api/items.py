"""The items of a server or a store as values: plain bytes and flags instead of the protocols' bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from memcache_kv.commands import arithmetic, delete, retrieve, store_value
from memcache_kv.errors import ItemTooLarge, NotRunning, OutOfMemory, WritesRejected
from memcache_kv.observe.observers import Observers
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import (
    KEY_LIMIT_BYTES,
    LONG_PAST,
    Entry,
    cas_of,
    deadline_of,
    flags_of,
    pack,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.store import ItemStore
from memcache_kv.store.writes import Mode, Outcome, Write
from memcache_kv.unpatched import threading

if TYPE_CHECKING:
    from memcache_kv.journal import Journal

Key: TypeAlias = str | bytes
"""A key of 1 to 250 bytes without white space and control characters. A text stands for its UTF-8."""

NO_CONNECTION = -1
"""The number that watchers see instead of a connection's."""

JOURNAL_WAIT_SECONDS = 0.25
"""How often a thread that waits for the journal looks whether that still accepts writes."""

LARGEST_FLAGS = (1 << 32) - 1
NOT_IN_KEYS = re.compile(rb"[\0-\x20\x7f]")

_T = TypeVar("_T")


class OwnCaller(NamedTuple):
    """The program itself as the caller of commands, which others know as a connection."""

    store: ItemStore
    observers: Observers
    counters: Counters
    fd: int = NO_CONNECTION


class Value(NamedTuple):
    """A value and what belongs to it."""

    value: bytes
    flags: int
    cas: int
    """The CAS id; 0 if it was not asked for, or if none are given (--disable-cas)."""
    expires: int
    """Unix time at which the item expires, by the server's clock; 0 is never."""


class Items:
    """The items by key, for the program that the server or the store runs in. Any thread may call any method.

    Keys are texts or bytes (`Key`), values bytes, flags numbers below 2^32, and a `ttl` is in seconds: 0 is never, a
    part of a second counts as a whole one, and with a negative one the item has expired already. Operations are not
    counted in the statistics. With a journal, a method that changes something returns once the journal has the change
    as safely as `fsync` says, as clients get their replies; it may block for an fsync. Nothing else blocks.

    Methods raise NotRunning before the start and after the stop, WritesRejected while the journal can't be written,
    TypeError and ValueError for keys, values and numbers that can't be.
    """

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._attached: OwnCaller | None = None
        self._journal: Journal | None = None
        self._moved = threading.Condition()
        """Notified when the journal has come further."""

    def get(self, key: Key) -> bytes | None:
        """Return the value of a key, or None. As a read of a client does, this keeps the item from being evicted."""
        caller = self._begin()
        entry = retrieve.fetch(caller, _bytes(key), caller.store.get)
        return None if entry is None else value_of(wire_bytes_of(entry))

    def gets(self, key: Key) -> Value | None:
        """Return the value of a key with its CAS id, flags and expiry time, or None."""
        name = _bytes(key)
        entry = self._saved(lambda caller: retrieve.get_with_cas(caller, name))
        return None if entry is None else _value(entry)

    def set(self, key: Key, value: bytes, ttl: float = 0, flags: int = 0) -> None:
        """Store a value. Raises ItemTooLarge and OutOfMemory."""
        self._write(Mode.SET, key, value, ttl, flags)

    def add(self, key: Key, value: bytes, ttl: float = 0, flags: int = 0) -> bool:
        """Store a value if the key has none; return whether it was stored. Raises ItemTooLarge and OutOfMemory."""
        return self._write(Mode.ADD, key, value, ttl, flags) is Outcome.STORED

    def replace(self, key: Key, value: bytes, ttl: float = 0, flags: int = 0) -> bool:
        """Store a value if the key has one; return whether it was stored. Raises ItemTooLarge and OutOfMemory."""
        return self._write(Mode.REPLACE, key, value, ttl, flags) is Outcome.STORED

    def append(self, key: Key, value: bytes) -> bool:
        """Add bytes to the end of a value; return whether the key has one. Raises ItemTooLarge and OutOfMemory."""
        return self._write(Mode.APPEND, key, value) is Outcome.STORED

    def prepend(self, key: Key, value: bytes) -> bool:
        """Add bytes to the beginning of a value; return whether the key has one. Raises as `append` does."""
        return self._write(Mode.PREPEND, key, value) is Outcome.STORED

    def cas(self, key: Key, value: bytes, cas: int, ttl: float = 0, flags: int = 0) -> bool | None:
        """Store a value if the present one still has this CAS id, as `gets` returned it.

        Returns True if it was stored, False if the value has changed, None if the key has none. Raises ItemTooLarge and
        OutOfMemory.
        """
        outcome = self._write(Mode.CAS, key, value, ttl, flags, cas)
        return None if outcome is Outcome.NOT_FOUND else outcome is Outcome.STORED

    def incr(self, key: Key, amount: int = 1) -> int | None:
        """Add to the number that a key has; return the sum, which wraps around at 2^64, or None if the key has none.

        Raises ValueError if the value is no number.
        """
        return self._count(key, amount, is_up=True)

    def decr(self, key: Key, amount: int = 1) -> int | None:
        """Subtract from the number that a key has; return the difference, at least 0. Otherwise as `incr`."""
        return self._count(key, amount, is_up=False)

    def touch(self, key: Key, ttl: float = 0) -> bool:
        """Give an item another expiry time; return whether the key has one."""
        name = _bytes(key)
        return self._saved(lambda caller: caller.store.touch(name, _deadline(caller, ttl))) is not None

    def delete(self, key: Key) -> bool:
        """Remove an item; return whether the key had one."""
        request = delete.Deletion(_bytes(key))
        return self._saved(lambda caller: delete.delete(caller, request)) is Outcome.DELETED

    def flush(self, delay: float = 0) -> None:
        """Remove all items, now or after a delay in seconds. A later call replaces one that waits."""
        self._saved(lambda caller: caller.store.flush(_deadline(caller, delay)))

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """Yield the keys and values of all items, as they are when their part of the table is reached, in no order."""
        for key, entry in self._begin().store.items():
            yield key, _value(entry)

    def __len__(self) -> int:
        """Count the items, with those that have expired and were not removed yet."""
        return len(self._begin().store)

    def __bool__(self) -> bool:
        """Return True, also without items."""
        return True

    def __contains__(self, key: Key) -> bool:
        """Tell whether a key has an item. This is no read of it."""
        return self._begin().store.peek(_bytes(key)) is not None

    # Parts

    def attach(self, store: ItemStore, observers: Observers, journal: Journal | None) -> None:
        """Use the items of a server or a store that has started. For these alone."""
        self._journal = journal
        if journal is not None:
            journal.watch(self._journal_moved)
        self._attached = OwnCaller(store, observers, Counters())

    def detach(self) -> None:
        """Raise NotRunning from now on. For the server or the store alone."""
        self._attached = self._journal = None

    def forget(self) -> None:
        """Let go of the items in a child that was forked: they, and the locks of others, are the parent's."""
        self._begin_anew()

    def _begin(self) -> OwnCaller:
        """Advance the clock and do what is due in a new second, as a worker does. Raises NotRunning."""
        caller = self._attached
        if caller is None:
            raise NotRunning("there are no items before the start and after the stop")
        if caller.store.clock.tick():
            caller.store.new_second()
        return caller

    def _saved(self, change: Callable[[OwnCaller], _T]) -> _T:
        """Do something that may change items, and wait until the journal has it. Raises WritesRejected."""
        caller, journal = self._begin(), self._journal
        if journal is None:
            return change(caller)
        before = journal.own_position()
        result = change(caller)
        if journal.own_position() != before:
            self._wait_for(journal, journal.own_position())
        return result

    def _wait_for(self, journal: Journal, position: int) -> None:
        journal.commit()
        while journal.must_wait(position):
            if journal.refuses:
                raise WritesRejected("the journal can't be written, and may or may not have this change")
            with self._moved:
                if journal.must_wait(position):
                    self._moved.wait(JOURNAL_WAIT_SECONDS)

    def _journal_moved(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def _write(self, mode: Mode, key: Key, value: bytes, ttl: float = 0, flags: int = 0, cas: int = 0) -> Outcome:
        name = _bytes(key)
        if not isinstance(value, bytes):
            raise TypeError(f"a value must be bytes, not {type(value).__name__}")
        if not 0 <= flags <= LARGEST_FLAGS:
            raise ValueError(f"flags must be from 0 to {LARGEST_FLAGS}, not {flags}")

        def store(caller: OwnCaller) -> Outcome:
            if not store_value.accepts_size(caller, mode, name, len(value), flags):
                raise ItemTooLarge("object too large for cache")
            return store_value.store_value(caller, Write(mode, name, pack(flags, value), _deadline(caller, ttl), cas))[
                0
            ]

        outcome = self._saved(store)
        if outcome is Outcome.NO_MEMORY:
            raise OutOfMemory("out of memory storing object")
        return outcome

    def _count(self, key: Key, amount: int, is_up: bool) -> int | None:
        if not 0 <= amount <= arithmetic.LARGEST_NUMBER:
            raise ValueError(f"the amount must be from 0 to {arithmetic.LARGEST_NUMBER}, not {amount}")
        request = arithmetic.Arithmetic(_bytes(key), amount, is_up)
        counted = self._saved(lambda caller: arithmetic.count(caller, request))
        if counted.outcome is Outcome.NON_NUMERIC:
            raise ValueError("cannot increment or decrement non-numeric value")
        if counted.outcome is Outcome.NO_MEMORY:
            raise OutOfMemory("out of memory storing object")
        return counted.number if counted.outcome is Outcome.STORED else None


def _bytes(key: Key) -> bytes:
    """Return the bytes of a valid key. Raises TypeError and ValueError."""
    name = key.encode() if isinstance(key, str) else key
    if not isinstance(name, bytes):
        raise TypeError(f"a key must be str or bytes, not {type(key).__name__}")
    if not 0 < len(name) <= KEY_LIMIT_BYTES:
        raise ValueError(f"a key must have 1 to {KEY_LIMIT_BYTES} bytes, not {len(name)}")
    if NOT_IN_KEYS.search(name):
        raise ValueError(f"a key must have no white space and no control characters: {name!r}")
    return name


def _deadline(caller: OwnCaller, ttl: float) -> int:
    """Return the unix time at which an item with this ttl expires; 0 is never."""
    if ttl < 0:
        return LONG_PAST
    return caller.store.clock.now + math.ceil(ttl) if ttl else 0


def _value(entry: Entry) -> Value:
    wire_bytes = wire_bytes_of(entry)
    return Value(value_of(wire_bytes), flags_of(wire_bytes), cas_of(entry), deadline_of(entry))
