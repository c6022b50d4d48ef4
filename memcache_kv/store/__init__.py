"""The items in memory: a sharded dict with locks, expiry and eviction. Knows no protocol and no file."""

from memcache_kv.store.entry import Entry, Item
from memcache_kv.store.store import ItemStore, item_store
from memcache_kv.store.writes import Mode, Outcome, WriteLog

__all__ = ["WriteLog", "Entry", "Item", "Mode", "Outcome", "ItemStore", "item_store"]
