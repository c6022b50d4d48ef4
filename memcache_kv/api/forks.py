"""What becomes of a server in a process that is forked: the child gives back what belongs to its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inheritable(Protocol):
    """Something that a child process inherits, and must not keep."""

    def forget(self) -> None:
        """Close the inherited descriptors, in the child. Its only thread calls this; others may have held locks."""


class Parents:
    """What this process has started. A process has one of these, as the hooks of `fork` belong to the process."""

    def __init__(self) -> None:
        self._started: WeakSet[Inheritable] = WeakSet()
        os.register_at_fork(after_in_child=self._forget_all)

    def add(self, started: Inheritable) -> None:
        """Have a child of this process forget something that was started."""
        self._started.add(started)

    def discard(self, stopped: Inheritable) -> None:
        """Leave out something that has stopped."""
        self._started.discard(stopped)

    def _forget_all(self) -> None:
        for started in list(self._started):
            started.forget()
        self._started.clear()


PARENTS = Parents()
