"""The threads of a server, and what becomes of it when one of them ends by a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable

OnFault = Callable[[str, BaseException], None]
"""Told of a thread's name and of the exception that ended it. It is called on that thread, as the last that it does."""


class ServerThread(threading.Thread):
    """A thread that a server can't do without: when an exception ends it, somebody is told who can end the server.

    What it does is `target`, or what a subclass has as `work`. `on_fault` is set before the start; where it is not,
    the exception goes where that of any other thread goes.
    """

    def __init__(self, name: str, target: Callable[[], None] | None = None) -> None:
        super().__init__(name=name, target=target, daemon=True)
        self.on_fault: OnFault | None = None

    def work(self) -> None:
        """Do what the thread is for, until it is told to stop."""
        super().run()

    def run(self) -> None:
        """Work, and tell of the exception that ends it."""
        try:
            self.work()
        except BaseException as error:
            if self.on_fault is None:
                raise
            self.on_fault(self.name, error)
