"""Many clients that change the same keys of one server: every change counts, once, and in one order."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from memcache_kv.journal.record import Record
from memcache_kv.store.entry import value_of, wire_bytes_of
from tests.concurrency.crowd import run_together
from tests.crash.load import Connection
from tests.integration import wire
from tests.integration.wire import OURS, RunningServer
from tests.journal.history import replay
from tests.journal.journals import STARTED, records_in

CLIENTS = 32
INCREMENTS = 200
TOKENS = 60
SWAPS = 10
KEYS = 2
"""How many keys of each kind the clients share."""

EAGER_SERVER = """
import sys
from memcache_kv.cli import main
sys.setswitchinterval(1e-5)
sys.exit(main())
"""


@pytest.fixture(params=["1", "4"], ids=["one worker", "four workers"])
def threads(request: pytest.FixtureRequest) -> str:
    """How many threads the server uses."""
    number: str = request.param
    return number


@pytest.fixture(params=[None, "always", "everysec"], ids=["no journal", "always", "everysec"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """The flags for the journal, if any."""
    return ("--journal", str(tmp_path), "--fsync", request.param) if request.param else ()


@pytest.fixture
def server(threads: str, journal: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server whose threads are switched hundreds of times as often as usual, so that races come to light."""
    monkeypatch.setattr(wire, "server_command", lambda kind: [sys.executable, "-c", EAGER_SERVER])
    running = RunningServer(OURS, ("-t", threads, *journal))
    yield running
    running.close()


def ask(client: Connection, request: bytes) -> bytes:
    client.send(request)
    return client.read_line()


def store(client: Connection, key: bytes, value: bytes) -> None:
    assert ask(client, b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)) == b"STORED\r\n"


def value_in(client: Connection, key: bytes) -> bytes:
    found = client.gets(key)
    assert found is not None
    return found[0]


class Crowd:
    """Clients of one server, each with its connection."""

    def __init__(self, server: RunningServer) -> None:
        self.clients = [Connection(server) for _ in range(CLIENTS)]

    def run(self, task: Callable[[int, Connection], None]) -> None:
        """Let every client do this at the same time."""
        run_together(*(partial(task, number, client) for number, client in enumerate(self.clients)))


@pytest.fixture
def crowd(server: RunningServer) -> Iterator[Crowd]:
    """Many clients, connected."""
    crowd = Crowd(server)
    yield crowd
    for client in crowd.clients:
        client.close()


def count(number: int, client: Connection) -> None:
    """Increment the shared counters; what a client is told of one only ever goes up."""
    last = [0] * KEYS
    for turn in range(INCREMENTS):
        which = turn % KEYS
        told = int(ask(client, b"incr counter-%d 1\r\n" % which))
        assert told > last[which]
        last[which] = told


def append_tokens(number: int, client: Connection) -> None:
    for turn in range(TOKENS):
        token = b"%d.%d;" % (number, turn)
        reply = ask(client, b"append tokens-%d 0 0 %d\r\n%b\r\n" % (turn % KEYS, len(token), token))
        assert reply == b"STORED\r\n"


def swap(number: int, client: Connection) -> None:
    """Count by gets and cas: a swap that is refused is tried again."""
    done = 0
    while done < SWAPS:
        found = client.gets(b"swapped")
        assert found is not None
        value = b"%d" % (int(found[0]) + 1)
        reply = ask(client, b"cas swapped 0 0 %d %d\r\n%b\r\n" % (len(value), found[2], value))
        assert reply in (b"STORED\r\n", b"EXISTS\r\n")
        done += reply == b"STORED\r\n"


def test_every_increment_token_and_swap_of_all_clients_counts_once(crowd: Crowd, server: RunningServer) -> None:
    first = crowd.clients[0]
    for number in range(KEYS):
        store(first, b"counter-%d" % number, b"0")
        store(first, b"tokens-%d" % number, b"")
    store(first, b"swapped", b"0")
    for task in (count, append_tokens, swap):
        crowd.run(task)
    assert [int(value_in(first, b"counter-%d" % number)) for number in range(KEYS)] == [
        CLIENTS * INCREMENTS // KEYS
    ] * KEYS
    check_tokens([value_in(first, b"tokens-%d" % number) for number in range(KEYS)])
    assert int(value_in(first, b"swapped")) == CLIENTS * SWAPS


def check_tokens(texts: list[bytes]) -> None:
    """Every client's tokens are there once, and each client's in the order in which it appended them."""
    for which, text in enumerate(texts):
        assert text.endswith(b";")
        tokens = text[:-1].split(b";")
        assert len(tokens) == CLIENTS * TOKENS // KEYS
        for number in range(CLIENTS):
            mine = [token for token in tokens if token.startswith(b"%d." % number)]
            assert mine == [b"%d.%d" % (number, turn) for turn in range(TOKENS) if turn % KEYS == which]


def everything_at_once(number: int, client: Connection) -> None:
    (count, append_tokens, swap)[number % 3](number, client)


@pytest.mark.parametrize("journal", ["always", "never"], indirect=True)
def test_the_journal_has_the_changes_of_a_key_in_the_order_in_which_they_happened(
    crowd: Crowd, server: RunningServer, tmp_path: Path
) -> None:
    first = crowd.clients[0]
    for key, value in ((b"counter-0", b"0"), (b"counter-1", b"0"), (b"tokens-0", b""), (b"tokens-1", b"")):
        store(first, key, value)
    store(first, b"swapped", b"0")
    crowd.run(everything_at_once)
    shown = {key: value_in(first, key) for key in (b"counter-0", b"counter-1", b"tokens-0", b"tokens-1", b"swapped")}
    assert server.stop() == 0

    records = records_in(tmp_path)
    for number in range(KEYS):
        assert values_of(records, b"counter-%d" % number) == [
            b"%d" % value for value in range(int(shown[b"counter-%d" % number]) + 1)
        ]
        texts = values_of(records, b"tokens-%d" % number)
        assert all(after.startswith(before) and after != before for before, after in pairwise(texts))
    assert values_of(records, b"swapped") == [b"%d" % value for value in range(int(shown[b"swapped"]) + 1)]
    replayed, _ = replay(tmp_path, STARTED)
    assert {key: value_of(wire_bytes_of(entry)) for key, entry in replayed.items()} == shown


def values_of(records: list[Record], key: bytes) -> list[bytes]:
    return [record.value_bytes() for record in records if record.op == "set" and record.key_bytes() == key]
