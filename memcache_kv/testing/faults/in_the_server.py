"""Faults within a server that runs in this process: evictions, a loss of all items, a journal that can't be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from memcache_kv import Server
from memcache_kv.journal import Journal
from memcache_kv.journal.disk import Disk, File, SystemDisk
from memcache_kv.testing.faults.base import Fault, Place


class _OfTheServer(Fault):
    needs_server = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        assert place.server is not None
        self.server: Server = place.server


class Evict(_OfTheServer):
    """When the fault begins, the items whose keys fit the pattern, or all, are evicted: each with the probability."""

    def begin(self) -> None:
        """Evict items."""
        store, selection = self.server.inner.store, self.selection
        for key, _ in store.items():
            if selection.fits(key) and selection.has_bad_luck():
                self.hits += store.evict(key)

    def end(self) -> None:
        """Do nothing: what is evicted is gone."""


class Forget(_OfTheServer):
    """When the fault begins, all connections are closed and all items removed, as by a restart without a journal."""

    picks = False

    def begin(self) -> None:
        """Close the connections and remove all items."""
        self.tap.close_connections()
        self.server.store.flush()

    def end(self) -> None:
        """Do nothing: what is removed is gone."""


class JournalFailure(_OfTheServer):
    """The journal's disk fails, so the server rejects what would change an item.

    number: the error's number, as `errno` has them.
    """

    picks = False

    def __init__(self, place: Place, *, number: int = errno.ENOSPC) -> None:
        super().__init__(place)
        self._error = OSError(number, os.strerror(number))
        self._journal: Journal | None = None
        self._disk: Disk

    def begin(self) -> None:
        """Break the disk under the journal. Raises ValueError if the server has none."""
        journal = self.server.inner.journal
        if journal is None:
            raise ValueError("the server has no journal: start it with the setting `journal`")
        self._journal = journal
        with journal.files_lock:
            self._disk = journal.files.disk
            journal.files.disk = BrokenDisk(self._error)
            journal.files.file = BrokenFile(journal.files.file, self._error)

    def end(self) -> None:
        """Mend the disk, and have the journal write what waits. Blocks for an fsync."""
        journal = self._journal
        if journal is None or not self.server.is_running or self.server.inner.journal is not journal:
            return
        with journal.files_lock:
            journal.files.disk = self._disk
            if isinstance(journal.files.file, BrokenFile):
                journal.files.file = journal.files.file.whole
            journal.step(closing=True)


class BrokenFile:
    """A file to which nothing can be written. whole: what it was before. error: what the system says."""

    def __init__(self, whole: File, error: OSError) -> None:
        self.whole = whole
        self._error = error

    def write(self, data: bytes | memoryview) -> int:
        """Raise the error."""
        raise self._error

    def sync(self) -> None:
        """Raise the error."""
        raise self._error

    def truncate(self, size: int) -> None:
        """Cut the file to this length, as a disk without room can do."""
        self.whole.truncate(size)

    def is_at(self, path: Path) -> bool:
        """Tell whether this is the file at a path."""
        return self.whole.is_at(path)

    def close(self) -> None:
        """Close the descriptor without syncing."""
        self.whole.close()


class BrokenDisk(SystemDisk):
    """The system's files, of which none can be created, opened for writing or renamed."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def create(self, path: Path) -> File:
        """Raise the error."""
        raise self._error

    def append_to(self, path: Path) -> File:
        """Raise the error."""
        raise self._error

    def rename(self, old: Path, new: Path) -> None:
        """Raise the error."""
        raise self._error

    def sync_directory(self, path: Path) -> None:
        """Raise the error."""
        raise self._error
