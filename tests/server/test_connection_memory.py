"""The limit of what all connections together keep: what counts, and what happens near the limit and beyond it."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from memcache_kv.config.loading import load_settings
from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.session import SPARE_BLOCK_PART
from memcache_kv.server import connection_memory as connection_memory_module
from memcache_kv.server.connection import Connection, State
from memcache_kv.server.connection_memory import RELIEF_PART, SHARE_OF_FREE, UNCOUNTED_BYTES
from memcache_kv.server.turn_limits import SHORT_REQUESTS
from memcache_kv.stats.connections import SHORT_PART, ConnectionMemory
from tests.program import poll_until
from tests.protocol.binary.binary_packets import Packet
from tests.server.test_worker import END, STORED, VERSION, FakeJournal, Serving, ask, read, read_to_the_end, value_reply

BLOCK_BYTES = 600_000
HALF_SET = b"set a 0 0 %d\r\n" % BLOCK_BYTES + b"v" * (BLOCK_BYTES - 1)
HALF_BINARY_SET = Packet(Opcode.SET, b"a", bytes(8), b"v" * BLOCK_BYTES).to_bytes()[:-1]
BIG_BYTES = 900_000
SMALL = b"s" * 4000
SMALL_REPLY = value_reply(b"small", SMALL) + END


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    made.keep(b"big", b"b" * BIG_BYTES)
    made.keep(b"small", SMALL)
    yield made
    made.close()


def memory_of(serving: Serving) -> ConnectionMemory:
    return serving.around.context.connection_memory


def connection_of(serving: Serving, client: socket.socket) -> Connection:
    """The connection of a client that came as the last one."""
    assert client is serving.clients[-1]
    poll_until(lambda: len(serving.worker.connections) == len(serving.clients), "it is there")
    return serving.worker.connections[-1]


def make_short(serving: Serving, spare_bytes: int = MIB) -> int:
    """Have others keep nearly all of the memory; return how much they keep."""
    memory = memory_of(serving)
    taken = int(memory.limit_bytes * SHORT_PART) + spare_bytes - memory.used_bytes
    memory.add(taken)
    return taken


# The figure

KEPT = {
    "half a set": (HALF_SET, BLOCK_BYTES),
    "half a binary set": (HALF_BINARY_SET, BLOCK_BYTES),
    "half a long get line": (b"get" + b" k" * 250_000, 500_000),
    "unread replies": (b"get big\r\n", BIG_BYTES),
    "unread binary replies": (Packet(Opcode.GET, b"big").to_bytes(), BIG_BYTES),
    "the keys of a long get": (b"get" + b" big" * 50_000 + b"\r\n", 50_000 * 40),
    "the buffer of a watcher": (b"watch fetchers\r\n", 256 * 1024),
}
"""What a client sends, and how many bytes its connection keeps then."""


@pytest.mark.parametrize("name", KEPT)
def test_what_a_connection_keeps_counts_until_it_is_closed(serving: Serving, name: str) -> None:
    sends, least = KEPT[name]
    memory, client = memory_of(serving), serving.connect()
    client.sendall(sends)
    poll_until(lambda: memory.used_bytes >= least, "it is counted")
    assert memory.used_bytes < least * 2 + BIG_BYTES + MIB
    client.close()
    poll_until(lambda: serving.totals.current == 0, "it is closed")
    assert memory.used_bytes == 0


def test_what_is_whole_counts_no_more(serving: Serving) -> None:
    memory, client = memory_of(serving), serving.connect()
    client.sendall(HALF_SET)
    poll_until(lambda: memory.used_bytes >= BLOCK_BYTES, "it is counted")
    ask(client, b"v\r\n", STORED)
    poll_until(lambda: memory.used_bytes == 0, "it counts no more")
    client.sendall(b"get big\r\n" * 2)
    poll_until(lambda: memory.used_bytes >= BIG_BYTES, "the replies are counted")
    reply = value_reply(b"big", b"b" * BIG_BYTES) + END
    assert read(client, 2 * len(reply)) == 2 * reply
    poll_until(lambda: memory.used_bytes == 0, "they count no more")


def test_a_connection_that_keeps_little_is_never_counted(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[int] = []
    monkeypatch.setattr(memory_of(serving), "add", changes.append)
    client = serving.connect()
    ask(client, b"get small\r\n" * 40 + b"version\r\n", SMALL_REPLY * 40 + VERSION)
    ask(client, b"version\r\nset a 0 0 %d\r\n" % UNCOUNTED_BYTES + b"v" * (UNCOUNTED_BYTES // 2), VERSION)
    ask(client, b"v" * (UNCOUNTED_BYTES // 2) + b"\r\n", STORED)
    assert [change for change in changes if change > len(SMALL_REPLY) * 40] == []
    assert sum(changes) == 0


# Near the limit


def test_a_turn_is_short_while_memory_is_short(serving: Serving) -> None:
    client, requests = serving.connect(), 900
    taken = make_short(serving)
    ask(client, b"version\r\n", VERSION)  # the worker has heard of it after this turn
    client.sendall(b"get small\r\n" * requests)
    connection = connection_of(serving, client)
    poll_until(lambda: connection.state is State.WAITING_FOR_SOCKET, "the socket takes no more")
    assert 0 < connection.counted_bytes < (SHORT_REQUESTS + 4) * len(SMALL_REPLY)
    memory_of(serving).add(-taken)
    assert read(client, len(SMALL_REPLY) * requests) == SMALL_REPLY * requests
    ask(client, b"version\r\n", VERSION)
    client.sendall(b"get small\r\n" * requests)
    poll_until(lambda: connection.counted_bytes > 100 * len(SMALL_REPLY), "its turns are long again")


def test_a_connection_that_comes_while_memory_is_short_has_short_turns(serving: Serving) -> None:
    make_short(serving)
    ask(serving.connect(), b"version\r\n", VERSION)
    client = serving.connect()
    client.sendall(b"get small\r\n" * 900)
    connection = connection_of(serving, client)
    poll_until(lambda: connection.state is State.WAITING_FOR_SOCKET, "the socket takes no more")
    assert connection.counted_bytes < (SHORT_REQUESTS + 4) * len(SMALL_REPLY)


def test_large_requests_wait_for_memory_and_small_ones_do_not(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 1000.0)
    memory, large = memory_of(serving), serving.connect()
    free = SHARE_OF_FREE * BLOCK_BYTES // 2
    memory.add(memory.limit_bytes - free)
    sender = threading.Thread(target=large.sendall, args=(HALF_SET + b"v\r\n",))
    sender.start()  # it has to wait until the server reads again
    poll_until(lambda: serving.states() == [State.WAITING_FOR_MEMORY], "it waits for memory")
    kept = memory.used_bytes
    small = serving.connect()
    ask(small, b"set b 0 0 4000\r\n" + SMALL + b"\r\nget small\r\n", STORED + SMALL_REPLY)
    assert memory.used_bytes == kept, "nothing more was read"
    memory.add(free - memory.limit_bytes)
    assert read(large, len(STORED)) == STORED
    sender.join()
    assert memory.closed == 0


def test_one_that_waits_too_long_gets_the_memory_of_silent_ones(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 0.01)
    memory = memory_of(serving)
    silent = serving.connect()
    silent.sendall(HALF_SET[: BLOCK_BYTES // 2])
    connection = connection_of(serving, silent)
    poll_until(lambda: memory.used_bytes >= BLOCK_BYTES // 2, "it is counted")
    connection.last_active -= 100
    short_bytes = int(memory.limit_bytes * SHORT_PART)
    memory.add(short_bytes - memory.used_bytes - 100)
    monkeypatch.setattr(connection_memory_module, "SHARE_OF_FREE", memory.limit_bytes)
    waiting = serving.connect()
    waiting.sendall(HALF_SET[: BLOCK_BYTES // 4])
    assert read_to_the_end(silent) == b""
    memory.add(-short_bytes // 2)
    waiting.sendall(HALF_SET[BLOCK_BYTES // 4 :] + b"v\r\n")
    assert read(waiting, len(STORED)) == STORED
    assert memory.closed == 1


# While the journal is behind


@pytest.fixture(params=["compiled", "interpreted"])
def recorded(request: pytest.FixtureRequest) -> Iterator[tuple[Serving, FakeJournal]]:
    """A worker with a journal."""
    journal = FakeJournal()
    made = Serving(journal=journal, is_interpreted=request.param == "interpreted")
    yield made, journal
    made.close()


def test_no_large_value_is_read_to_its_end_while_the_journal_is_behind(recorded: tuple[Serving, FakeJournal]) -> None:
    serving, journal = recorded
    large, writer = serving.connect(), serving.connect()
    large.sendall(HALF_SET[: BLOCK_BYTES // 2])
    poll_until(lambda: memory_of(serving).used_bytes >= BLOCK_BYTES // 2, "a half is there")
    journal.is_behind = True
    writer.sendall(b"set b 0 0 1\r\n1\r\n")
    poll_until(
        lambda: serving.states() == [State.WAITING_FOR_MEMORY, State.WAITING_FOR_JOURNAL], "the large one is held back"
    )
    other = serving.connect()
    other.sendall(HALF_SET[:100_000])
    poll_until(lambda: serving.states()[2:] == [State.WAITING_FOR_MEMORY], "a new one is, too")
    ask(serving.connect(), b"version\r\nget none\r\n", VERSION + END)
    kept = memory_of(serving).used_bytes
    sender = threading.Thread(target=large.sendall, args=(HALF_SET[BLOCK_BYTES // 2 :] + b"v\r\n",))
    sender.start()
    ask(serving.connect(), b"version\r\n", VERSION)
    assert memory_of(serving).used_bytes == kept, "nothing more is read"
    journal.is_behind = False
    journal.reach(journal.position)
    assert read(writer, len(STORED)) == STORED
    poll_until(lambda: journal.position == 2, "the large one is read to its end")
    journal.reach(journal.position)
    assert read(large, len(STORED)) == STORED
    sender.join()


def test_the_one_that_waits_for_the_journal_costs_no_other_its_connection(
    recorded: tuple[Serving, FakeJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 0.0)
    serving, journal = recorded
    memory, large, writer = memory_of(serving), serving.connect(), serving.connect()
    journal.is_behind = True
    writer.sendall(b"set b 0 0 1\r\n1\r\n")
    poll_until(lambda: serving.is_awaiting_journal(), "one writes")
    large.sendall(HALF_SET[:100_000])
    poll_until(lambda: State.WAITING_FOR_MEMORY in serving.states(), "one is held back")
    memory.add(int(memory.limit_bytes * SHORT_PART))
    for _ in range(3):
        ask(serving.connect(), b"version\r\n", VERSION)
    assert memory.closed == 0


# Beyond the limit


def test_beyond_the_limit_the_largest_is_closed_and_the_log_says_why(serving: Serving) -> None:
    memory = memory_of(serving)
    smaller, larger = serving.connect(), serving.connect()
    smaller.sendall(HALF_SET[: BLOCK_BYTES // 2])
    larger.sendall(HALF_SET)
    poll_until(lambda: memory.used_bytes > BLOCK_BYTES * 3 // 2, "both are counted")
    kept = memory.used_bytes
    memory.add(memory.limit_bytes - kept + 1)
    with contextlib.suppress(ConnectionResetError):
        assert larger.recv(1) == b""
    poll_until(lambda: memory.used_bytes <= memory.limit_bytes, "it is closed")
    assert serving.totals.current in (0, 1)
    [line] = [line for line in serving.around.logged if "closed for memory" in line]
    assert "--connection-memory" in line
    assert memory.closed >= 1


def test_as_few_are_closed_as_bring_relief(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 1000.0)
    memory = memory_of(serving)
    kept_by_each = BLOCK_BYTES + BLOCK_BYTES // SPARE_BLOCK_PART
    for _ in range(20):
        serving.connect().sendall(HALF_SET)
    poll_until(lambda: memory.used_bytes >= 20 * kept_by_each, "all are counted")
    memory.add(memory.limit_bytes + 1 - memory.used_bytes)
    poll_until(lambda: memory.used_bytes <= memory.limit_bytes * RELIEF_PART, "some are closed")
    assert memory.closed == -(-(memory.limit_bytes // 8) // kept_by_each)
    ask(serving.connect(), b"version\r\n", VERSION)


def test_a_connection_that_others_turn_closed_has_no_further_turn(serving: Serving) -> None:
    """Connections are closed in the middle of a turn, while the worker has still to serve some of them."""
    memory = memory_of(serving)
    paused = [serving.connect() for _ in range(10)]
    memory.add(memory.limit_bytes - 2 * MIB)
    for client in paused:
        with contextlib.suppress(OSError):
            client.sendall(b"get" + b" big" * 600 + b"\r\n")
    poll_until(lambda: memory.closed > 0, "some are closed")
    ask(serving.connect(), b"version\r\n", VERSION)
    assert not [line for line in serving.around.logged if "error of the server" in line]


def test_reset_sets_the_count_to_zero_and_leaves_the_memory() -> None:
    memory = ConnectionMemory(100)
    memory.add(10)
    memory.count_closed()
    memory.reset()
    assert (memory.used_bytes, memory.closed) == (10, 0)


def test_followers_hear_when_memory_gets_short_or_exceeded_and_when_that_ends() -> None:
    memory, heard = ConnectionMemory(100), list[tuple[bool, bool]]()
    memory.follow(lambda: heard.append((memory.is_short, memory.is_exceeded)))
    for change in (70, 10, 10, 20, -20, -60):
        memory.add(change)
    assert heard == [(True, False), (True, True), (True, False), (False, False)]


# The setting


@pytest.mark.parametrize(
    ("settings", "megabytes"),
    [
        (Settings(), 64),
        (Settings(memory_limit=1024 * MIB), 128),
        (Settings(memory_limit=1024 * MIB, max_item_size=100 * MIB), 400),
        (Settings(connection_memory=8 * MIB), 8),
    ],
)
def test_the_default_follows_from_the_other_limits(settings: Settings, megabytes: int) -> None:
    assert settings.connection_memory_bytes == megabytes * MIB


def test_a_limit_that_has_no_room_for_large_items_is_rejected() -> None:
    assert load_settings({"connection-memory": "4"}, None, {}).connection_memory_bytes == 4 * MIB
    with pytest.raises(ConfigError, match="at least 4 times the item size"):
        load_settings({"connection-memory": "3"}, None, {})
