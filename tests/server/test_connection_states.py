"""The states of connections: each transition of the table happens, and no other can."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from memcache_kv.auth import users as users_module
from memcache_kv.auth.users import Users
from memcache_kv.config.settings import Settings
from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.session import SPARE_BLOCK_PART
from memcache_kv.server import connection_memory as connection_memory_module
from memcache_kv.server import throttle as throttle_module
from memcache_kv.server import worker as worker_module
from memcache_kv.server.connection import TRANSITIONS, Connection, IllegalTransition, State
from memcache_kv.server.poller import SelectorPoller
from tests.certificates import Certificates, make_certificates
from tests.program import poll_until
from tests.protocol.binary.binary_packets import Packet
from tests.protocol.context_factory import Surroundings
from tests.server.test_closed_connections import TlsServing
from tests.server.test_worker import END, STORED, VERSION, FakeJournal, Serving, ask, read, read_to_the_end, value_reply

HANDSHAKE, READING, WAITING_FOR_JOURNAL, WAITING_FOR_SOCKET, WAITING_FOR_MEMORY, PAUSED, THROTTLED, CLOSING = State
Transition = tuple[State, State]

BIG = b"b" * 900_000
"""More than a socket takes at once."""
BIG_REPLY = value_reply(b"big", BIG) + END
SET, QUIT = b"set a 0 0 1\r\nx\r\n", b"quit\r\n"
RIGHT, WRONG = b"set a 0 0 5\r\nann x\r\n", b"set a 0 0 5\r\nann y\r\n"
REFUSED = b"CLIENT_ERROR authentication failure\r\n"
BINARY_WRONG = Packet(Opcode.SASL_AUTH, b"PLAIN", b"", b"\0ann\0y").to_bytes()
BINARY_VERSION = Packet(Opcode.VERSION).to_bytes()


class StandingTime:
    """The time as the throttle gets it, which stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Stage:
    """A worker with one client, a journal that the test moves, and the transitions that its connections made."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = FakeJournal()
        self.time = StandingTime()
        self.transitions: list[Transition] = []
        self.monkeypatch = monkeypatch
        self._tmp_path = tmp_path
        self._made: list[Serving] = []
        enter = Connection.enter

        def enter_and_record(connection: Connection, state: State) -> None:
            before = connection.state
            enter(connection, state)
            self.transitions.append((before, state))

        monkeypatch.setattr(Connection, "enter", enter_and_record)
        monkeypatch.setattr(throttle_module, "time", self.time)
        monkeypatch.setattr(users_module, "UNDELAYED_FAILURES", 0)
        monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
        monkeypatch.setattr(worker_module, "DRAIN_SECONDS", 0)

    def serve(self, requests_per_turn: int = 20, journal: bool = False, login: bool = False) -> socket.socket:
        """Start a worker; return its first client."""
        settings = Settings(
            max_reqs_per_event=requests_per_turn, enable_sasl=login, binding_protocol="auto", login_timeout=0
        )
        users = self._tmp_path / "users"
        users.write_bytes(b"ann:x\n")
        self._made.append(Serving(settings, self.journal if journal else None, Users(users) if login else None))
        self.serving.keep(b"big", BIG)
        return self.serving.connect()

    @property
    def serving(self) -> Serving:
        return self._made[-1]

    def serve_tls(self) -> tuple[socket.socket, Certificates]:
        """Start a worker; return its first client, which has yet to shake hands, and what it needs for that."""
        certificates = make_certificates(self._tmp_path)
        serving = TlsServing(certificates)
        self._made.append(serving)
        return serving.connect(), certificates

    def await_state(self, state: State) -> None:
        poll_until(lambda: self.serving.states()[:1] == [state], f"the first connection is {state.name}")

    def await_transition(self, *transition: State) -> None:
        poll_until(lambda: transition in self.transitions, " to ".join(state.name for state in transition))

    def close(self) -> None:
        for serving in self._made:
            serving.close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    yield made
    made.close()


# What brings a connection from one state into another


def shake_hands(stage: Stage) -> None:
    client, certificates = stage.serve_tls()
    with certificates.context().wrap_socket(client, server_hostname="localhost") as secured:
        ask(secured, b"version\r\n", VERSION)


def fail_a_handshake(stage: Stage) -> None:
    client, _ = stage.serve_tls()
    client.sendall(b"no TLS at all\r\n" * 10)
    poll_until(lambda: stage.serving.totals.current == 0, "it is closed")


def change(stage: Stage) -> None:
    """Change an item; the journal has it later."""
    client = stage.serve(journal=True)
    client.sendall(SET)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    assert read(client, len(STORED)) == STORED
    stage.await_state(READING)
    stage.transitions.append((WAITING_FOR_JOURNAL, READING))  # seen here, as the compiled turn calls no `enter`


def change_and_ask_for_much(stage: Stage) -> None:
    client = stage.serve(journal=True)
    client.sendall(SET + b"get big\r\n")
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    stage.await_state(WAITING_FOR_SOCKET)
    assert read(client, len(STORED + BIG_REPLY)) == STORED + BIG_REPLY


def change_and_go_on(stage: Stage) -> None:
    client = stage.serve(1, journal=True)
    client.sendall(SET + b"version\r\n")
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    assert read(client, len(STORED + VERSION)) == STORED + VERSION


def change_and_quit(stage: Stage) -> None:
    client = stage.serve(journal=True)
    client.sendall(SET + QUIT)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    assert read_to_the_end(client) == STORED


def change_and_fail_to_log_in(stage: Stage) -> None:
    """Both wait: for the journal first, then for what is left of the delay."""
    client = stage.serve(journal=True, login=True)
    client.sendall(WRONG + RIGHT + SET)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    assert read(client, len(REFUSED + STORED * 2)) == REFUSED + STORED * 2
    ask(client, b"version\r\n", VERSION)


def change_in_a_later_turn(stage: Stage) -> None:
    client = stage.serve(1, journal=True)
    client.sendall(b"version\r\n" + SET)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.reach(1)
    assert read(client, len(VERSION + STORED)) == VERSION + STORED


def read_late(stage: Stage) -> None:
    client = stage.serve()
    client.sendall(b"get big\r\n")
    stage.await_state(WAITING_FOR_SOCKET)
    start = read(client, len(BIG_REPLY) // 2)
    stage.await_transition(WAITING_FOR_SOCKET, WAITING_FOR_SOCKET)  # the socket takes less than the other half
    assert start + read(client, len(BIG_REPLY) - len(start)) == BIG_REPLY
    stage.await_state(READING)


def read_late_and_quit(stage: Stage) -> None:
    client = stage.serve()
    client.sendall(b"get big\r\n" + QUIT)
    stage.await_state(WAITING_FOR_SOCKET)
    assert read_to_the_end(client) == BIG_REPLY


def read_late_between_turns(stage: Stage) -> None:
    client = stage.serve(1)
    client.sendall(b"version\r\nget big\r\nversion\r\n")
    stage.await_state(WAITING_FOR_SOCKET)
    expected = VERSION + BIG_REPLY + VERSION
    assert read(client, len(expected)) == expected


def ask_for_several_turns(stage: Stage) -> None:
    client = stage.serve(1)
    ask(client, b"version\r\n" * 3, VERSION * 3)
    stage.await_state(READING)


def quit_in_a_later_turn(stage: Stage) -> None:
    client = stage.serve(1)
    client.sendall(b"version\r\n" + QUIT)
    assert read_to_the_end(client) == VERSION


def quit(stage: Stage) -> None:
    client = stage.serve()
    client.sendall(QUIT)
    assert read_to_the_end(client) == b""


def fail_to_log_in(stage: Stage) -> None:
    client = stage.serve(login=True)
    client.sendall(WRONG)
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    assert read(client, len(REFUSED)) == REFUSED
    stage.await_state(READING)


def fail_to_log_in_and_ask_for_much(stage: Stage) -> None:
    client = stage.serve(login=True)
    client.sendall(WRONG + RIGHT + b"get big\r\n")
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    stage.await_state(WAITING_FOR_SOCKET)
    expected = REFUSED + STORED + BIG_REPLY
    assert read(client, len(expected)) == expected


def fail_to_log_in_and_go_on(stage: Stage) -> None:
    client = stage.serve(1, login=True)
    client.sendall(WRONG + RIGHT + b"version\r\n" * 3)
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    expected = REFUSED + STORED + VERSION * 3
    assert read(client, len(expected)) == expected


def fail_to_log_in_and_quit(stage: Stage) -> None:
    client = stage.serve(login=True)
    client.sendall(WRONG + RIGHT + QUIT)
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    assert read_to_the_end(client) == REFUSED + STORED


def fail_to_log_in_in_a_later_turn(stage: Stage) -> None:
    client = stage.serve(1, login=True)
    client.sendall(BINARY_VERSION + BINARY_WRONG)
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    stage.await_state(READING)


def wait_for_memory(stage: Stage) -> None:
    """Send a part of a large value while others keep nearly all of the memory; the rest is read once they do not."""
    client = stage.serve()
    memory = stage.serving.around.context.connection_memory
    client.sendall(b"set a 0 0 %d\r\n" % len(BIG) + BIG[:-1])
    all_bytes = len(BIG) - 1 + (len(BIG) - 1) // SPARE_BLOCK_PART
    poll_until(lambda: memory.used_bytes >= all_bytes, "all that was sent is counted")
    others = memory.limit_bytes - memory.used_bytes
    memory.add(others)
    stage.await_state(WAITING_FOR_MEMORY)
    memory.add(-others)
    client.sendall(BIG[-1:] + b"\r\n")
    assert read(client, len(STORED)) == STORED


def wait_for_memory_in_vain(stage: Stage) -> None:
    stage.monkeypatch.setattr(connection_memory_module, "WAIT_SECONDS", 0.01)
    client = stage.serve()
    memory = stage.serving.around.context.connection_memory
    memory.add(memory.limit_bytes - 2 * len(BIG))
    with contextlib.suppress(OSError):  # it is closed while it sends
        client.sendall(b"set a 0 0 %d\r\n" % len(BIG) + BIG[:-1])
    stage.await_transition(WAITING_FOR_MEMORY, CLOSING)
    assert memory.closed == 1


SCENARIOS: dict[Transition, Callable[[Stage], None]] = {
    (HANDSHAKE, READING): shake_hands,
    (HANDSHAKE, CLOSING): fail_a_handshake,
    (READING, WAITING_FOR_JOURNAL): change,
    (READING, THROTTLED): fail_to_log_in,
    (READING, WAITING_FOR_SOCKET): read_late,
    (READING, WAITING_FOR_MEMORY): wait_for_memory,
    (READING, PAUSED): ask_for_several_turns,
    (READING, CLOSING): quit,
    (WAITING_FOR_JOURNAL, READING): change,
    (WAITING_FOR_JOURNAL, THROTTLED): change_and_fail_to_log_in,
    (WAITING_FOR_JOURNAL, WAITING_FOR_SOCKET): change_and_ask_for_much,
    (WAITING_FOR_JOURNAL, PAUSED): change_and_go_on,
    (WAITING_FOR_JOURNAL, CLOSING): change_and_quit,
    (WAITING_FOR_SOCKET, READING): read_late,
    (WAITING_FOR_SOCKET, WAITING_FOR_SOCKET): read_late,
    (WAITING_FOR_SOCKET, PAUSED): read_late_between_turns,
    (WAITING_FOR_SOCKET, CLOSING): read_late_and_quit,
    (WAITING_FOR_MEMORY, READING): wait_for_memory,
    (WAITING_FOR_MEMORY, CLOSING): wait_for_memory_in_vain,
    (PAUSED, READING): ask_for_several_turns,
    (PAUSED, WAITING_FOR_JOURNAL): change_in_a_later_turn,
    (PAUSED, THROTTLED): fail_to_log_in_in_a_later_turn,
    (PAUSED, WAITING_FOR_SOCKET): read_late_between_turns,
    (PAUSED, PAUSED): ask_for_several_turns,
    (PAUSED, CLOSING): quit_in_a_later_turn,
    (THROTTLED, READING): fail_to_log_in,
    (THROTTLED, WAITING_FOR_SOCKET): fail_to_log_in_and_ask_for_much,
    (THROTTLED, PAUSED): fail_to_log_in_and_go_on,
    (THROTTLED, CLOSING): fail_to_log_in_and_quit,
}


def name_of(transition: object) -> str:
    return "-".join(state.name for state in transition) if isinstance(transition, tuple) else ""


ALLOWED = {(state, following) for state, all_following in TRANSITIONS.items() for following in all_following}
OTHERS = sorted(set(product(State, State)) - ALLOWED, key=name_of)


def test_the_table_has_every_state_and_each_transition_a_scenario() -> None:
    assert TRANSITIONS.keys() == set(State)
    assert SCENARIOS.keys() == ALLOWED


@pytest.mark.parametrize("transition", SCENARIOS, ids=name_of)
def test_each_transition_of_the_table_happens(stage: Stage, transition: Transition) -> None:
    SCENARIOS[transition](stage)
    stage.await_transition(*transition)
    assert set(stage.transitions) <= ALLOWED
    assert "error of the server" not in stage.serving.around.stream.getvalue()


@pytest.mark.parametrize("transition", OTHERS, ids=name_of)
def test_every_other_transition_raises(transition: Transition) -> None:
    before, after = transition
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, TextProtocol(Surroundings().context, ours.fileno()), 0)
        connection.state = before
        with pytest.raises(IllegalTransition, match=f"{before.name} to {after.name}"):
            connection.enter(after)
        assert connection.state is before


def test_an_illegal_transition_costs_its_connection_alone_and_is_logged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky = stage.serve(1)
    other = stage.serving.connect()
    ask(other, b"version\r\n", VERSION)
    monkeypatch.setitem(TRANSITIONS, READING, frozenset((CLOSING,)))
    unlucky.sendall(b"version\r\n" * 3)
    read_to_the_end(unlucky)
    ask(other, b"version\r\n", VERSION)
    [line] = stage.serving.around.logged
    assert "IllegalTransition: READING to PAUSED" in line
    assert stage.serving.states() == [READING]


# What follows from a state


@pytest.mark.parametrize(
    ("state", "reported"),
    [
        (HANDSHAKE, "conn_new_cmd"),
        (READING, "conn_read"),
        (WAITING_FOR_JOURNAL, "conn_mwrite"),
        (WAITING_FOR_SOCKET, "conn_mwrite"),
        (PAUSED, "conn_new_cmd"),
        (THROTTLED, "conn_mwrite"),
        (CLOSING, "conn_closing"),
    ],
)
def test_each_state_has_its_name_in_stats_conns_and_one_alone_can_be_idle(state: State, reported: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, TextProtocol(Surroundings().context, ours.fileno()), 0)
        connection.state = state
        assert connection.status(100).state == reported
        assert connection.is_idle(100, 99) == (state is READING)
        assert not connection.is_idle(100, 100)


class RecordingPoller(SelectorPoller):
    """A poller that keeps what it reported."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[int] = []

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        events = super().poll(timeout)
        self.reported += [fd for fd, _ in events]
        return events


@pytest.mark.parametrize("state", [WAITING_FOR_JOURNAL, THROTTLED])
def test_input_that_comes_while_nothing_is_read_is_reported_once(
    stage: Stage, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = RecordingPoller()
    monkeypatch.setattr(worker_module, "new_poller", lambda: poller)
    is_throttled = state is THROTTLED
    waiting = stage.serve(journal=not is_throttled, login=is_throttled)
    other = stage.serving.connect()
    waiting.sendall(WRONG if is_throttled else SET)
    stage.await_state(state)
    ask(other, RIGHT if is_throttled else b"version\r\n", STORED if is_throttled else VERSION)
    [fd] = [connection.fd for connection in stage.serving.worker.connections if connection.state is state]
    poller.reported.clear()
    waiting.sendall(RIGHT if is_throttled else b"get a\r\n")
    for _ in range(20):
        ask(other, b"version\r\n", VERSION)
    assert len(poller.reported) >= 20
    assert poller.reported.count(fd) == 1


# Several reasons to wait at once


def test_one_who_watches_and_reads_late_gets_what_came_meanwhile_in_order(stage: Stage) -> None:
    client = stage.serve()
    other = stage.serving.connect()
    watchers = stage.serving.around.context.observers.watchers
    ask(client, b"watch fetchers\r\n", b"OK\r\n")
    while stage.serving.states()[0] is not WAITING_FOR_SOCKET:
        for _ in range(100):
            watchers.looked_up(7, b"k" * 250, None)
        ask(other, b"version\r\n", VERSION)
    watchers.looked_up(7, b"last", None)
    ask(other, b"version\r\n", VERSION)
    assert stage.serving.states()[0] is WAITING_FOR_SOCKET
    assert (WAITING_FOR_SOCKET, PAUSED) not in stage.transitions
    text = b""
    while b" key=last " not in text:
        text += client.recv(1 << 20)
    assert text.count(b" type=item_get ") == watchers.sent
    assert watchers.skipped == 0
    assert (WAITING_FOR_SOCKET, PAUSED) in stage.transitions


def test_a_delay_that_ends_while_the_journal_is_awaited_is_not_waited_for_again(stage: Stage) -> None:
    client = stage.serve(journal=True, login=True)
    client.sendall(WRONG + RIGHT + SET)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.time.now += 1000
    stage.journal.reach(1)
    assert read(client, len(REFUSED + STORED * 2)) == REFUSED + STORED * 2
    assert THROTTLED not in {after for _, after in stage.transitions}


def test_a_failed_disk_is_told_of_after_the_delay_too(stage: Stage) -> None:
    client = stage.serve(journal=True, login=True)
    client.sendall(WRONG + RIGHT + SET)
    stage.await_state(WAITING_FOR_JOURNAL)
    stage.journal.fail()
    stage.await_state(THROTTLED)
    stage.time.now += 1000
    assert read_to_the_end(client) == b"", "more than one reply can't be taken back: the connection is closed"
    assert stage.journal.refusals == 1


@pytest.mark.parametrize("state", [WAITING_FOR_JOURNAL, THROTTLED])
def test_one_who_hangs_up_while_it_waits_is_closed_once_its_replies_are_due(stage: Stage, state: State) -> None:
    client = stage.serve(journal=state is WAITING_FOR_JOURNAL, login=state is THROTTLED)
    client.sendall(WRONG if state is THROTTLED else SET)
    stage.await_state(state)
    client.close()
    ask_other = stage.serving.connect()
    ask_other.sendall(b"get a\r\n")
    if state is WAITING_FOR_JOURNAL:
        assert ask_other.recv(100)
    assert stage.serving.states()[0] is state
    stage.journal.reach(1)
    stage.time.now += 1000
    poll_until(lambda: stage.serving.totals.current == 1, "it is closed")
