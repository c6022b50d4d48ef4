"""Threads of a server, and how the server learns that an exception has ended one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

OnFault = Callable[[str, BaseException], None]
"""Called with the name of a thread and the exception that ended it, on that thread, as its last action."""


class ServerThread(threading.Thread):
    """A thread that a server needs. If an exception ends it, `on_fault` is called, which can stop the server.

    name: for the log; target: what the thread runs, unless a subclass overrides `work`. Set `on_fault` before `start`.
    Without it, exceptions are handled like those of any other thread.
    """

    def __init__(self, name: str, target: Callable[[], None] | None = None) -> None:
        super().__init__(name=name, target=target, daemon=True)
        self.on_fault: OnFault | None = None

    def work(self) -> None:
        """Run the target. Subclasses override this with their loop."""
        super().run()

    def run(self) -> None:
        """Call `work`, and `on_fault` with an exception that ends it."""
        try:
            self.work()
        except BaseException as error:
            if self.on_fault is None:
                raise
            self.on_fault(self.name, error)
