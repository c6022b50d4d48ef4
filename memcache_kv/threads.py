"""Threads that a server cannot do without, and what happens when an exception ends one of them."""

from __future__ import annotations

from collections.abc import Callable

from memcache_kv.unpatched import threading

get_ident = threading.get_ident
"""Return the number of the calling thread."""

OnFault = Callable[[str, BaseException], None]
"""Called with a thread's name and the exception that ended it, on that thread and as its last action."""


class ServerThread(threading.Thread):
    """A daemon thread that reports the exception that ends it, so that the server can stop.

    target: what it runs; a subclass may override `work` instead. Set `on_fault` before `start`; without it, an
    exception is handled as in any other thread.
    """

    def __init__(self, name: str, target: Callable[[], None] | None = None) -> None:
        super().__init__(name=name, target=target, daemon=True)
        self.on_fault: OnFault | None = None

    def work(self) -> None:
        """Run the thread's task until it is asked to stop."""
        super().run()

    def run(self) -> None:
        """Call `work`, and report the exception that ends it to `on_fault`."""
        try:
            self.work()
        except BaseException as error:
            if self.on_fault is None:
                raise
            self.on_fault(self.name, error)
