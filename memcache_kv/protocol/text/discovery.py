"""config get, set and delete: the configuration of the cluster, as clients of Amazon ElastiCache ask for it.

memcached has no such command. Without --cluster-node and --cluster-file there is none here either.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.commands.discovery import CONFIGURATION_NAME
from memcache_kv.config.cluster import CONFIGURATION_LIMIT_BYTES
from memcache_kv.errors import ConfigError
from memcache_kv.protocol.numbers import signed32, stored_flags
from memcache_kv.protocol.replies import BAD_FORMAT, LARGEST_LENGTH, TOO_LARGE

if TYPE_CHECKING:
    from memcache_kv.commands.discovery import Cluster
    from memcache_kv.protocol.text.responder import TextResponder

SET_WORDS = 5
"""The words of `config set` without noreply."""


def config(protocol: TextResponder, words: list[bytes]) -> None:
    """config get|delete cluster, config set cluster <flags> <bytes> [noreply]."""
    cluster = protocol.context.cluster
    what, name = words[1:2], words[2:3]
    if cluster is None or not name:
        protocol.reply(b"ERROR")
    elif what == [b"get"]:
        _get(protocol, cluster.present if name == [CONFIGURATION_NAME] else None)
    elif what == [b"set"] and len(words) >= SET_WORDS:
        _set(protocol, cluster, words)
    elif what == [b"delete"]:
        was_there = name == [CONFIGURATION_NAME] and cluster.delete()
        if was_there:
            protocol.context.log.say("a client deleted the cluster's configuration")
        protocol.reply(b"DELETED" if was_there else b"NOT_FOUND")
    else:
        protocol.reply(b"ERROR")


def _get(protocol: TextResponder, present: bytes | None) -> None:
    if present is None:
        protocol.reply(b"END")
        return
    head, _, rest = present.partition(b"\r\n")
    protocol.send(b"CONFIG " + CONFIGURATION_NAME + head, rest + b"END\r\n")


def _set(protocol: TextResponder, cluster: Cluster, words: list[bytes]) -> None:
    flags, length = stored_flags(words[3]), signed32(words[4])
    if length is None or not 0 <= length <= LARGEST_LENGTH:
        protocol.reply(BAD_FORMAT)
    elif flags is None:
        protocol.reply(BAD_FORMAT)
        protocol.swallow(length)
    elif words[2] != CONFIGURATION_NAME:
        protocol.reply(b"CLIENT_ERROR there is no configuration but cluster")
        protocol.swallow(length)
    elif length > CONFIGURATION_LIMIT_BYTES:
        protocol.reply(TOO_LARGE)
        protocol.swallow(length)
    else:
        protocol.expect_block(flags, length, partial(_store, protocol, cluster, flags))


def _store(protocol: TextResponder, cluster: Cluster, flags: int, wire_bytes: bytes) -> None:
    try:
        cluster.set(flags, wire_bytes)
    except ConfigError as error:
        protocol.reply(f"CLIENT_ERROR {error}".encode())
        return
    protocol.context.log.say(f"a client set the cluster's version {cluster.version}, with {len(cluster.nodes)} nodes")
    protocol.reply(b"STORED")
