"""Commands while the journal can't be written: what would change something is refused, what reads is answered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.journal import Compactor, Fsync, Journal, JournalDirectory
from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.text.multiget import KEYS_PER_TURN
from memcache_kv.store.entry import pack
from memcache_kv.store.writes import Mode
from tests.protocol.binary.binary_packets import Packet, replies_in
from tests.protocol.context_factory import Conversation, Surroundings

REFUSED = b"SERVER_ERROR out of memory storing object\r\n"
CHANGES = [
    b"set a 0 0 1\r\nx\r\n",
    b"set a 0 100 1\r\nx\r\n",
    b"set a 9 0 5000\r\n%b\r\n" % bytes(5000),
    b"add b 0 0 1\r\nx\r\n",
    b"replace a 0 0 1\r\nx\r\n",
    b"append a 0 0 1\r\nx\r\n",
    b"prepend a 0 0 1\r\nx\r\n",
    b"cas a 0 0 1 1\r\nx\r\n",
    b"incr n 1\r\n",
    b"decr n 1\r\n",
    b"delete a\r\n",
    b"touch a 100\r\n",
    b"gat 100 a\r\n",
    b"gats 100 a\r\n",
    b"flush_all\r\n",
    b"flush_all 10\r\n",
    b"ms a 1\r\nx\r\n",
    b"ms b 1 q\r\nx\r\n",
    b"md a\r\n",
    b"md a I\r\n",
    b"ma n\r\n",
    b"mg b v N30\r\n",
    b"mg a v T30\r\n",
]  # fmt: skip


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    """A store with two items, whose journal takes nothing any more."""
    found = Surroundings(Settings(max_item_size=10_000))
    journal = Journal(JournalDirectory(tmp_path), Fsync.EVERYSEC)
    found.store.store(Mode.SET, b"a", pack(3, b"old"))
    found.store.store(Mode.SET, b"n", pack(0, b"7"))
    found.store.log = found.context.journal = journal
    journal.refuses = True
    yield found
    journal.refuses = False
    journal.close()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_and_what_was_there_stays(around: Surroundings, change: bytes) -> None:
    conversation = Conversation(around)
    assert conversation.feed(change + b"get a n b\r\n") == REFUSED + (
        b"VALUE a 3 3\r\nold\r\nVALUE n 0 1\r\n7\r\nEND\r\n"
    )
    assert around.context.journal is not None
    assert (around.context.journal.refusals, around.context.journal.position) == (1, 0)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_comes_in_pieces_is_refused_once(around: Surroundings, change: bytes) -> None:
    conversation = Conversation(around)
    pieces = [change[:1], change[1:-3], change[-3:-1], change[-1:], b"mn\r\n"]
    assert conversation.feed_pieces(*pieces) == REFUSED + b"MN\r\n"


@pytest.mark.parametrize("change", [b"set a 0 0 1 noreply\r\nx\r\n", b"delete a noreply\r\n", b"flush_all noreply\r\n"])
def test_a_silent_change_is_refused_in_silence(around: Surroundings, change: bytes) -> None:
    assert Conversation(around).feed(change + b"get a\r\n") == b"VALUE a 3 3\r\nold\r\nEND\r\n"


@pytest.mark.parametrize(
    "read", [b"get a\r\n", b"gets a\r\n", b"mg a v c\r\n", b"me a\r\n", b"stats\r\n", b"verbosity 1\r\n", b"mn\r\n"]
)
def test_what_changes_nothing_is_answered(around: Surroundings, read: bytes) -> None:
    reply = Conversation(around).feed(read)
    assert reply
    assert b"ERROR" not in reply


def test_too_large_a_value_is_refused_as_such_and_leaves_the_old_one(around: Surroundings) -> None:
    reply = Conversation(around).feed(b"set a 0 0 20000\r\n%b\r\nget a\r\n" % bytes(20_000))
    assert reply == b"SERVER_ERROR object too large for cache\r\nVALUE a 3 3\r\nold\r\nEND\r\n"


def test_a_journal_that_begins_to_refuse_between_two_turns_of_a_command_ends_it(around: Surroundings) -> None:
    journal, conversation = around.context.journal, Conversation(around)
    assert journal is not None
    journal.refuses = False
    protocol = conversation.protocol
    protocol.receive(b"gat 100 " + b" ".join([b"a"] * (KEYS_PER_TURN + 1)) + b"\r\nmn\r\n")
    assert protocol.paused
    journal.refuses = True
    protocol.resume()
    assert b"".join(protocol.out).endswith(b"\r\nold\r\n" + REFUSED + b"MN\r\n")
    assert not protocol.closing


BINARY_CHANGES = [
    Packet(Opcode.SET, b"a", bytes(8), b"x"),
    Packet(Opcode.SETQ, b"a", bytes(8), b"x"),
    Packet(Opcode.APPEND, b"a", value=b"x"),
    Packet(Opcode.DELETE, b"a"),
    Packet(Opcode.INCREMENT, b"n", bytes(20)),
    Packet(Opcode.TOUCH, b"a", bytes(4)),
    Packet(Opcode.GATQ, b"a", bytes(4)),
    Packet(Opcode.FLUSH),
]


@pytest.mark.parametrize("change", BINARY_CHANGES)
def test_a_binary_change_is_refused_in_binary(around: Surroundings, change: Packet) -> None:
    protocol = BinaryProtocol(around.context)
    protocol.receive(change.to_bytes() + Packet(Opcode.NOOP).to_bytes())
    refused, after = replies_in(b"".join(protocol.out))
    assert (refused.opcode, refused.status, refused.value) == (change.opcode, 0x82, b"Out of memory")
    assert (after.opcode, after.status) == (Opcode.NOOP, 0)
    assert around.store.peek(b"a") == pack(3, b"old")


# What was done, and then the disk did not take it


@pytest.mark.parametrize(
    ("reply", "instead"),
    [(b"STORED\r\n", REFUSED), (b"8\r\n", REFUSED), (b"HD O12\r\n", REFUSED), (b"", b"")],
)
def test_one_reply_is_taken_back_for_the_refusal(around: Surroundings, reply: bytes, instead: bytes) -> None:
    protocol = Conversation(around).protocol
    protocol.out = [reply]
    protocol.take_back()
    assert (b"".join(protocol.out), protocol.closing) == (instead, False)


@pytest.mark.parametrize("reply", [b"STORED\r\nSTORED\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"])
def test_several_replies_cannot_be_taken_back_so_the_connection_ends(around: Surroundings, reply: bytes) -> None:
    protocol = Conversation(around).protocol
    protocol.out = [reply]
    protocol.take_back()
    assert (protocol.out, protocol.closing) == ([], True)


def test_a_binary_reply_is_taken_back_and_several_are_not(around: Surroundings) -> None:
    assert around.context.journal is not None
    around.context.journal.refuses = False
    protocol = BinaryProtocol(around.context)
    protocol.receive(BINARY_CHANGES[0].to_bytes())
    protocol.take_back()
    [refused] = replies_in(b"".join(protocol.out))
    assert (refused.opcode, refused.status, refused.opaque) == (Opcode.SET, 0x82, BINARY_CHANGES[0].opaque)
    protocol.out.clear()
    protocol.receive(BINARY_CHANGES[0].to_bytes() * 2)
    protocol.take_back()
    assert (protocol.out, protocol.closing) == ([], True)


# journal compact


def test_a_rewrite_is_begun_by_command_and_only_one_at_a_time(around: Surroundings) -> None:
    assert around.context.journal is not None
    around.context.compactor = Compactor(around.context.journal, around.store, 2, around.context.log)
    conversation = Conversation(around)
    assert conversation.feed(b"journal compact\r\n") == b"OK\r\n"
    assert around.context.compactor.running
    assert conversation.feed(b"journal compact\r\n") == b"BUSY currently rewriting the journal\r\n"


def test_without_a_journal_there_is_nothing_to_rewrite() -> None:
    conversation = Conversation()
    assert conversation.feed(b"journal compact\r\n") == b"CLIENT_ERROR there is no journal\r\n"
    assert conversation.feed(b"journal\r\njournal open\r\njournal compact now\r\n") == b"ERROR\r\n" * 3
