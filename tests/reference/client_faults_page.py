"""The page that says what clients do under faults, from what tests/testing/faults has seen."""

from __future__ import annotations

from tests.reference.tables import MADE, table
from tests.testing.faults.clients import CLIENTS
from tests.testing.faults.scenarios import RIGHT, SCENARIOS, Observation, known_behaviour, known_versions

HEAD = f"""# What clients do under faults

{MADE.replace("from the code", "from tests/testing/faults")}

Real clients were put through each [fault](../howto/faults.md), with nothing set but a timeout. A cell says what the
call returned or raised that met the fault, and what became of the calls behind it, once the fault had ended. *ok* is
the right answer; *reconnects* means that later calls worked on a new connection, and without that word they worked on
the old one.

"""
NOTES = """
## What to make of it

- **A timeout is for one read.** With pymemcache, pylibmc and bmemcached a reply that trickles in may take any time:
  each piece starts the timeout anew. Only a limit around the whole call, as with aiomcache, ends it.
- **aiomcache has no timeout.** When `asyncio.wait_for` cancels a call, the connection goes back to the pool with the
  reply still to come. A later call takes that reply for its own: a `get` finds nothing although the item is there, or
  an exception comes out of a call that nothing was wrong with. Close the client after a timeout, and make a new one.
- **bmemcached hides failures.** A lost connection looks like a miss (`None`), a failed `set` is `False`, and `incr`
  returns 0, though the server has counted. After a refused connection it does not try again for 5 seconds.
- **pylibmc gives a server up** after one failure: for `retry_timeout`, 2 seconds by default, every call raises
  `ServerDown` at once. A `SERVER_ERROR` counts as a failure, but `out of memory` does not.
- **pymemcache closes the connection** after every error, also after `SERVER_ERROR`, and makes a new one for the next
  call.
- **Nobody knows what became of a call that failed.** In the row about `incr`, the server had added one each time.
  None of the clients sent the request twice.
"""


def client_faults_page() -> str:
    """Make the page."""
    seen, versions = known_behaviour(), known_versions()
    head = ["fault", "what happens", "call", *(f"{name} {versions[name]}" for name in CLIENTS)]
    rows = (
        [
            f"`{scenario.kind}`",
            scenario.words,
            f"`{scenario.call}`",
            *(cell(seen[name, client], scenario.call) for client in CLIENTS),
        ]
        for name, scenario in SCENARIOS.items()
    )
    made = table(["client", "made by"], ((name, client.made) for name, client in CLIENTS.items()))
    return HEAD + table(head, rows) + NOTES + "\n## How the clients were made\n\n" + made


def cell(seen: Observation, call: str) -> str:
    """Say what a client did."""
    first = "ok" if seen.call == RIGHT[call] else in_words(seen.call)
    wrong = [outcome for outcome in seen.later if outcome != repr("another")]
    if not wrong:
        return first + ("; reconnects" if seen.connection == "new" else "")
    if len(wrong) == len(seen.later):
        return f"{first}, and so do later calls" if set(wrong) == {seen.call} else f"{first}; then {in_words(wrong[0])}"
    return f"{first}; **a later call got the late reply**: {in_words(wrong[0])}"


def in_words(outcome: str) -> str:
    """Return an outcome in Markdown."""
    raised = outcome.removeprefix("raises ")
    return f"`{raised}`" if raised != outcome else f"returns `{outcome}`"
