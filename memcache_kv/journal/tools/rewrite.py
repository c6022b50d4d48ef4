"""Writing files of a journal that no server uses, so that a crash at any moment leaves the old ones or the new ones.

New files are complete and on disk, under names that a start clears away, before one manifest names them all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from memcache_kv.errors import JournalError
from memcache_kv.journal.compaction import record_of
from memcache_kv.journal.disk import Disk, File, write_all
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    TEMPORARY_SUFFIX,
    Manifest,
    Part,
    number_of,
    replace_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of
from memcache_kv.journal.recovery import Progress
from memcache_kv.store.store import Store

WRITE_BYTES = 256 * 1024


class NewPart:
    """A file of a journal that is written under a temporary name: `finish` makes it durable, `place` gives it its name.

    The file is there within the context, whose end removes it unless it was placed, also after Ctrl-C at any moment.
    Raises JournalError where it, or the manifest that is to name it, would replace something else than a regular file.
    """

    def __init__(self, directory: Path, disk: Disk, name: str) -> None:
        self.name = name
        self.bytes = 0
        self._path = directory / name
        self._temporary = directory / (name + TEMPORARY_SUFFIX)
        self._disk = disk
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_placed = False
        replaced = (name, MANIFEST_NAME)
        check_regular(directory, (*replaced, *(one + TEMPORARY_SUFFIX for one in replaced)))
        self._file: File | None = None

    def write(self, data: bytes) -> None:
        """Append this. Raises OSError."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.bytes += len(data)
        if self._waiting_bytes > WRITE_BYTES:
            self._write_out()

    def _write_out(self) -> None:
        assert self._file is not None
        write_all(self._file, b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0

    def finish(self) -> Part:
        """Wait until all of it is on disk; return what a manifest says of it. Raises OSError."""
        assert self._file is not None
        self._write_out()
        self._file.sync()
        self._file.close()
        self._file = None
        return self.part

    @property
    def part(self) -> Part:
        """What a manifest says of it."""
        return Part(self.name, self.bytes)

    def place(self) -> None:
        """Give it its name; the caller syncs the directory. Raises OSError."""
        self._disk.rename(self._temporary, self._path)
        self._is_placed = True

    def __enter__(self) -> Self:
        try:
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(self._temporary)
            self._file = self._disk.create(self._temporary)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if not self._is_placed:
            with contextlib.suppress(OSError):  # the failure before it is told; a server's start removes the file
                self._disk.remove(self._temporary)


def start_line(cas: int, stepped: int | None = None) -> bytes:
    """Make the record that begins a file written now, in a journal whose CAS ids have come as far as this.

    stepped: how far the wall clock was stepped in all, where that is not as the files before it say.
    """
    return line_of(Record("start", cas=cas, at=int(time.time()), version=FORMAT_VERSION, stepped=stepped))


def write_base(new: NewPart, store: Store, cas: int, progress: Progress | None = None) -> None:
    """Write all that a store holds to a base, and finish it; it is not placed yet. Raises OSError."""
    new.write(start_line(cas))
    count = 1
    if store.flush_at:
        new.write(line_of(Record("flush", at=store.flush_at)))
        count += 1
    for key, entry in store.items():
        new.write(record_of(key, entry))
        count += 1
        if progress is not None and count % 1000 == 0:
            progress(count, len(store), count)
    new.write(line_of(Record("end", at=store.clock.now, count=count)))
    new.finish()


def next_number(directory: Path, disk: Disk) -> int:
    """Return a number above those of all files in a directory."""
    names = (name.removesuffix(TEMPORARY_SUFFIX).partition(".jsonl")[0] + ".jsonl" for name in disk.names(directory))
    return 1 + max(map(number_of, names), default=0)


def swap(directory: Path, disk: Disk, new: Iterable[NewPart], manifest: Manifest, obsolete: Iterable[str] = ()) -> None:
    """Place new files, let a manifest name them, and remove what it no longer names. Raises OSError."""
    for part in new:
        part.place()
    disk.sync_directory(directory)
    replace_manifest(directory, disk, manifest)
    disk.sync_directory(directory)
    for name in obsolete:
        with contextlib.suppress(FileNotFoundError):
            disk.remove(directory / name)
    disk.sync_directory(directory)


def keep_originals(directory: Path, disk: Disk, names: Iterable[str], why: str) -> Path:
    """Keep files as they are now, and the manifest, in a new subdirectory: a journal of its own. Raises OSError.

    They are hard links, or copies where the file system has none.
    """
    kept = directory / f"before-{why}-{time.time_ns()}"
    originals = (*names, MANIFEST_NAME)
    check_regular(directory, originals)
    disk.make_directory(kept)
    for name in originals:
        with contextlib.suppress(FileNotFoundError):
            _link(directory / name, kept / name, disk)
    disk.sync_directory(kept)
    disk.sync_directory(directory)
    return kept


def _link(old: Path, new: Path, disk: Disk) -> None:
    try:
        os.link(old, new)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(old, new, disk)


def copy_file(old: Path, new: Path, disk: Disk) -> None:
    """Copy a file to one that is on disk then. Raises OSError."""
    copy = disk.create(new)
    try:
        for block in disk.read(old):
            write_all(copy, block)
        copy.sync()
    finally:
        copy.close()


def check_regular(directory: Path, names: Iterable[str]) -> None:
    """See that all of these that are there are regular files, before one is replaced. Raises JournalError."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((directory / name).lstat().st_mode):
                raise JournalError(
                    f"{directory / name} is no regular file, and nothing else of a journal is replaced: "
                    "put the file itself there, not a link"
                )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C come between the steps of a swap, which take a moment."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: it is not the one to be interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
