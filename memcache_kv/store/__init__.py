"""The items in memory: a sharded dict with locks, expiry and eviction. Knows no protocol and no file."""

from memcache_kv.store.change import ChangeLog, Mode, Outcome
from memcache_kv.store.item import Entry, Item
from memcache_kv.store.store import Store

__all__ = ["ChangeLog", "Entry", "Item", "Mode", "Outcome", "Store"]
