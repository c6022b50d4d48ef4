"""Where the nodes of the cluster come from: --cluster-node, or the file of --cluster-file, which is followed."""

from __future__ import annotations

import os
from pathlib import Path

from memcache_kv.commands.discovery import Cluster
from memcache_kv.config.cluster import CONFIGURATION_LIMIT_BYTES, ClusterNode, NodeList, parse_node_list
from memcache_kv.errors import ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import socket, threading

FILE_LOOK_SECONDS = 1.0
"""How often the file is looked at. A change is read when the file was the same twice: it may still be being written."""


def resolved(nodes: tuple[ClusterNode, ...], log: Log) -> tuple[ClusterNode, ...]:
    """Return the nodes with the addresses of those that have none, as far as their names can be resolved.

    Many clients use the address and not the name. This may wait for a name server.
    """
    return tuple(node._replace(ip=node.ip or _address(node, log)) for node in nodes)


def _address(node: ClusterNode, log: Log) -> str:
    """Return an address of a node's host, one of IPv4 if there is one; an empty string if there is none."""
    try:
        found = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        log.warn(
            f"the cluster's node {node.host}:{node.port} has no address for clients that need one: "
            f"{getattr(error, 'strerror', None) or error}"
        )
        return ""
    addresses = [str(address[0]) for family, _, _, _, address in found if family == socket.AF_INET]
    return (addresses or [str(found[0][4][0])])[0]


class ClusterFile(ServerThread):
    """Follows the file of --cluster-file: its nodes become those of the cluster whenever it has changed.

    Any thread may call `reload`.
    """

    def __init__(self, path: Path, cluster: Cluster, log: Log) -> None:
        super().__init__("cluster")
        self._path = path
        self._cluster = cluster
        self._log = log
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._stamp: tuple[int, ...] = ()
        """What identifies the version of the file that was seen last."""
        self._is_due = False
        """Whether that version was not read yet."""

    def reload(self) -> None:
        """Read the file now. Raises ConfigError if it can't be used; then the nodes stay as they are."""
        with self._lock:
            self._stamp, self._is_due = self._present_stamp(), False
            try:
                with self._path.open("rb") as file:
                    changed_at = int(os.fstat(file.fileno()).st_mtime)
                    given = parse_node_list(file.read(CONFIGURATION_LIMIT_BYTES + 1))
            except OSError as error:
                raise ConfigError(f"can't read {self._path}: {error.strerror}") from None
            except ConfigError as error:
                raise ConfigError(f"{self._path}: {error}") from None
            given = given._replace(nodes=resolved(given.nodes, self._log))
            if self._cluster.follow(given, changed_at):
                self._log.say(f"{self._path}: cluster version {self._cluster.version}, with {len(given.nodes)} nodes")

    def look(self) -> None:
        """Read the file if it has changed, and has not changed since the last look. If it can't be used, log that."""
        with self._lock:
            stamp = self._present_stamp()
            if stamp != self._stamp:
                self._stamp, self._is_due = stamp, True
                return
            if not self._is_due:
                return
        try:
            self.reload()
        except ConfigError as error:
            self._log.say(f"{error}; the cluster's nodes stay as they are", Level.WARNING)

    def work(self) -> None:
        """Look at the file until `stop` is called."""
        while not self._end.wait(FILE_LOOK_SECONDS):
            self.look()

    def stop(self) -> None:
        """End the thread, and wait for it if it runs."""
        self._end.set()
        if self.is_alive():
            self.join()

    def _present_stamp(self) -> tuple[int, ...]:
        """Return what identifies the present version of the file; nothing if there is no file."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def cluster_of(nodes: tuple[ClusterNode, ...], at: int, log: Log) -> Cluster:
    """Return the cluster of --cluster-node.

    at: the unix time of the start, which becomes the version, so that it grows with each start.
    """
    cluster = Cluster()
    if nodes:
        cluster.follow(NodeList(resolved(nodes, log)), at)
    return cluster
