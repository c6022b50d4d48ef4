"""memcached's built-in proxy with the files of deploy/cluster/, before three nodes of which one is killed.

MEMCACHED_PROXY names a memcached that is built with --enable-proxy; Debian's is not.
"""

import pytest
from pymemcache.exceptions import MemcacheServerError  # type: ignore[import-untyped]

from tests.deploy.cluster import NODES, PROXY, Cluster
from tests.deploy.items import KEYS, LARGEST_SHARE, VALUES, readable, reader
from tests.program import poll_until

pytestmark = pytest.mark.long


def test_with_failover_the_others_stand_in_for_a_killed_node(cluster: Cluster) -> None:
    cluster.start_nodes(*NODES, journal=False)
    cluster.start_memcached_proxy("failover.lua")
    client = cluster.client(PROXY)
    assert client.set_many(VALUES, noreply=False) == []
    lost = cluster.keys_of("node2", KEYS)
    assert 0 < len(lost) <= LARGEST_SHARE * len(KEYS)
    cluster.kill("node2")
    assert readable(reader(client)) == set(KEYS) - lost
    assert client.set_many({key: VALUES[key] for key in lost}, noreply=False) == []
    assert readable(reader(client)) == set(KEYS)
    cluster.start_nodes("node2", journal=False)
    poll_until(lambda: not readable(reader(client)) & lost, "the node is asked again, and is empty")
    poll_until(lambda: not cluster.keys_of("node1", sorted(lost)), "what was written elsewhere has expired")


def test_with_replication_a_killed_node_takes_no_key_away(cluster: Cluster) -> None:
    cluster.start_nodes(*NODES, journal=False)
    cluster.start_memcached_proxy("replicate.lua")
    client = cluster.client(PROXY)
    assert client.set_many(VALUES, noreply=False) == []
    assert all(cluster.keys_of(name, KEYS) == set(KEYS) for name in NODES)
    cluster.kill("node2")
    assert readable(reader(client)) == set(KEYS)
    assert client.set("later", b"1", noreply=False) is True
    assert client.delete(KEYS[0], noreply=False) in (True, False)
    assert client.get(KEYS[0]) is None
    with pytest.raises(MemcacheServerError):
        client.add("added", b"1", noreply=False)
    assert client.get("added") == b"1"  # the nodes that run have carried it out
    cluster.start_nodes("node2", journal=False)
    assert client.get("later") == b"1"
    assert cluster.keys_of("node2", ["later"]) == set()

    def writes_to_the_node() -> bool:
        assert client.set("afterwards", b"2", noreply=False) is True
        return bool(cluster.keys_of("node2", ["afterwards"]))

    poll_until(writes_to_the_node, "the node is written to again")
