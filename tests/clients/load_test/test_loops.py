"""The loops of the load: how many requests they send and when, and what they count when a server fails."""

import itertools
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from clients.load_test.closed_loop import ENDLESS, ClosedLoop, deadline_after
from clients.load_test.connection import Connection
from clients.load_test.loop import Loop
from clients.load_test.open_loop import OpenLoop
from clients.load_test.tally import Tally
from clients.load_test.wires.line import LineWire
from clients.load_test.wires.wire import Outcome
from tests.clients.load_test.fake_server import FakeServer, answer_lines

GETS = itertools.repeat((b"GET k\n", True))
MILLISECONDS = 1_000_000


class Counts:
    """What a loop reports, added up."""

    def __init__(self, go_on: Callable[[], bool] = lambda: True) -> None:
        self.latencies: list[int] = []
        self.outcomes = [0] * len(Outcome)
        self.messages: dict[str, int] = {}
        self._go_on = go_on

    def __call__(self, tally: Tally) -> bool:
        self.latencies += [latency for latency, count in tally.latencies.items() for _ in range(count)]
        self.outcomes = [before + now for before, now in zip(self.outcomes, tally.outcomes, strict=True)]
        self.messages |= tally.messages
        return self._go_on()


def closed_loop(address: tuple[str, int], requests: int, depth: int, counts: Counts) -> ClosedLoop:
    return ClosedLoop(LineWire(0), GETS, [Connection(address, requests)], depth, counts)


def close(connection: Connection) -> None:
    """Close the socket that the connection has in the end."""
    connection.socket.close()


def run(loop: Loop) -> None:
    """Run a loop to its end, and close its connections."""
    with ExitStack() as stack:
        for connection in loop.connections:
            stack.callback(close, connection)
        loop.run()


def test_each_connection_sends_its_number_of_requests() -> None:
    counts = Counts()
    with FakeServer(lambda connection, number: answer_lines(connection, 1000)) as server:
        run(closed_loop(server.address, 37, 1, counts))
    assert counts.outcomes == [0, 37, 0, 0]
    assert len(counts.latencies) == 37


def test_so_many_requests_are_in_flight_as_pipeline_says() -> None:
    def answer_in_eights(connection: socket.socket, number: int) -> None:
        lines = connection.makefile("rb")
        for _ in range(3):
            assert [lines.readline() for _ in range(8)] == [b"GET k\n"] * 8
            connection.sendall(b"OK v\n" * 8)

    counts = Counts()
    with FakeServer(answer_in_eights) as server:
        run(closed_loop(server.address, 24, 8, counts))
    assert counts.outcomes == [0, 24, 0, 0]


def test_a_request_that_the_socket_does_not_take_whole_is_sent_in_parts() -> None:
    value = b"v" * (8 << 20)

    def read_slowly(connection: socket.socket, number: int) -> None:
        time.sleep(0.1)
        assert connection.makefile("rb").readline() == b"PUT k " + value + b"\n"
        connection.sendall(b"OK stored\n")

    counts = Counts()
    requests = itertools.repeat((LineWire(0).put(b"k", value), False))
    with FakeServer(read_slowly) as server:
        run(ClosedLoop(LineWire(0), requests, [Connection(server.address, 1)], 1, counts))
    assert counts.outcomes == [1, 0, 0, 0]


def test_a_reply_in_pieces_is_one_reply() -> None:
    def answer_in_pieces(connection: socket.socket, number: int) -> None:
        for _ in connection.makefile("rb"):
            for byte in b"OK v\n":
                connection.sendall(bytes([byte]))

    counts = Counts()
    with FakeServer(answer_in_pieces) as server:
        run(closed_loop(server.address, 5, 2, counts))
    assert counts.outcomes == [0, 5, 0, 0]


def test_a_duration_ends_the_load() -> None:
    counts = Counts()
    with FakeServer(lambda connection, number: answer_lines(connection, ENDLESS)) as server:
        loop = closed_loop(server.address, ENDLESS, 1, counts)
        loop.deadline = deadline_after(time.monotonic_ns(), 0.1)
        run(loop)
    assert counts.outcomes[Outcome.HIT] > 0
    assert counts.outcomes[Outcome.ERROR] == 0


def test_the_load_ends_when_the_report_says_so() -> None:
    counts = Counts(lambda: False)
    with FakeServer(lambda connection, number: answer_lines(connection, ENDLESS)) as server:
        run(closed_loop(server.address, ENDLESS, 1, counts))
    assert counts.outcomes[Outcome.ERROR] == 0


def test_what_a_lost_connection_does_not_answer_is_an_error_and_the_load_goes_on() -> None:
    counts = Counts()
    with FakeServer(lambda connection, number: answer_lines(connection, 3 if number == 0 else 1000)) as server:
        run(closed_loop(server.address, 10, 1, counts))
    assert counts.outcomes == [0, 9, 0, 1]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_server_that_is_gone_ends_the_load_with_errors(monkeypatch: pytest.MonkeyPatch, is_open: bool) -> None:
    monkeypatch.setattr("clients.load_test.loop.TRIES", 2)
    monkeypatch.setattr("clients.load_test.open_loop.TRIES", 2)
    counts = Counts()
    with FakeServer(lambda connection, number: server.stop_listening()) as server:
        connection = Connection(server.address, 10)
        if is_open:
            run(OpenLoop(LineWire(0), GETS, [connection], 2, counts, 1000.0, 10, time.monotonic_ns()))
        else:
            run(ClosedLoop(LineWire(0), GETS, [connection], 2, counts))
    assert counts.outcomes == [0, 0, 0, 10]
    assert "cannot connect: Connection refused" in counts.messages


def test_a_reply_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.load_test.loop.REPLY_SECONDS", 0.1)
    counts = Counts()

    def be_silent_once(connection: socket.socket, number: int) -> None:
        if number:
            answer_lines(connection, 1000)
        else:
            connection.recv(100)
            assert connection.recv(100) == b""

    with FakeServer(be_silent_once) as server:
        run(closed_loop(server.address, 4, 1, counts))
    assert counts.outcomes == [0, 3, 0, 1]
    assert list(counts.messages) == ["no reply within 0.1 s"]


def test_more_replies_than_requests_are_no_replies() -> None:
    counts = Counts()

    def say_too_much(connection: socket.socket, number: int) -> None:
        connection.recv(100)
        connection.sendall(b"OK v\nOK v\n")
        connection.recv(100)

    with FakeServer(say_too_much) as server:
        run(closed_loop(server.address, 1, 1, counts))
    assert counts.outcomes[Outcome.HIT] == 1


def test_an_error_keeps_its_message() -> None:
    counts = Counts()

    def refuse(connection: socket.socket, number: int) -> None:
        for _ in connection.makefile("rb"):
            connection.sendall(b"ERROR out of memory\n")

    with FakeServer(refuse) as server:
        run(closed_loop(server.address, 3, 1, counts))
    assert counts.outcomes == [0, 0, 0, 3]
    assert counts.messages == {"ERROR out of memory": 3}


def test_latencies_count_from_when_a_request_was_due() -> None:
    """The server answers nothing until all 40 requests are due: on average they wait half of that time."""
    gap, total = 5 * MILLISECONDS, 40
    first_due = time.monotonic_ns()

    def answer_when_all_are_due(connection: socket.socket, number: int) -> None:
        time.sleep(max(0, first_due + total * gap - time.monotonic_ns()) / 1e9)
        answer_lines(connection, total)

    counts = Counts()
    with FakeServer(answer_when_all_are_due) as server:
        connection = Connection(server.address, 0)
        run(OpenLoop(LineWire(0), GETS, [connection], 1, counts, 1e9 / gap, total, first_due))
    assert counts.outcomes == [0, total, 0, 0]
    assert sum(counts.latencies) / total >= total * gap / 2 / 1000


def test_no_request_is_sent_before_it_is_due() -> None:
    seen: list[int] = []

    def note_times(connection: socket.socket, number: int) -> None:
        for _ in connection.makefile("rb"):
            seen.append(time.monotonic_ns())
            connection.sendall(b"OK v\n")

    first_due = time.monotonic_ns() + 20 * MILLISECONDS
    counts = Counts()
    with FakeServer(note_times) as server:
        run(OpenLoop(LineWire(0), GETS, [Connection(server.address, 0)], 4, counts, 200.0, 20, first_due))
    assert len(seen) == 20
    assert all(at >= first_due + number * 5 * MILLISECONDS for number, at in enumerate(seen))


def test_what_is_due_and_can_not_be_sent_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.load_test.open_loop.REPLY_SECONDS", 0.05)
    monkeypatch.setattr("clients.load_test.loop.REPLY_SECONDS", 0.3)

    def be_silent(connection: socket.socket, number: int) -> None:
        while connection.recv(100):
            pass

    counts = Counts()
    with FakeServer(be_silent) as server:
        run(OpenLoop(LineWire(0), GETS, [Connection(server.address, 0)], 1, counts, 1000.0, 10, time.monotonic_ns()))
    assert counts.outcomes == [0, 0, 0, 10]
    assert any(message.startswith("due, but not sent") for message in counts.messages)
