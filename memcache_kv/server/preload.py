"""Loading the data files of --preload, before the server listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.datafile.lines import LineBatch, Rejected, read_batches
from memcache_kv.datafile.source import DataFile, Wait, open_data
from memcache_kv.errors import DataFileError, JournalError
from memcache_kv.observe.log import Log, printable
from memcache_kv.observe.log_form import Level
from memcache_kv.progress import show_progress
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import ENTRY_COST_BYTES, PLAIN_LIMIT_BYTES, make_entry, pack
from memcache_kv.unpatched import time

if TYPE_CHECKING:
    from memcache_kv.journal import JournalDirectory
    from memcache_kv.journal.tools.load import SourceItem

NAMED_REJECTIONS = 10
"""How many lines of a file that are no items are named in the log."""
AROUND_VALUE_BYTES = 32
"""At least as much as comes before the value and after it in an entry."""


class Preload:
    """The data files that a server starts with. For the main thread, before there are others.

    settings: name the files, and say whether to raise DataFileError where not all can be loaded. wait: see `open_data`.
    check: called now and then with how much was read and how much there is, 0 if unknown; it may raise to end the load.
    """

    def __init__(
        self, settings: Settings, store: ItemStore, log: Log, wait: Wait, check: Callable[[int, int], None]
    ) -> None:
        self._paths = settings.preload
        self._store = store
        self._log = log
        self._is_strict = settings.preload_strict
        self._wait = wait
        self._check = check
        self._needed_bytes = 0

    @property
    def names(self) -> str:
        """The files, for messages."""
        return ", ".join(self._paths)

    def fill_store(self) -> None:
        """Load all files into the store, which no other thread uses yet. Raises DataFileError, and what `check` raises.

        A later line overwrites an earlier one with the same key. What does not fit is left out, even if eviction is
        disabled, in the order in which the store would evict.
        """
        restoring, now = self._store.restoring(), self._store.clock.now
        for batch in self._batches():
            for key, value in zip(batch.keys, batch.values, strict=True):
                if len(value) < PLAIN_LIMIT_BYTES - AROUND_VALUE_BYTES:
                    restoring.put(key, pack(0, value))
                else:
                    restoring.put(key, make_entry(key, pack(0, value), 0, accessed=now))
            restoring.hold()
        restoring.finish()
        self.report_room(restoring.no_room)

    def fill_journal(self, directory: JournalDirectory) -> None:
        """Write the items of all files to a new journal, which is locked: all of them, or none if this raises.

        Raises DataFileError, what `check` raises, and JournalError.
        """
        from memcache_kv.journal.tools.load import load

        try:
            load(directory, self._source())
        except OSError as error:
            raise JournalError(f"can't write the journal in {directory.path}: {error.strerror or error}") from None

    def _source(self) -> Iterator[SourceItem]:
        from memcache_kv.journal.tools.load import SourceItem

        for batch in self._batches():
            yield from map(SourceItem, batch.keys, batch.values)

    def report_room(self, no_room: int) -> None:
        """Say how many items did not fit. Raises DataFileError if all must be loaded."""
        if not no_room:
            return
        limit_bytes, needed_bytes = self._store.limit_bytes, self._needed_bytes
        if needed_bytes > limit_bytes:
            advice = f"-m {limit_bytes // MIB} has no room for them; all need about -m {needed_bytes // MIB + 1}"
        else:
            advice = "--max-items allows no more"
        text = f"{no_room} items of {self.names} did not fit: {advice}"
        if self._is_strict:
            raise DataFileError(text)
        self._log.say(text, Level.WARNING)

    def _batches(self) -> Iterator[LineBatch]:
        for path in self._paths:
            with open_data(path, self._wait) as data:
                yield from self._batches_of(data)

    def _batches_of(self, data: DataFile) -> Iterator[LineBatch]:
        items = rejected = 0
        named: list[str] = []
        began = time.perf_counter()
        try:
            with show_progress(self._log, Path(printable(data.name)), "loading", "items") as show:
                for batch in read_batches(data.file, self._store.largest_bytes):
                    yield batch
                    items += len(batch.keys)
                    rejected += len(batch.rejected)
                    for line in batch.rejected[: NAMED_REJECTIONS - len(named)]:
                        named.append(self._describe(data, line))
                    self._needed_bytes += sum(map(len, batch.keys)) + sum(map(len, batch.values))
                    show(data.done, data.total, items)
                    self._check(data.done, data.total)
        finally:
            for text in named:  # not within the progress bar
                self._log.say(text, Level.WARNING)
        self._needed_bytes += items * (ENTRY_COST_BYTES + len(b" 0 99\r\n\r\n"))
        if rejected:
            self._log.say(f"{data.name}: {rejected} lines are no items and were not loaded", Level.WARNING)
        self._log.say(f"loaded {items} items from {data.name} in {time.perf_counter() - began:.2f} s")

    def _describe(self, data: DataFile, line: Rejected) -> str:
        """Return what is wrong with a line. Raises DataFileError if all must be loaded."""
        text = f"{data.name}, line {line.number}: {line.reason}"
        if self._is_strict:
            raise DataFileError(f"{text}; --preload-strict loads every line or does not start")
        return text
