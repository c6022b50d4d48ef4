"""Debian's nginx with deploy/cluster/nginx.conf, before three nodes of which one is killed."""

import json

import pytest

from tests.deploy.cluster import BY_KEY, IN_TURN, MEMCACHED_PORT, NODES, Cluster
from tests.deploy.items import KEYS, LARGEST_SHARE, VALUES, readable
from tests.program import poll_until


def store_all(cluster: Cluster) -> None:
    """Store the items through nginx."""
    for key, value in VALUES.items():
        assert cluster.ask(BY_KEY, "PUT", f"/v1/kv/{key}", value)[0] in (201, 204)


def read(cluster: Cluster, key: str) -> bytes | None:
    """Get one item through nginx; None where its node is down."""
    status, body = cluster.ask(BY_KEY, "GET", f"/v1/kv/{key}")
    assert status in (200, 503), body
    return body if status == 200 else None


def lose_and_regain(cluster: Cluster, victim: str) -> None:
    """Kill one node, and start it again."""
    store_all(cluster)
    lost = cluster.keys_of(victim, KEYS)
    assert 0 < len(lost) <= LARGEST_SHARE * len(KEYS)
    cluster.kill(victim)
    assert readable(lambda key: read(cluster, key)) == set(KEYS) - lost
    kept, gone = next(iter(set(KEYS) - lost)), next(iter(lost))
    assert cluster.ask(BY_KEY, "PUT", f"/v1/kv/{kept}", VALUES[kept])[0] == 204
    status, body = cluster.ask(BY_KEY, "PUT", f"/v1/kv/{gone}", b"new")
    assert (status, json.loads(body)["status"]) == (503, 503)
    cluster.start_nodes(victim)
    poll_until(lambda: readable(lambda key: read(cluster, key)) == set(KEYS), "all keys are back")


def test_a_killed_node_takes_a_third_of_the_keys_away_and_brings_them_back(store: Cluster) -> None:
    lose_and_regain(store, "node2")


@pytest.mark.long
@pytest.mark.parametrize("victim", NODES)
def test_it_does_not_matter_which_node_is_killed(store: Cluster, victim: str) -> None:
    lose_and_regain(store, victim)


def test_each_key_has_one_node_in_both_faces_however_it_is_spelled(store: Cluster) -> None:
    for number in range(20):
        assert store.ask(BY_KEY, "PUT", f"/key_{number}", b'{"value": "one"}')[0] == 200
        status, body = store.ask(BY_KEY, "GET", f"/v1/kv/%6Bey_{number}")
        assert (status, json.loads(body)) == (200, "one")
        assert store.ask(BY_KEY, "DELETE", f"/v1/kv/key_{number}")[0] == 204
        assert store.ask(BY_KEY, "GET", f"/key_{number}") == (404, b'{"error": "Key not found"}')


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/kv?prefix=key"), ("POST", "/v1/pipeline")])
def test_what_concerns_several_nodes_is_rejected(store: Cluster, method: str, path: str) -> None:
    status, body = store.ask(BY_KEY, method, path, b"[]" if method == "POST" else None)
    assert (status, json.loads(body)["status"]) == (501, 501)


def test_in_turn_another_node_answers_where_one_is_killed(store: Cluster) -> None:
    for name in NODES:
        client = store.client(f"{name}:{MEMCACHED_PORT}")
        assert client.set("everywhere", b"yes", noreply=False)
        client.close()
    store.kill("node2")
    assert {store.ask(IN_TURN, "GET", "/v1/kv/everywhere") for _ in range(9)} == {(200, b"yes")}
    assert store.ask(IN_TURN, "PUT", "/v1/kv/everywhere", b"no")[0] == 403
    store.start_nodes("node2")


def test_requests_in_turn_go_to_all_nodes(store: Cluster) -> None:
    for name in NODES:
        client = store.client(f"{name}:{MEMCACHED_PORT}")
        assert client.set("name", name.encode(), noreply=False)
        client.close()

    def answered_by_all() -> bool:
        return {store.ask(IN_TURN, "GET", "/v1/kv/name")[1] for _ in range(6)} == {name.encode() for name in NODES}

    poll_until(answered_by_all, "all nodes answer")
