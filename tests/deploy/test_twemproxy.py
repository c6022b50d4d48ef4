"""Debian's twemproxy with deploy/cluster/twemproxy.yaml, before three nodes of which one is killed."""

import pytest
from pymemcache.exceptions import MemcacheServerError  # type: ignore[import-untyped]

from tests.deploy.cluster import CACHE, NODES, STORE, Cluster
from tests.deploy.items import KEYS, LARGEST_SHARE, VALUES, readable, reader
from tests.program import poll_until


def lose_and_regain(cluster: Cluster, victim: str) -> None:
    """Kill one node of the store, and start it again."""
    client = cluster.client(STORE)
    assert client.set_many(VALUES, noreply=False) == []
    lost = cluster.keys_of(victim, KEYS)
    assert 0 < len(lost) <= LARGEST_SHARE * len(KEYS)
    cluster.kill(victim)
    assert readable(reader(client)) == set(KEYS) - lost
    kept = next(iter(set(KEYS) - lost))
    assert client.set(kept, VALUES[kept], noreply=False) is True
    with pytest.raises(MemcacheServerError):
        client.set(next(iter(lost)), b"new", noreply=False)
    cluster.start_nodes(victim)
    poll_until(lambda: readable(reader(client)) == set(KEYS), "all keys are back")


def test_a_killed_node_of_the_store_takes_a_third_of_the_keys_away_and_brings_them_back(store: Cluster) -> None:
    lose_and_regain(store, "node2")


@pytest.mark.long
@pytest.mark.parametrize("victim", NODES)
def test_it_does_not_matter_which_node_is_killed(store: Cluster, victim: str) -> None:
    lose_and_regain(store, victim)


@pytest.mark.long
def test_the_other_nodes_of_the_cache_take_over_the_keys_of_a_killed_one(cluster: Cluster) -> None:
    cluster.start_nodes(*NODES, journal=False)
    cluster.start_twemproxy()
    client = cluster.client(CACHE)
    read = reader(client)
    assert client.set_many(VALUES, noreply=False) == []
    lost = cluster.keys_of("node2", KEYS)
    cluster.kill("node2")
    poll_until(lambda: client_stores(cluster, lost), "the others have taken over")
    assert readable(read) == set(KEYS)
    cluster.start_nodes("node2", journal=False)
    poll_until(lambda: readable(read) == set(KEYS) - lost, "the node is asked again, and is empty")


def client_stores(cluster: Cluster, keys: set[str]) -> bool:
    """Whether the cache accepts all of these keys."""
    client = cluster.client(CACHE)
    try:
        return all(client.set(key, VALUES[key], noreply=False) for key in keys)
    except MemcacheServerError:
        return False
