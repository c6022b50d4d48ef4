from __future__ import annotations

from collections.abc import Iterator

import pytest
from shop import Carts

from memcache_kv.testing import Memcached, factories

tiny_proc = factories.memcached_proc(args="-m 8 -I 4k")
tiny = factories.memcached("tiny_proc")


@pytest.fixture
def carts(memcached: Memcached) -> Iterator[Carts]:
    carts = Carts(memcached.address)
    yield carts
    carts.close()
