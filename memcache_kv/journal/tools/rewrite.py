"""Writing files of a journal that no server uses. A crash at any moment leaves either the old files or the new ones.

New files are complete and on disk under temporary names, which the next start removes, before one manifest names them
all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from memcache_kv.clock import unix_seconds
from memcache_kv.errors import JournalError
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.disk import Disk, File, last_line, write_all
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    TEMPORARY_SUFFIX,
    Manifest,
    Part,
    number_of,
    replace_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION, Record, entry_line, line_of, stated_crc
from memcache_kv.journal.serials import start_of
from memcache_kv.store.entry import Entry
from memcache_kv.unpatched import time

WRITE_BYTES = 256 * 1024
PROGRESS_ITEMS = 1000
"""Progress is shown after each so many items."""


class NewPart:
    """A new file of a journal, written under a temporary name. `finish` makes it durable, `place` gives it its name.

    The file exists within the context, whose end removes it if it was not placed, even after Ctrl-C at any moment.
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
        self._chain = 0
        self._is_placed = False
        replaced = (name, MANIFEST_NAME)
        check_regular(directory, (*replaced, *(one + TEMPORARY_SUFFIX for one in replaced)))
        self._file: File | None = None

    def write(self, data: bytes) -> None:
        """Append complete lines, with checksums that fit here. Raises OSError."""
        data, self._chain = rechained(data, self._chain)
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
        """Wait until all data is on disk, and close the file. Returns its entry for a manifest. Raises OSError."""
        assert self._file is not None
        self._write_out()
        self._file.sync()
        self._file.close()
        self._file = None
        return self.part

    @property
    def part(self) -> Part:
        """The file's entry for a manifest."""
        return Part(self.name, self.bytes)

    @property
    def end(self) -> str:
        """What the start record of the file behind it must state about its last record."""
        return f"{self._chain:08x}"

    def place(self) -> None:
        """Give the file its name. The caller must sync the directory. Raises OSError."""
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
            with contextlib.suppress(OSError):  # the caller reports the failure; the next start removes the file
                self._disk.remove(self._temporary)


def start_line(
    cas: int, journal_id: str, serial: int, follows: str = "", stepped: int | None = None, has_time: bool = True
) -> bytes:
    """Return the start record of a file that is written now.

    cas: the highest CAS id that the journal may have given. serial: that of the manifest on disk. follows: the checksum
    of the last record of the file before, as a line states it. stepped: the sum of the wall clock's steps in seconds,
    if the files before it have another one. has_time: whether the record gives the time. It must not if there are files
    before it whose `stepped` is not known, as the clock may be behind their last time.
    """
    at = int(unix_seconds()) if has_time else 0
    record = Record("start", cas=cas, at=at, version=FORMAT_VERSION, stepped=stepped)
    record.id, record.serial, record.follows = journal_id, serial, follows
    return line_of(record)


def follows_of(directory: Path, disk: Disk, manifest: Manifest) -> str:
    """Return what the start record of a further increment must state about the last record. Raises OSError.

    manifest: the files before it, none of them empty. A base states the same as the increment beside it, of which a
    crash may have left nothing.
    """
    if manifest.increments:
        last = manifest.increments[-1]
        return f"{stated_crc(last_line(disk, directory / last.name, last.bytes)):08x}"
    return start_of(directory / manifest.base.name, disk).follows if manifest.base is not None else ""


def write_base(
    new: NewPart,
    items: Iterable[tuple[bytes, Entry]],
    cas: int,
    manifest: Manifest,
    flush_at: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write items to a base and finish it. The caller places it. Raises OSError.

    manifest: the one that will be replaced, with the journal's id. flush_at: the unix time of a flush that waits.
    progress: called with the number of items so far.
    """
    new.write(start_line(cas, manifest.id, manifest.serial))
    count = 1
    if flush_at:
        new.write(line_of(Record("flush", at=flush_at)))
        count += 1
    for number, (key, entry) in enumerate(items, 1):
        new.write(entry_line(key, entry))
        count += 1
        if progress is not None and number % PROGRESS_ITEMS == 0:
            progress(number)
    new.write(line_of(Record("end", at=int(unix_seconds()), count=count)))
    new.finish()


def next_number(directory: Path, disk: Disk) -> int:
    """Return a number above those of all files in a directory."""
    names = (name.removesuffix(TEMPORARY_SUFFIX).partition(".jsonl")[0] + ".jsonl" for name in disk.names(directory))
    return 1 + max(map(number_of, names), default=0)


def swap(directory: Path, disk: Disk, new: Iterable[NewPart], manifest: Manifest, obsolete: Iterable[str] = ()) -> None:
    """Place new files, replace the manifest, and remove the `obsolete` files. Raises OSError."""
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
    """Keep the present files and the manifest in a new subdirectory, which is a journal of its own. Raises OSError.

    They are hard links, or copies if the file system has no hard links. Returns the subdirectory.
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
    """Copy a file, and sync the copy. Raises OSError."""
    copy = disk.create(new)
    try:
        for block in disk.read(old):
            write_all(copy, block)
        copy.sync()
    finally:
        copy.close()


def check_regular(directory: Path, names: Iterable[str]) -> None:
    """Check that those of these names that exist are regular files. Raises JournalError."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((directory / name).lstat().st_mode):
                raise JournalError(
                    f"{directory / name} is not a regular file, and nothing else may be replaced: "
                    "put the file itself there, not a link"
                )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C for the short time of a swap."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # Ctrl-C interrupts only the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
