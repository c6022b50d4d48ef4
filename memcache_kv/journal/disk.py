"""The operating system's files, as the journal uses them. Tests put a disk of their own in this one's place."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

BLOCK_BYTES = 1 << 20
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class File(Protocol):
    """A file that is open for appending. Its methods raise OSError as the system's do."""

    def write(self, data: bytes | memoryview) -> int:
        """Append what the system takes; return how many bytes that was."""

    def sync(self) -> None:
        """Wait until what was written is on the disk."""

    def truncate(self, size: int) -> None:
        """Cut the file off behind this many bytes."""

    def is_at(self, path: Path) -> bool:
        """Tell whether this very file is what stands at a path; False where it was deleted or replaced."""

    def close(self) -> None:
        """Give the descriptor back; nothing is synced."""


class Disk(Protocol):
    """Files in directories. Its methods raise OSError as the system's do; any thread may call them."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, and those above it that are missing; one that exists is left as it is."""

    def lock(self, path: Path) -> File:
        """Make a file and lock it until it is closed. Raises BlockingIOError where another process has it locked."""

    def names(self, directory: Path) -> list[str]:
        """List a directory."""

    def size(self, path: Path) -> int:
        """Return a file's length in bytes."""

    def identity(self, path: Path) -> object:
        """Return what is equal as long as the very same file stands at a path. Takes no descriptor."""

    def create(self, path: Path) -> File:
        """Make a file that is not there yet, and open it."""

    def append_to(self, path: Path) -> File:
        """Open a file that is there."""

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file from its beginning, about a megabyte at a time, up to so many bytes in all."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; one that has it already is replaced."""

    def remove(self, path: Path) -> None:
        """Delete a file."""

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on the disk as they are now."""

    def free_bytes(self, path: Path) -> int:
        """Return how much may still be written to a directory's file system."""


class SystemFile:
    """A File of the operating system."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview) -> int:
        """Append what the system takes; return how many bytes that was."""
        return os.write(self._fd, data)

    def sync(self) -> None:
        """Wait until what was written is on the disk; on macOS, until the drive says so too."""
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file off behind this many bytes."""
        os.ftruncate(self._fd, size)

    def is_at(self, path: Path) -> bool:
        """Tell whether this very file is what stands at a path."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give the descriptor back; nothing is synced."""
        os.close(self._fd)


class SystemDisk:
    """The Disk of the operating system. What it makes is for the server's user alone."""

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it, and make their names durable."""
        missing = [p for p in (path, *path.parents) if not p.exists()]
        for directory in reversed(missing):
            directory.mkdir(mode=0o700 if directory == path else 0o777, exist_ok=True)
            self.sync_directory(directory.parent)

    def lock(self, path: Path) -> File:
        """Make a file and lock it (flock, which ends with the process) until it is closed."""
        while True:
            file = SystemFile(fd := _open_lock(path))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise
            if file.is_at(path):
                return file
            file.close()  # whoever had it has just removed it

    def names(self, directory: Path) -> list[str]:
        """List a directory."""
        return os.listdir(directory)

    def size(self, path: Path) -> int:
        """Return a file's length in bytes."""
        return path.stat().st_size

    def identity(self, path: Path) -> object:
        """Return what is equal as long as the very same file stands at a path."""
        found = path.stat()
        return found.st_dev, found.st_ino

    def create(self, path: Path) -> File:
        """Make a file that is not there yet, and open it."""
        return SystemFile(os.open(path, CREATE_FLAGS, 0o600))

    def append_to(self, path: Path) -> File:
        """Open a file that is there."""
        return SystemFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file from its beginning, about a megabyte at a time, up to so many bytes in all."""
        left = limit_bytes
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)):
                if left is not None:
                    left -= len(block)
                yield block

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; one that has it already is replaced."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on the disk as they are now."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: Path) -> int:
        """Return how much may still be written to a directory's file system."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def write_all(file: File, data: bytes) -> None:
    """Append all of this, however little the system takes at once. Raises OSError; part of it may stand there then."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _open_lock(path: Path) -> int:
    """Open a file to be locked, and make it where it is not there. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # locked all the same, should it be mounted anew
