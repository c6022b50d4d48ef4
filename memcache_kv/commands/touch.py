"""Give an item a new deadline: touch, gat, gats and their binary forms."""

from __future__ import annotations

from functools import partial

from memcache_kv.commands.caller import Caller, observe_lookup
from memcache_kv.commands.retrieve import fetch
from memcache_kv.store.entry import Entry


def touch(caller: Caller, key: bytes, deadline: int) -> bool:
    """Give an item a new deadline; return whether the item exists. Counts the hit or miss. Raises WritesRejected.

    deadline: unix time; 0 is never.
    """
    observe_lookup(caller, key)
    found = caller.store.touch(key, deadline) is not None
    caller.counters.count_touches(int(found), int(not found))
    return found


def get_and_touch(caller: Caller, key: bytes, deadline: int) -> Entry | None:
    """Give an item a new deadline; return it with its CAS id, or None. Counts the hit or miss. Raises WritesRejected.

    deadline: unix time; 0 is never.
    """
    entry = fetch(caller, key, partial(caller.store.touch, deadline=deadline, with_cas=True))
    caller.counters.count_touches(int(entry is not None), int(entry is None))
    return entry
