"""The nodes of a cluster, as flags, files and clients write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from memcache_kv.errors import ConfigError

MOST_NODES = 1000
CONFIGURATION_LIMIT_BYTES = 64 * 1024
"""The longest list of nodes that a file or a client may give."""
LAST_VERSION = (1 << 63) - 1
"""The last version that fits into a signed number of 64 bits, as clients read it."""
NODE = r"(?P<host>[\w.-]{1,255}|\[[\w:.%]{2,100}\])(?:\|(?P<ip>[0-9A-Fa-f.:]{0,45}))?:(?P<port>\d{1,5})"
LISTED_NODE = r"(?P<host>[\w.:%-]{0,255})\|(?P<ip>[0-9A-Fa-f.:]{0,45})\|(?P<port>\d{1,5})"
"""A node in the list that clients get."""


class ClusterNode(NamedTuple):
    """A server that clients may use. `ip` is empty if it is not known."""

    host: str
    ip: str
    port: int

    def listed(self) -> str:
        """Return the node as clients get it."""
        return f"{self.host}|{self.ip}|{self.port}"


class NodeList(NamedTuple):
    """Some nodes, and the version that was given for them; 0 if none was."""

    nodes: tuple[ClusterNode, ...]
    version: int = 0


def parse_node(text: str) -> ClusterNode:
    """Parse HOST:PORT, HOST|IP:PORT or HOST|IP|PORT. Raises ConfigError."""
    match = re.fullmatch(NODE, text) or re.fullmatch(LISTED_NODE, text)
    if match is None or not text.isascii() or not 0 < int(match["port"]) < 65536 or not (match["host"] or match["ip"]):
        raise ConfigError(f"{text!r} is not a node: write HOST:PORT or HOST|IP:PORT, an IPv6 address as [::1]:11211")
    return ClusterNode(match["host"].strip("[]"), match["ip"] or "", int(match["port"]))


def parse_nodes(words: Iterable[str]) -> tuple[ClusterNode, ...]:
    """Parse a list of nodes, which must name at least one and none twice. Raises ConfigError."""
    nodes = tuple(map(parse_node, words))
    if not nodes:
        raise ConfigError("no node is listed")
    if len(nodes) > MOST_NODES:
        raise ConfigError(f"{len(nodes)} nodes are listed; the limit is {MOST_NODES}")
    addresses = [f"{node.host or node.ip}:{node.port}" for node in nodes]
    if len(set(addresses)) < len(nodes):
        twice = next(address for address in addresses if addresses.count(address) > 1)
        raise ConfigError(f"{twice} is listed twice")
    return nodes


def parse_node_list(data: bytes) -> NodeList:
    """Parse the content of a file: nodes, separated by blanks and line ends, after a version if they have one.

    What follows a `#` in a line is ignored. Raises ConfigError.
    """
    if len(data) > CONFIGURATION_LIMIT_BYTES:
        raise ConfigError(f"the list of nodes is longer than {CONFIGURATION_LIMIT_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError("the list of nodes is not ASCII text") from None
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).split()
    if not words or not words[0].isdigit():
        return NodeList(parse_nodes(words))
    if len(words[0]) > len(str(LAST_VERSION)) or not 0 < int(words[0]) <= LAST_VERSION:
        raise ConfigError(f"{words[0]} is not a version: 1 to {LAST_VERSION} are allowed")
    return NodeList(parse_nodes(words[1:]), int(words[0]))
