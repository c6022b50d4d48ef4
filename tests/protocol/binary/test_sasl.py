"""SASL in the binary protocol: nothing works before a login, and every step of one is answered as memcached does."""

import pytest

from memcache_kv.auth.access import CommandClass
from memcache_kv.protocol.binary.sasl import MESSAGE_LIMIT_BYTES
from memcache_kv.version import PROTOCOL_VERSION
from tests.protocol.binary.binary_cases import AUTH_ERROR, INVALID, O, error, hit, storing
from tests.protocol.binary.binary_packets import BinaryConversation, Packet, Reply, numbered
from tests.protocol.context_factory import byte_by_byte

NO_MEMORY = 0x82
LISTED = Reply(O.SASL_LIST, value=b"PLAIN")
OK = Reply(O.SASL_AUTH, value=b"Authenticated")
STEP_OK = Reply(O.SASL_STEP, value=b"Authenticated")
FAILED = error(O.SASL_AUTH, AUTH_ERROR)
STEP_FAILED = error(O.SASL_STEP, AUTH_ERROR)
CONTINUES = Reply(O.SASL_AUTH, 0x21)
NOOP = Packet(O.NOOP)
OPEN = Reply(O.NOOP)
CLOSED = error(O.NOOP, AUTH_ERROR)


class OneUser:
    """Knows `user` with the password `pass`."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        return (name, password) == (b"user", b"pass")

    def has_user(self, name: bytes) -> bool:
        return name == b"user"

    def class_of(self, name: bytes) -> CommandClass | None:
        return None


def auth(message: bytes, mechanism: bytes = b"PLAIN") -> Packet:
    return Packet(O.SASL_AUTH, mechanism, value=message)


def step(message: bytes, mechanism: bytes = b"PLAIN") -> Packet:
    return Packet(O.SASL_STEP, mechanism, value=message)


def guarded() -> BinaryConversation:
    return BinaryConversation(users=OneUser())


RIGHT, WRONG = b"\0user\0pass", b"\0user\0wrong"
GOOD, BAD = auth(RIGHT), auth(WRONG)

CONVERSATIONS = [
    ("list", [Packet(O.SASL_LIST), NOOP], [LISTED, CLOSED]),
    ("a login", [GOOD, NOOP], [OK, OPEN]),
    ("a wrong password", [BAD, NOOP], [FAILED, CLOSED]),
    ("another try", [BAD, GOOD, NOOP], [FAILED, OK, OPEN]),
    ("on behalf of oneself", [auth(b"user\0user\0pass"), NOOP], [OK, OPEN]),
    ("on behalf of another", [auth(b"other\0user\0pass"), NOOP], [FAILED, CLOSED]),
    ("no name", [auth(b"\0\0pass")], [FAILED]),
    ("no password", [auth(b"\0user\0")], [FAILED]),
    ("one part missing", [auth(b"\0user")], [FAILED]),
    ("no parts", [auth(b"userpass")], [FAILED]),
    ("one part too many", [auth(b"\0user\0pass\0x")], [FAILED]),
    ("an end too many", [auth(b"\0user\0pass\0")], [FAILED]),
    ("small letters", [auth(RIGHT, b"plain"), NOOP], [OK, OPEN]),
    ("another mechanism", [auth(RIGHT, b"CRAM-MD5"), NOOP], [FAILED, CLOSED]),
    ("a mechanism of 32 bytes", [auth(RIGHT, b"X" * 32)], [FAILED]),
    ("a mechanism of 33 bytes", [auth(RIGHT, b"X" * 33), GOOD], [error(O.SASL_AUTH, INVALID), OK]),
    ("in two steps", [auth(b""), step(RIGHT), NOOP], [CONTINUES, STEP_OK, OPEN]),
    ("in two steps, the mechanism looked at once", [auth(b""), step(RIGHT, b"FOO")], [CONTINUES, STEP_OK]),
    ("a wrong step", [auth(b""), step(WRONG), step(RIGHT), NOOP], [CONTINUES, STEP_FAILED, STEP_OK, OPEN]),
    ("an empty step", [auth(b""), step(b""), step(RIGHT)], [CONTINUES, STEP_FAILED, STEP_OK]),
    ("another beginning", [auth(b""), GOOD, NOOP], [CONTINUES, OK, OPEN]),
    ("a beginning alone", [auth(b""), NOOP], [CONTINUES, CLOSED]),
    ("a step alone", [step(RIGHT), NOOP], [STEP_FAILED, CLOSED]),
    ("a step behind a failure", [BAD, step(RIGHT)], [FAILED, STEP_FAILED]),
    ("a step behind a success", [GOOD, step(RIGHT), NOOP], [OK, STEP_FAILED, CLOSED]),
    ("a second login", [GOOD, GOOD, NOOP], [OK, FAILED, CLOSED]),
    ("a list behind a login ends it", [GOOD, Packet(O.SASL_LIST), NOOP], [OK, LISTED, CLOSED]),
    ("a long password", [auth(b"\0user\0" + b"p" * 10_000), GOOD, NOOP], [FAILED, OK, OPEN]),
    (
        "a message too long is passed over",
        [auth(b"p" * (MESSAGE_LIMIT_BYTES + 1)), GOOD],
        [Reply(O.SASL_AUTH, NO_MEMORY, value=b"Out of memory"), OK],
    ),
]

by_name = pytest.mark.parametrize(("name", "packets", "replies"), CONVERSATIONS, ids=[c[0] for c in CONVERSATIONS])


@by_name
def test_a_login_is_answered_as_memcached_does(name: str, packets: list[Packet], replies: list[Reply]) -> None:
    assert guarded().ask(*packets) == replies


@by_name
def test_a_login_byte_by_byte_is_answered_alike(name: str, packets: list[Packet], replies: list[Reply]) -> None:
    data = b"".join([packet.to_bytes() for packet in packets])
    assert numbered(guarded().feed_pieces(*byte_by_byte(data))) == replies


@pytest.mark.parametrize("opcode", [*set(range(0x26)) - {O.VERSION, O.SASL_LIST, O.SASL_AUTH, O.SASL_STEP}, 0x50])
def test_nothing_else_works_before_a_login(opcode: int) -> None:
    conversation = guarded()
    assert conversation.ask(Packet(opcode), NOOP) == [error(opcode, AUTH_ERROR)]
    assert conversation.protocol.closing


def test_the_version_is_told_to_everybody() -> None:
    assert guarded().ask(Packet(O.VERSION)) == [Reply(O.VERSION, value=PROTOCOL_VERSION.encode())]


def test_a_set_before_a_login_stores_nothing() -> None:
    conversation = guarded()
    conversation.ask(storing(O.SET))
    assert len(conversation.around.store) == 0


def test_a_value_is_not_read_fast_before_a_login() -> None:
    conversation = guarded()
    BinaryConversation(conversation.around).ask(storing(O.SET))
    assert conversation.ask(Packet(O.GET, b"a")) == [error(O.GET, AUTH_ERROR)]


def test_all_works_behind_a_login() -> None:
    assert guarded().ask(GOOD, storing(O.SET), Packet(O.GET, b"a")) == [OK, Reply(O.SET, cas=1), hit(O.GET)]


def test_a_login_is_its_connection_s_alone() -> None:
    first = guarded()
    first.ask(GOOD)
    second = BinaryConversation(first.around, OneUser())
    assert second.ask(NOOP) == [CLOSED]


def test_logins_and_failures_are_counted() -> None:
    conversation = guarded()
    conversation.ask(Packet(O.SASL_LIST), BAD, auth(b""), step(WRONG), auth(RIGHT, b"X" * 33), GOOD)
    assert (conversation.around.counters.auth_cmds, conversation.around.counters.auth_errors) == (3, 2)


def test_a_message_that_is_announced_too_long_is_not_held() -> None:
    conversation = guarded()
    packet = auth(b"p" * 1000)._replace(body_bytes=1 << 29)
    for _ in range(20):
        conversation.feed(packet.to_bytes())
    assert conversation.held_bytes == 0


def test_a_password_is_not_logged() -> None:
    conversation = guarded()
    conversation.around.context.observers.set_verbosity(5)
    conversation.ask(GOOD)
    assert "pass" not in "".join(conversation.around.logged)
