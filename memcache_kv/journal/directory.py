"""The directory that a journal lives in: its lock and its files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLocked

FILE_NAME = "journal-000001.jsonl"
LOCK_NAME = "lock"


class JournalDirectory:
    """A journal's directory, locked for this process until `close`.

    The lock is the operating system's (flock), so that a file left behind by a crash locks nobody out.
    Raises JournalLocked where another process has it, JournalError where it can't be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"can't use the journal directory {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise JournalLocked(
                f"another process uses the journal in {path}; stop it, or give --journal another directory"
            ) from None

    @property
    def file(self) -> Path:
        """The file that changes are appended to."""
        return self.path / FILE_NAME

    def check(self) -> None:
        """Refuse a directory whose files are not a journal's, rather than start empty beside them.

        Raises JournalCorrupt with what was found.
        """
        if self.file.exists():
            return
        strange = sorted({p.name for p in self.path.iterdir()} - {LOCK_NAME, "lost+found"})
        if strange:
            raise JournalCorrupt(
                f"{self.path} holds {strange[0]!r} but no {FILE_NAME}: not starting empty beside it. "
                "Give --journal an empty directory, or put the journal back"
            )

    def sync(self) -> None:
        """Make the names in the directory durable."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)
