"""Real clients do under faults what the table says of which docs/reference/clients_under_faults.md is made."""

import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from memcache_kv import Server
from memcache_kv.testing.faults import FAULTS, fault
from memcache_kv.testing.wire import Tap
from tests.integration.client_library import require
from tests.testing.faults.clients import CLIENTS, outcome_of
from tests.testing.faults.scenarios import SCENARIOS, known_behaviour, observe, store_items

BEHAVIOUR = known_behaviour()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a journal, for all clients."""
    with Server(journal=tmp_path_factory.mktemp("journal") / "journal") as server:
        yield server


def test_every_fault_and_client_is_in_the_table() -> None:
    assert {scenario.kind for scenario in SCENARIOS.values()} == FAULTS.keys()
    assert list(BEHAVIOUR) == [(name, client) for name in SCENARIOS for client in CLIENTS]


def require_client(name: str) -> None:
    if name == "pylibmc":
        require(name, last_python=(3, 11), free_threaded=False)
    else:
        require(name)


@pytest.mark.long
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_client_does_what_the_table_says(server: Server, name: str, client: str) -> None:
    require_client(client)
    assert observe(server, name, client) == BEHAVIOUR[name, client], "`python -m tests.testing.faults` writes it anew"
    if name == "reset of incr":
        assert server.store.get("number") == b"11"


@pytest.mark.long
def test_pylibmc_asks_a_server_again_after_its_retry_timeout(server: Server) -> None:
    require_client("pylibmc")
    pylibmc: Any = importlib.import_module("pylibmc")
    store_items(server)
    with Tap(server.address) as tap:
        client = pylibmc.Client(["{}:{}".format(*tap.address)])
        assert client.behaviors["retry_timeout"] == 2
        client.behaviors["retry_timeout"] = 1
        assert outcome_of(lambda: client.get("key")) == repr("value")
        with fault(tap, "close"):
            assert outcome_of(lambda: client.get("key")) == "raises ConnectionError"
        assert outcome_of(lambda: client.get("key")) == "raises ServerDown"
        give_up_at = time.monotonic() + 20
        while outcome_of(lambda: client.get("key")) != repr("value"):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        client.disconnect_all()


@pytest.mark.long
def test_bmemcached_puts_off_new_attempts_to_connect(server: Server) -> None:
    require_client("bmemcached")
    bmemcached: Any = importlib.import_module("bmemcached")
    with Tap(server.address) as tap, fault(tap, "refuse"):
        client = bmemcached.Client(("{}:{}".format(*tap.address),))
        assert client.get("key") is None
        assert [each.retry_delay for each in client.servers] == [5]
