"""The items in memory: a sharded dict with locks, expiry and eviction. Knows no protocol and no file."""

from memcache_kv.store.entry import Entry, Item
from memcache_kv.store.store import Store
from memcache_kv.store.writes import ChangeLog, Mode, Outcome

__all__ = ["ChangeLog", "Entry", "Item", "Mode", "Outcome", "Store"]
