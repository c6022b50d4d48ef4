"""What clients are put through: each fault around one call of a client, and what the client does then and later."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memcache_kv import Server
from memcache_kv.testing.faults import fault
from memcache_kv.testing.wire import Tap
from tests.testing.faults.clients import CLIENTS, RealClient, outcome_of

BEHAVIOUR = Path(__file__).with_name("behaviour.toml")
ITEMS = {"key": b"value", "other": b"another", "number": b"10"}
RIGHT = {"get": repr("value"), "set": "True", "incr": "11"}
LATER_CALLS = 4


class Scenario(NamedTuple):
    """A fault and the call that it meets."""

    words: str
    """What happens, for the page."""
    kind: str
    options: Mapping[str, Any] = {}
    call: str = "get"
    is_connected: bool = True
    """Whether the client has connected before."""


SCENARIOS = {
    "short delay": Scenario("the reply comes late, but within the timeout", "delay", {"seconds": 0.05, "jitter": 0.02}),
    "long delay": Scenario("the reply comes after the timeout", "delay", {"seconds": 3600}),
    "bandwidth": Scenario(
        "the reply comes so slowly that it takes longer than the timeout", "bandwidth", {"bytes_per_second": 20}
    ),
    "stall": Scenario("nothing arrives for longer than the timeout, then all of it", "stall", call="set"),
    "cut": Scenario("the reply comes in pieces of one byte", "cut"),
    "drop": Scenario("the reply is lost", "drop"),
    "close": Scenario("the connection is closed in place of the reply", "close"),
    "close in reply": Scenario("the connection is closed within the reply", "close", {"after_bytes": 10}),
    "reset": Scenario("the connection is reset in place of the reply", "reset"),
    "reset of incr": Scenario("the connection is reset, but the server has added one", "reset", call="incr"),
    "refuse": Scenario("the first connection is refused", "refuse", is_connected=False),
    "down": Scenario("the server is down, and comes back", "down"),
    "error": Scenario("`get` is answered `SERVER_ERROR`", "error"),
    "error of set": Scenario("`set` is answered `SERVER_ERROR`", "error", call="set"),
    "out of memory": Scenario("`set` is answered that there is no memory", "out_of_memory", call="set"),
    "miss": Scenario("everything misses", "miss"),
    "evict": Scenario("the item is evicted", "evict"),
    "forget": Scenario("the server is started again, without its items", "forget"),
    "journal error": Scenario("the server can't write its journal", "journal_error", call="set"),
}


class Observation(NamedTuple):
    """What a client does."""

    call: str
    """What the call returns or raises that the fault meets."""
    later: tuple[str, ...]
    """What the calls return or raise that follow the fault."""
    connection: str
    """Whether these are on connections from before (kept) or not (new); "none" if none of them reaches the server."""

    @property
    def is_mixed_up(self) -> bool:
        """Whether a later call takes something for its answer that is not."""
        return any(not outcome.startswith("raises ") and outcome != repr("another") for outcome in self.later)


def observe(server: Server, name: str, client_name: str) -> Observation:
    """Put a client through a scenario. The server needs a journal."""
    scenario = SCENARIOS[name]
    store_items(server)
    with Tap(server.address) as tap, CLIENTS[client_name](*tap.address) as client:
        for _ in range(LATER_CALLS if scenario.is_connected else 0):
            assert outcome_of(lambda: client.get("other")) == repr("another")
        before = {call.connection for call in tap.calls}
        with fault(tap, scenario.kind, server=server, **scenario.options):
            call = make_call(client, scenario.call)
            before |= {call.connection for call in tap.calls}
            store_items(server) if scenario.kind in ("evict", "forget") else None
        count = len(tap.calls)
        later = tuple(outcome_of(lambda: client.get("other")) for _ in range(LATER_CALLS))
        used = {call.connection for call in tap.calls[count:]}
    return Observation(call, later, "none" if not used else "kept" if used <= before else "new")


def store_items(server: Server) -> None:
    """Store what the clients read."""
    for key, value in ITEMS.items():
        server.store.set(key, value)


def make_call(client: RealClient, call: str) -> str:
    """Make the call that the fault meets."""
    if call == "set":
        return outcome_of(lambda: client.set("key", "new"))
    return outcome_of(lambda: client.incr("number") if call == "incr" else client.get("key"))


def known_versions() -> dict[str, str]:
    """Return the versions of the clients with which it was seen."""
    versions: dict[str, str] = tomllib.loads(BEHAVIOUR.read_text())["versions"]
    return versions


def known_behaviour() -> dict[tuple[str, str], Observation]:
    """Return what was seen, by scenario and client."""
    table = tomllib.loads(BEHAVIOUR.read_text())["seen"]
    return {
        (name, client): Observation(row["call"], tuple(row["later"]), row["connection"])
        for name, rows in table.items()
        for client, row in rows.items()
    }
