"""Many connections that are ready at once: each gets its own replies, whatever becomes of the others."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from memcache_kv.compiled import ACCELERATED, HAS_GIL
from memcache_kv.protocol import Context, TextProtocol
from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.line.framing import LineProtocol
from memcache_kv.protocol.session import READ_BYTES, Session
from memcache_kv.server.connection import CLOSING, READING, WAITING_FOR_JOURNAL, WAITING_FOR_SOCKET, Connection
from memcache_kv.server.connection_table import ConnectionTable
from memcache_kv.store import Mode
from memcache_kv.store.entry import pack
from tests.compiled.test_turn import Recorder
from tests.protocol.context_factory import Surroundings

if not (ACCELERATED and HAS_GIL):
    pytest.skip("the compiled turn is not in use", allow_module_level=True)

from memcache_kv.compiled.turn import Held, Turn

END = b"END\r\n"


class Events:
    """A poller that reports the events of a test."""

    def __init__(self) -> None:
        self.ready: list[int] = []

    def poll(self, timeout_seconds: float) -> list[tuple[int, int]]:
        return [(fd, 1) for fd in self.ready]


class Journal(Recorder):
    """A journal that has saved what the test says."""

    saved = 1 << 60

    def append(self) -> bool:
        return not self.must_wait(self.position)

    def own_position(self) -> int:
        return self.position

    def must_wait(self, position: int) -> bool:
        return self.saved < position


class Server:
    """Connections and their turns; in place of a worker, it does what the test says while it serves one of them."""

    def __init__(self) -> None:
        self.around = Surroundings()
        self.journal = Journal()
        self.around.store.log = self.around.context.journal = self.journal  # type: ignore[assignment]
        self.around.renew_requests()
        self.events = Events()
        self.context = self.around.context
        self.table = ConnectionTable(self.events)  # type: ignore[arg-type]
        self.by_fd = self.table.by_fd
        self.clients: list[socket.socket] = []
        self.connections: list[Connection] = []
        self.served: list[Connection] = []
        self.closed: list[tuple[Connection, object]] = []
        self.must_wait: list[bool] = []
        self.awaited = 0
        self.while_serving: Callable[[Connection], None] = lambda connection: None
        self.while_waiting: Callable[[Connection], None] = lambda connection: None
        assert self.around.context.requests is not None
        self.is_measured = False
        latency = self.context.latency
        self.held = Held(self.journal, self, self.table, Connection, Session, READING, WAITING_FOR_JOURNAL, latency)
        self.turn = Turn(
            self.around.context.requests,
            self.by_fd,
            self.events,
            self,
            Connection,
            TextProtocol,
            BinaryProtocol,
            LineProtocol,
            READING,
            self.held,
            latency,
        )

    def connect(self, count: int = 1, make: Callable[[Context, int], Session] = TextProtocol) -> None:
        for _ in range(count):
            theirs, ours = socket.socketpair()
            theirs.setblocking(False)
            ours.setblocking(False)
            self.clients.append(theirs)
            connection = Connection(ours, make(self.around.context, ours.fileno()), 0)
            self.connections.append(connection)
            self.by_fd[connection.fd] = connection

    def keep(self, key: bytes, value: bytes) -> None:
        self.around.store.log = None
        self.around.store.store(Mode.SET, key, pack(0, value))
        self.around.store.log = self.journal

    def serve_all(self) -> None:
        """Serve all connections in one turn."""
        self.events.ready = [connection.fd for connection in self.connections]
        assert self.turn.serve_ready(0) == len(self.connections)

    def reply(self, number: int) -> bytes:
        """What a client has got."""
        pieces = bytearray()
        with suppress(BlockingIOError, ConnectionResetError):
            while piece := self.clients[number].recv(1 << 20):
                pieces += piece
        return bytes(pieces)

    def shut(self, connection: Connection, why: object = None) -> None:
        self.closed.append((connection, why))
        if connection.state is not CLOSING:
            del self.by_fd[connection.fd]
            connection.enter(CLOSING)
            connection.socket.close()

    # What the turn calls

    def begin_turn(self, events: int) -> bool:
        return self.is_measured

    def handle(self, fd: int, connection: Connection | None) -> None:
        raise AssertionError("no connection is in another state")

    def serve(self, connection: Connection) -> None:
        connection.protocol.receive(connection.socket.recv(READ_BYTES))
        connection.send()

    def serve_measured(self, connection: Connection) -> None:
        raise AssertionError("what no wave can serve is not measured here")

    def end_measured(self, connection: Connection) -> None:
        self.context.latency.end(connection, is_sent=True)

    def serve_rest(self, connection: Connection, data: bytes, done: int, must_wait: bool) -> None:
        assert connection.state is READING
        self.served.append(connection)
        self.must_wait.append(must_wait)
        self.while_serving(connection)
        connection.protocol.receive_rest(data, done)
        connection.send()
        while connection.protocol.paused:  # the time of its turn was used up
            connection.protocol.resume()
            connection.send()

    def hold(self, connection: Connection) -> None:
        self.table.enter(connection, WAITING_FOR_JOURNAL)

    def await_journal(self, count: int) -> None:
        self.awaited += count

    def await_socket(self, connection: Connection) -> None:
        connection.enter(WAITING_FOR_SOCKET)
        self.while_waiting(connection)

    def close_by_client(self, connection: Connection) -> None:
        self.shut(connection, "by client")

    def broken(self, connection: Connection, error: OSError) -> None:
        self.shut(connection, type(error))

    def drop(self, connection: Connection, error: Exception) -> None:
        self.shut(connection, type(error))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    for client in made.clients:
        client.close()
    for connection in made.connections:
        connection.socket.close()


def found(key: bytes, value: bytes) -> bytes:
    return b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, len(value), value)


def test_each_connection_gets_its_own_replies(server: Server) -> None:
    server.connect(150)
    expected = {}
    for number, client in enumerate(server.clients):
        server.keep(b"key%d" % number, b"value%d" % number)
        own = found(b"key%d" % number, b"value%d" % number)
        requests, expected[number] = [
            (b"get key%d\r\n" % number, own),
            (b"set key%d 0 0 3\r\nnew\r\nget key%d\r\n" % (number, number),
             b"STORED\r\n" + found(b"key%d" % number, b"new")),
            (b"get key%d\r\nadd other%d 0 0 1\r\nx\r\nget key%d\r\n" % (number, number, number),
             own + b"STORED\r\n" + own),
            (b"get key%d\r\nget ke" % number, own),
            (b"set key%d 0 0 3 noreply\r\nnew\r\n" % number, b""),
            (b"get key%d\r\nnonsense\r\n" % number, own + b"ERROR\r\n"),
        ][number % 6]  # fmt: skip
        client.sendall(requests)
    server.serve_all()
    replies = {number: server.reply(number) for number in expected}
    assert replies == expected
    assert server.around.counters.bytes_written == sum(map(len, replies.values()))
    assert not server.closed
    assert len(server.served) == 75


def test_connections_of_several_protocols_share_a_wave(server: Server) -> None:
    for number in range(60):
        server.connect(1, LineProtocol if number % 2 else TextProtocol)
    expected = {}
    for number, client in enumerate(server.clients):
        server.keep(b"key%d" % number, b"value%d" % number)
        requests, expected[number] = [
            (b"get key%d\r\n" % number, found(b"key%d" % number, b"value%d" % number)),
            (b"GET key%d\nGET none\r\n" % number, b"OK value%d\nERROR key not found\r\n" % number),
            (b"get key%d\r\nversio" % number, found(b"key%d" % number, b"value%d" % number)),
            (b"PUT key%d new 9\nGET key%d\nEXISTS x\nDELETE key%d\n" % (number, number, number),
             b"OK stored\nOK new\nOK 0\nOK deleted\n"),
            (b"get key%d\r\nnonsense\r\n" % number, found(b"key%d" % number, b"value%d" % number) + b"ERROR\r\n"),
            (b"GET key%d\nGET  key%d\nGET key%d\nGET key" % (number, number, number), b"OK value%d\n" % number * 3),
        ][number % 6]  # fmt: skip
        client.sendall(requests)
    server.serve_all()
    assert {number: server.reply(number) for number in expected} == expected
    assert not server.closed
    assert len(server.served) == 30
    lines = [connection for connection in server.served if type(connection.protocol) is LineProtocol]
    assert len(lines) == 10


def test_the_next_turn_continues_what_was_incomplete(server: Server) -> None:
    server.connect(9)
    for number, client in enumerate(server.clients):
        client.sendall(b"set %d 0 0 3\r\n%d" % (number, number) + b"ab\r\n" * (number % 2))
    server.serve_all()
    assert [server.reply(number) for number in range(9)] == [b"", b"STORED\r\n"] * 4 + [b""]
    for client in server.clients[::2]:
        client.sendall(b"cd\r\n")
    server.serve_all()
    assert [server.reply(number) for number in range(9)] == [b"STORED\r\n", b""] * 4 + [b"STORED\r\n"]


def test_inputs_that_do_not_fit_together_are_all_read(server: Server) -> None:
    server.connect(7)
    requests = READ_BYTES // len(b"get %200d\r\n" % 0)
    for number, client in enumerate(server.clients):
        key = b"%0200d" % number
        server.keep(key, b"%d" % number)
        client.sendall(b"get %b\r\n" % key * requests)
    server.serve_all()
    for number in range(7):
        assert server.reply(number) == found(b"%0200d" % number, b"%d" % number) * requests
    assert not server.served


def test_replies_that_do_not_fit_together_are_all_sent(server: Server) -> None:
    server.connect(40)
    for number, client in enumerate(server.clients):
        server.keep(b"key%d" % number, bytes([65 + number]) * 30_000)
        client.sendall(b"get key%d key%d\r\n" % (number, number))
    server.serve_all()
    for number in range(40):
        each = found(b"key%d" % number, bytes([65 + number]) * 30_000).removesuffix(END)
        assert server.reply(number) == 2 * each + END
    assert not server.served


def test_who_does_not_read_holds_up_nobody(server: Server) -> None:
    server.keep(b"big", b"x" * 60_000)
    server.keep(b"small", b"y")
    server.connect(9)
    for number, client in enumerate(server.clients):
        client.sendall(b"get small\r\n" if number % 2 else b"get " + b" ".join([b"big"] * 16) + b"\r\n")
    server.serve_all()
    for number in range(1, 9, 2):
        assert server.reply(number) == found(b"small", b"y")
        assert server.connections[number].state is READING
    for number in range(0, 9, 2):
        connection = server.connections[number]
        assert connection.state is WAITING_FOR_SOCKET
        assert connection.unsent is not None
        whole = found(b"big", b"x" * 60_000).removesuffix(END) * 16 + END
        assert server.reply(number) + bytes(connection.unsent) == whole


def test_who_is_gone_is_closed_and_nobody_else(server: Server) -> None:
    server.connect(9)
    for number, client in enumerate(server.clients):
        client.sendall(b"get a\r\n")
        if number % 3 == 1:
            client.close()  # its request is still there: only sending fails
        elif number % 3 == 2:
            client.shutdown(socket.SHUT_WR)
    server.serve_all()
    assert [why for _, why in server.closed] == [BrokenPipeError] * 3
    assert [server.reply(number) for number in (0, 2, 3, 5, 6, 8)] == [END] * 6
    server.connections = [each for each in server.connections if each.state is READING]
    server.serve_all()
    assert [why for _, why in server.closed[3:]] == ["by client"] * 3
    assert [each.state for each in server.connections] == [READING, CLOSING] * 3


def test_a_failed_read_closes_only_its_connection(server: Server) -> None:
    server.connect(3)
    for connection, client in zip(server.connections, server.clients, strict=True):
        connection.socket.send(b"never read")
        client.sendall(b"get a\r\n")
    assert server.connections[1].socket.recv(100) == b"get a\r\n"
    server.clients[1].close()  # with unread input: the other end gets an error
    server.serve_all()
    assert server.closed == [(server.connections[1], ConnectionResetError)]
    assert server.reply(0) == server.reply(2) == b"never read" + END


def test_an_error_drops_only_its_connection(server: Server) -> None:
    def fail(connection: Connection) -> None:
        raise ValueError

    server.connect(5)
    for number, client in enumerate(server.clients):
        client.sendall(b"get a\r\nnonsense\r\n" if number == 2 else b"get a\r\n")
    server.while_serving = fail
    server.serve_all()
    assert server.closed == [(server.connections[2], ValueError)]
    assert [server.reply(number) for number in (0, 1, 3, 4)] == [END] * 4


def test_replies_are_sent_before_others_are_served_by_python(server: Server) -> None:
    seen = []
    server.connect(6)
    for number, client in enumerate(server.clients):
        client.sendall(b"nonsense\r\n" if number == 4 else b"set %d 0 0 1\r\nx\r\n" % number)
    server.while_serving = lambda connection: seen.extend([server.reply(0), server.reply(3), server.reply(5)])
    server.serve_all()
    assert seen == [b"STORED\r\n", b"STORED\r\n", b""]
    assert server.reply(5) == b"STORED\r\n"


def test_records_are_queued_before_others_are_served_by_python(server: Server) -> None:
    seen = []
    server.connect(3)
    for number, client in enumerate(server.clients):
        client.sendall(b"nonsense\r\n" if number == 2 else b"set %d 0 0 1 noreply\r\nx\r\n" % number)
    server.while_serving = lambda connection: seen.extend(server.journal.queue[::2])
    server.serve_all()
    assert seen == [b"0", b"1"]


def test_who_is_closed_while_another_is_served_is_not_served(server: Server) -> None:
    taken: list[socket.socket] = []

    def close_others(connection: Connection) -> None:
        for other in (server.connections[1], server.connections[4]):
            server.shut(other)
            taken.extend(socket.socketpair())  # they take the free descriptors

    server.connect(6)
    for number, client in enumerate(server.clients):
        client.sendall(b"nonsense\r\n" if number == 3 else b"set %d 0 0 1\r\nx\r\n" % number)
    server.while_serving = close_others
    server.serve_all()
    replies = [server.reply(number) for number in range(6)]
    assert replies == [b"STORED\r\n", b"STORED\r\n", b"STORED\r\n", b"ERROR\r\n", b"", b"STORED\r\n"]
    assert sorted(server.journal.queue[::2]) == [b"0", b"1", b"2", b"5"]
    for each in taken:
        each.setblocking(False)
        with pytest.raises(BlockingIOError):
            each.recv(1)
    for each in taken:
        each.close()


def test_who_is_closed_while_another_waits_is_left_alone(server: Server) -> None:
    server.keep(b"big", b"x" * 20_000)
    server.connect(3)
    for connection, client in zip(server.connections, server.clients, strict=True):
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sendall(b"get big\r\n")
    first, closing, last = server.connections
    server.while_waiting = lambda connection: server.shut(closing) if connection is first else None
    server.serve_all()
    assert server.closed == [(closing, None)]
    assert closing.unsent is None
    assert first.state is last.state is WAITING_FOR_SOCKET


def test_who_counts_for_memory_is_left_to_the_worker(server: Server) -> None:
    served = []
    server.connect(3)
    server.connections[1].counted_bytes = 100_000
    for client in server.clients:
        client.sendall(b"get a\r\n")
    serve = server.serve

    def note(connection: Connection) -> None:
        served.append(connection)
        serve(connection)

    server.serve = note  # type: ignore[method-assign]
    server.serve_all()
    assert served == [server.connections[1]]
    assert [server.reply(number) for number in range(3)] == [END] * 3


def test_only_the_replies_of_who_has_changed_something_wait_for_the_journal(server: Server) -> None:
    server.journal.saved = 0
    server.connect(150)
    server.keep(b"read", b"x")
    own = {0: b"", 1: found(b"read", b"x"), 2: b"STORED\r\n" + found(b"read", b"x")}
    requests = {0: b"set a 0 0 1 noreply\r\nx\r\n", 1: b"get read\r\n", 2: b"set b 0 0 1\r\nx\r\nget read\r\n"}
    for number, client in enumerate(server.clients):
        client.sendall(requests[number % 3])
    server.serve_all()
    assert [server.reply(number) for number in range(150)] == [b"", own[1], b""] * 50
    assert [each.state for each in server.connections] == [WAITING_FOR_JOURNAL, READING, WAITING_FOR_JOURNAL] * 50
    assert len(server.table.awaiting_journal) == server.table.waiting == server.awaited == 100
    server.held.release()
    assert [server.reply(number) for number in range(150)] == [b""] * 150
    server.journal.saved = server.journal.position
    server.held.release()
    assert [server.reply(number) for number in range(150)] == [own[0], b"", own[2]] * 50
    assert {each.state for each in server.connections} == {READING}
    assert server.around.counters.bytes_written == 50 * (len(own[1]) + len(own[2]))


def test_who_is_handed_over_waits_for_its_own_write_alone(server: Server) -> None:
    server.journal.saved = 0
    server.connect(4)
    writes, reads = b"set a 0 0 1\r\nx\r\nversion\r\n", b"get b\r\nversion\r\n"
    for number, client in enumerate(server.clients):
        client.sendall(reads if number % 2 else writes)
    server.serve_all()
    assert server.must_wait == [True, False, True, False]


def test_a_reply_that_waits_is_not_sent_with_those_of_others(server: Server) -> None:
    server.journal.saved = 0
    server.keep(b"big", b"x" * 60_000)
    server.connect(6)
    for number, client in enumerate(server.clients):
        client.sendall(b"get big\r\n" if number % 2 else b"set a%d 0 0 1\r\nx\r\n" % number)
    server.serve_all()
    replies = [server.reply(number) for number in range(6)]
    assert replies == [b"", found(b"big", b"x" * 60_000)] * 3
    server.journal.saved = server.journal.position
    server.held.release()
    assert [server.reply(number) for number in range(6)] == [b"STORED\r\n", b""] * 3
