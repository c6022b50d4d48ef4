"""pymemcache's HashClient with three nodes of which one is killed, in the two ways that the documentation shows."""

import sys

from tests.deploy.cluster import Cluster
from tests.deploy.items import KEYS, LARGEST_SHARE, VALUES, readable, reader
from tests.program import poll_until


def test_a_client_that_retries_for_ever_misses_a_third_of_the_keys_until_the_node_is_back(store: Cluster) -> None:
    client = store.hash_client(retry_attempts=sys.maxsize, retry_timeout=1, ignore_exc=True, default_noreply=False)
    assert client.set_many(VALUES) == []
    lost = store.keys_of("node2", KEYS)
    assert 0 < len(lost) <= LARGEST_SHARE * len(KEYS)
    store.kill("node2")
    assert readable(reader(client)) == set(KEYS) - lost
    assert client.set(next(iter(lost)), b"new") is False
    store.start_nodes("node2")
    poll_until(lambda: readable(reader(client)) == set(KEYS), "all keys are back")


def test_a_client_that_gives_a_node_up_stores_its_keys_on_the_others(store: Cluster) -> None:
    client = store.hash_client(retry_attempts=0, dead_timeout=60, ignore_exc=True, default_noreply=False)
    assert client.set_many(VALUES) == []
    lost = store.keys_of("node2", KEYS)
    store.kill("node2")
    assert client.get(next(iter(lost))) is None
    assert readable(reader(client)) == set(KEYS) - lost
    assert client.set_many(VALUES) == []
    assert readable(reader(client)) == set(KEYS)
    store.start_nodes("node2")
    assert store.keys_of("node2", KEYS) == lost
