"""What tests of the store do again and again."""

from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.entry import cas_of as cas_of_entry
from memcache_kv.store.entry import pack, wire_bytes_of

FOREVER = 0


def put(store: ItemStore, key: bytes, value: bytes, flags: int = 0, deadline: int = FOREVER) -> None:
    assert store.store(Mode.SET, key, pack(flags, value), deadline) is Outcome.STORED


def found(store: ItemStore, key: bytes) -> bytes | None:
    """The ready bytes that a get finds."""
    entry = store.get(key)
    return None if entry is None else wire_bytes_of(entry)


def cas_of(store: ItemStore, key: bytes) -> int:
    entry = store.gets(key)
    assert entry is not None
    return cas_of_entry(entry)
