"""Interfaces through which classic text commands reply to a connection."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Protocol, TypeAlias

from memcache_kv.auth.access import CommandClass
from memcache_kv.commands.retrieve import Finder
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.responder import LineResponder
from memcache_kv.stats.counters import Counters

RetrievalCount: TypeAlias = Callable[[Counters, int, int], None]
"""Counts the hits and misses of a retrieval command."""


class KeyedResponder(LineResponder, Protocol):
    """A connection, as a classic text command about keys sees it."""

    @property
    def configuration(self) -> bytes | None:
        """The cluster's configuration as the wire bytes of an item; None if there is none."""

    def answer_get(self, keys: Iterable[bytes], find: Finder, with_cas: bool, count: RetrievalCount) -> None:
        """Reply to a command that retrieves these keys."""


class TextResponder(KeyedResponder, Protocol):
    """A connection, as a classic text command about the server sees it."""

    @property
    def context(self) -> Context:
        """The server."""

    @property
    def checked_commands(self) -> Container[bytes | int]:
        """The commands whose class must be looked at before they are carried out."""

    def admits(self, command_class: CommandClass, describe: Callable[[], bytes]) -> bool:
        """Return whether the client may use a command of this class, and write it to the audit log."""

    def watch(self, watcher: Watcher) -> None:
        """Send the watcher's lines from now on, and accept no more commands."""


KeyedHandler: TypeAlias = Callable[[KeyedResponder, list[bytes]], None]
"""Carries out a command about keys, given the words of its line."""
Handler: TypeAlias = Callable[[TextResponder, list[bytes]], None]
"""Carries out a command, given the words of its line."""
