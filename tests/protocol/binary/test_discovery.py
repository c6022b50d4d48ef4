"""The binary commands config get, set and delete."""

import pytest

from memcache_kv.auth.access import Origin
from memcache_kv.config.cluster import CONFIGURATION_LIMIT_BYTES, ClusterNode, NodeList
from memcache_kv.config.settings import Settings
from memcache_kv.protocol.binary.frames import Opcode, Status
from tests.protocol.binary.binary_packets import BinaryConversation, Packet
from tests.protocol.context_factory import Surroundings

SETTINGS = Settings(cluster_node=("one|10.0.0.1:11211",))
TEXT = b"1700000000\none|10.0.0.1|11211\n"
OTHER = b"12\ntwo|10.0.0.2|11211\n"
GET = Packet(Opcode.CONFIG_GET, b"cluster")
DELETE = Packet(Opcode.CONFIG_DELETE, b"cluster")
FAR = Origin("tcp:10.0.0.9:1", is_local=False)


@pytest.fixture
def talk() -> BinaryConversation:
    """A conversation with a server that has one node."""
    around = Surroundings(SETTINGS)
    assert around.context.cluster is not None
    around.context.cluster.follow(NodeList((ClusterNode("one", "10.0.0.1", 11211),)), 1_700_000_000)
    return BinaryConversation(around)


def told(talk: BinaryConversation) -> tuple[int, bytes, bytes]:
    (reply,) = talk.ask(GET)
    return reply.status, reply.extras, reply.value


def test_the_configuration_is_told_with_its_flags(talk: BinaryConversation) -> None:
    assert told(talk) == (Status.SUCCESS, bytes(4), TEXT)


@pytest.mark.parametrize("extras", [b"", b"\0\0\0\7", b"\0\0\0\7\0\0\0\0"])
def test_it_can_be_set_and_deleted(talk: BinaryConversation, extras: bytes) -> None:
    (reply,) = talk.ask(Packet(Opcode.CONFIG_SET, b"cluster", extras, OTHER))
    assert reply.status == Status.SUCCESS
    assert told(talk) == (Status.SUCCESS, extras[:4] or bytes(4), OTHER)
    assert [reply.status for reply in talk.ask(DELETE, DELETE, GET)] == [0, Status.NOT_FOUND, Status.NOT_FOUND]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Packet(Opcode.CONFIG_GET, b"other"), Status.NOT_FOUND),
        (Packet(Opcode.CONFIG_DELETE, b"other"), Status.NOT_FOUND),
        (Packet(Opcode.CONFIG_SET, b"other", b"", OTHER), Status.INVALID),
        (Packet(Opcode.CONFIG_SET, b"cluster", b"", b"nonsense"), Status.INVALID),
        (Packet(Opcode.CONFIG_SET, b"cluster", b"", b"x" * (CONFIGURATION_LIMIT_BYTES + 1)), Status.TOO_LARGE),
    ],
)
def test_what_is_wrong_changes_nothing(talk: BinaryConversation, request_: Packet, status: Status) -> None:
    (reply,) = talk.ask(request_)
    assert reply.status == status
    assert told(talk) == (Status.SUCCESS, bytes(4), TEXT)


def test_only_clients_of_the_class_admin_may_change_it(talk: BinaryConversation) -> None:
    talk.protocol.permit(FAR)
    replies = talk.ask(Packet(Opcode.CONFIG_SET, b"cluster", b"", OTHER), DELETE, GET)
    assert [reply.status for reply in replies] == [Status.AUTH_ERROR, Status.AUTH_ERROR, Status.SUCCESS]


@pytest.mark.parametrize("origin", [Origin(), FAR])
def test_without_discovery_the_commands_are_unknown_as_in_memcached(origin: Origin) -> None:
    talk = BinaryConversation(Surroundings())
    talk.protocol.permit(origin)
    replies = talk.ask(GET, Packet(Opcode.CONFIG_SET, b"cluster", b"", OTHER), DELETE)
    assert [reply.status for reply in replies] == [Status.UNKNOWN_COMMAND] * 3
