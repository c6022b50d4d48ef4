"""A journal's files at one moment, while a server goes on writing them. Nothing is locked or changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.directory import is_manifest_lost
from memcache_kv.journal.disk import BLOCK_BYTES, Readable, SystemDisk, data_in
from memcache_kv.journal.manifest import MANIFEST_NAME, Manifest, read_manifest
from memcache_kv.journal.reading import JournalReader
from memcache_kv.unpatched import time

ATTEMPTS = 50
RETRY_SECONDS = 0.02
"""A server swaps its files rarely, so that the second attempt nearly always succeeds."""


class PartOfFile:
    """The beginning of a file, read without moving its descriptor's position."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._offset = 0
        self._size = size

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer with the next bytes, or its beginning. Returns how many there are."""
        with buffer[: min(BLOCK_BYTES, self._size - self._offset)] as part:
            count = os.preadv(self._fd, [part], self._offset) if part else 0
        self._offset += count
        return count

    def close(self) -> None:
        """Leave the descriptor open, which belongs to the snapshot."""


class Snapshot(SystemDisk):
    """The open files of a journal. As a disk, it shows each with the length that it had when the snapshot was made.

    Those of kept generations are open too. A server may rename and remove the files meanwhile. `missing` has the names
    of files that did not exist.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self.missing: list[str] = []
        self._open: dict[Path, tuple[int, int]] = {}
        try:
            for part in manifest.parts:
                self._open_part(part.name)
            for part in manifest.all_parts[: -len(manifest.parts)]:
                with contextlib.suppress(PermissionError):  # none but `restore` needs it
                    self._open_part(part.name)
        except OSError:
            self.close()
            raise

    def _open_part(self, name: str) -> None:
        try:
            fd = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError) as error:
            self.missing.append(name)
            if isinstance(error, PermissionError):
                raise
        else:
            self._open[self.directory / name] = (fd, os.fstat(fd).st_size)

    def size(self, path: Path) -> int:
        """Return a file's length at the time of the snapshot."""
        return self._open[path][1]

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file from its beginning to its length at the time of the snapshot, in blocks."""
        fd, size = self._open[path]
        end = size if limit_bytes is None else min(size, limit_bytes)
        offset = 0
        while offset < end and (block := os.pread(fd, min(BLOCK_BYTES, end - offset), offset)):
            yield block
            offset += len(block)

    def open(self, path: Path) -> Readable:
        """Open a file for reading up to its length at the time of the snapshot."""
        return PartOfFile(*self._open[path])

    def read_range(self, path: Path, offset: int, length: int) -> bytes:
        """Read a part of a file. Returns fewer bytes if the file ends first."""
        pieces = []
        while length and (piece := os.pread(self._open[path][0], length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def is_at(self, path: Path, other: Path) -> bool:
        """Tell whether the file that was at a path is now at another one. Raises OSError."""
        return os.path.samestat(os.fstat(self._open[path][0]), other.stat())

    def data_at(self, path: Path, offset: int) -> int:
        """Return where the first byte from an offset on is that is not in a hole, or the file's length."""
        return data_in(self._open[path][0], offset)

    def lines_end(self, path: Path) -> int:
        """Return the offset after the last line feed of a file."""
        end = self.size(path)
        while end:
            start = max(0, end - BLOCK_BYTES)
            feed = self.read_range(path, start, end - start).rfind(b"\n")
            if feed >= 0:
                return start + feed + 1
            end = start
        return 0

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return sum(size for _, size in self._open.values())

    def close(self) -> None:
        """Close all files."""
        for fd, _ in self._open.values():
            os.close(fd)
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def present_manifest(directory: Path) -> Manifest:
    """Read the manifest of an existing journal.

    Raises JournalError if there is no journal, and JournalCorrupt if the manifest is damaged or missing.
    """
    disk = SystemDisk()
    try:
        manifest = read_manifest(directory, disk)
        if manifest is None and is_manifest_lost(directory, disk):
            raise JournalCorrupt(
                f"{directory / MANIFEST_NAME} is missing: put it back, or create a new one with "
                f"`memcache-kv journal repair {directory}`"
            )
    except OSError as error:
        raise JournalError(f"can't read the journal in {directory}: {error.strerror}") from None
    if manifest is None:
        raise JournalError(f"there is no journal in {directory}: name the directory that --journal was given")
    return manifest


def take_snapshot(directory: Path, read: Callable[[Path], Manifest] = present_manifest) -> Snapshot:
    """Open all files that the manifest names, and start again if a server swaps them meanwhile.

    read: returns the manifest. Raises JournalError if there is none or the files can't be opened.
    """
    for _ in range(ATTEMPTS):
        manifest = read(directory)
        try:
            snapshot = Snapshot(directory, manifest)
        except OSError as error:
            raise JournalError(f"can't read the journal in {directory}: {error.strerror}") from None
        with ExitStack() as undo:
            undo.push(snapshot)
            if [part.name for part in read(directory).all_parts] == [part.name for part in manifest.all_parts]:
                undo.pop_all()
                return snapshot
        time.sleep(RETRY_SECONDS)
    raise JournalError(f"the files of the journal in {directory} keep changing; try again")


def read_blocks(
    snapshot: Snapshot, apply: Callable[[bytearray, int], object], manifest: Manifest | None = None
) -> Iterator[tuple[int, int]]:
    """Read all files in the order of a start, and yield after each block how many bytes were read, and of how many.

    manifest: the files to read, those of the journal by default. apply: called with each block and the checksum before
    it, and raises ValueError at the first invalid record. A tail that a start would cut off is skipped. Raises
    JournalCorrupt, with the file and the offset, for other damage.
    """
    reader = _reader_of(snapshot, snapshot.manifest if manifest is None else manifest)
    total_bytes = reader.total_bytes
    for _ in reader.blocks(apply, lambda applied: applied):
        yield reader.read_bytes, total_bytes


def _reader_of(snapshot: Snapshot, manifest: Manifest) -> JournalReader:
    """Return the reader of files that are all there. Raises JournalCorrupt."""
    for name in [part.name for part in manifest.parts if part.name in snapshot.missing]:
        raise JournalCorrupt(
            f"{snapshot.directory / name} is missing, which is part of the journal: put it back, or see what is left "
            f"with `memcache-kv journal repair {snapshot.directory}`"
        )
    return JournalReader(snapshot.directory, snapshot, manifest)
