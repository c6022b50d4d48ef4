"""--memory-file: the items outlive a graceful stop, and only that, as with memcached's option of this name."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from memcache_kv.errors import EX_OSERR, ConfigError, JournalCorrupt, JournalError, JournalFailed
from memcache_kv.journal import JournalDirectory, recover
from memcache_kv.journal.codec import encode_queue, take_live
from memcache_kv.journal.manifest import Manifest, increment_name, new_id
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of
from memcache_kv.journal.tools.rewrite import NewPart, swap
from memcache_kv.observe.log import Log
from memcache_kv.progress import show_progress
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import moved
from memcache_kv.unpatched import time

SAVED_SUFFIX = ".items"
UNFINISHED_SUFFIX = ".items.new"
SAVED_AT_ONCE = 500
SAVED_SLICE_BYTES = 1 << 20


class MemoryFile:
    """The items of a server that was stopped gracefully, in a directory beside the file of --memory-file.

    The directory is a journal with one file. `load` removes it, so that a server that is killed later
    starts empty: what it held then is not known. The file itself is only locked, so that no two servers use it.

    Used by one thread, while no other uses the store. check: called while items are loaded, with how much is done and
    how much there is; it may raise. saving: called while they are saved.
    """

    def __init__(
        self, path: Path, store: ItemStore, log: Log, check: Callable[[int, int], None], saving: Callable[[], None]
    ) -> None:
        self._saved = path.with_name(path.name + SAVED_SUFFIX)
        self._unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
        self._path = path
        self._store = store
        self._log = log
        self._check = check
        self._saving = saving
        self._lock: int | None = None

    def load(self) -> bool:
        """Lock the file, load the items that a stop has saved, and remove them. Return whether there were any saved.

        What can't be read is left out with a line in the log. Raises ConfigError if the file can't be used, and what
        `check` raises; then the saved items stay for the next start.
        """
        self._take_lock()
        _remove(self._unfinished)
        if not self._saved.exists():
            self._log.say(f"{self._path}: no items were saved by a graceful stop: starting with an empty cache")
            return False
        began = time.perf_counter()
        try:
            found = self._read()
        except JournalError as error:
            self._log.warn(f"{self._path}: not all saved items can be read: {error}; {len(self._store)} were loaded")
        else:
            self._log.say(
                f"{self._path}: loaded {len(self._store)} items in {time.perf_counter() - began:.2f} s"
                + (f"; {found} did not fit" if found else "")
            )
        _remove(self._saved)
        return True

    def save(self) -> None:
        """Save all live items for the next start. Raises JournalFailed if they can't be saved."""
        began = time.perf_counter()
        try:
            _remove(self._unfinished)
            count = self._write()
            _remove(self._saved)
            self._unfinished.rename(self._saved)
        except (OSError, JournalError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            with contextlib.suppress(OSError):  # the next start removes it, or says why it can't
                _remove(self._unfinished)
            raise JournalFailed(f"can't save the items for {self._path}: {reason}; the next start is empty") from None
        self._log.say(f"{self._path}: saved {count} items in {time.perf_counter() - began:.2f} s")

    def close(self) -> None:
        """Unlock the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        try:
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._unfinished.mkdir(exist_ok=True)  # a server that can't save items says so now
        except BlockingIOError:
            raise ConfigError(f"another server uses the memory file {self._path}", EX_OSERR) from None
        except OSError as error:
            raise ConfigError(f"can't use the memory file {self._path}: {error.strerror}", EX_OSERR) from None

    def _read(self) -> int:
        """Load the saved items, and return how many did not fit. Raises JournalError."""
        directory = JournalDirectory(self._saved)
        try:
            manifest = directory.read()
            if manifest is None:
                raise JournalCorrupt(f"{self._saved} is empty")
            with show_progress(self._log, self._path, "loading", "items") as show:

                def progress(done: int, total: int, records: int) -> None:
                    show(done, total, records)
                    self._check(done, total)

                found = recover(directory.path, directory.disk, manifest, self._store, progress)
        finally:
            directory.close()
        self._store.start_cas_at(found.next_run() + 1)
        self._store.new_second()  # a flush may have become due meanwhile
        return found.no_room

    def _write(self) -> int:
        """Write the items to the unfinished directory, and return their number. Raises OSError and JournalError."""
        directory = JournalDirectory(self._unfinished)
        try:
            manifest = Manifest(FORMAT_VERSION, id=new_id())
            with NewPart(directory.path, directory.disk, increment_name(1)) as new:
                count = self._write_items(new, manifest.id)
                whole = replace(manifest, increments=(new.finish(),), serial=1)
                swap(directory.path, directory.disk, [new], whole)
        finally:
            directory.close()
        return count

    def _write_items(self, new: NewPart, journal_id: str) -> int:
        ahead = self._store.clock.wall_ahead
        first = Record("start", cas=self._store.next_cas(), at=self._store.clock.now + ahead, version=FORMAT_VERSION)
        first.id = journal_id
        new.write(line_of(first))
        if self._store.flush_at:
            new.write(line_of(Record("flush", at=moved(self._store.flush_at, ahead))))
        count = 0
        for data, items in self._slices(ahead):
            new.write(data)
            count += items
            self._saving()
        return count

    def _slices(self, ahead: int) -> Iterator[tuple[bytes, int]]:
        """Yield the records of some items and their number. ahead: how far the wall clock is ahead of the store's."""
        now = self._store.clock.now
        for shard in self._store.shards:
            keys = [*shard.table]
            keys.reverse()  # the first ones are taken from the end
            while keys:
                with shard.lock:
                    found = take_live(shard.table, keys, now, SAVED_AT_ONCE, SAVED_SLICE_BYTES)
                if found:
                    yield encode_queue(found, ahead)[0], len(found) // 2


def _remove(directory: Path) -> None:
    """Remove a directory of saved items, if it is there. Raises OSError."""
    if not directory.exists():
        return
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
