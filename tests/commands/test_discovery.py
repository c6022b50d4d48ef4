"""The configuration of the cluster: what is taken, and how its version grows."""

import pytest

from memcache_kv.commands.discovery import Cluster
from memcache_kv.config.cluster import ClusterNode, NodeList
from memcache_kv.errors import ConfigError
from memcache_kv.store.entry import flags_of, pack, value_of

ONE, TWO = ClusterNode("one", "10.0.0.1", 11211), ClusterNode("two", "", 11212)
AT = 1_700_000_000


def told(cluster: Cluster) -> bytes:
    assert cluster.present is not None
    return value_of(cluster.present)


def test_there_is_no_configuration_at_first() -> None:
    assert Cluster().present is None
    assert not Cluster().delete()


def test_nodes_are_listed_after_the_version() -> None:
    cluster = Cluster()
    assert cluster.follow(NodeList((ONE, TWO)), AT)
    assert told(cluster) == b"1700000000\none|10.0.0.1|11211 two||11212\n"
    assert cluster.nodes == (ONE, TWO)


@pytest.mark.parametrize(
    ("given", "at", "version"),
    [
        (NodeList((TWO,)), AT + 60, AT + 60),
        (NodeList((TWO,)), AT, AT + 1),
        (NodeList((TWO,)), AT - 1000, AT + 1),
        (NodeList((TWO,), AT + 5), AT + 60, AT + 5),
        (NodeList((TWO,), 7), AT + 60, AT + 1),
        (NodeList((ONE,), AT + 5), AT, AT + 5),
    ],
)
def test_each_change_has_a_higher_version(given: NodeList, at: int, version: int) -> None:
    cluster = Cluster()
    cluster.follow(NodeList((ONE,)), AT)
    assert cluster.follow(given, at)
    assert told(cluster).startswith(b"%d\n" % version)
    assert cluster.version == version


def test_the_same_nodes_are_no_change() -> None:
    cluster = Cluster()
    cluster.follow(NodeList((ONE,)), AT)
    before = told(cluster)
    assert not cluster.follow(NodeList((ONE,)), AT + 60)
    assert told(cluster) == before


def test_what_a_client_sets_is_kept_as_it_is_with_its_flags() -> None:
    cluster = Cluster()
    cluster.follow(NodeList((ONE,)), AT)
    cluster.set(7, pack(7, b"12\ntwo||11212\n"))
    assert (told(cluster), cluster.version, cluster.nodes) == (b"12\ntwo||11212\n", 12, (TWO,))
    assert cluster.present is not None
    assert flags_of(cluster.present) == 7


def test_the_line_feed_that_clients_look_for_is_added() -> None:
    cluster = Cluster()
    cluster.set(0, pack(0, b"12\ntwo||11212"))
    assert told(cluster) == b"12\ntwo||11212\n"


@pytest.mark.parametrize(
    "data", [b"", b"12\n", b"one||11211\n", b"12 one||11211\n", b"x\none||1\n", b"1\na||1\nb||1\n"]
)
def test_what_is_no_configuration_changes_nothing(data: bytes) -> None:
    cluster = Cluster()
    cluster.follow(NodeList((ONE,)), AT)
    before = told(cluster)
    with pytest.raises(ConfigError):
        cluster.set(0, pack(0, data))
    assert told(cluster) == before


def test_a_file_takes_over_again_from_what_a_client_has_set_or_deleted() -> None:
    cluster = Cluster()
    cluster.follow(NodeList((ONE,)), AT)
    cluster.set(0, pack(0, b"%d\ntwo||11212\n" % (AT + 100)))
    assert cluster.follow(NodeList((ONE,)), AT)
    assert cluster.version == AT + 101
    assert cluster.delete()
    assert cluster.present is None
    assert cluster.follow(NodeList((ONE,)), AT)
    assert cluster.version == AT + 102
