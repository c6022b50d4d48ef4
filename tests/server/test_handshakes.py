"""TLS handshakes: counted, logged, and given up after a while."""

import socket
import ssl
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.protocol import TextProtocol
from memcache_kv.server import handshakes as handshakes_module
from memcache_kv.server import worker as worker_module
from memcache_kv.server.connection import Connection
from memcache_kv.server.handshakes import STEPS_PER_TURN, Handshakes
from memcache_kv.server.tls import Tls
from tests.certificates import Certificates, make_certificates
from tests.program import poll_until
from tests.protocol.context_factory import Surroundings
from tests.server.test_closed_connections import TlsServing


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Pair:
    """A connection whose handshake has begun, and its client."""

    def __init__(self, certificates: Certificates) -> None:
        self.around = Surroundings(verbosity=1)
        self.tls = Tls(TlsOptions(str(certificates.chain), str(certificates.key)))
        self.handshakes = Handshakes(self.tls, self.around.context.log)
        self.client, ours = socket.socketpair()
        ours.setblocking(False)
        self.client.setblocking(False)
        protocol = TextProtocol(self.around.context, ours.fileno())
        self.connection = Connection(self.tls.wrap(ours, ssl.CERT_NONE), protocol, 0)
        self.handshakes.start(self.connection)

    def close(self) -> None:
        self.client.close()
        self.connection.socket.close()


@pytest.fixture
def pair(certificates: Certificates) -> Iterator[Pair]:
    made = Pair(certificates)
    yield made
    made.close()


def test_a_handshake_takes_several_steps_and_is_counted(pair: Pair, certificates: Certificates) -> None:
    client = certificates.context().wrap_socket(pair.client, server_hostname="localhost", do_handshake_on_connect=False)
    assert not pair.handshakes.step(pair.connection), "the client has sent nothing yet"
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert not pair.handshakes.step(pair.connection), "the client has to answer"
    client.do_handshake()
    assert pair.tls.new_sessions == 0
    assert pair.handshakes.step(pair.connection)
    assert (pair.tls.new_sessions, pair.tls.handshake_errors) == (1, 0)
    client.close()


def test_what_is_no_tls_raises(pair: Pair) -> None:
    pair.client.send(b"no TLS at all\r\n")
    with pytest.raises(OSError, match="SSL"):
        pair.handshakes.step(pair.connection)


def test_a_failed_handshake_is_counted_and_logged_with_its_reason(pair: Pair) -> None:
    pair.handshakes.fail(pair.connection, "the reason")
    assert (pair.tls.new_sessions, pair.tls.handshake_errors) == (0, 1)
    assert pair.around.logged == [f"<{pair.connection.fd} TLS handshake failed: the reason"]


def test_a_handshake_is_overdue_when_its_time_is_over(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair.handshakes.overdue([pair.connection]) == []
    monkeypatch.setattr(handshakes_module, "HANDSHAKE_SECONDS", 0)
    pair.handshakes.start(pair.connection)
    assert pair.handshakes.overdue([pair.connection]) == [pair.connection]


def test_a_worker_closes_a_connection_whose_handshake_is_overdue(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes_module, "HANDSHAKE_SECONDS", 0)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.01)
    serving = TlsServing(certificates)
    serving.around.context.log.verbosity = 1
    client = serving.connect()
    assert client.recv(1) == b""
    poll_until(lambda: serving.totals.current == 0, "it is counted as gone")
    assert any(line.endswith("TLS handshake failed: it took too long") for line in serving.around.logged)
    serving.close()


def test_a_turn_takes_a_few_handshakes_further_and_the_others_keep_their_place(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes_module, "STEPS_PER_TURN", 2)
    pairs = [Pair(certificates) for _ in range(5)]
    handshakes = pairs[0].handshakes
    for each in pairs:
        handshakes.add_ready(each.connection)
    handshakes.forget(pairs[1].connection)
    first, third, fourth, fifth = (pairs[number].connection for number in (0, 2, 3, 4))
    assert handshakes.ready
    assert handshakes.take_ready() == [first, third]
    assert handshakes.take_ready() == [fourth, fifth]
    assert handshakes.take_ready() == []
    assert not handshakes.ready
    for each in pairs:
        each.close()


def test_a_flood_of_handshakes_lets_others_be_served_after_each_step(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With twenty handshakes ready at once, no turn of the loop takes more than STEPS_PER_TURN of them further."""
    steps, per_turn = 0, [0]
    step, take_ready = Handshakes.step, Handshakes.take_ready

    def counted_step(handshakes: Handshakes, connection: Connection) -> bool:
        nonlocal steps
        steps += 1
        per_turn[-1] += 1
        return step(handshakes, connection)

    def counted_turn(handshakes: Handshakes) -> list[Connection]:
        per_turn.append(0)
        return take_ready(handshakes)

    monkeypatch.setattr(Handshakes, "step", counted_step)
    monkeypatch.setattr(Handshakes, "take_ready", counted_turn)
    serving = TlsServing(certificates)
    hello = client_hello(certificates)
    clients = [serving.connect() for _ in range(20)]
    for client in clients:
        client.sendall(hello)
    poll_until(lambda: steps >= len(clients), "each has taken a step")
    assert max(per_turn) == STEPS_PER_TURN
    for client in clients:
        assert client.recv(1) == b"\x16", "the server's part of the handshake"
    serving.close()


def client_hello(certificates: Certificates) -> bytes:
    """What a client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        certificates.context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_a_handshake_that_resumes_a_session_is_counted_apart(pair: Pair) -> None:
    pair.connection.tls = SimpleNamespace(continue_handshake=lambda: True, resumed=True)  # type: ignore[assignment]
    assert pair.handshakes.step(pair.connection)
    assert (pair.tls.new_sessions, pair.tls.resumed_sessions) == (0, 1)
