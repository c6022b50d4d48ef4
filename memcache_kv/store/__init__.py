"""The items in memory: a sharded dict with locks, expiry and eviction. Knows no protocol and no file."""

from memcache_kv.store.item import Entry, Item
from memcache_kv.store.store import ChangeLog, Mode, Outcome, Store

__all__ = ["ChangeLog", "Entry", "Item", "Mode", "Outcome", "Store"]
