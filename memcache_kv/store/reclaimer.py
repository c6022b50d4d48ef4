"""The thread that frees memory in the background: what a flush removed, and items above a lowered limit."""

from __future__ import annotations

from memcache_kv.store.store import ItemStore
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading

PAUSE_SECONDS = 0.0005
"""How long other threads have their turn between two slices."""


class Reclaimer(ServerThread):
    """Free memory in slices, with a pause after each, while the store has a backlog."""

    def __init__(self, store: ItemStore) -> None:
        super().__init__("reclaimer")
        self._store = store
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread. Blocks until it has ended, which takes one pause at most."""
        self._stopping.set()
        self._store.backlog.set()
        self.join()

    def work(self) -> None:
        """Free what there is, and wait for more, until `stop`."""
        backlog = self._store.backlog
        while not self._stopping.is_set():
            backlog.wait()
            backlog.clear()
            while self._store.free_some() and not self._stopping.wait(PAUSE_SECONDS):
                pass
