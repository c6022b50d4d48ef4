"""The nodes of a cluster, as flags, files and clients write them."""

import pytest

from memcache_kv.config.cluster import (
    CONFIGURATION_LIMIT_BYTES,
    MOST_NODES,
    ClusterNode,
    NodeList,
    parse_node,
    parse_node_list,
    parse_nodes,
)
from memcache_kv.config.loading import load_settings
from memcache_kv.errors import ConfigError

NODE = ClusterNode("one.example", "10.0.0.1", 11211)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("one.example:11211", ClusterNode("one.example", "", 11211)),
        ("one.example|10.0.0.1:11211", NODE),
        ("one.example|10.0.0.1|11211", NODE),
        ("one.example||11211", ClusterNode("one.example", "", 11211)),
        ("|10.0.0.1|11211", ClusterNode("", "10.0.0.1", 11211)),
        ("127.0.0.1:1", ClusterNode("127.0.0.1", "", 1)),
        ("[::1]:65535", ClusterNode("::1", "", 65535)),
        ("[fe80::1%eth0]|fe80::1:11211", ClusterNode("fe80::1%eth0", "fe80::1", 11211)),
        ("a|::1|11211", ClusterNode("a", "::1", 11211)),
    ],
)
def test_a_node_has_a_host_an_address_and_a_port(text: str, node: ClusterNode) -> None:
    assert parse_node(text) == node
    assert parse_node(node.listed()) == node


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":11211", "host:0", "host:65536", "host:111111", "host:x", "ho st:1", "a|b|c|1", "||11211",
     "host|10.0.0.x:1", "höst:1", "::1:11211", "h" * 256 + ":1", "host:1\n", "host\r\n:1", "host:\u0661"],
)  # fmt: skip
def test_anything_else_is_not_a_node(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a node"):
        parse_node(text)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"one.example|10.0.0.1:11211", NodeList((NODE,))),
        (b"# all\n\none.example|10.0.0.1:11211 # one\r\n", NodeList((NODE,))),
        (b"a:1\nb:2 c:3\n", NodeList(tuple(ClusterNode("abc"[port - 1], "", port) for port in (1, 2, 3)))),
        (b"12\none.example|10.0.0.1|11211\n", NodeList((NODE,), 12)),
        (b"9223372036854775807 one.example|10.0.0.1|11211", NodeList((NODE,), (1 << 63) - 1)),
    ],
)
def test_a_file_lists_nodes_and_may_have_a_version(data: bytes, found: NodeList) -> None:
    assert parse_node_list(data) == found


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no node is listed"),
        (b"# none\n", "no node is listed"),
        (b"12\n", "no node is listed"),
        (b"0\na:1", "0 is not a version"),
        (b"9223372036854775808\na:1", "is not a version"),
        (b"1" * 1000 + b"\na:1", "is not a version"),
        (b"a:1\nb:1\na|10.0.0.1:1", "a:1 is listed twice"),
        (b"a:1\n\xff", "not ASCII"),
        (b"a:1\nhalf", "'half' is not a node"),
        (b"a:1 " + b" " * CONFIGURATION_LIMIT_BYTES, "longer than"),
        (b" ".join(b"a:%d" % port for port in range(1, MOST_NODES + 2)), "1001 nodes are listed"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(data: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_node_list(data)


def test_the_most_nodes_are_read_at_once() -> None:
    assert len(parse_nodes(f"node-{number}:11211" for number in range(MOST_NODES))) == MOST_NODES


def test_the_flags_are_checked() -> None:
    assert load_settings({"cluster-node": ["a:1,b|10.0.0.2:2"]}, None, {}).cluster_node == ("a:1", "b|10.0.0.2:2")
    with pytest.raises(ConfigError, match="--cluster-node: 'a' is not a node"):
        load_settings({"cluster-node": ["a"]}, None, {})
    with pytest.raises(ConfigError, match="exclude each other"):
        load_settings({"cluster-node": ["a:1"], "cluster-file": "nodes"}, None, {})
