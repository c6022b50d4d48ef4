"""What all faults have in common."""

from __future__ import annotations

from types import TracebackType
from typing import ClassVar, NamedTuple, Self

from memcache_kv import Server
from memcache_kv.testing.faults.selection import Selection
from memcache_kv.testing.wire import Direction, Passage, Tap


class Place(NamedTuple):
    """Where a fault happens.

    server: the server, if it runs in this process. direction: None if none was asked for.
    """

    tap: Tap
    server: Server | None
    selection: Selection
    direction: Direction | None


class Fault:
    """A fault, which lasts as long as the `with` block.

    Any thread may begin and end it, each once. Both return when that is done. Subclasses say what becomes of a request
    or a reply, or do something when the fault begins and ends.
    """

    direction: Direction | None = None
    """Whether it meets requests or replies; None for neither."""
    can_choose: ClassVar[bool] = False
    """Whether the direction may be asked for."""
    picks: ClassVar[bool] = True
    """Whether it picks by command, key and probability."""
    needs_server: ClassVar[bool] = False
    """Whether the server must run in this process."""

    def __init__(self, place: Place) -> None:
        self.tap = place.tap
        self.selection = place.selection
        self.direction = place.direction or self.direction
        self.is_over = False
        self.hits = 0
        """How many requests, replies or items it has met so far."""

    def meet(self, passage: Passage) -> None:
        """Change a request or a reply if the selection picks it. For the tap's thread."""
        if self.selection.takes(passage.request):
            self.hits += 1
            self.change(passage)

    def change(self, passage: Passage) -> None:
        """Say what becomes of a request or a reply that was picked."""

    def begin(self) -> None:
        """Have the fault happen from now on."""
        self.tap.begin(self)

    def end(self) -> None:
        """Have it happen no more, and what it holds back sent at once."""
        self.tap.end(self)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
