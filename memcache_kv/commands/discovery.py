"""The configuration of the cluster that this server tells its clients."""

from __future__ import annotations

from memcache_kv.config.cluster import ClusterNode, NodeList, parse_node_list
from memcache_kv.errors import ConfigError
from memcache_kv.store.entry import pack, value_of
from memcache_kv.unpatched import threading

CONFIGURATION_NAME = b"cluster"
"""The name of the only configuration there is."""
CLUSTER_KEY = b"AmazonElastiCache:cluster"
"""The key under which clients that know no `config` get it."""


class Cluster:
    """The configuration that clients get: a version, and the nodes.

    Any thread may read `present`; a lock orders the changes. It is not stored with the items: it is neither evicted nor
    flushed, and not in the journal.
    """

    def __init__(self) -> None:
        self.present: bytes | None = None
        """The configuration as the wire bytes of an item; None if there is none."""
        self.version = 0
        """The last version that clients could get."""
        self.nodes: tuple[ClusterNode, ...] = ()
        self._given = NodeList(())
        self._lock = threading.Lock()

    def follow(self, given: NodeList, at: int) -> bool:
        """Take the nodes of a flag or a file. Returns whether that changed anything.

        The version is the given one, or else `at`, a unix time, but always higher than that before: clients ignore a
        configuration whose version they know, and some of them one with a lower version.
        """
        with self._lock:
            if given == self._given and self.present is not None:
                return False
            self._given = given
            self.version = max(self.version + 1, given.version or at)
            self.nodes = given.nodes
            text = f"{self.version}\n{' '.join(node.listed() for node in given.nodes)}\n"
            self.present = pack(0, text.encode())
            return True

    def set(self, flags: int, wire_bytes: bytes) -> None:
        """Take the configuration that a client sends, as it is: a version, and a list of nodes.

        Raises ConfigError if it is not in this form.
        """
        data = value_of(wire_bytes)
        found = parse_node_list(data)
        if not found.version or data.count(b"\n", 0, -1) != 1:
            raise ConfigError("the configuration is not a line with a version and a line with nodes")
        with self._lock:
            self._given, self.version, self.nodes = NodeList(()), found.version, found.nodes
            self.present = pack(flags, data if data.endswith(b"\n") else data + b"\n")

    def delete(self) -> bool:
        """Remove the configuration. Returns whether there was one."""
        with self._lock:
            was_there = self.present is not None
            self._given, self.nodes, self.present = NodeList(()), (), None
            return was_there
