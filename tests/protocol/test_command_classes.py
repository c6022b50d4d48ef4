"""Every command has a class, and a client that may not use it gets an error and changes nothing, in every protocol."""

from pathlib import Path

import pytest

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.auth.users import Users
from memcache_kv.config.settings import AdminCommands, Settings
from memcache_kv.protocol.binary.commands import OPCODE_COMMANDS
from memcache_kv.protocol.binary.frames import Opcode, Status
from memcache_kv.protocol.command_classes import ADMIN_STATS, COMMAND_CLASSES, HIGHER_FORMS
from memcache_kv.protocol.text.admin import ADMIN_COMMANDS
from memcache_kv.protocol.text.classic import KEYED, KEYLESS
from memcache_kv.protocol.text.login import GuardedTextProtocol
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.credentials import AtOnce

READ, WRITE, ADMIN = CommandClass
FAR = Origin("tcp:10.0.0.9:1", is_local=False)
READER = FAR._replace(listener_class=READ)
KEPT = b"VALUE a 0 1\r\n1\r\nEND\r\n"
SETTINGS = Settings(debug_commands=True, enable_shutdown=True, cluster_node=("127.0.0.1:11211",))
BLOCKS = (b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"ms")


def of_class(*classes: CommandClass) -> tuple[list[bytes], list[int]]:
    """The text commands and the opcodes of these classes."""
    names = [each for each, lowest in COMMAND_CLASSES.items() if lowest in classes]
    return [each for each in names if isinstance(each, bytes)], [each for each in names if isinstance(each, int)]


def test_no_command_lacks_a_class() -> None:
    assert {*KEYED, *KEYLESS, *ADMIN_COMMANDS, *OPCODE_COMMANDS} == COMMAND_CLASSES.keys()


def test_a_form_of_a_command_has_a_class_above_that_of_the_command() -> None:
    assert all(highest > COMMAND_CLASSES[command] for command, highest in HIGHER_FORMS.items())


def text(origin: Origin, settings: Settings = SETTINGS) -> Conversation:
    """A conversation of a client, beside whom another one has stored `a`."""
    talk = Conversation(Surroundings(settings))
    talk.feed(b"set a 0 0 1\r\n1\r\n")
    talk.protocol.permit(origin)
    return talk


def packets(origin: Origin) -> BinaryConversation:
    talk = BinaryConversation(Surroundings(SETTINGS))
    talk.ask(Packet(Opcode.SET, b"a", bytes(8), b"1"))
    talk.protocol.permit(origin)
    return talk


# Text


def line_of(command: bytes) -> bytes:
    """A whole request, in the shortest form, with its data block."""
    words = [command, *[b"a", *[b"1"] * 4][: KEYED[command][1] - 1 if command in KEYED else 0]]
    return b" ".join(words) + b"\r\n" + b"x\r\n" * (command in BLOCKS)


@pytest.mark.parametrize("command", of_class(ADMIN)[0])
def test_an_admin_command_from_afar_is_refused(command: bytes) -> None:
    talk = text(FAR)
    said = talk.feed(line_of(command) + b"get a\r\n")
    shown = b"watch commands" if command == b"watch" else command
    assert said == b"CLIENT_ERROR " + shown + b" not allowed\r\n" + KEPT
    assert not talk.around.stops


@pytest.mark.parametrize("command", of_class(ADMIN)[0])
def test_no_admin_command_is_refused_where_always_is_set(command: bytes) -> None:
    talk = text(FAR, SETTINGS._replace(admin_commands=AdminCommands.ALWAYS))
    assert b"not allowed" not in talk.feed(line_of(command)).replace(b"watch commands not allowed", b"")


@pytest.mark.parametrize("command", of_class(WRITE)[0])
def test_a_write_command_of_a_reader_is_refused_with_its_data_block(command: bytes) -> None:
    talk = text(READER)
    said = talk.feed(line_of(command) + b"get a\r\n")
    assert said == b"CLIENT_ERROR " + command + b" not allowed\r\n" + KEPT


@pytest.mark.parametrize("command", of_class(READ, WRITE)[0])
def test_reads_and_writes_from_afar_are_not_refused(command: bytes) -> None:
    assert b"not allowed" not in text(FAR).feed(line_of(command))


@pytest.mark.parametrize("command", of_class(READ)[0])
def test_a_read_command_of_a_reader_is_not_refused(command: bytes) -> None:
    assert b"not allowed" not in text(READER).feed(line_of(command))


@pytest.mark.parametrize("flag", [b"T30", b"N30", b"R30"])
def test_a_reader_may_not_change_an_item_with_mg(flag: bytes) -> None:
    said = text(READER).feed(b"mg a v\r\nmg a v " + flag + b"\r\nmg missing " + flag + b"\r\nget missing\r\n")
    refused = b"CLIENT_ERROR mg with a flag that changes the item not allowed\r\n"
    assert said == b"VA 1\r\n1\r\n" + refused * 2 + b"END\r\n"


@pytest.mark.parametrize("report", ADMIN_STATS)
def test_a_report_of_the_class_admin_is_refused_from_afar(report: bytes) -> None:
    said = text(FAR).feed(b"stats " + report + b" 1 1\r\n")
    assert said == b"CLIENT_ERROR stats " + report + b" not allowed\r\n"


@pytest.mark.parametrize("word", [b"r", b"de", b"c", b"con"])
def test_the_beginning_of_a_report_is_no_way_around_its_class(word: bytes) -> None:
    assert text(FAR).feed(b"stats " + word + b"\r\n").endswith(b" not allowed\r\n")


@pytest.mark.parametrize("line", [b"stats", b"stats settings", b"stats s", b"stats items", b"stats slabs"])
def test_other_reports_are_for_every_client(line: bytes) -> None:
    assert text(READER).feed(line + b"\r\n").endswith(b"END\r\n")


def test_noreply_silences_a_refusal_too() -> None:
    assert text(FAR).feed(b"flush_all noreply\r\nverbosity 1 noreply\r\nget a\r\n") == KEPT
    assert text(READER).feed(b"set a 0 0 1 noreply\r\nx\r\ndelete a noreply\r\nget a\r\n") == KEPT


def test_spaces_before_a_command_are_no_way_around_its_class() -> None:
    assert text(FAR).feed(b"  flush_all\r\n") == b"CLIENT_ERROR flush_all not allowed\r\n"


def test_a_command_that_is_not_there_is_unknown_and_not_refused() -> None:
    assert text(FAR, Settings()).feed(b"debugtime p\r\n") == b"ERROR\r\n"


def test_a_refused_set_that_is_too_large_leaves_the_old_value() -> None:
    size = 2 << 20
    said = text(READER).feed(b"set a 0 0 %d\r\n" % size + bytes(size) + b"\r\nget a\r\n")
    assert said == b"CLIENT_ERROR set not allowed\r\n" + KEPT


@pytest.mark.parametrize("request_", [b"set a 0 0 1\r\nx\r\n", b"ms a 1\r\nx\r\n"])
def test_only_sets_of_readers_leave_the_fast_path(request_: bytes) -> None:
    for origin, is_fast in ((FAR, True), (READER, False)):
        protocol = text(origin).protocol
        assert protocol.receive(b"get a\r\nmg a v\r\n")
        assert protocol.receive(request_ * 3) is is_fast


# Binary


def packet_of(opcode: int) -> Packet:
    command = OPCODE_COMMANDS[opcode]
    key, value = b"" if command.is_keyed is False else b"a", b"" if command.is_exact else b"x"
    return Packet(opcode, key, bytes(command.extras[-1]), value)


NOOP = Packet(Opcode.NOOP, opaque=7)


def refused(talk: BinaryConversation, packet: Packet) -> bool:
    """Send a packet; tell whether it was refused, and demand that the next one is answered and `a` is left then."""
    first, *others = talk.ask(packet, NOOP, Packet(Opcode.GET, b"a"))
    if (first.status, first.value) != (Status.AUTH_ERROR, b"Not allowed."):
        return False
    assert [(each.opcode, each.value) for each in others] == [(Opcode.NOOP, b""), (Opcode.GET, b"1")]
    return True


@pytest.mark.parametrize("opcode", of_class(ADMIN)[1])
def test_an_admin_opcode_from_afar_is_refused(opcode: int) -> None:
    assert refused(packets(FAR), packet_of(opcode))
    assert not refused(packets(Origin()), packet_of(opcode))


@pytest.mark.parametrize("opcode", of_class(WRITE)[1])
def test_a_write_opcode_of_a_reader_is_refused_with_its_value(opcode: int) -> None:
    assert refused(packets(READER), packet_of(opcode))
    assert not refused(packets(FAR), packet_of(opcode))


@pytest.mark.parametrize("opcode", of_class(READ)[1])
def test_a_read_opcode_of_a_reader_is_not_refused(opcode: int) -> None:
    assert Status.AUTH_ERROR not in [reply.status for reply in packets(READER).ask(packet_of(opcode), NOOP)]


@pytest.mark.parametrize("what", [b"reset", b"detail on", b"detail dump", b"detail off", b"sizes", b"resetting"])
def test_a_stat_of_the_class_admin_is_refused_from_afar(what: bytes) -> None:
    assert refused(packets(FAR), Packet(Opcode.STAT, what))


@pytest.mark.parametrize("what", [b"", b"settings", b"items"])
def test_other_stats_are_for_every_client_by_packets(what: bytes) -> None:
    assert not refused(packets(READER), Packet(Opcode.STAT, what))


# Logins


@pytest.fixture
def users(tmp_path: Path) -> Users:
    path = tmp_path / "users"
    path.write_bytes(b"red:pw:read\nwes:pw:write\namy:pw:admin\nold:pw\n")
    return Users(path)


def may_use(said: bytes) -> list[bool]:
    """Of the replies to a login, a set and a flush: whether the last two were carried out."""
    lines = said.split(b"\r\n")
    assert lines[0] == b"STORED"
    return [b"not allowed" not in line for line in lines[1:3]]


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize(
    ("user", "may_write", "may_flush"),
    [
        (b"red", False, [False, False]),
        (b"wes", True, [False, False]),
        (b"amy", True, [True, True]),
        (b"old", True, [True, False]),
    ],
)
def test_a_user_has_the_class_of_the_file_from_the_login_on(
    users: Users, user: bytes, may_write: bool, may_flush: list[bool], is_local: bool
) -> None:
    talk = Conversation()
    talk.protocol = GuardedTextProtocol(talk.around.context, 30, AtOnce(users))
    talk.protocol.permit(FAR._replace(is_local=is_local))
    said = talk.feed(b"set auth 0 0 6\r\n" + user + b" pw\r\nset k 0 0 1\r\nx\r\nflush_all\r\n")
    assert may_use(said) == [may_write, may_flush[0 if is_local else 1]]


@pytest.mark.parametrize("user", [b"red", b"wes", b"amy"])
def test_a_user_has_the_class_of_the_file_by_packets(users: Users, user: bytes) -> None:
    talk = BinaryConversation(users=AtOnce(users))
    talk.protocol.permit(FAR)
    login = Packet(Opcode.SASL_AUTH, b"PLAIN", value=b"\0" + user + b"\0pw")
    replies = talk.ask(login, Packet(Opcode.SET, b"k", bytes(8), b"x"), Packet(Opcode.FLUSH))
    expected = {b"red": [0, 0x20, 0x20], b"wes": [0, 0, 0x20], b"amy": [0, 0, 0]}
    assert [reply.status for reply in replies] == expected[user]
