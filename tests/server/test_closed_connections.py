"""What a closed connection leaves behind: nothing, and that without the collector."""

import gc
import socket
import ssl
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import LoginAttempts, Users
from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import Settings
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.session import Session
from memcache_kv.server import connection_memory as connection_memory_module
from memcache_kv.server import worker as worker_module
from memcache_kv.server.connection import Connection, State
from memcache_kv.server.tls import Tls, TlsStream
from memcache_kv.server.udp import UdpServer
from memcache_kv.stats import report
from memcache_kv.stats.report import ReportedServer
from tests.certificates import Certificates, make_certificates
from tests.program import poll_until
from tests.protocol.binary.binary_packets import Packet
from tests.protocol.context_factory import Surroundings
from tests.server.test_worker import FakeJournal, Serving, read

COUNT = 5
BLOCK_BYTES = 600_000
MOST_LEFT_BYTES = BLOCK_BYTES // 2
"""Less than a connection with half a block holds."""
KINDS = (Session, Connection, LoginAttempts, TlsStream, ssl.SSLSocket)


class Situation(NamedTuple):
    """What a client sends and reads to bring its connection somewhere, and in which state it is then.

    reported: what `stats conns` says, where that tells more; takes_all: whether the connection reads all that is sent.
    """

    sends: bytes
    state: State = State.READING
    reads: bytes = b""
    reported: str = "conn_read"
    takes_all: bool = True

    def is_reached(self, connection: Connection) -> bool:
        """Tell whether a connection is there."""
        if connection.state is not self.state:
            return False
        return self.state is not State.READING or connection.status(0).state == self.reported


def idle(sends: bytes, reads: bytes = b"") -> Situation:
    return Situation(sends, reads=reads)


def in_a_block(sends: bytes, reads: bytes = b"") -> Situation:
    """It waits for the rest of a data block, of which it has nearly all."""
    return Situation(sends, reads=reads, reported="conn_nread")


def unread(sends: bytes) -> Situation:
    """Its client does not read the replies."""
    return Situation(sends, State.WAITING_FOR_SOCKET, takes_all=False)


PART = b"v" * (BLOCK_BYTES - 50)
HALF_SET = b"set a 0 0 %d\r\n" % BLOCK_BYTES + PART
HALF_BINARY_SET = Packet(Opcode.SET, b"a", bytes(8), b"v" * BLOCK_BYTES).to_bytes()[:-50]
HALF_SASL_LOGIN = Packet(Opcode.SASL_AUTH, b"PLAIN", b"", b"v" * 16_000).to_bytes()[:-50]
UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"

SITUATIONS = {
    "nothing sent yet": idle(b""),
    "idle": idle(b"mn\r\n", b"MN\r\n"),
    "half a line": idle(b"mn\r\nget half", b"MN\r\n"),
    "half a long get line": idle(b"get" + b" k" * (BLOCK_BYTES // 2)),
    "half a set": in_a_block(HALF_SET),
    "half a set behind another request": in_a_block(b"mn\r\n" + HALF_SET, b"MN\r\n"),
    "half an append": in_a_block(b"append a 0 0 %d\r\n" % BLOCK_BYTES + PART),
    "half a meta set": in_a_block(b"ms a %d c k\r\n" % BLOCK_BYTES + PART),
    "half a binary set": in_a_block(HALF_BINARY_SET),
    "unread replies": unread(b"get big\r\n" * 20),
    "unread replies to one long get": unread(b"get" + b" big" * 1000 + b"\r\n"),
    "unread replies to meta gets": unread(b"mg big v\r\n" * 20),
    "unread binary replies": unread(Packet(Opcode.GET, b"big").to_bytes() * 20),
    "a dump": unread(b"lru_crawler metadump all\r\n"),
    "a dump for mg": unread(b"lru_crawler mgdump all\r\n"),
    "watching": Situation(b"watch fetchers mutations connevents\r\n", reads=b"OK\r\n", reported="conn_watch"),
}
DUMPS = ("a dump", "a dump for mg")
GUARDED_SITUATIONS = {
    "a failed login": Situation(b"set a 0 0 5\r\nann y\r\nset a 0 0 100", State.THROTTLED),
    "half a login": idle(b"mn 1 2\r\nset a 0 0 16000\r\nann x", UNAUTHENTICATED),
    "half a set after the login": in_a_block(b"set a 0 0 5\r\nann x\r\n" + HALF_SET, b"STORED\r\n"),
    "half a binary login": in_a_block(HALF_SASL_LOGIN),
}


def objects() -> int:
    """Count what belongs to connections and is still alive, without asking the objects, which may be proxies.

    What was there before the first test is frozen, and not counted.
    """
    return sum(issubclass(type(each), KINDS) for each in gc.get_objects())


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fill(serving: Serving, name: str) -> Serving:
    """Keep what a situation needs: a large value, and for a dump more keys than a socket takes."""
    serving.keep(b"big", b"b" * 900_000)
    for number in range(20_000 if name in DUMPS else 0):
        serving.keep(b"%d" % number + b"k" * 200, b"")
    return serving


@pytest.fixture
def serving(name: str) -> Iterator[Serving]:
    made = fill(Serving(), name)
    yield made
    made.close()


def bring(serving: Serving, client: socket.socket, situation: Situation) -> None:
    """Bring a connection, and those before it, into a situation."""
    counters = serving.around.counters
    goal = counters.bytes_read + len(situation.sends)
    client.sendall(situation.sends)
    assert read(client, len(situation.reads)) == situation.reads

    def reached() -> bool:
        are_there = [situation.is_reached(each) for each in serving.worker.connections]
        return sum(are_there) == len(serving.clients) and (counters.bytes_read == goal or not situation.takes_all)

    poll_until(reached, "the connection comes into the situation")


def leave(serving: Serving) -> None:
    """Have all clients close, and wait until the worker is past all that it does then."""
    for client in serving.clients:
        client.close()
    poll_until(lambda: serving.totals.current == 0, "all are closed")
    serving.stop()


def check_that_nothing_stays(serving: Serving, situation: Situation, end: Callable[[Serving], None] = leave) -> None:
    before = objects()
    tracemalloc.start()
    try:
        for _ in range(COUNT):
            bring(serving, serving.connect(), situation)
        assert objects() - before >= 2 * COUNT, "the count sees them while they are there"
        end(serving)
        assert objects() == before
        assert tracemalloc.get_traced_memory()[0] < MOST_LEFT_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_stays_of_a_connection_whose_client_left(serving: Serving, name: str) -> None:
    check_that_nothing_stays(serving, SITUATIONS[name])


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_stays_of_a_connection_that_a_stop_closed(
    serving: Serving, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)
    check_that_nothing_stays(serving, SITUATIONS[name], Serving.stop)


def test_nothing_stays_of_a_connection_that_waited_for_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)
    serving = Serving(journal=FakeJournal())
    waits = Situation(b"set a 0 0 1\r\nx\r\n" + HALF_SET[:400], State.WAITING_FOR_JOURNAL)
    check_that_nothing_stays(serving, waits, Serving.stop)
    serving.close()


@pytest.mark.parametrize("name", GUARDED_SITUATIONS)
@pytest.mark.parametrize("end", [leave, Serving.stop])
def test_nothing_stays_of_a_connection_that_asks_for_a_login(
    name: str, end: Callable[[Serving], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_module, "UNDELAYED_FAILURES", 0)
    monkeypatch.setattr(users_module, "LONGEST_DELAY_SECONDS", 1000.0 if end is Serving.stop else 1.0)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)
    (tmp_path / "users").write_bytes(b"ann:x\n")
    serving = Serving(Settings(enable_sasl=True), users=Users(tmp_path / "users"))
    check_that_nothing_stays(serving, GUARDED_SITUATIONS[name], end)
    serving.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class TlsServing(Serving):
    """A worker whose clients speak TLS, or are about to."""

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self._tls = Tls(TlsOptions(str(certificates.chain), str(certificates.key)))

    def connect(self, dialect: Dialect | None = None) -> socket.socket:
        theirs, ours = socket.socketpair()
        theirs.settimeout(60)
        assert self.totals.open()
        self.worker.adopt(self._tls.wrap(ours, ssl.CERT_NONE), dialect=dialect)
        self.clients.append(theirs)
        return theirs

    def secure(self) -> None:
        """Have the client that came last shake hands."""
        self.clients[-1] = self._certificates.context().wrap_socket(self.clients[-1], server_hostname="localhost")


@pytest.mark.parametrize("begins", [b"", b"\x16\x03\x01\x02\x00\x01", b"no TLS at all\r\n"])
def test_nothing_stays_of_a_connection_in_its_handshake(certificates: Certificates, begins: bytes) -> None:
    serving = TlsServing(certificates)
    before = objects()
    for _ in range(COUNT):
        serving.connect().sendall(begins)
    leave(serving)
    assert objects() == before


@pytest.mark.parametrize("name", ["idle", "half a set", "half a binary set", "unread replies", "a dump"])
def test_nothing_stays_of_a_connection_over_tls(certificates: Certificates, name: str) -> None:
    serving = TlsServing(certificates)
    fill(serving, name)
    before = objects()
    for _ in range(COUNT):
        serving.connect()
        serving.secure()
        bring(serving, serving.clients[-1], SITUATIONS[name])
    leave(serving)
    serving.clients.clear()
    assert objects() == before


# Ten thousand, in every state of the table

CLOSES = 10_000
BATCH = 100
BATCHES = -(-CLOSES // BATCH // (len(State) - 1))
"""For each state but CLOSING, in which nothing stays."""
MOST_LEFT_OF_EACH_BYTES = 500
"""Far less than a connection takes. The tables of a worker grow with the connections, and stay as large."""
SOME_INPUT = b"set a 0 0 6000\r\n" + b"v" * 5000
FAILED_LOGIN = b"set a 0 0 5\r\nann y\r\n"


class Crowd:
    """Workers whose connections all come into one state, and are closed by a stop."""

    def __init__(self, users: Path, certificates: Certificates) -> None:
        self._users = users
        self._certificates = certificates

    def bytes_left(self, state: State, each: int) -> int:
        """Have workers close batches of so many connections in this state; return the bytes that are left then."""
        tracemalloc.start()
        try:
            for _ in range(BATCHES):
                self.close_a_batch(state, each)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    def close_a_batch(self, state: State, count: int) -> None:
        """Have a worker close so many connections in this state."""
        serving = self._serve(state)
        serving.keep(b"big", b"b" * 900_000)
        for client in [serving.connect() for _ in range(count)]:  # all first: paused ones keep the worker busy
            client.sendall(SENDS[state])
        poll_until(lambda: serving.states() == [state] * count, f"all are {state.name}")
        if state is State.READING:
            memory = serving.around.context.connection_memory
            poll_until(lambda: memory.used_bytes >= count * 5000, "all keep some input")
        serving.stop()
        assert serving.totals.current == 0
        serving.close()
        serving.clients.clear()

    def _serve(self, state: State) -> Serving:
        if state is State.HANDSHAKE:
            return TlsServing(self._certificates)
        if state is State.THROTTLED:
            return Serving(Settings(enable_sasl=True), users=Users(self._users))
        serving = Serving(
            Settings(track_sizes=True, connection_memory=1 << 30),
            journal=FakeJournal() if state is State.WAITING_FOR_JOURNAL else None,
        )
        if state is State.WAITING_FOR_MEMORY:
            memory = serving.around.context.connection_memory
            memory.add(memory.limit_bytes - BATCH * 6000)
        return serving


SENDS = {
    State.HANDSHAKE: b"\x16\x03\x01\x02\x00\x01",
    State.READING: SOME_INPUT,
    State.WAITING_FOR_JOURNAL: b"set a 0 0 1\r\nx\r\n" + SOME_INPUT,
    State.WAITING_FOR_SOCKET: b"get big\r\nget big\r\n" + SOME_INPUT,
    State.WAITING_FOR_MEMORY: SOME_INPUT,
    State.PAUSED: b"stats items\r\n" + SOME_INPUT,
    State.THROTTLED: FAILED_LOGIN + SOME_INPUT[:400],
}


def endless_walk(context: ReportedServer) -> Iterator[list[tuple[str, object]]]:
    """A report that never ends, and has no rows: its connection always waits for its next turn."""
    while True:
        yield []


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let the test have its turn beside a worker that never waits, as paused connections make it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("state", SENDS, ids=lambda state: state.name)
def test_of_ten_thousand_closed_connections_nothing_stays(
    state: State, tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_module, "delay_seconds", lambda failures: 1000.0)
    monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 1000.0)
    monkeypatch.setattr(connection_memory_module, "SHARE_OF_FREE", 1 << 30)
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)
    monkeypatch.setitem(report.WALKS, b"items", endless_walk)
    (tmp_path / "users").write_bytes(b"ann:x\n")
    crowd = Crowd(tmp_path / "users", certificates)
    crowd.close_a_batch(state, BATCH)  # what is kept once for all
    before = objects()
    without = crowd.bytes_left(state, 0)  # the workers themselves, which the collector would free
    left = crowd.bytes_left(state, BATCH)
    assert left - without < BATCHES * BATCH * MOST_LEFT_OF_EACH_BYTES
    assert objects() == before


def test_every_state_has_its_crowd() -> None:
    assert SENDS.keys() == set(State) - {State.CLOSING}
    assert BATCHES * BATCH * len(SENDS) >= CLOSES


@pytest.mark.parametrize("sends", [HALF_SET[:1000], HALF_BINARY_SET[:1000], b"get a\r\n", b"nonsense"])
def test_nothing_stays_of_a_datagram(sends: bytes) -> None:
    with UdpServer(("127.0.0.1", 0), socket.AF_INET, Surroundings().context) as server:
        before = objects()
        for _ in range(COUNT):
            server.carry_out(sends)
        assert objects() == before
