"""The journal's files while it is written: appending, syncing, and swapping one set of files for another.

Every change of the set is made so that a crash at any moment leaves either the old set or the new one: the new file is
complete and on disk, and so is its name, before a manifest that names it is; an old file is removed only after that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from memcache_kv.errors import JournalLost
from memcache_kv.journal.directory import LOCK_NAME, JournalDirectory
from memcache_kv.journal.disk import File, write_all
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    TEMPORARY_SUFFIX,
    Manifest,
    Part,
    base_name,
    increment_name,
    number_of,
    replace_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION

StartLine = Callable[[int], bytes]
"""Makes the record that begins a file; told how long the file before it is, where no manifest says so yet, or 0."""


class JournalFiles:
    """The base and the increments of a journal, the last of which is appended to.

    Not for several threads at once: whoever uses it holds the journal's lock for files. Everything raises OSError as
    the disk does, and may be tried again then; what swaps files raises JournalLost where the lock is not ours any more.

    Nothing is written before `open`, and nothing but it may be done until it succeeds.

    manifest: of the journal that is continued; None begins a new one; start_line: makes the first record of a file
    that is begun later.
    """

    def __init__(self, directory: JournalDirectory, manifest: Manifest | None, start_line: StartLine) -> None:
        self.directory = directory.path
        self.disk = directory.disk
        self._lock = directory
        self._start_line = start_line
        self.base: Part | None = None
        self.closed: list[Part] = []
        """The increments before the last."""
        self.name = ""
        """The last increment's."""
        self.bytes = 0
        """How long that is, up to the last record that was appended whole."""
        self.synced_bytes = 0
        """How much of it is on disk."""
        self.is_open = False
        self.file: File
        self._is_torn = False
        """Whether something may stand behind those bytes that a failed write left."""
        self._names_unsynced = False
        self._unsynced: dict[str, int] = {}
        """Which increments before the last are not known to be on disk, and how much of them is. No manifest names yet
        what was begun after the first of them."""
        self._sync_error: OSError | None = None
        """Why one of them could not be synced: a second fsync would not be believed."""
        self.obsolete: list[str] = []
        """Files that no manifest names any more, to be removed once that is sure to be on disk."""
        self._identities: dict[str, object] = {}
        """Which file stood under each name that the manifest has, and its own, when that was last swapped."""
        if manifest is not None:
            self.base, self.closed, self.name = manifest.base, [*manifest.increments[:-1]], manifest.increments[-1].name
            self.bytes = manifest.increments[-1].bytes

    def open(self, first_line: bytes) -> None:
        """Begin to write, with the record that this run begins with; it is on disk then."""
        if self.name:
            self._continue(first_line)
        else:
            self.file, self.bytes = self._create(increment_name(1), first_line)
            self.name, self.synced_bytes = increment_name(1), self.bytes
            self._swap()
        self.is_open = True

    def _continue(self, first_line: bytes) -> None:
        path = self.directory / self.name
        self.bytes = before = self.disk.size(path)  # an unfinished record may have been cut off since
        self.file = self.disk.append_to(path)
        try:
            self.append(first_line)
            self.sync()
            self.check_lock()
            replace_manifest(self.directory, self.disk, self.manifest)
        except (OSError, JournalLost):
            with contextlib.suppress(OSError):
                self.file.truncate(before)  # or a line would be added with every try
            self.file.close()
            raise
        self._names_unsynced = True
        try:
            self._store_identities()
            self.finish_swap()
        except OSError:
            self.file.close()
            raise

    @property
    def total_bytes(self) -> int:
        """How long all files are together."""
        return self.closed_bytes + self.bytes

    @property
    def closed_bytes(self) -> int:
        """How long all files but the last are."""
        return sum(part.bytes for part in (self.base, *self.closed) if part is not None)

    @property
    def manifest(self) -> Manifest:
        """What is to be in the manifest."""
        last = Part(self.name, self.synced_bytes)
        return Manifest(FORMAT_VERSION, self.base, (*self.closed, last))

    def append(self, data: bytes) -> None:
        """Write whole records behind the last one; what a failure leaves of them is cut off again."""
        if self._is_torn:
            self.file.truncate(self.bytes)
            self._is_torn = False
        try:
            write_all(self.file, data)
        except OSError:
            self._is_torn = True
            with contextlib.suppress(OSError):  # the first failure is told; this is tried again before the next write
                self.file.truncate(self.bytes)
                self._is_torn = False
            raise
        self.bytes += len(data)

    def sync(self, first: int = 0) -> None:
        """Wait until all that was appended is on disk, from the increment of this number on.

        After a failure nothing more may be appended here: the system may have forgotten what it could not write, and
        say next time that all is well. `replace_tail` goes on.
        """
        self._sync_closed(first)
        self.file.sync()
        self.synced_bytes = self.bytes
        self.finish_swap()

    @property
    def is_synced(self) -> bool:
        """Whether the last `sync` has left nothing out."""
        return not self._unsynced

    def _sync_closed(self, first: int = 0) -> None:
        if self._sync_error is not None:
            raise self._sync_error
        for name in [name for name in self._unsynced if number_of(name) >= first]:
            with contextlib.suppress(FileNotFoundError):  # `check` tells of it
                file = self.disk.append_to(self.directory / name)
                try:
                    file.sync()
                except OSError as error:
                    self._sync_error = error
                    raise
                finally:
                    file.close()
            del self._unsynced[name]

    def finish_swap(self) -> None:
        """See a swap of files through whose last step has failed; otherwise do nothing."""
        if self._names_unsynced:
            self.disk.sync_directory(self.directory)
            self._names_unsynced = False
        while self.obsolete:
            with contextlib.suppress(FileNotFoundError):  # gone is what it should be
                self.disk.remove(self.directory / self.obsolete[-1])
            self.obsolete.pop()

    def rotate(self, data: bytes = b"") -> int:
        """Go on in a new increment that begins with `data`; return its number. What was appended has been synced."""
        return self._go_on_with(data, [*self.closed, Part(self.name, self.synced_bytes)])

    def rotate_unsynced(self, data: bytes) -> int:
        """Do the same without waiting for the disk, and with nothing synced: the manifest comes to name it later.

        Until then its first record says how long the increment before it is, which has to be whole.
        """
        if self._is_torn:
            self.file.truncate(self.bytes)
            self._is_torn = False
        number, path = self._next_increment()
        whole = self._start_line(self.bytes) + data
        file = self.disk.create(path)
        try:
            write_all(file, whole)
        except OSError:
            self._give_up(path, file)
            raise
        self._unsynced[self.name] = self.synced_bytes
        self.closed = [*self.closed, Part(self.name, self.bytes)]
        self.file.close()
        self.name, self.bytes, self.synced_bytes, self.file = path.name, len(whole), 0, file
        self._identities[path.name] = self._identity(path.name)
        self._names_unsynced = True
        return number

    def replace_tail(self, data: bytes | None) -> None:
        """Go on in a new increment that begins with `data`: what was appended and is not known to be on disk.

        None: that is read back from the system, which most likely still has it.
        """
        if data is not None:
            self.rotate(data)
            return
        parts = [*self.closed, Part(self.name, self.bytes)]
        synced = {self.name: self.synced_bytes} | self._unsynced
        at, first = next((at, part) for at, part in enumerate(parts) if part.name in synced)
        known = Part(first.name, synced[first.name])
        tails = [self._tail(first.name, known.bytes, first.bytes)]
        tails += [self._tail(part.name, 0, part.bytes) for part in parts[at + 1 :]]  # synced or not: in their order
        self._go_on_with(b"".join(tails), [*parts[:at], known])

    def _tail(self, name: str, start: int, end: int) -> bytes:
        tail, position = [], 0
        for block in self.disk.read(self.directory / name, end):
            tail.append(block[max(0, start - position) :])
            position += len(block)
        return b"".join(tail)

    def _next_increment(self) -> tuple[int, Path]:
        """Return the number and the path of the increment behind the last, where nothing stands then."""
        self.check_lock()
        number = number_of(self.name) + 1
        path = self.directory / increment_name(number)
        with contextlib.suppress(FileNotFoundError):
            self.disk.remove(path)  # of an attempt that failed
        return number, path

    def _go_on_with(self, data: bytes, closed: list[Part]) -> int:
        """Begin an increment behind these, which are what stays of those that were there."""
        number, path = self._next_increment()
        file, size = self._create(path.name, self._start_line(0) + data)
        before = (self.closed, self._unsynced, self.name, self.bytes, self.synced_bytes, self.file)
        gone = {part.name for part in self.closed} | {self.name}
        self.closed, self._unsynced = [part for part in closed if part.bytes], {}
        self.name, self.bytes, self.synced_bytes, self.file = path.name, size, size, file
        try:
            self._replace_manifest()
        except OSError:
            self.closed, self._unsynced, self.name, self.bytes, self.synced_bytes, self.file = before
            file.close()
            raise
        self._is_torn, self._sync_error = False, None
        self.obsolete += gone - {part.name for part in self.closed}
        before[-1].close()
        self._names_unsynced = True
        self.finish_swap()
        return number

    def _create(self, name: str, data: bytes) -> tuple[File, int]:
        """Make an increment that is on disk, with its name and with these records; return it and its length."""
        file = self.disk.create(self.directory / name)
        try:
            write_all(file, data)
            file.sync()
            self.disk.sync_directory(self.directory)
        except OSError:
            self._give_up(self.directory / name, file)
            raise
        return file, len(data)

    def _give_up(self, path: Path, file: File) -> None:
        file.close()
        with contextlib.suppress(OSError):
            self.disk.remove(path)

    # A new base

    def base_path(self, number: int) -> Path:
        """Return where a base is written before it is one."""
        return self.directory / (base_name(number) + TEMPORARY_SUFFIX)

    def name_base(self, number: int) -> None:
        """Give a base that is complete and on disk its name. Of all here, this alone may be done beside the rest."""
        self.disk.rename(self.base_path(number), self.directory / base_name(number))
        self.disk.sync_directory(self.directory)

    def drop_base(self, number: int, needs_cas: bool) -> None:
        """Remove a base that was given up, unless a manifest names it by now. This too may be done beside the rest."""
        if self.base is None or self.base.name != base_name(number):
            self.disk.remove(self.directory / base_name(number) if needs_cas else self.base_path(number))

    def adopt_base(self, number: int, size: int) -> None:
        """Let a base take the place of all files before the increment of its number.

        What was appended from that one on has been synced.
        """
        self.check_lock()
        old = (self.base, self.closed)
        gone = [part for part in (self.base, *self.closed) if part is not None and number_of(part.name) < number]
        self.base = Part(base_name(number), size)
        self.closed = [part for part in self.closed if number_of(part.name) >= number]
        try:
            self._replace_manifest()
        except OSError:
            self.base, self.closed = old
            raise
        self.obsolete += [part.name for part in gone]
        for part in gone:
            self._unsynced.pop(part.name, None)
        self._names_unsynced = True
        self.finish_swap()

    # Looking after them

    def check(self) -> None:
        """See that the files are still there. Raises JournalLost, and OSError."""
        self.check_lock()
        if not self.file.is_at(self.directory / self.name):
            raise JournalLost(f"{self.directory / self.name} was deleted or replaced")
        for part in self._others():
            path = self.directory / part.name
            try:  # neither takes a descriptor: clients may have used them up
                size, identity = self.disk.size(path), self.disk.identity(path)
            except FileNotFoundError:
                raise JournalLost(f"{path} was deleted") from None
            if size < part.bytes:
                raise JournalLost(f"{path} was cut off")
            if identity != self._identities[part.name]:
                raise JournalLost(f"{path} was replaced")

    def check_lock(self) -> None:
        """See that no other process may have the directory, before anything in it is swapped. Raises JournalLost."""
        if not self._lock.is_locked():
            raise JournalLost(f"{self.directory / LOCK_NAME} was deleted or replaced", is_ours=False)

    def _others(self) -> Iterable[Part]:
        return (Part(MANIFEST_NAME), *self.manifest.parts[:-1])

    def close(self) -> None:
        """Note in the manifest how long the files are, so that it is noticed when one is cut off; close them."""
        try:
            self._swap()
        finally:
            self.file.close()

    def _replace_manifest(self) -> None:
        """Put the manifest as the files are now in the old one's place, and note which files they are."""
        replace_manifest(self.directory, self.disk, self.manifest)
        self._store_identities()

    def _store_identities(self) -> None:
        names = (MANIFEST_NAME, *(part.name for part in self.manifest.parts))
        self._identities = {name: self._identity(name) for name in names}

    def _identity(self, name: str) -> object:
        try:
            return self.disk.identity(self.directory / name)
        except FileNotFoundError:  # `check` tells of it
            return None

    def _swap(self) -> None:
        """Write the manifest as the files are now."""
        self.check_lock()
        self._sync_closed()
        self.finish_swap()  # the names too, before a manifest has them
        self._replace_manifest()
        self._names_unsynced = True
        self.finish_swap()
