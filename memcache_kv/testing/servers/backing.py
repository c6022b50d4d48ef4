"""What the fixtures need of a server, wherever it runs."""

from __future__ import annotations

from typing import Protocol

from memcache_kv import Server
from memcache_kv.testing.time_travel import TimeTravel


class ServerFailed(Exception):
    """A server for tests can't be started, or can't be made empty. The text says what to do."""


class BackingServer(Protocol):
    """A server behind the fixtures. Used by one thread at a time; what it does may block for the timeout."""

    description: str
    """What it is, for messages."""

    @property
    def address(self) -> tuple[str, int]:
        """Its own host and port, which clients do not use."""

    @property
    def embedded(self) -> Server | None:
        """The server, if it runs in this process."""

    @property
    def time_travel(self) -> TimeTravel | None:
        """What moves its time, if it runs in this process."""

    def start(self) -> None:
        """Start it, or make sure that it runs. Raises ServerFailed."""

    def stop(self) -> None:
        """Stop it, unless it is not ours."""

    def reset(self, is_changed: bool) -> None:
        """Empty it, and undo what clients have changed. Raises ServerFailed.

        is_changed: whether a client has sent a command that changes more than items.
        """

    def stats(self, what: str) -> dict[str, str]:
        """Return what `stats WHAT` says. Raises ServerFailed."""
