"""What goes wrong without anybody noticing is counted: hidden errors, values that have expired, values too large."""

import struct

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol.binary.frames import Opcode
from tests.fake_clock import FakeClock
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.line.line_talk import LineTalk
from tests.protocol.test_refused import around as refusing  # noqa: F401  (a fixture)


@pytest.fixture(params=["compiled", "interpreted"])
def around(request: pytest.FixtureRequest) -> Surroundings:
    found = Surroundings(Settings(max_item_size=10_000))
    assert isinstance(found.clock, FakeClock)
    found.clock.started -= 100  # so that a time that has passed may be after the start
    if request.param == "interpreted":
        found.context.requests = None
    else:
        found.renew_requests()
    return found


# Errors that noreply hides

HIDDEN = [
    b"set a x 0 1 noreply\r\ny\r\n",
    b"set a 0 0 99999 noreply\r\n%b\r\n" % bytes(99_999),
    b"set %b 0 0 1 noreply\r\nx\r\n" % (b"k" * 251),
    b"incr a x noreply\r\n",
    b"incr word 1 noreply\r\n",
    b"touch a x noreply\r\n",
    b"flush_all x noreply\r\n",
]
SHOWN = [
    b"set a 0 0 1 noreply\r\nx\r\n", b"add word 0 0 1 noreply\r\nx\r\n", b"delete none noreply\r\n",
    b"incr none 1 noreply\r\n", b"cas word 0 0 1 99 noreply\r\nx\r\n", b"set a 0 0 99999\r\n%b\r\n" % bytes(99_999),
    b"nonsense\r\n", b"set a 0 0 x noreply\r\n", b"ms a S9999999 q\r\n", b"incr word 1\r\n",
]  # fmt: skip


@pytest.mark.parametrize("request_", HIDDEN, ids=lambda each: each[:25].decode())
def test_a_hidden_error_is_counted(around: Surroundings, request_: bytes) -> None:
    talk = Conversation(around)
    talk.feed(b"set word 0 0 4\r\nword\r\n")
    assert talk.feed(request_ + b"mn\r\n") == b"MN\r\n"
    assert around.counters.hidden_errors == 1


@pytest.mark.parametrize("request_", SHOWN, ids=lambda each: each[:25].decode())
def test_an_error_that_is_shown_and_what_is_no_error_is_not(around: Surroundings, request_: bytes) -> None:
    talk = Conversation(around)
    talk.feed(b"set word 0 0 4\r\nword\r\n")
    talk.feed(request_ + b"mn\r\n")
    assert around.counters.hidden_errors == 0


def test_a_write_that_the_journal_rejects_is_counted_if_that_is_hidden(refusing: Surroundings) -> None:  # noqa: F811
    assert Conversation(refusing).feed(b"set a 0 0 1 noreply\r\nx\r\nmn\r\n") == b"MN\r\n"
    assert refusing.counters.hidden_errors == 1


def test_a_write_whose_saving_fails_is_counted_if_that_is_hidden(around: Surroundings) -> None:
    talk = Conversation(around)
    talk.feed(b"set a 0 0 1 noreply\r\nx\r\n")
    talk.protocol.take_back()
    assert around.counters.hidden_errors == 1


# Values that have expired when they are stored


def past(around: Surroundings) -> int:
    """A time after the server's start that has passed."""
    return around.clock.now - 10


@pytest.mark.parametrize(
    "request_",
    [
        b"set a 0 %d 1\r\nx\r\n", b"set a 0 -1 1\r\nx\r\n", b"add a 0 %d 1 noreply\r\nx\r\n", b"ms a 1 T%d\r\nx\r\n",
        b"ms a 1 T-1\r\nx\r\n", b"set a 0 %d 5000\r\n" + bytes(5000) + b"\r\n", b"set a 0 2592001 1\r\nx\r\n",
        b"set a 0 2592001 5000\r\n%b\r\n" % bytes(5000),
    ],
    ids=lambda each: each[:15].decode(),
)  # fmt: skip
def test_a_value_that_has_expired_is_counted(around: Surroundings, request_: bytes) -> None:
    talk = Conversation(around)
    talk.feed(request_.replace(b"%d", b"%d" % past(around)))
    assert around.counters.stored_expired == 1
    assert around.counters.cmd_set == 1
    assert talk.feed(b"get a\r\n") == b"END\r\n"


@pytest.mark.parametrize("opcode", [Opcode.SET, Opcode.SETQ, Opcode.ADD])
def test_a_value_of_the_binary_protocol_that_has_expired_is_counted(around: Surroundings, opcode: Opcode) -> None:
    extras = struct.pack("!II", 0, past(around))
    BinaryConversation(around).feed(Packet(opcode, b"a", extras, b"x").to_bytes())
    assert (around.counters.stored_expired, around.counters.cmd_set) == (1, 1)


@pytest.mark.parametrize("request_", [b"set a 0 0 1\r\nx\r\n", b"set a 0 100 1\r\nx\r\n", b"add a 0 1 1\r\nx\r\n"])
def test_a_value_that_has_not_expired_is_not(around: Surroundings, request_: bytes) -> None:
    Conversation(around).feed(request_)
    assert around.counters.stored_expired == 0


def test_a_value_that_is_not_stored_is_not(around: Surroundings) -> None:
    Conversation(around).feed(b"set a 0 0 1\r\nx\r\nadd a 0 %d 1\r\nx\r\n" % past(around))
    assert around.counters.stored_expired == 0


# Values that are too large


def test_a_value_that_is_too_large_is_counted_in_every_protocol(around: Surroundings) -> None:
    value = bytes(99_999)
    Conversation(around).feed(b"set a 0 0 99999\r\n%b\r\n" % value)
    Conversation(around).feed(b"append a 0 0 99999\r\n%b\r\n" % value)
    Conversation(around).feed(b"ms a 99999\r\n%b\r\n" % value)
    BinaryConversation(around).feed(Packet(Opcode.SET, b"a", bytes(8), value).to_bytes())
    assert around.counters.rejected_too_large == 4
    assert around.counters.store_too_large <= 4


def test_the_line_protocol_hides_nothing(around: Surroundings) -> None:
    LineTalk(around).feed(b"PUT a x\nGET\nDELETE none\n")
    assert around.counters.hidden_errors == around.counters.stored_expired == 0
