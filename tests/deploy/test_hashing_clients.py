"""pymemcache's HashClient with three nodes of which one is killed, in the two ways that the documentation shows."""

import ast
import sys
from pathlib import Path
from typing import Any

from tests.deploy.cluster import Cluster
from tests.deploy.items import KEYS, LARGEST_SHARE, VALUES, readable, reader
from tests.pages import blocks_of
from tests.program import poll_until

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "howto" / "several_nodes.md"


def options_of_the_page(number: int) -> dict[str, Any]:
    """The options that the page gives HashClient in one of its examples."""
    texts = [block.text for block in blocks_of(PAGE) if block.kind == "python untested"]
    calls = [node for node in ast.walk(ast.parse(texts[number])) if isinstance(node, ast.Call)]
    assert [ast.unparse(call.func) for call in calls] == ["HashClient"]
    return {str(word.arg): eval(ast.unparse(word.value), {"sys": sys}) for word in calls[0].keywords}


def test_a_client_that_retries_for_ever_misses_a_third_of_the_keys_until_the_node_is_back(store: Cluster) -> None:
    client = store.hash_client(**options_of_the_page(0))
    assert client.set_many(VALUES) == []
    lost = store.keys_of("node2", KEYS)
    assert 0 < len(lost) <= LARGEST_SHARE * len(KEYS)
    store.kill("node2")
    assert readable(reader(client)) == set(KEYS) - lost
    assert client.set(next(iter(lost)), b"new") is False
    store.start_nodes("node2")
    poll_until(lambda: readable(reader(client)) == set(KEYS), "all keys are back")


def test_a_client_that_gives_a_node_up_stores_its_keys_on_the_others(store: Cluster) -> None:
    client = store.hash_client(**options_of_the_page(1))
    assert client.set_many(VALUES) == []
    lost = store.keys_of("node2", KEYS)
    store.kill("node2")
    assert client.get(next(iter(lost))) is None
    assert readable(reader(client)) == set(KEYS) - lost
    assert client.set_many(VALUES) == []
    assert readable(reader(client)) == set(KEYS)
    store.start_nodes("node2")
    assert store.keys_of("node2", KEYS) == lost
