"""Store a value: set, add, replace, append, prepend, cas, ms (protocol.txt, "Storage commands")."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from memcache_kv.commands.caller import Caller, observe_lookup
from memcache_kv.errors import WritesRejected
from memcache_kv.store.entry import Entry, deadline_of
from memcache_kv.store.writes import Mode, Outcome, Write

CAS_COUNTS = {
    Outcome.STORED: "cas_hits",
    Outcome.EXISTS: "cas_badval",
    Outcome.NOT_FOUND: "cas_misses",
    Outcome.NO_MEMORY: "store_no_memory",
}


class SizeRule(NamedTuple):
    """How a protocol rejects a value that is too large. memcached's protocols differ here."""

    counts: bool = True
    """Whether the rejection counts in store_too_large."""
    reports_joins: bool = True
    """Whether observers see the rejection of an append or a prepend."""
    drops: frozenset[Mode] = frozenset({Mode.SET})
    """The modes that delete the old value, so that nobody reads a stale one."""


CLASSIC_RULE = SizeRule()


def accepts_size(
    caller: Caller, mode: Mode, key: bytes, length: int, flags: int, rule: SizeRule = CLASSIC_RULE
) -> bool:
    """Return whether a value of `length` bytes may be stored. If not, count and report the rejection.

    Call it before the value is read. The caller sends the error reply.
    """
    if not caller.store.exceeds_limit(len(key), length, flags):
        return True
    caller.counters.store_too_large += rule.counts
    caller.counters.rejected_too_large += 1
    if caller.observers.active and (rule.reports_joins or not mode.joins):
        caller.observers.rejected(caller.fd, key, mode)
    if mode in rule.drops:
        observe_lookup(caller, key)
        _drop_old_value(caller, key)
    return False


def store_value(caller: Caller, write: Write, drops_old: bool = False) -> tuple[Outcome, Entry | None]:
    """Carry out a storage command; return its result, and the new entry if STORED. Raises WritesRejected.

    drops_old: whether NO_MEMORY deletes the old value in every mode; without it, only a SET deletes it.
    """
    counters, observers = caller.counters, caller.observers
    counters.cmd_set += 1
    observe_lookup(caller, write.key)
    outcome, entry = caller.store.write(write)
    if write.mode is Mode.CAS:
        counters.count(CAS_COUNTS[outcome])
    elif outcome is Outcome.NO_MEMORY:
        counters.store_no_memory += 1
    if entry is not None and 0 < deadline_of(entry) <= caller.store.clock.now:
        counters.stored_expired += 1
    if observers.active:
        observers.stored(caller.fd, write, outcome, entry)
    if drops_old and outcome is Outcome.NO_MEMORY:
        _drop_old_value(caller, write.key)
    return outcome, entry


def _drop_old_value(caller: Caller, key: bytes) -> None:
    """Delete a key's value, as a newer one was rejected. It stays while the journal rejects writes."""
    with contextlib.suppress(WritesRejected):
        caller.store.delete(key)
