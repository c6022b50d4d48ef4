"""What the admin site shows of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from memcache_kv.stats.metrics import MeasuredServer


class Reason(NamedTuple):
    """Why a server is not well or not ready: a word for programs, and a sentence for people."""

    reason: str
    detail: str


class ObservedServer(Protocol):
    """A server, as the admin listener sees it. Its thread calls all methods."""

    @property
    def reported(self) -> MeasuredServer | None:
        """What the reports need; None while the items are loaded."""

    def illnesses(self) -> Sequence[Reason]:
        """Return why the server should be restarted; nothing if it is alive."""

    def obstacles(self) -> Sequence[Reason]:
        """Return why clients should not be sent here; nothing if the server is ready."""
