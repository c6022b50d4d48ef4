"""config get, set and delete, and the key under which older clients ask for the configuration."""

import pytest

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.commands.discovery import CLUSTER_KEY
from memcache_kv.config.cluster import CONFIGURATION_LIMIT_BYTES, ClusterNode, NodeList
from memcache_kv.config.settings import Settings
from tests.protocol.context_factory import Conversation, Surroundings

SETTINGS = Settings(cluster_node=("one|10.0.0.1:11211",))
TEXT = b"1700000000\none|10.0.0.1|11211\n"
TOLD = b"CONFIG cluster 0 %d\r\n%b\r\nEND\r\n" % (len(TEXT), TEXT)
OTHER = b"1700000001\none|10.0.0.1|11211 two|10.0.0.2|11211\n"
GET = b"config get cluster\r\n"
FAR = Origin("tcp:10.0.0.9:1", is_local=False)


def set_line(text: bytes, more: bytes = b"") -> bytes:
    return b"config set cluster 0 %d%b\r\n%b\r\n" % (len(text), more, text)


@pytest.fixture
def talk() -> Conversation:
    """A conversation with a server that has one node."""
    around = Surroundings(SETTINGS)
    assert around.context.cluster is not None
    around.context.cluster.follow(NodeList((ClusterNode("one", "10.0.0.1", 11211),)), 1_700_000_000)
    return Conversation(around)


def test_the_configuration_is_told_in_the_form_that_clients_know(talk: Conversation) -> None:
    assert talk.feed(GET) == TOLD
    assert TOLD == b"CONFIG cluster 0 30\r\n1700000000\none|10.0.0.1|11211\n\r\nEND\r\n"


def test_what_a_client_sets_is_told_to_all(talk: Conversation) -> None:
    assert talk.feed(set_line(OTHER)) == b"STORED\r\n"
    assert Conversation(talk.around).feed(GET) == TOLD.replace(b"0 30", b"0 %d" % len(OTHER)).replace(TEXT, OTHER)
    assert talk.around.logged == ["a client set the cluster's version 1700000001, with 2 nodes"]


@pytest.mark.parametrize("size", [1, 7])
def test_a_configuration_may_come_in_pieces(talk: Conversation, size: int) -> None:
    request = set_line(OTHER) + GET
    replies = b"".join(talk.feed(request[start : start + size]) for start in range(0, len(request), size))
    assert replies.startswith(b"STORED\r\nCONFIG cluster 0 %d\r\n" % len(OTHER))


def test_with_noreply_nothing_is_answered_but_the_configuration_is_set(talk: Conversation) -> None:
    assert talk.feed(set_line(OTHER, b" noreply")) == b""
    assert talk.feed(b"config delete cluster noreply\r\n" + GET) == b"END\r\n"


def test_a_configuration_can_be_deleted(talk: Conversation) -> None:
    assert talk.feed(b"config delete cluster\r\n") == b"DELETED\r\n"
    assert talk.feed(GET) == b"END\r\n"
    assert talk.feed(b"get %b\r\n" % CLUSTER_KEY) == b"END\r\n"
    assert talk.feed(b"config delete cluster\r\n") == b"NOT_FOUND\r\n"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"config\r\n", b"ERROR\r\n"),
        (b"config get\r\n", b"ERROR\r\n"),
        (b"config put cluster\r\n", b"ERROR\r\n"),
        (b"config set cluster 0\r\n", b"ERROR\r\n"),
        (b"config get other\r\n", b"END\r\n"),
        (b"config delete other\r\n", b"NOT_FOUND\r\n"),
        (b"config set other 0 2\r\nab\r\n", b"CLIENT_ERROR there is no configuration but cluster\r\n"),
        (b"config set cluster 0 x\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"config set cluster x 2\r\nab\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"config set cluster 0 2\r\nabc\r\n", b"CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line "
         b"format\r\n"),
        (set_line(b"nonsense"), b"CLIENT_ERROR 'nonsense' is not a node: write HOST:PORT or HOST|IP:PORT, an IPv6 "
         b"address as [::1]:11211\r\n"),
        (set_line(b"one|10.0.0.1|11211"), b"CLIENT_ERROR the configuration is not a line with a version and a line "
         b"with nodes\r\n"),
        (set_line(b"1\n" + b"x" * CONFIGURATION_LIMIT_BYTES), b"SERVER_ERROR object too large for cache\r\n"),
    ],
)  # fmt: skip
def test_what_is_wrong_changes_nothing(talk: Conversation, request_: bytes, reply: bytes) -> None:
    assert talk.feed(request_) == reply
    assert talk.feed(GET) == TOLD


def test_without_discovery_the_commands_are_unknown_as_in_memcached() -> None:
    for origin in (Origin(), FAR):
        talk = Conversation()
        talk.protocol.permit(origin)
        assert talk.feed(GET + set_line(b"hello")) == b"ERROR\r\n" * 3
        assert talk.feed(b"get %b\r\n" % CLUSTER_KEY) == b"END\r\n"


def test_only_clients_of_the_class_admin_may_change_it(talk: Conversation) -> None:
    for origin in (
        FAR,
        FAR._replace(listener_class=CommandClass.WRITE),
        FAR._replace(listener_class=CommandClass.READ),
    ):
        talk.protocol.permit(origin)
        assert talk.feed(set_line(OTHER)) == b"CLIENT_ERROR config set not allowed\r\n"
        assert talk.feed(b"config delete cluster\r\n") == b"CLIENT_ERROR config delete not allowed\r\n"
        assert talk.feed(b"config set\r\n") == b"CLIENT_ERROR config set not allowed\r\n"
        assert talk.feed(GET) == TOLD
        assert talk.feed(b"get %b\r\n" % CLUSTER_KEY).startswith(b"VALUE ")
    talk.protocol.permit(FAR._replace(listener_class=CommandClass.ADMIN))
    assert talk.feed(set_line(OTHER)) == b"STORED\r\n"


# The key of older clients


VALUE = b"VALUE %b 0 30\r\n%b\r\nEND\r\n" % (CLUSTER_KEY, TEXT)


def test_older_clients_get_it_under_a_key(talk: Conversation) -> None:
    ask = b"get %b\r\n" % CLUSTER_KEY
    assert talk.feed(ask) == VALUE
    assert talk.feed(b"get a\r\n" + ask + b"get a\r\n" + ask) == (b"END\r\n" + VALUE) * 2
    counts = talk.around.counters
    assert (counts.cmd_get, counts.get_hits, counts.get_misses) == (5, 3, 2)


def test_an_item_under_that_key_does_not_take_its_place(talk: Conversation) -> None:
    """Otherwise every client that may write could send the others to another server."""
    ask = b"get %b\r\n" % CLUSTER_KEY
    assert talk.feed(b"set %b 0 0 1\r\nx\r\n%b" % (CLUSTER_KEY, ask)) == b"STORED\r\n" + VALUE
    assert talk.feed(b"get a %b\r\n" % CLUSTER_KEY) == b"VALUE %b 0 1\r\nx\r\nEND\r\n" % CLUSTER_KEY
    talk.feed(b"flush_all\r\n")
    assert talk.feed(ask) == VALUE


def test_without_discovery_the_key_is_one_like_any_other() -> None:
    talk = Conversation()
    request = b"set %b 0 0 1\r\nx\r\nget %b\r\n" % (CLUSTER_KEY, CLUSTER_KEY)
    assert talk.feed(request) == b"STORED\r\nVALUE %b 0 1\r\nx\r\nEND\r\n" % CLUSTER_KEY
    similar = b"AmazonElastiCache:clusteR"
    assert talk.feed(b"get %b\r\n" % similar) == b"END\r\n"
