"""The compiled turn keeps replies until the journal has their writes, as the worker does, and then sends them."""

import socket
from collections.abc import Iterator
from struct import pack as pack_numbers

import pytest

from memcache_kv.compiled import ACCELERATED, HAS_GIL
from memcache_kv.config.settings import Settings
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.line.commands import NOT_SAVED
from memcache_kv.protocol.line.framing import LINE
from memcache_kv.server.connection import READING, WAITING_FOR_JOURNAL, Connection
from memcache_kv.server.worker import Worker
from tests.program import poll_until
from tests.protocol.binary.binary_packets import Packet
from tests.server.test_worker import STORED, VERSION, FakeJournal, Serving, ask, read

if not (ACCELERATED and HAS_GIL):
    pytest.skip("the compiled turn is not in use", allow_module_level=True)

SET = b"set a 0 0 1\r\nx\r\n"
BIG = b"b" * 5000
NO_OP = Packet(Opcode.NOOP).to_bytes()
BINARY_SET = Packet(Opcode.SET, b"a", pack_numbers("!II", 0, 0), b"x").to_bytes()
LAST_REPLIES = {b"mn\r\n": b"MN\r\n", NO_OP: NO_OP.replace(b"\x80", b"\x81", 1), b"EXISTS last\r\n": b"OK 0\r\n"}
WRITES = {
    "set": SET,
    "set without a reply": b"set a 0 0 1 noreply\r\nx\r\n",
    "several": b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\nget a b\r\n",
    "read first": b"get n\r\n" + SET,
    "something rare at the end": SET + b"version\r\n",
    "something rare at the start": b"version\r\n" + SET,
    "something rare between": SET + b"append a 0 0 1\r\ny\r\n" + SET,
    "a long reply": SET + b"get big\r\n",
    "a long value": b"set a 0 0 5000\r\n" + BIG + b"\r\n",
    "half a line after it": SET + b"get",
    "delete": b"delete n\r\n",
    "touch": b"touch n 100\r\n",
    "incr": b"incr n 1\r\n",
    "gets": b"gets n\r\n",
    "ms": b"ms a 1\r\nx\r\n",
    "md": b"md n\r\n",
}


LINE_WRITES = {
    "PUT": b"PUT a x\n",
    "PUT with a ttl": b"PUT a x 100\r\n",
    "PUT in another form": b"PUT  a x\n",
    "several": b"PUT a x\nPUT b y 5\nGET a\nEXISTS b\nGET n\n",
    "read first": b"GET n\nPUT a x\n",
    "something rare at the end": b"PUT a x\r\nHELLO\r\n",
    "something rare at the start": b"\nPUT a x\n",
    "something rare between": b"PUT a x\nGET big\nPUT a y\n",
    "half a line after it": b"PUT a x\nGET",
    "DELETE": b"DELETE n\n",
}


class Played:
    """A worker with a journal that the test moves, and a client whose protocol is decided."""

    def __init__(
        self,
        is_interpreted: bool = False,
        first: bytes = b"version\r\n",
        reply: bytes = VERSION,
        dialect: Dialect | None = None,
    ) -> None:
        self.journal = FakeJournal()
        options = Settings(line_listen=("0",))
        self.serving = Serving(options, journal=self.journal, is_interpreted=is_interpreted)
        self.serving.keep(b"n", b"5")
        self.serving.keep(b"big", BIG)
        self.client = self.serving.connect(dialect)
        ask(self.client, first, reply)

    @property
    def connection(self) -> Connection:
        return self.serving.worker.connections[0]

    def write(self, data: bytes) -> None:
        """Send requests of which one changes something, and see that all replies wait for it."""
        self.client.sendall(data)
        poll_until(lambda: self.serving.states()[0] is WAITING_FOR_JOURNAL, "the replies wait for the journal")
        self.client.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.client.recv(1)
        self.client.settimeout(30)

    def save(self) -> None:
        self.journal.reach(self.journal.position)

    def replies(self, last: bytes) -> bytes:
        """Return all replies up to the one to this request, which has not been sent yet."""
        self.client.sendall(last)
        end, found = LAST_REPLIES[last], b""
        while not found.endswith(end):
            found += self.client.recv(1 << 16)
        return found


@pytest.fixture
def played() -> Iterator[Played]:
    made = Played()
    yield made
    made.serving.close()


@pytest.mark.parametrize("data", WRITES.values(), ids=WRITES)
def test_no_reply_comes_before_the_journal_has_the_write_and_all_are_the_same(data: bytes) -> None:
    found = []
    for is_interpreted in (False, True):
        played = Played(is_interpreted)
        played.write(data)
        played.save()
        if data.endswith(b"get"):
            played.client.sendall(b" n\r\n")
        found.append((played.replies(b"mn\r\n"), played.journal.waits, played.journal.position))
        assert "error of the server" not in played.serving.around.stream.getvalue()
        played.serving.close()
    assert found[0] == found[1]


def test_binary_replies_wait_too() -> None:
    found = []
    for is_interpreted in (False, True):
        played = Played(is_interpreted, NO_OP, NO_OP.replace(b"\x80", b"\x81", 1))
        played.write(BINARY_SET * 2)
        played.save()
        found.append((played.replies(NO_OP), played.journal.waits))
        played.serving.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("data", LINE_WRITES.values(), ids=LINE_WRITES)
def test_replies_of_the_line_protocol_wait_too(data: bytes) -> None:
    found = []
    for is_interpreted in (False, True):
        played = Played(is_interpreted, b"EXISTS n\n", b"OK 1\n", LINE)
        played.write(data)
        played.save()
        if data.endswith(b"GET"):
            played.client.sendall(b" n\n")
        found.append((played.replies(b"EXISTS last\r\n"), played.journal.waits, played.journal.position))
        assert "error of the server" not in played.serving.around.stream.getvalue()
        played.serving.close()
    assert found[0] == found[1]


def test_a_journal_that_fails_takes_the_replies_of_the_line_protocol_back() -> None:
    played = Played(False, b"EXISTS n\n", b"OK 1\n", LINE)
    played.write(b"PUT a x\r\n")
    played.journal.fail()
    ask(played.client, b"", NOT_SAVED + b"\r\n")
    played.serving.close()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("dialect", "first", "reply", "request_", "done"),
    [(None, b"version\r\n", VERSION, SET, STORED), (LINE, b"EXISTS n\n", b"OK 1\n", b"PUT a x\n", b"OK stored\n")],
    ids=["text", "line"],
)
def test_writes_that_wait_for_the_journal_are_compiled(
    dialect: Dialect | None,
    first: bytes,
    reply: bytes,
    request_: bytes,
    done: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played = Played(False, first, reply, dialect)
    served: list[Connection] = []
    monkeypatch.setattr(Worker, "serve", lambda worker, connection: served.append(connection))
    monkeypatch.setattr(Worker, "release", lambda worker, connection: served.append(connection))
    for _ in range(3):
        played.write(request_)
        played.save()
        assert read(played.client, len(done)) == done
    poll_until(lambda: played.serving.states() == [READING], "it reads again")
    assert not served
    assert played.connection.release_at == 0
    played.serving.close()


def test_a_read_does_not_wait_for_the_write_of_another(played: Played) -> None:
    reader = played.serving.connect()
    ask(reader, b"version\r\n", VERSION)
    played.write(SET)
    ask(reader, b"mn\r\nincr missing 1\r\nget missing\r\n", b"MN\r\nNOT_FOUND\r\nEND\r\n")


def test_what_the_socket_does_not_accept_is_sent_later(played: Played) -> None:
    played.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    expected = b""
    while not played.serving.has_unsent():
        played.client.sendall(SET + b"mn\r\n" * 500)
        expected += STORED + b"MN\r\n" * 500
        poll_until(lambda: played.serving.states()[0] is WAITING_FOR_JOURNAL, "the replies wait for the journal")
        played.save()
        poll_until(lambda: played.serving.states()[0] is not WAITING_FOR_JOURNAL, "they are sent")
    assert read(played.client, len(expected)) == expected
    poll_until(lambda: played.serving.states() == [READING], "it reads again")
    assert played.serving.around.context.counters.bytes_written == len(VERSION) + len(expected)


def test_a_client_that_has_left_meanwhile_is_closed_and_the_others_get_their_replies(played: Played) -> None:
    other = played.serving.connect()
    ask(other, b"version\r\n", VERSION)
    played.write(SET)
    other.sendall(SET)
    poll_until(lambda: played.serving.is_awaiting_journal(2), "both wait")
    played.client.close()
    played.save()
    assert read(other, len(STORED)) == STORED
    poll_until(lambda: played.serving.totals.current == 1, "the other alone is left")
    assert "error of the server" not in played.serving.around.stream.getvalue()


def test_a_journal_that_fails_takes_the_replies_back(played: Played) -> None:
    played.write(SET)
    played.journal.fail()
    ask(played.client, b"", b"SERVER_ERROR out of memory storing object\r\n")


def test_more_than_are_sent_at_once_get_their_replies(played: Played) -> None:
    clients = [played.serving.connect() for _ in range(150)]
    for client in clients:
        ask(client, b"version\r\n", VERSION)
    for client in clients:
        client.sendall(SET)
    poll_until(lambda: played.serving.is_awaiting_journal(150), "all wait")
    played.save()
    for client in clients:
        assert read(client, len(STORED)) == STORED
