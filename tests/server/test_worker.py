"""A worker and its clients, over socket pairs: nobody loses a reply, nobody holds up another."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import bcrypt
import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import Logins, Users
from memcache_kv.clock import Clock
from memcache_kv.config.settings import Settings
from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.negotiate import Undecided
from memcache_kv.protocol.session import FIRST_READ_BYTES, READ_BYTES
from memcache_kv.server import throttle as throttle_module
from memcache_kv.server import worker as worker_module
from memcache_kv.server.connection import State
from memcache_kv.server.poller import SelectorPoller, new_poller
from memcache_kv.server.worker import WAVE_MEMBERS, Worker
from memcache_kv.stats import latency
from memcache_kv.store import Mode
from memcache_kv.store.entry import Entry, deadline_of, flags_of, pack, value_of, wire_bytes_of
from memcache_kv.store.time import Time
from memcache_kv.version import PROTOCOL_VERSION
from tests.program import PATIENCE_SECONDS, poll_until
from tests.protocol.context_factory import Surroundings

VERSION = b"VERSION " + PROTOCOL_VERSION.encode() + b"\r\n"
STORED = b"STORED\r\n"
END = b"END\r\n"


class FakeJournal:
    """A journal that comes as far as the test lets it."""

    def __init__(self) -> None:
        self.position = 0
        self.reached = 0
        self.waits = 0
        self.refusals = 0
        self.refuses = False
        self.is_behind = False
        self.average_sync_seconds = self.gather_seconds = 0.0
        self.callbacks: list[Callable[[], None]] = []
        self.queue: list[bytes] = []
        self.queue_lock, self.queued_bytes, self.queue_limit_bytes = threading.Lock(), 0, 1 << 30
        self.positions: dict[int, int] = {}
        self.unstamped_second = 0

    def must_wait(self, position: int) -> bool:
        return self.reached < position

    def watch(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def own_position(self) -> int:
        return self.position

    def append(self) -> bool:
        """Tell whether the test has let it come so far."""
        return self.reached >= self.position

    def commit(self) -> None:
        """Do nothing: the test says how far it comes."""

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Take no note of the wall clock."""

    def new_second(self, now: int) -> None:
        """Take no note of the time."""

    def fail(self) -> None:
        """Take nothing any more, and tell whoever waits."""
        self.refuses = True
        for tell in self.callbacks:
            tell()

    def reach(self, position: int) -> None:
        self.reached = position
        for tell in self.callbacks:
            tell()

    def put(self, key: bytes, entry: Entry) -> None:
        ready = wire_bytes_of(entry)
        self.stored(key, flags_of(ready), deadline_of(entry), 0, value_of(ready))

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        self.position += 1

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        self.position += 1

    def deleted(self, key: bytes) -> None:
        self.position += 1

    def touched(self, key: bytes, deadline: int) -> None:
        self.position += 1

    def cas_assigned(self, key: bytes, cas: int) -> None:
        self.position += 1

    def flushed(self, at: int) -> None:
        self.position += 1


class Serving:
    """A running worker, and clients of it."""

    def __init__(
        self,
        settings: Settings | None = None,
        journal: FakeJournal | None = None,
        users: Users | None = None,
        is_interpreted: bool = False,
        clock: Time | None = None,
    ) -> None:
        self.around = Surroundings(settings)
        self.around.context.clock = self.around.store.clock = clock or Clock()
        if journal is not None:
            self.around.context.journal = journal  # type: ignore[assignment]
            self.around.store.log = journal
            self.around.renew_requests()
        if is_interpreted:
            self.around.context.requests = None
        self.is_closed = False
        self.totals = self.around.context.totals
        self.worker = Worker(self.around.context, None if users is None else Logins(users))
        self.worker.start()
        self.clients: list[socket.socket] = []

    def connect(self, dialect: Dialect | None = None) -> socket.socket:
        """A client of its own; the other end is the worker's. dialect: of the listener that it comes from."""
        theirs, ours = socket.socketpair()
        theirs.settimeout(PATIENCE_SECONDS)
        self.clients.append(theirs)
        assert self.totals.open()
        self.worker.adopt(ours, dialect=dialect)
        return theirs

    def keep(self, key: bytes, value: bytes) -> None:
        log, self.around.store.log = self.around.store.log, None
        self.around.store.store(Mode.SET, key, pack(0, value))
        self.around.store.log = log

    def value(self, key: bytes) -> bytes:
        entry = self.around.store.get(key)
        assert entry is not None
        return value_of(wire_bytes_of(entry))

    def states(self) -> list[State]:
        """The states of its connections."""
        return [connection.state for connection in self.worker.connections]

    def has_unsent(self) -> bool:
        """Tell whether replies wait for a client that does not read."""
        return State.WAITING_FOR_SOCKET in self.states()

    def is_awaiting_journal(self, count: int = 1) -> bool:
        return self.states().count(State.WAITING_FOR_JOURNAL) == count

    def stop(self) -> None:
        self.worker.stop()
        self.worker.join(PATIENCE_SECONDS)
        assert not self.worker.is_alive()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.worker.is_alive():
            self.stop()
        if not self.is_closed:
            self.is_closed = True
            self.worker.close()


MakeServing = Callable[..., Serving]


@pytest.fixture(params=["best poller", "selector", "interpreted"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeServing]:
    maker = SelectorPoller if request.param == "selector" else new_poller
    monkeypatch.setattr(worker_module, "new_poller", maker)
    made: list[Serving] = []

    def make(
        settings: Settings | None = None,
        journal: FakeJournal | None = None,
        users: Users | None = None,
        is_interpreted: bool = False,
    ) -> Serving:
        made.append(Serving(settings, journal, users, is_interpreted or request.param == "interpreted"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read(client: socket.socket, size: int) -> bytes:
    """Read exactly this many bytes."""
    pieces = bytearray()
    while len(pieces) < size:
        piece = client.recv(size - len(pieces))
        assert piece, f"closed after {len(pieces)} of {size} bytes"
        pieces += piece
    return bytes(pieces)


def read_to_the_end(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def ask(client: socket.socket, request: bytes, reply: bytes) -> None:
    client.sendall(request)
    assert read(client, len(reply)) == reply


def in_background(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def value_reply(key: bytes, value: bytes) -> bytes:
    return b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(value), value)


# Answering


def test_a_client_is_answered(serve: MakeServing) -> None:
    client = serve().connect()
    ask(client, b"set a 0 0 1\r\nx\r\n", STORED)
    ask(client, b"get a\r\nget b\r\n", value_reply(b"a", b"x") + END * 2)


def test_clients_share_one_store(serve: MakeServing) -> None:
    serving = serve()
    first, second = serving.connect(), serving.connect()
    ask(first, b"set a 0 0 1\r\nx\r\n", STORED)
    ask(second, b"get a\r\n", value_reply(b"a", b"x") + END)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, list[socket.socket]]]:
    """A worker without the compiled turn, whose turns the test takes, and clients that speak the text protocol.

    Only the first turn is measured, which has no request: the connections of such a turn are served one by one.
    """
    monkeypatch.setattr(latency, "TURNS_PER_SAMPLE", 10**9)
    around = Surroundings()
    around.context.requests = None
    worker, clients = Worker(around.context), list[socket.socket]()
    for _ in range(WAVE_MEMBERS + 4):
        theirs, ours = socket.socketpair()
        theirs.settimeout(PATIENCE_SECONDS)
        clients.append(theirs)
        worker.adopt(ours)
    worker.serve_ready(0)
    for client in clients:
        client.sendall(b"version\r\n")
    assert worker.serve_ready(0) == len(clients)
    assert [read(client, len(VERSION)) for client in clients] == [VERSION] * len(clients)
    yield worker, clients
    for client in clients:
        client.close()
    for connection in worker.connections:
        connection.socket.close()
    worker.close()


def test_the_requests_of_a_wave_are_carried_out_before_their_replies_are_sent(
    crowd: tuple[Worker, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, clients = crowd
    calls = []

    def noting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            calls.append(name)
            return call(*arguments)

        return noted

    acts = {name: noting(name, getattr(os, name)) for name in ("read", "write")}
    monkeypatch.setattr(worker_module, "os", SimpleNamespace(**acts))
    for client in clients:
        client.sendall(b"get a\r\n")
    worker.serve_ready(0)
    assert calls == ["read"] * WAVE_MEMBERS + ["write"] * WAVE_MEMBERS + ["read"] * 4 + ["write"] * 4
    assert [read(client, len(END)) for client in clients] == [END] * len(clients)


def test_who_is_gone_or_does_not_read_costs_the_others_of_a_wave_nothing(
    crowd: tuple[Worker, list[socket.socket]],
) -> None:
    worker, clients = crowd
    gone, lazy, *others = clients
    big = b"x" * 50_000
    worker.context.store.store(Mode.SET, b"big", pack(0, big))
    reply = value_reply(b"big", big) + END
    for _ in range(20):
        for client in (lazy, *others):
            client.sendall(b"get big\r\n" if client is lazy else b"get a\r\n")
        worker.serve_ready(0)
        assert [read(client, len(END)) for client in others] == [END] * len(others)
    assert [each.state for each in worker.connections].count(State.WAITING_FOR_SOCKET) == 1
    gone.sendall(b"get a\r\n")
    gone.close()  # its request is still there: only sending fails
    worker.serve_ready(0)
    assert len(worker.connections) == len(clients) - 1
    received = bytearray()
    while len(received) < 20 * len(reply):
        received += lazy.recv(1 << 20)
        worker.serve_ready(0)
    assert received == reply * 20


def test_what_no_request_keeps_any_more_is_not_counted(serve: MakeServing) -> None:
    serving = serve()
    client = serving.connect()
    keys = [b"%0200d" % number for number in range(50)]
    ask(client, b"version\r\n", VERSION)
    line = b"get " + b" ".join(keys) + b"\r\n"
    client.sendall(line[:-10])
    poll_until(lambda: serving.worker.connections[0].counted_bytes > 0, "the line is counted")
    ask(client, line[-10:], END)
    poll_until(lambda: serving.worker.connections[0].counted_bytes == 0, "it is counted no more")


def test_a_request_in_pieces_is_answered_and_others_meanwhile(serve: MakeServing) -> None:
    serving = serve()
    slow, quick = serving.connect(), serving.connect()
    for piece in (b"se", b"t a 0 0 ", b"3\r", b"\nf", b"oo\r"):
        slow.sendall(piece)
        ask(quick, b"version\r\n", VERSION)
    ask(slow, b"\n", STORED)


def test_a_large_value_comes_and_goes(serve: MakeServing) -> None:
    client = serve().connect()
    value = os.urandom(1_000_000)
    sender = in_background(lambda: client.sendall(b"set a 0 0 1000000\r\n" + value + b"\r\nget a\r\n"))
    expected = STORED + value_reply(b"a", value) + END
    assert read(client, len(expected)) == expected
    sender.join()


def test_bytes_are_counted(serve: MakeServing) -> None:
    serving = serve()
    client = serving.connect()
    ask(client, b"version\r\n", VERSION)
    poll_until(lambda: serving.around.counters.bytes_written == len(VERSION), "the reply is counted")
    assert serving.around.counters.bytes_read == len(b"version\r\n")


def test_quit_sends_what_was_asked_before_and_closes(serve: MakeServing) -> None:
    serving = serve()
    serving.keep(b"big", b"x" * 900_000)
    client = serving.connect()
    client.sendall(b"get big\r\nversion\r\nquit\r\n")
    assert read_to_the_end(client) == value_reply(b"big", b"x" * 900_000) + END + VERSION
    poll_until(lambda: serving.totals.current == 0, "it is counted as gone")


def test_connections_are_reported_and_counted(serve: MakeServing) -> None:
    serving = serve()
    clients = [serving.connect() for _ in range(3)]
    for client in clients:
        ask(client, b"version\r\n", VERSION)
    poll_until(lambda: [each.state for each in serving.worker.statuses(-1)] == ["conn_read"] * 3, "all are idle")
    clients[0].close()
    poll_until(lambda: len(list(serving.worker.statuses(-1))) == 2, "one has left")
    poll_until(lambda: serving.totals.current == 2, "it is no longer counted")
    assert serving.totals.total == 3


# Leaving


def test_a_half_closed_client_still_gets_all_replies(serve: MakeServing) -> None:
    serving = serve()
    serving.keep(b"big", b"x" * 300_000)
    client = serving.connect()
    client.sendall(b"get big\r\n" * 30 + b"version\r\n")
    client.shutdown(socket.SHUT_WR)
    assert read_to_the_end(client) == (value_reply(b"big", b"x" * 300_000) + END) * 30 + VERSION


def test_a_half_closed_client_gets_replies_of_many_turns(serve: MakeServing) -> None:
    serving = serve(Settings(max_reqs_per_event=1))
    client = serving.connect()
    client.sendall(b"version\r\n" * 1000)
    client.shutdown(socket.SHUT_WR)
    assert read_to_the_end(client) == VERSION * 1000


@pytest.mark.parametrize("requests_per_turn", [1, 1000])
def test_what_a_client_sent_before_it_hung_up_is_carried_out(serve: MakeServing, requests_per_turn: int) -> None:
    serving = serve(Settings(max_reqs_per_event=requests_per_turn))
    serving.keep(b"n", b"0")
    client = serving.connect()
    client.sendall(b"incr n 1 noreply\r\n" * 3000)
    client.close()
    poll_until(lambda: serving.totals.current == 0, "the client is gone")
    assert serving.value(b"n").strip() == b"3000"


def test_a_client_that_hangs_up_while_replies_wait_is_closed_and_others_are_served(serve: MakeServing) -> None:
    serving = serve()
    serving.keep(b"big", b"x" * 900_000)
    lost, other = serving.connect(), serving.connect()
    lost.sendall(b"get big\r\n" * 20)
    poll_until(serving.has_unsent, "replies wait for the client")
    lost.close()
    poll_until(lambda: serving.totals.current == 1, "it is closed")
    ask(other, b"version\r\n", VERSION)


def test_a_client_that_comes_and_goes_at_once_costs_nothing(serve: MakeServing) -> None:
    serving = serve()
    for _ in range(20):
        serving.connect().close()
    poll_until(lambda: serving.totals.total == 20 and serving.totals.current == 0, "all are gone")
    ask(serving.connect(), b"version\r\n", VERSION)


# Back-pressure


def test_a_client_that_does_not_read_is_held_back_and_later_gets_everything(serve: MakeServing) -> None:
    serving = serve()
    serving.keep(b"big", b"x" * 100_000)
    lazy, other = serving.connect(), serving.connect()
    request, count = b"get big\r\n", 2000
    sender = in_background(lambda: lazy.sendall(request * count))
    poll_until(serving.has_unsent, "replies wait for the client")
    for _ in range(50):
        ask(other, b"version\r\n", VERSION)
    (waiting,) = [each for each in serving.worker.connections if each.state is State.WAITING_FOR_SOCKET]
    assert waiting.unsent is not None
    assert len(waiting.unsent) < 4_000_000
    assert serving.around.counters.get_hits < count
    one = value_reply(b"big", b"x" * 100_000) + END
    for _ in range(count):
        assert read(lazy, len(one)) == one
    sender.join()
    ask(lazy, b"version\r\n", VERSION)


def test_a_client_that_reads_late_and_then_fast_gets_a_get_of_many_turns(serve: MakeServing) -> None:
    serving = serve()
    keys = [b"key%05d" % number for number in range(6000)]
    for key in keys:
        serving.keep(key, b"v" * 300)
    client = serving.connect()
    request = b"get " + b" ".join(keys) + b"\r\nversion\r\n"
    sender = in_background(lambda: client.sendall(request))
    poll_until(serving.has_unsent, "replies wait for the client")
    expected = b"".join(value_reply(key, b"v" * 300) for key in keys) + END + VERSION
    assert read(client, len(expected)) == expected
    sender.join()
    ask(client, b"version\r\n", VERSION)


def test_a_client_with_many_requests_does_not_hold_up_another(serve: MakeServing) -> None:
    serving = serve(Settings(max_reqs_per_event=1))
    busy, other = serving.connect(), serving.connect()
    sender = in_background(lambda: busy.sendall(b"version\r\n" * 20_000))
    for _ in range(20):
        ask(other, b"version\r\n", VERSION)
    assert read(busy, len(VERSION) * 20_000) == VERSION * 20_000
    sender.join()
    assert serving.around.counters.conn_yields > 1000


# The journal


def test_a_change_is_answered_when_the_journal_has_it(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    writer, reader = serving.connect(), serving.connect()
    writer.sendall(b"set a 0 0 1\r\nx\r\n")
    poll_until(serving.is_awaiting_journal, "the reply waits for the journal")
    ask(reader, b"get a\r\n", value_reply(b"a", b"x") + END)
    writer.setblocking(False)
    with pytest.raises(BlockingIOError):
        writer.recv(100)
    writer.settimeout(PATIENCE_SECONDS)
    journal.reach(1)
    assert read(writer, len(STORED)) == STORED
    ask(writer, b"get a\r\n", value_reply(b"a", b"x") + END)


def test_what_is_sent_while_the_journal_is_awaited_is_answered_in_order(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    client = serving.connect()
    for number in range(1, 4):
        client.sendall(b"set a 0 0 1\r\n%d\r\n" % number)
        poll_until(serving.is_awaiting_journal, "the reply waits for the journal")
        client.sendall(b"get a\r\n")
        journal.reach(number)
        expected = STORED + value_reply(b"a", b"%d" % number) + END
        assert read(client, len(expected)) == expected


def test_a_client_that_hangs_up_while_the_journal_is_awaited_has_its_later_changes_carried_out(
    serve: MakeServing,
) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    client = serving.connect()
    client.sendall(b"set a 0 0 1 noreply\r\n1\r\n")
    poll_until(serving.is_awaiting_journal, "it waits for the journal")
    client.sendall(b"set a 0 0 1 noreply\r\n2\r\n")
    client.close()
    ask(serving.connect(), b"version\r\n", VERSION)
    journal.reach(100)
    poll_until(lambda: serving.totals.current == 1, "it is closed")
    assert serving.value(b"a") == b"2"


def test_several_wait_for_the_journal_at_once(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    clients = [serving.connect() for _ in range(10)]
    for number, client in enumerate(clients):
        client.sendall(b"set k%d 0 0 1\r\nx\r\n" % number)
    poll_until(lambda: serving.is_awaiting_journal(10), "all wait")
    journal.reach(10)
    for client in clients:
        assert read(client, len(STORED)) == STORED


def test_whose_change_a_failed_disk_did_not_take_is_told_so(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    one, many = serving.connect(), serving.connect()
    one.sendall(b"set a 0 0 1\r\nx\r\n")
    many.sendall(b"set b 0 0 1\r\nx\r\nset c 0 0 1\r\nx\r\n")
    poll_until(lambda: serving.is_awaiting_journal(2), "the replies wait for the journal")
    assert journal.waits == 2
    journal.fail()
    ask(one, b"", b"SERVER_ERROR out of memory storing object\r\n")
    assert read_to_the_end(many) == b""
    assert journal.refusals == 2
    ask(one, b"get a\r\n", value_reply(b"a", b"x") + END)


def test_nobody_waits_for_a_journal_that_refuses(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    serving.keep(b"a", b"x")
    client = serving.connect()
    journal.fail()
    ask(client, b"set a 0 0 1\r\ny\r\n", b"SERVER_ERROR out of memory storing object\r\n")
    ask(client, b"get a\r\n", value_reply(b"a", b"x") + END)
    assert (journal.position, journal.waits, journal.refusals) == (0, 0, 1)


def test_a_change_that_the_disk_took_is_not_taken_back_when_it_fails_later(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    client = serving.connect()
    client.sendall(b"set a 0 0 1\r\nx\r\n")
    poll_until(serving.is_awaiting_journal, "the reply waits for the journal")
    journal.reached = 1
    journal.fail()
    assert read(client, len(STORED)) == STORED


# Stopping


def test_a_stop_closes_idle_connections(serve: MakeServing) -> None:
    serving = serve()
    client = serving.connect()
    ask(client, b"version\r\n", VERSION)
    serving.stop()
    assert client.recv(1) == b""
    assert serving.totals.current == 0


def test_a_stop_sends_what_is_ready(serve: MakeServing) -> None:
    serving = serve()
    serving.keep(b"big", b"x" * 900_000)
    client = serving.connect()
    client.sendall(b"get big\r\nversion\r\n")
    poll_until(serving.has_unsent, "replies wait for the client")
    serving.worker.stop()
    assert read_to_the_end(client) == value_reply(b"big", b"x" * 900_000) + END + VERSION
    serving.worker.join(PATIENCE_SECONDS)
    assert not serving.worker.is_alive()


def test_a_stop_waits_for_the_journal(serve: MakeServing) -> None:
    journal = FakeJournal()
    serving = serve(journal=journal)
    client = serving.connect()
    client.sendall(b"set a 0 0 1\r\nx\r\n")
    poll_until(serving.is_awaiting_journal, "the reply waits for the journal")
    serving.worker.stop()
    journal.reach(1)
    assert read_to_the_end(client) == STORED
    serving.worker.join(PATIENCE_SECONDS)


def test_a_stop_does_not_wait_for_ever_for_a_client_that_does_not_read(
    serve: MakeServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)
    serving = serve()
    serving.keep(b"big", b"x" * 900_000)
    client = serving.connect()
    client.sendall(b"get big\r\n" * 5)
    poll_until(serving.has_unsent, "replies wait for the client")
    serving.stop()
    assert serving.totals.current == 0


def test_a_stop_is_as_quick_while_the_clock_stands_still(serve: MakeServing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0.05)
    serving = serve()
    serving.around.context.clock.pause()
    serving.keep(b"big", b"x" * 900_000)
    client = serving.connect()
    client.sendall(b"get big\r\n" * 5)
    poll_until(serving.has_unsent, "replies wait for the client")
    serving.stop()
    assert serving.totals.current == 0


def test_what_a_client_has_sent_before_the_stop_is_answered() -> None:
    around = Surroundings()
    around.context.totals.open()
    client, server = socket.socketpair()
    client.settimeout(PATIENCE_SECONDS)
    client.sendall(b"version\r\n")
    worker = Worker(around.context)
    worker.adopt(server)
    worker.stop()
    worker.start()
    assert read_to_the_end(client) == VERSION
    worker.join(PATIENCE_SECONDS)
    worker.close()
    client.close()


def test_a_socket_that_comes_with_the_stop_is_closed() -> None:
    around = Surroundings()
    worker = Worker(around.context)
    theirs, ours = socket.socketpair()
    with theirs:
        assert around.context.totals.open()
        worker.adopt(ours)
        worker.stop()
        worker.start()
        worker.join(PATIENCE_SECONDS)
        assert theirs.recv(1) == b""
        assert around.context.totals.current == 0


# Failed logins

RIGHT, WRONG = b"set a 0 0 5\r\nann x\r\n", b"set a 0 0 5\r\nann y\r\n"
REFUSED = b"CLIENT_ERROR authentication failure\r\n"
DELAY_SECONDS = 0.6


@pytest.fixture
def guarded(serve: MakeServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """A worker that delays the reply to every failed login."""
    monkeypatch.setattr(users_module, "UNDELAYED_FAILURES", 0)
    monkeypatch.setattr(users_module, "LONGEST_DELAY_SECONDS", DELAY_SECONDS)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    path = tmp_path / "users"
    path.write_bytes(b"ann:x\n")
    return serve(users=Users(path))


def test_a_failed_login_is_answered_late_and_holds_up_nobody(guarded: Serving) -> None:
    client, other = guarded.connect(), guarded.connect()
    began = time.monotonic()
    client.sendall(WRONG)
    ask(other, RIGHT, STORED)
    for _ in range(20):
        ask(other, b"version\r\n", VERSION)
    assert time.monotonic() - began < DELAY_SECONDS
    assert client.recv(100) == REFUSED
    assert time.monotonic() - began >= DELAY_SECONDS
    ask(client, RIGHT, STORED)
    ask(client, b"version\r\n", VERSION)


def test_what_follows_a_failed_login_waits_with_it(guarded: Serving) -> None:
    client = guarded.connect()
    began = time.monotonic()
    ask(client, WRONG + RIGHT + b"version\r\n", REFUSED + STORED + VERSION)
    assert time.monotonic() - began >= DELAY_SECONDS


def test_the_delays_of_pipelined_logins_add_up(guarded: Serving) -> None:
    client = guarded.connect()
    began = time.monotonic()
    ask(client, WRONG * 3, REFUSED * 3)
    assert time.monotonic() - began >= 3 * DELAY_SECONDS


def test_a_hash_is_checked_beside_the_loop_and_the_right_password_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no check comes to its end, others are served; once they do, each login has its answer."""
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    go, path = threading.Event(), tmp_path / "users"
    path.write_bytes(b"ann:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\nbob:clear\n")
    users = Users(path)
    is_known = users.is_known

    def check(name: bytes, password: bytes) -> bool:
        assert go.wait(PATIENCE_SECONDS)
        return is_known(name, password)

    monkeypatch.setattr(users, "is_known", check)
    serving = Serving(users=users)
    strangers = [serving.connect() for _ in range(3)]
    for stranger in strangers:
        stranger.sendall(b"set a 0 0 5\r\nann y\r\nversion\r\n")
    right, other = serving.connect(), serving.connect()
    right.sendall(b"set a 0 0 5\r\nann x\r\nversion\r\n")
    poll_until(lambda: serving.states().count(State.THROTTLED) == 4, "all wait for their checks")
    ask(other, b"set a 0 0 9\r\nbob clear\r\n", STORED)
    ask(other, b"version\r\n" * 100, VERSION * 100)
    go.set()
    assert read(right, len(STORED + VERSION)) == STORED + VERSION
    for stranger in strangers:
        assert stranger.recv(100).startswith(b"CLIENT_ERROR authentication failure\r\n")
    serving.close()


def test_who_does_not_log_in_is_closed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [0.0]
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(throttle_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))
    path = tmp_path / "users"
    path.write_bytes(b"ann:x\n")
    serving = Serving(Settings(login_timeout=600, auth_file=path), users=Users(path))
    logged_in = serving.connect()
    ask(logged_in, b"set a 0 0 5\r\nann x\r\n", STORED)
    strangers = [serving.connect() for _ in range(3)]
    strangers[1].sendall(b"set a 0 0 500\r\nhalf a login")
    poll_until(lambda: len(serving.states()) == 4, "all are connected")
    ahead[0] = 601.0
    for stranger in strangers:
        assert read_to_the_end(stranger) == b""
    said = ask_to_the_end(logged_in, b"stats\r\nquit\r\n")
    assert b"STAT memcache_kv_login_timeouts 3\r\n" in said
    assert serving.around.logged == ["closed a connection from unix: it did not log in within 600 seconds"]
    serving.close()


def ask_to_the_end(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    return read_to_the_end(client)


def test_a_connection_is_closed_after_too_many_failed_logins(guarded: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "LONGEST_DELAY_SECONDS", 0.01)
    client = guarded.connect()
    ask(client, WRONG * 100 + RIGHT, REFUSED * users_module.FAILURES_LIMIT)
    assert client.recv(1) == b""
    assert guarded.around.counters.auth_errors == users_module.FAILURES_LIMIT
    assert guarded.totals.current == 0


def test_a_client_that_does_not_wait_for_the_answer_to_a_failed_login_is_closed(guarded: Serving) -> None:
    client = guarded.connect()
    client.sendall(WRONG)
    client.close()
    poll_until(lambda: guarded.totals.current == 0, "it is closed")


def test_a_stop_does_not_wait_for_a_throttled_client(guarded: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "LONGEST_DELAY_SECONDS", 1000.0)
    monkeypatch.setattr(users_module, "UNDELAYED_FAILURES", -20)
    monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 1)
    guarded.connect().sendall(WRONG)
    poll_until(lambda: guarded.states() == [State.THROTTLED], "the reply is held back")
    guarded.stop()
    assert guarded.totals.current == 0


# Lone requests, which the loop serves by itself


def test_a_client_that_reads_late_gets_all_replies_to_its_lone_requests(serve: MakeServing) -> None:
    serving = serve()
    client, value = serving.connect(), b"v" * 4000
    ask(client, b"set a 0 0 4000\r\n%b\r\n" % value, b"STORED\r\n")
    reply, asked = b"VALUE a 0 4000\r\n%b\r\nEND\r\n" % value, 0
    while not serving.has_unsent():
        before = serving.around.counters.get_hits
        client.sendall(b"get a\r\n")
        asked += 1
        poll_until(
            lambda: serving.around.counters.get_hits > before or serving.has_unsent(),  # noqa: B023
            "it is carried out, or waits behind one that was",
        )
        assert asked < 10_000
    client.sendall(b"get a\r\nmn\r\n")
    assert read(client, len(reply) * (asked + 1)) == reply * (asked + 1)
    assert read(client, 4) == b"MN\r\n"
    assert serving.around.counters.get_hits == asked + 1


def test_a_client_that_is_gone_before_its_lone_reply_is_closed(serve: MakeServing) -> None:
    serving = serve()
    leaving, staying = serving.connect(), serving.connect()
    ask(leaving, b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
    leaving.sendall(b"get a\r\n")
    leaving.close()
    poll_until(lambda: serving.totals.current == 1, "it is closed")
    ask(staying, b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n")


def test_bytes_of_lone_requests_are_counted_before_the_next_is_told(serve: MakeServing) -> None:
    serving = serve()
    client = serving.connect()
    ask(client, b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
    ask(client, b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n")
    client.sendall(b"stats\r\n")
    told = client.recv(65536)
    assert b"STAT bytes_read %d\r\n" % (16 + 7 + 7) in told
    assert b"STAT bytes_written %d\r\n" % (8 + 21) in told


# The first reads, which are short


@pytest.mark.parametrize("size", [*range(FIRST_READ_BYTES - 2, FIRST_READ_BYTES + 3), 2 * FIRST_READ_BYTES])
def test_a_first_request_of_any_size_is_answered_at_once(serve: MakeServing, size: int) -> None:
    client = serve().connect()
    value = b"v" * (size - len(b"set a 0 0 100\r\n\r\n"))
    request = b"set a 0 0 %d\r\n%b\r\n" % (len(value), value)
    assert len(request) == size
    ask(client, request, STORED)
    ask(client, b"get a\r\n", value_reply(b"a", value) + END)


def test_a_client_that_sends_much_at_once_is_read_from_in_large_pieces_at_once_and_from_then_on(
    serve: MakeServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    really_read = os.read
    serving = serve(is_interpreted=True)

    def note_and_read(fd: int, size: int) -> bytes:
        asked.append(size)
        return really_read(fd, size)

    monkeypatch.setattr(os, "read", note_and_read)
    client = serving.connect()
    ask(client, b"mn\r\n", b"MN\r\n")
    ask(client, b"mn\r\n" * 1000, b"MN\r\n" * 1000)
    ask(client, b"mn\r\n", b"MN\r\n")
    sizes = [size for size in asked if size in (FIRST_READ_BYTES, READ_BYTES)]
    assert sizes[:3] == [FIRST_READ_BYTES, FIRST_READ_BYTES, READ_BYTES]
    assert set(sizes[3:]) == {READ_BYTES}


# Protocols


@pytest.mark.parametrize("binding", ["auto", "binary"])
def test_a_client_that_speaks_binary_is_answered_in_binary(serve: MakeServing, binding: str) -> None:
    client = serve(Settings(binding_protocol=binding)).connect()
    version = PROTOCOL_VERSION.encode()
    reply = b"\x81\x0b" + bytes(9) + bytes([len(version)]) + bytes(12) + version
    ask(client, b"\x80\x0b" + bytes(22), reply)
    ask(client, (b"\x80\x0b" + bytes(22)) * 3, reply * 3)


def test_a_client_that_speaks_binary_a_byte_at_a_time_is_answered(serve: MakeServing) -> None:
    client = serve(Settings(binding_protocol="auto")).connect()
    for byte in b"\x80\x0a" + bytes(22):
        client.sendall(bytes([byte]))
        time.sleep(0.002)
    ask(client, b"", b"\x81\x0a" + bytes(22))


@pytest.mark.parametrize(
    ("first", "reply"),
    [
        (b"get a\r\n", END),
        (b"get a b\r\n", END),
        (b"set a 0 0 1\r\nx\r\n", STORED),
        (b"set a 0 0 5000\r\n%b\r\n" % bytes(5000), STORED),
        (b"version\r\n", VERSION),
        (b"set a 0 0 1 noreply\r\nx\r\n", b""),
    ],
)
def test_the_first_byte_decides_the_protocol_for_good(serve: MakeServing, first: bytes, reply: bytes) -> None:
    client = serve(Settings(binding_protocol="auto")).connect()
    ask(client, first + b"mn\r\n" * (not reply), reply + b"MN\r\n" * (not reply))
    ask(client, b"\x80\x0b" + bytes(22) + b"\r\nmn\r\n", b"ERROR\r\nMN\r\n")


@pytest.mark.parametrize("journaled", [False, True])
@pytest.mark.parametrize(
    ("request_bytes", "kind"), [(b"mn\r\n", TextProtocol), (b"\x80\x0a" + bytes(22), BinaryProtocol)]
)
def test_there_is_no_protocol_before_the_first_byte_and_one_from_then_on(
    serve: MakeServing, journaled: bool, request_bytes: bytes, kind: type
) -> None:
    serving = serve(Settings(binding_protocol="auto"), FakeJournal() if journaled else None)
    client = serving.connect()
    poll_until(lambda: serving.worker.connections, "the worker has it")
    [connection] = serving.worker.connections
    assert type(connection.protocol) is Undecided
    client.sendall(request_bytes)
    assert client.recv(100)
    protocol = connection.protocol
    assert type(protocol) is kind
    client.sendall(request_bytes)
    assert client.recv(100)
    assert connection.protocol is protocol


def test_half_a_line_decides_the_protocol_too(serve: MakeServing) -> None:
    client = serve(Settings(binding_protocol="auto")).connect()
    client.sendall(b"ge")
    time.sleep(0.05)
    ask(client, b"t a\r\n", END)
    ask(client, b"\x80\x0b" + bytes(22) + b"\r\nmn\r\n", b"ERROR\r\nMN\r\n")


def test_text_is_no_protocol_for_a_connection_that_began_in_binary(serve: MakeServing) -> None:
    client = serve(Settings(binding_protocol="auto")).connect()
    ask(client, b"\x80\x0a" + bytes(22), b"\x81\x0a" + bytes(22))
    client.sendall(b"get a\r\n" * 10)
    assert client.recv(100) == b""


def test_text_and_binary_have_the_same_items(serve: MakeServing) -> None:
    serving = serve(Settings(binding_protocol="auto"))
    text, binary = serving.connect(), serving.connect()
    ask(text, b"set a 0 0 1\r\nx\r\n", STORED)
    binary.sendall(b"\x80\x00\x00\x01" + bytes(7) + b"\x01" + bytes(12) + b"a")
    assert binary.recv(100).endswith(b"x")


# Faults


def test_a_fault_costs_its_connection_alone(serve: MakeServing, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = serve()
    unlucky, other = serving.connect(), serving.connect()
    for client in (unlucky, other):
        ask(client, b"version\r\n", VERSION)
    receive = TextProtocol.receive

    def fail_on_fault(protocol: TextProtocol, data: bytes) -> bool:
        if data.startswith(b"fault"):
            raise MemoryError("no memory left")
        return receive(protocol, data)

    monkeypatch.setattr(TextProtocol, "receive", fail_on_fault)
    monkeypatch.setattr(TextProtocol, "receive_rest", lambda protocol, data, done: fail_on_fault(protocol, data))
    unlucky.sendall(b"fault\r\n")
    assert unlucky.recv(1) == b""
    ask(other, b"version\r\n", VERSION)
    poll_until(lambda: "no memory left" in serving.around.stream.getvalue(), "it is logged")
    [line] = serving.around.logged
    assert re.fullmatch(
        r"<\d+ dropped after an error of the server: MemoryError: no memory left "
        r"\(at memcache_kv\.server\.worker:\d+\)",
        line,
    )
    assert serving.totals.current == 1


def test_why_a_connection_broke_is_told_under_v(serve: MakeServing) -> None:
    serving = serve()
    serving.around.context.log.verbosity = 1
    client = serving.connect()
    client.sendall(b"version\r\n")
    assert client.recv(1, socket.MSG_PEEK) == b"V"
    client.close()  # with a reply unread, which the other end is told as a reset
    poll_until(lambda: "connection closed" in serving.around.stream.getvalue(), "it is noticed")
    assert any(line.endswith(" broken: Connection reset by peer") for line in serving.around.logged)


class Unsettable(socket.socket):
    """A socket whose peer has left before its options were set, as some systems report it."""

    def setsockopt(self, *arguments: object) -> None:
        raise OSError(22, "Invalid argument")


def test_a_socket_whose_options_cannot_be_set_is_served_too(serve: MakeServing) -> None:
    serving = serve()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS)
        serving.clients.append(client)
        accepted, _ = listener.accept()
    assert serving.totals.open()
    serving.worker.adopt(Unsettable(fileno=accepted.detach()))
    ask(client, b"version\r\n", VERSION)


def test_an_idle_worker_still_ticks_the_clock_and_flushes(serve: MakeServing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    serving = serve()
    serving.keep(b"a", b"x")
    serving.worker.wake()
    serving.around.store.flush(serving.around.store.clock.now + 1)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while len(serving.around.store) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert len(serving.around.store) == 0
