from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from shop import CART_SECONDS, Carts

from memcache_kv.testing import Memcached, MemcachedCluster, MemcachedProc


def test_goods_are_kept(carts: Carts, memcached: Memcached) -> None:
    assert carts.put("ann", "pears")
    assert carts.put("ann", "plums")
    assert carts.of("ann") == ["pears", "plums"]
    kept = memcached.store.gets("cart:ann")
    assert kept is not None
    assert json.loads(kept.value) == ["pears", "plums"]
    assert kept.flags == 0
    assert [call.request.command for call in memcached.calls] == ["get", "set", "get", "set", "get"]


@pytest.mark.parametrize("customer", ["ann", "bob"])
def test_each_test_begins_without_carts(carts: Carts, customer: str) -> None:
    assert carts.of("ann") == carts.of("bob") == []
    assert carts.put(customer, "pears")


def test_carts_expire(carts: Carts, memcached: Memcached) -> None:
    assert carts.put("ann", "pears")
    memcached.travel(CART_SECONDS - 2)
    assert carts.of("ann") == ["pears"]
    memcached.travel(3)
    assert carts.of("ann") == []


def test_time_can_stand_still(carts: Carts, memcached: Memcached) -> None:
    with memcached.freeze(datetime(2030, 12, 24, tzinfo=UTC)):
        assert carts.put("ann", "pears")
        kept = memcached.store.gets("cart:ann")
        assert kept is not None
        assert datetime.fromtimestamp(kept.expires, UTC) == datetime(2030, 12, 24, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["stall", "error", "reset", "drop"])
def test_the_shop_goes_on_without_its_cache(carts: Carts, memcached: Memcached, kind: str) -> None:
    with memcached.fault(kind):
        assert carts.of("ann") == []
        assert not carts.put("ann", "pears")


def test_carts_that_are_too_large_are_not_kept(tiny: Memcached) -> None:
    carts = Carts(tiny.address)
    assert not carts.put("ann", "p" * 5000)
    carts.close()


def test_nodes_share_the_carts(memcached_cluster: Callable[[int], MemcachedCluster]) -> None:
    nodes = memcached_cluster(2)
    for number in range(50):
        nodes.client().set(f"cart:{number}", "[]")
    assert sum(len(node.store) for node in nodes) == 50
    assert all(len(node.store) for node in nodes)


def test_the_options_of_the_project_are_used(memcached: Memcached, memcached_proc: MemcachedProc) -> None:
    assert memcached.stats("settings")["maxbytes"] == str(32 << 20)
    assert memcached.address == memcached_proc.address
