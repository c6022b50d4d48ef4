"""Flushes, apart from any protocol."""

import pytest

from memcache_kv.commands.flush import flush
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock


@pytest.mark.parametrize(("exptime", "seconds"), [(0, 0), (-1, 0), (1, 0), (2, 1), (10, 9)])
def test_a_flush_takes_effect_as_its_last_second_begins(exptime: int, seconds: int) -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=1)
    store.put(b"k", pack(0, b"value"))
    flush(store, exptime)
    waited = 0
    while store.get(b"k") is not None:
        clock.advance(1)
        store.new_second()
        waited += 1
    assert waited == seconds
