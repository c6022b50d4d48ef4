"""What a classic text command needs of the connection that it responds to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from memcache_kv.commands.retrieve import Finder
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.responder import LineResponder
from memcache_kv.stats.counters import Counters

RetrievalCount: TypeAlias = Callable[[Counters, int, int], None]
"""Counts hits and misses of a command that retrieves."""


class KeyedResponder(LineResponder, Protocol):
    """The connection as a classic text command about keys sees it."""

    def answer_get(self, keys: Iterable[bytes], find: Finder, with_cas: bool, count: RetrievalCount) -> None:
        """Answer a command that retrieves these keys."""


class TextResponder(KeyedResponder, Protocol):
    """The connection as a classic text command about the server sees it."""

    @property
    def context(self) -> Context:
        """The server."""

    def watch(self, watcher: Watcher) -> None:
        """Send what this gathers from now on, and take no more commands."""


KeyedHandler: TypeAlias = Callable[[KeyedResponder, list[bytes]], None]
"""Carries out a command about keys, whose words are split."""
Handler: TypeAlias = Callable[[TextResponder, list[bytes]], None]
"""Carries out a command whose words are split."""
