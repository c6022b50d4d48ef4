"""What a classic text command needs of the connection that it responds to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.responder import LineResponder
from memcache_kv.store.entry import Entry

Finder: TypeAlias = Callable[[bytes], Entry | None]
"""Returns a key's entry."""
RetrievalCounts: TypeAlias = tuple[str, str, str]
"""The names of the counts of a command that retrieves, of its hits and of its misses."""


class TextResponder(LineResponder, Protocol):
    """The connection as a classic text command sees it."""

    def answer_get(self, keys: list[bytes], find: Finder, with_cas: bool, counts: RetrievalCounts) -> None:
        """Answer a command that retrieves these keys."""

    def watch(self, watcher: Watcher) -> None:
        """Send what this gathers from now on, and take no more commands."""


Handler: TypeAlias = Callable[[TextResponder, list[bytes]], None]
"""Carries out a command whose words are split."""
