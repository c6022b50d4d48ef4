"""The file operations that the journal uses. Tests replace this disk with one of their own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

BLOCK_BYTES = 128 * 1024
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Appendable(Protocol):
    """Something to which data is appended, a part at a time."""

    def write(self, data: memoryview, /) -> int:
        """Append data, or as much of it as the system takes. Returns the number of bytes written."""


class File(Protocol):
    """A file that is open for appending. Its methods raise OSError as the system calls do."""

    def write(self, data: bytes | memoryview) -> int:
        """Append data, or as much of it as the system takes. Returns the number of bytes written."""

    def sync(self) -> None:
        """Wait until all data written so far is on disk."""

    def truncate(self, size: int) -> None:
        """Cut the file to this length, in bytes."""

    def is_at(self, path: Path) -> bool:
        """Tell whether this is the file at a path. Returns False if that was deleted or replaced."""

    def close(self) -> None:
        """Close the descriptor without syncing."""


class Readable(Protocol):
    """A file that is open for reading from its beginning. Its methods raise OSError as the system calls do."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer with the next bytes, or its beginning. Returns how many there are; 0 at the file's end."""

    def close(self) -> None:
        """Close the file."""


class Disk(Protocol):
    """A file system. Its methods raise OSError as the system calls do; any thread may call them."""

    def make_directory(self, path: Path) -> None:
        """Create a directory and its missing parents; do nothing if it exists."""

    def lock(self, path: Path) -> File:
        """Create a file if needed, and lock it until it is closed.

        Raises BlockingIOError if another process holds the lock; EROFS if the file system is read-only and the file
        does not exist.
        """

    def lock_directory(self, path: Path) -> File:
        """Lock a directory itself until what is returned is closed. Raises BlockingIOError as `lock` does."""

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""

    def size(self, path: Path) -> int:
        """Return a file's length in bytes."""

    def identity(self, path: Path) -> object:
        """Return a value that stays equal as long as the same file is at this path. Opens no descriptor."""

    def create(self, path: Path) -> File:
        """Create a file that does not exist yet, and open it for appending."""

    def append_to(self, path: Path) -> File:
        """Open a file that exists for appending."""

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file from its beginning, in blocks of BLOCK_BYTES, up to `limit_bytes` in all."""

    def open(self, path: Path) -> Readable:
        """Open a file for reading."""

    def read_range(self, path: Path, offset: int, length: int) -> bytes:
        """Read a part of a file. Returns fewer bytes if the file ends first."""

    def data_at(self, path: Path, offset: int) -> int:
        """Return where the first byte from an offset on is that is not in a hole, or the file's length.

        A hole reads as zeros and takes no disk space.
        """

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing a file of that name."""

    def remove(self, path: Path) -> None:
        """Delete a file."""

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on disk as they are now."""

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes may still be written to a directory's file system."""


class SystemFile:
    """A File of the operating system."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview) -> int:
        """Append data, or as much of it as the system takes. Returns the number of bytes written."""
        return os.write(self._fd, data)

    def sync(self) -> None:
        """Wait until all data written so far is on disk; on macOS, until the drive has confirmed it."""
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file to this length, in bytes."""
        os.ftruncate(self._fd, size)

    def is_at(self, path: Path) -> bool:
        """Tell whether this is the file at a path."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the descriptor without syncing."""
        os.close(self._fd)


class SystemDisk:
    """The operating system's files. Only the server's user may read the files that it creates."""

    def make_directory(self, path: Path) -> None:
        """Create a directory and its missing parents, and make their names durable."""
        missing = [p for p in (path, *path.parents) if not p.exists()]
        for directory in reversed(missing):
            directory.mkdir(mode=0o700 if directory == path else 0o777, exist_ok=True)
            self.sync_directory(directory.parent)

    def lock(self, path: Path) -> File:
        """Create a file if needed, and flock it until it is closed or the process ends."""
        while True:
            file = SystemFile(fd := _open_lock(path))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise
            if file.is_at(path):
                return file
            file.close()  # its previous owner has just removed it

    def lock_directory(self, path: Path) -> File:
        """Flock a directory itself until what is returned is closed or the process ends."""
        file = SystemFile(fd := os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        return os.listdir(directory)

    def size(self, path: Path) -> int:
        """Return a file's length in bytes."""
        return path.stat().st_size

    def identity(self, path: Path) -> object:
        """Return a value that stays equal as long as the same file is at this path."""
        found = path.stat()
        return found.st_dev, found.st_ino

    def create(self, path: Path) -> File:
        """Create a file that does not exist yet, and open it for appending."""
        return SystemFile(os.open(path, CREATE_FLAGS, 0o600))

    def append_to(self, path: Path) -> File:
        """Open a file that exists for appending."""
        return SystemFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file from its beginning, in blocks of BLOCK_BYTES, up to `limit_bytes` in all."""
        left = limit_bytes
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)):
                if left is not None:
                    left -= len(block)
                yield block

    def open(self, path: Path) -> Readable:
        """Open a file for reading."""
        return path.open("rb", buffering=0)

    def read_range(self, path: Path, offset: int, length: int) -> bytes:
        """Read a part of a file. Returns fewer bytes if the file ends first."""
        pieces = []
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length and (piece := file.read(length)):
                pieces.append(piece)
                length -= len(piece)
        return b"".join(pieces)

    def data_at(self, path: Path, offset: int) -> int:
        """Return where the first byte from an offset on is that is not in a hole, or the file's length."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return data_in(fd, offset)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing a file of that name."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on disk as they are now."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes may still be written to a directory's file system."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def read_from(disk: Disk, path: Path, offset: int, end: int) -> Iterator[bytes]:
    """Read a part of a file in blocks of BLOCK_BYTES. Ends early if the file does."""
    while offset < end and (block := disk.read_range(path, offset, min(BLOCK_BYTES, end - offset))):
        yield block
        offset += len(block)


def data_in(fd: int, offset: int) -> int:
    """Return what `Disk.data_at` does, of an open file. A system that can't tell has no holes."""
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            return offset
        return max(offset, os.fstat(fd).st_size)  # nothing but a hole follows


def blocks_with_data(disk: Disk, path: Path, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read a part of a file as `read_from` does, without whole megabytes of zeros. Yields offsets and blocks."""
    while offset < end:
        hole_bytes = disk.data_at(path, offset) - offset
        offset += hole_bytes // BLOCK_BYTES * BLOCK_BYTES
        block = disk.read_range(path, offset, min(BLOCK_BYTES, end - offset)) if offset < end else b""
        if not block:
            return
        if len(block) < BLOCK_BYTES or block != bytes(BLOCK_BYTES):
            yield offset, block
        offset += len(block)


def last_line(disk: Disk, path: Path, end: int) -> bytes:
    """Return the last of the complete lines before an offset, without its line feed, or its first BLOCK_BYTES.

    A line feed must come right before the offset.
    """
    pieces: list[bytes] = []
    end -= 1
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        block = disk.read_range(path, start, end - start)
        feed = block.rfind(b"\n")
        pieces = [block[feed + 1 :], *pieces[:1]]
        if feed >= 0:
            break
        end = start
    return b"".join(pieces)


def write_all(file: Appendable, data: bytes) -> None:
    """Append all of this data, in as many writes as the system needs.

    Raises OSError; then a part of it may have been written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _open_lock(path: Path) -> int:
    """Open the lock file, creating it if needed. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # the file system may become writable again
        raise
