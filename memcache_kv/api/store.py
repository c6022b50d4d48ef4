"""A store without a server: a thread-safe LRU and TTL cache with a journal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memcache_kv.api.fields import store_settings
from memcache_kv.api.forks import PARENTS
from memcache_kv.api.greenlets import check_patches, without_greenlets
from memcache_kv.api.host_log import host_log
from memcache_kv.api.items import Items
from memcache_kv.clock import Clock
from memcache_kv.config.settings import Settings
from memcache_kv.errors import JournalFailed, ThreadDied
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.observe.watchers import Watchers
from memcache_kv.server.memory import MemoryWatch
from memcache_kv.store import item_store
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.reclaimer import Reclaimer
from memcache_kv.store.time import Time
from memcache_kv.unpatched import threading

if TYPE_CHECKING:
    from memcache_kv.journal import Journal
    from memcache_kv.journal.lifecycle import JournalLifecycle


class Store(Items):
    """Items that this program alone uses, within `memory_limit` and with an expiry time each.

    settings: what `Settings` has, or the fields as keyword arguments: `memory_limit`, `max_item_size`, `max_items`,
    `disable_evictions`, `journal`, `fsync` and the others that docs/reference/api.md lists. Sizes are in bytes, times
    in seconds. clock: replaced by tests.

    A context manager; without `with`, call `open` and `close`. Both may block for the journal. Raises ConfigError for
    settings that can't be, and JournalError if the journal can't be used.
    """

    def __init__(self, settings: Settings | None = None, /, *, clock: Time | None = None, **fields: Any) -> None:
        super().__init__()
        self.settings = store_settings(settings, fields)
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: StoreParts | None = None

    def open(self) -> Self:
        """Read the journal, if there is one, and start to keep items. Does nothing while the store is open."""
        check_patches()
        without_greenlets(self._open)
        return self

    def _open(self) -> None:
        with self._lock:
            if self._parts is None:
                self._parts = parts = StoreParts(self.settings, self._clock or Clock())
                try:
                    parts.start()
                except BaseException:
                    self._parts = None
                    raise
                self.attach(parts.store, parts.observers, parts.journal)
                PARENTS.add(self)

    def close(self) -> None:
        """Write and sync the journal, and drop the items from memory. Does nothing while the store is not open.

        Raises JournalFailed if the journal could not be written, and ThreadDied after a fault of the store.
        """
        without_greenlets(self._close)

    def _close(self) -> None:
        with self._lock:
            parts, self._parts = self._parts, None
            if parts is not None:
                PARENTS.discard(self)
                self.detach()
                parts.stop()

    def forget(self) -> None:
        """Close what a forked child has inherited of the open store. For the child alone."""
        parts = self._parts
        super().forget()
        self._lock, self._parts = threading.Lock(), None
        if parts is not None:
            parts.forget()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StoreParts:
    """What an open store consists of: the table, its threads and its journal. Started and stopped once."""

    def __init__(self, settings: Settings, clock: Time) -> None:
        self._log = log = host_log(settings.verbose)
        self.store = item_store(settings, clock)
        self.observers = Observers(log, Prefixes(settings.stats_delimiter, False), Watchers(clock))
        self._memory = MemoryWatch(self.store)
        self._threads = (
            Crawler(self.store, settings.lru_crawler, settings.crawler_sleep_us, settings.crawler_tocrawl),
            Reclaimer(self.store),
            self._memory,
        )
        self._fault: ThreadDied | None = None
        self._lifecycle: JournalLifecycle | None = None
        if settings.journal is not None:
            from memcache_kv.journal.lifecycle import JournalLifecycle

            self._lifecycle = JournalLifecycle(
                settings.journal, settings, self.store, log, self._check_loading, self._thread_died
            )

    @property
    def journal(self) -> Journal | None:
        """The journal; None without one."""
        return None if self._lifecycle is None else self._lifecycle.journal

    def start(self) -> None:
        """Read the journal and start the threads. Raises JournalError."""
        if self._lifecycle is not None:
            try:
                self._lifecycle.open()
            except BaseException:
                self._lifecycle.close()
                raise
        for thread in self._threads:
            thread.on_fault = self._thread_died
            thread.start()
        if self._lifecycle is not None and self._lifecycle.compactor is not None:
            self._lifecycle.compactor.start()

    def stop(self) -> None:
        """End the threads and close the journal. Raises JournalFailed and ThreadDied."""
        for thread in self._threads:
            thread.stop()
        failure: JournalFailed | ThreadDied | None = self._fault
        if self._lifecycle is not None:
            if self._lifecycle.compactor is not None:
                self._lifecycle.compactor.stop()
            self._lifecycle.close()
            failure = failure or self._lifecycle.failure
        if failure is not None:
            raise failure

    def forget(self) -> None:
        """Close the journal's lock in a child that was forked, so that it is the parent's alone."""
        if self._lifecycle is not None:
            self._lifecycle.forget()

    def _check_loading(self, done: int, total: int) -> None:
        self._memory.check_often()

    def _thread_died(self, name: str, error: BaseException) -> None:
        self._log.fatal(f"the thread {name!r} ended by a fault of the store", error, "close it and open it again")
        self._fault = self._fault or ThreadDied(f"the thread {name!r} ended by a fault of the store: {error!r}")
