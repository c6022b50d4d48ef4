"""Which protocol a client's first byte stands for, and that this is decided once."""

import pytest

from memcache_kv.auth.access import CommandClass
from memcache_kv.config.settings import Settings
from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.negotiate import Undecided, protocol_for
from memcache_kv.protocol.session import READ_BYTES, Session
from memcache_kv.protocol.text.login import GuardedTextProtocol
from tests.protocol.context_factory import Surroundings
from tests.protocol.credentials import AtOnce

FD = 30
NOOP = b"\x80\x0a" + bytes(22)
NOOP_REPLY = b"\x81\x0a" + bytes(22)


class Nobody:
    """No user at all."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        return False

    def has_user(self, name: bytes) -> bool:
        return False

    def class_of(self, name: bytes) -> CommandClass | None:
        return CommandClass.READ


class Client:
    """A connection that has sent nothing yet, and the protocols that it was given since."""

    def __init__(self, binding: str = "auto") -> None:
        self.settled: list[Session] = []
        context = Surroundings(Settings(binding_protocol=binding)).context
        self.undecided = Undecided(context, FD, None, self.settled.append)


@pytest.mark.parametrize(
    ("binding", "first", "text", "guarded"),
    [
        ("auto", b"\x80", BinaryProtocol, BinaryProtocol),
        ("auto", b"\x81", TextProtocol, GuardedTextProtocol),
        ("auto", b"g", TextProtocol, GuardedTextProtocol),
        ("auto", b"g\x80", TextProtocol, GuardedTextProtocol),
        ("auto", b"\n", TextProtocol, GuardedTextProtocol),
        ("ascii", b"\x80", TextProtocol, GuardedTextProtocol),
        ("ascii", b"g", TextProtocol, GuardedTextProtocol),
        ("binary", b"\x80", BinaryProtocol, BinaryProtocol),
        ("binary", b"g", BinaryProtocol, BinaryProtocol),
    ],
)
def test_the_first_byte_and_the_binding_decide(binding: str, first: bytes, text: type, guarded: type) -> None:
    context = Surroundings(Settings(binding_protocol=binding)).context
    assert type(protocol_for(context, FD, first)) is text
    assert type(protocol_for(context, FD, first, AtOnce(Nobody()))) is guarded
    assert protocol_for(context, FD, first).fd == FD


@pytest.mark.parametrize(
    ("request_bytes", "kind", "reply"),
    [
        (b"get a\r\n", TextProtocol, b"END\r\n"),
        (b"mn\r\n", TextProtocol, b"MN\r\n"),
        (NOOP, BinaryProtocol, NOOP_REPLY),
    ],
)
def test_the_protocol_answers_the_first_request(request_bytes: bytes, kind: type, reply: bytes) -> None:
    client = Client()
    assert not client.undecided.receive(request_bytes)
    [protocol] = client.settled
    assert type(protocol) is kind
    assert b"".join(protocol.out) == reply
    assert client.undecided.out == []


def test_half_a_request_decides() -> None:
    client = Client()
    client.undecided.receive(NOOP[:1])
    [protocol] = client.settled
    protocol.receive(NOOP[1:])
    assert b"".join(protocol.out) == NOOP_REPLY


def test_the_protocol_goes_on_with_the_size_of_reads_that_the_connection_has_found() -> None:
    client = Client()
    client.undecided.want = READ_BYTES
    client.undecided.receive(b"mn\r\n")
    assert client.settled[0].want == READ_BYTES
