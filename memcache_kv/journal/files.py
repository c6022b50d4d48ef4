"""The journal's files while it is written: appending, syncing, and swapping one set of files for another.

Every change of the set leaves either the old or the new set after a crash at any moment. A new file is complete and
durable, and so is its name, before a manifest names it. An old file is removed only after that.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from memcache_kv.errors import JournalLost
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.directory import LOCK_NAME, JournalDirectory
from memcache_kv.journal.disk import File, last_line, write_all
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    START_LIMIT_BYTES,
    TEMPORARY_SUFFIX,
    Generation,
    Manifest,
    Part,
    base_name,
    increment_name,
    new_id,
    number_of,
    replace_manifest,
)
from memcache_kv.journal.record import CHAINED_VERSION, FORMAT_VERSION, check_line, parse_line, stated_crc
from memcache_kv.journal.serials import start_of


class StartLine(Protocol):
    """Returns the start record of a new file."""

    def __call__(self, after: int = 0, follows: str = "", *, serial: int = 0) -> bytes:
        """Return it as the line that would be the first of a file.

        after: the previous file's length in bytes if no manifest has it yet, or else 0. follows: the checksum of that
        file's last record, as a line states it. serial: that of the manifest on disk.
        """


class End(NamedTuple):
    """The place after the last complete record of a file."""

    bytes: int
    chain: int
    """That record's checksum."""


class Following(NamedTuple):
    """A file that is created to become the next increment."""

    number: int
    path: Path
    file: File


class JournalFiles:
    """The base and the increments of a journal. Records are appended to the last increment.

    Not thread-safe: the caller holds the journal's lock for files. Only `append` and `continue_in` are called under the
    Appender's lock, so one thread may append while another one syncs or creates files. All methods raise OSError as the
    disk does, and may be retried then. Those that swap files raise JournalLost if the directory's lock is no longer
    ours. Call `open` first; nothing is written before, and no other method may be called until it succeeds.

    directory: the locked directory. manifest: the manifest of the journal to continue; None starts a new journal.
    start_line: returns the first record of a file that is started later. keep: how many generations to keep after a
    rewrite.
    """

    def __init__(
        self, directory: JournalDirectory, manifest: Manifest | None, start_line: StartLine, keep: int = 0
    ) -> None:
        self.directory = directory.path
        self.disk = directory.disk
        self.id = manifest.id if manifest is not None and manifest.id else new_id()
        self._lock = directory
        self._start_line = start_line
        self._keep = keep
        self._serial = self.serial_on_disk = manifest.serial if manifest is not None else 0
        """The serial of the present manifest, and of the last one that is known to be on disk with its name."""
        self.must_state_serial = manifest is not None and manifest.unnamed > 0
        """Whether a record must say that, so that files that no older manifest names are not taken for unfinished."""
        self.kept: tuple[Generation, ...] = manifest.kept if manifest is not None else ()
        """Earlier generations, the oldest first."""
        self.lost: tuple[Generation, ...] = ()
        """Generations that the last rewrite could not keep, as files were gone."""
        self.base: Part | None = None
        self.closed: list[Part] = []
        """All increments but the last."""
        self.name = ""
        """The name of the last increment."""
        self.end = End(0, 0)
        """Where it ends. It is replaced as a whole, as one thread may append while another one syncs."""
        self.synced_bytes = 0
        """How much of it is on disk."""
        self._synced_chain = 0
        """The checksum of the last record that is on disk."""
        self.claimed_bytes = 0
        """How much of it is on disk by what the manifest or a record says."""
        self.follows = ""
        """The checksum of the last record of the file before, as its start record states it."""
        self.is_open = False
        self.file: File
        self._is_torn = False
        """Whether a failed write may have left a part of a record at its end."""
        self._names_unsynced = False
        self._unsynced: dict[str, int] = {}
        """The closed increments that may not be fully on disk, each with the length that is. The manifest does not yet
        name the increments after the first of them."""
        self._sync_error: OSError | None = None
        """The error of a failed fsync of one of these. It is kept, because a second fsync may succeed without writing
        the data."""
        self.obsolete: list[str] = []
        """Files that no manifest names any more. They are removed once that manifest is on disk."""
        self._identities: dict[str, object] = {}
        """The identity of each file in the manifest, and of the manifest itself, at the last swap."""
        if manifest is not None:
            self.base, self.closed, self.name = manifest.base, [*manifest.increments[:-1]], manifest.increments[-1].name
            self.end = End(manifest.increments[-1].bytes, 0)

    def open(self, first_line: StartLine) -> None:
        """Start writing with the start record of this run, which is on disk when this returns.

        A file of an older format is closed, and the next one continues it. Raises OSError and JournalLost; then it may
        be called again.
        """
        if not self.name:
            data, chain = rechained(first_line(), 0)
            self.file, size = self._create(increment_name(1), data)
            self.name, self.end = increment_name(1), End(size, chain)
            self._all_known_synced()
            self.write_manifest()
        elif self._is_chained():
            self._continue(first_line)
        else:
            self._leave_older_format(first_line)
        self.is_open = True

    def _is_chained(self) -> bool:
        """Tell whether the last file is in the present format, or has no record yet."""
        first = self.disk.read_range(self.directory / self.name, 0, START_LIMIT_BYTES).partition(b"\n")[0]
        return not first or parse_line(first).version >= CHAINED_VERSION

    def _leave_older_format(self, first_line: StartLine) -> None:
        path = self.directory / self.name
        size = self.disk.size(path)
        self.end = End(size, self._chain_at(self.name, size))
        self.file = self.disk.append_to(path)
        try:
            self.file.sync()
            self.synced_bytes, self._synced_chain = self.end
            self._go_on_with(b"", [*self.closed, Part(self.name, self.end.bytes)], first_line)
        except (OSError, JournalLost):
            self.file.close()
            raise

    def _continue(self, first_line: StartLine) -> None:
        path = self.directory / self.name
        before = self.disk.size(path)  # an unfinished record may have been cut off since it was read
        self.end = End(before, self._chain_at(self.name, before))
        self.file = self.disk.append_to(path)
        try:
            follows = "" if before else self._end_before()
            self.append(*rechained(first_line(0, follows, serial=self.serial_on_disk), self.end.chain))
            self.sync()
            self.check_lock()
            self._write_manifest()
        except (OSError, JournalLost):
            with contextlib.suppress(OSError):
                self.file.truncate(before)  # otherwise every attempt would add a line
            self.file.close()
            raise
        self.claimed_bytes = self.end.bytes
        self._names_unsynced = True
        try:
            self._store_identities()
            self.finish_swap()
        except OSError:
            self.file.close()
            raise

    def _end_before(self) -> str:
        """Return what the first record of the last increment must state about the end of the file before.

        A crash may have left nothing of the one that stated it. A base states the same as the increment beside it.
        """
        closed = [part for part in self.closed if part.bytes]
        if closed:
            return self._end_of(closed[-1])
        return start_of(self.directory / self.base.name, self.disk).follows if self.base is not None else ""

    def _chain_at(self, name: str, size: int) -> int:
        """Return the checksum of a file's last record before this offset; 0 if there is none."""
        return stated_crc(last_line(self.disk, self.directory / name, size)) if size else 0

    def _all_known_synced(self) -> None:
        """Begin with an increment that is on disk as it is."""
        self.synced_bytes, self._synced_chain = self.end
        self.claimed_bytes = self.end.bytes

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return self.closed_bytes + self.end.bytes

    @property
    def closed_bytes(self) -> int:
        """The length of all files but the last increment."""
        return sum(part.bytes for part in (self.base, *self.closed) if part is not None)

    @property
    def manifest(self) -> Manifest:
        """The manifest that describes the files as they are now."""
        last = Part(self.name, self.synced_bytes)
        return Manifest(FORMAT_VERSION, self.base, (*self.closed, last), self.id, self._serial, self.kept)

    @property
    def kept_bytes(self) -> int:
        """The length of all files of the kept generations."""
        return sum(generation.bytes for generation in self.kept)

    def append(self, data: bytes, chain: int) -> None:
        """Append complete records. If that fails, the part that was written is cut off again. Raises OSError.

        They must continue the present `chain`, which becomes that of the last of them.
        """
        if self._is_torn:
            self.file.truncate(self.end.bytes)
            self._is_torn = False
        try:
            write_all(self.file, data)
        except OSError:
            self._is_torn = True
            with contextlib.suppress(OSError):  # the caller reports the first failure; the next append retries this
                self.file.truncate(self.end.bytes)
                self._is_torn = False
            raise
        self.end = End(self.end.bytes + len(data), chain)

    def sync(self, first: int = 0) -> None:
        """Wait until all appended records are on disk, from the increment of number `first` on.

        Raises OSError. After that nothing more may be appended to this increment: the system may have dropped what it
        could not write, and report success next time. Continue with `replace_tail`.
        """
        self._sync_closed(first)
        end = self.end  # more may be appended meanwhile
        self.file.sync()
        self.synced_bytes, self._synced_chain = end
        self.finish_swap()

    @property
    def is_synced(self) -> bool:
        """Whether all increments but the last are on disk."""
        return not self._unsynced

    def _sync_closed(self, first: int = 0) -> None:
        if self._sync_error is not None:
            raise self._sync_error
        for name in [name for name in self._unsynced if number_of(name) >= first]:
            with contextlib.suppress(FileNotFoundError):  # `check` reports it
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
        """Finish a swap of files whose last steps failed; otherwise do nothing. Raises OSError."""
        if self._names_unsynced:
            self.disk.sync_directory(self.directory)
            self._names_unsynced = False
            self.serial_on_disk = self._serial
        while self.obsolete:
            with contextlib.suppress(FileNotFoundError):  # already removed
                self.disk.remove(self.directory / self.obsolete[-1])
            self.obsolete.pop()

    def create_next(self) -> Following:
        """Create the file of the next increment, for `continue_in`. Nothing waits for the disk."""
        number, path = self._next_increment()
        file = self.disk.create(path)
        self._identities[path.name] = self._identity(path.name)
        return Following(number, path, file)

    def continue_in(self, following: Following) -> None:
        """Append to another increment from now on, without waiting for the disk. A later manifest names it.

        Until then, its start record gives the length of the previous increment, which must be complete. Raises OSError;
        then the new file is gone.
        """
        path, file = following.path, following.file
        try:
            if self._is_torn:
                self.file.truncate(self.end.bytes)
                self._is_torn = False
            follows = _as_stated(self.end.chain)
            first_line, chain = rechained(self._start_line(self.end.bytes, follows, serial=self.serial_on_disk), 0)
            write_all(file, first_line)
        except OSError:
            self._give_up(path, file)
            raise
        self._unsynced[self.name] = self.synced_bytes
        self.closed = [*self.closed, Part(self.name, self.end.bytes)]
        self.file.close()
        self.name, self.end, self.synced_bytes, self.file = path.name, End(len(first_line), chain), 0, file
        self._synced_chain, self.claimed_bytes, self.follows = 0, 0, follows
        self._names_unsynced = True

    def replace_tail(self, data: bytes | None = None, first_line: StartLine | None = None) -> None:
        """Continue in a new increment that begins with the records that may not be on disk.

        Nobody may append meanwhile. data: these records, or more of the last ones; None reads them back from the files,
        where they most likely still are. first_line: as for `_go_on_with`.
        """
        parts = [*self.closed, Part(self.name, self.end.bytes)]
        synced = {self.name: self.synced_bytes} | self._unsynced
        at, first = next((at, part) for at, part in enumerate(parts) if part.name in synced)
        known = Part(first.name, synced[first.name])
        if data is None:
            tails = [self._tail(first.name, known.bytes, first.bytes)]
            tails += [
                self._tail(part.name, 0, part.bytes) for part in parts[at + 1 :]
            ]  # all of them, synced or not, in their order
            data = b"".join(tails)
        self._go_on_with(data, [*parts[:at], known], first_line)

    def _tail(self, name: str, start: int, end: int) -> bytes:
        """Read records back. Raises OSError if they are not what was written: the system may have dropped them."""
        tail, position = [], 0
        for block in self.disk.read(self.directory / name, end):
            tail.append(block[max(0, start - position) :])
            position += len(block)
        data = b"".join(tail)
        try:
            before = self._chain_at(name, start)
            for line in data.removesuffix(b"\n").split(b"\n") if data else ():
                before = check_line(line, before)
        except ValueError:
            raise OSError(errno.EIO, f"records of {name} can't be read back") from None
        return data

    def _next_increment(self) -> tuple[int, Path]:
        """Return the number and the path of the next increment, and remove a file that is in its place."""
        self.check_lock()
        number = number_of(self.name) + 1
        path = self.directory / increment_name(number)
        with contextlib.suppress(FileNotFoundError):
            self.disk.remove(path)  # left by an attempt that failed
        return number, path

    def _go_on_with(self, data: bytes, closed: list[Part], first_line: StartLine | None = None) -> None:
        """Start a new increment after the increments `closed`, which replace the present ones.

        first_line: returns its start record, if not as for other files that are started later.
        """
        _, path = self._next_increment()
        kept = [part for part in closed if part.bytes]
        follows = self._end_of(kept[-1]) if kept else ""
        begin = self._start_line if first_line is None else first_line
        start = begin(0, follows, serial=self.serial_on_disk)
        whole, chain = rechained(start + data, 0)
        file, size = self._create(path.name, whole)
        before = (self.closed, self._unsynced, self.name, self.end, self.synced_bytes, self.file)
        gone = {part.name for part in self.closed} | {self.name}
        self.closed, self._unsynced = kept, {}
        self.name, self.end, self.synced_bytes, self.file = path.name, End(size, chain), size, file
        try:
            self._replace_manifest()
        except OSError:
            self.closed, self._unsynced, self.name, self.end, self.synced_bytes, self.file = before
            file.close()
            raise
        self._all_known_synced()
        self.follows = follows
        self._is_torn, self._sync_error = False, None
        self.obsolete += gone - {part.name for part in self.closed}
        before[-1].close()
        self._names_unsynced = self.must_state_serial = True
        self.finish_swap()

    def _end_of(self, part: Part) -> str:
        """Return what the start record behind an increment of this length states about its last record."""
        is_present = part.name == self.name and part.bytes == self.synced_bytes
        return _as_stated(self._synced_chain if is_present else self._chain_at(part.name, part.bytes))

    def _create(self, name: str, data: bytes) -> tuple[File, int]:
        """Create a durable increment with these records. Returns the open file and its length."""
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
        """Return the temporary path at which a base is written."""
        return self.directory / (base_name(number) + TEMPORARY_SUFFIX)

    def name_base(self, number: int) -> None:
        """Give a base that is complete and on disk its final name. May run beside the other methods."""
        self.disk.rename(self.base_path(number), self.directory / base_name(number))
        self.disk.sync_directory(self.directory)

    def drop_base(self, number: int, is_named: bool) -> None:
        """Remove an unfinished base, unless the manifest names it already. May run beside the other methods.

        is_named: whether it has its final name.
        """
        if self.base is None or self.base.name != base_name(number):
            self.disk.remove(self.directory / base_name(number) if is_named else self.base_path(number))

    def adopt_base(self, number: int, size: int) -> None:
        """Let a base replace all files before the increment of its number. They become the last kept generation.

        size: the base's length in bytes. All records from that increment on must have been synced, and those before it
        too if they are to be kept.
        """
        self.check_lock()
        old = (self.base, self.closed, self.kept)
        replaced = self.base if self.base is not None and number_of(self.base.name) < number else None
        gone = Generation(replaced, tuple(part for part in self.closed if number_of(part.name) < number))
        every = (*self.kept, gone) if gone.parts else self.kept
        is_whole = all(self._is_unchanged(part) for part in gone.parts)
        self.base = Part(base_name(number), size)
        self.closed = [part for part in self.closed if number_of(part.name) >= number]
        self.kept = every[-self._keep :] if self._keep and is_whole else ()
        try:
            self._replace_manifest()
        except OSError:
            self.base, self.closed, self.kept = old
            raise
        self.lost = () if is_whole or not self._keep else every
        self._remove_later(every[: len(every) - len(self.kept)])
        for part in gone.parts:
            self._unsynced.pop(part.name, None)
        self._names_unsynced = self.must_state_serial = True
        self.finish_swap()

    @property
    def unstated_serial(self) -> int:
        """The present manifest's serial, if it is on disk and a record must say so; otherwise 0."""
        return self._serial if self.must_state_serial and self.serial_on_disk == self._serial else 0

    @property
    def syncs_all(self) -> bool:
        """Whether a rewrite must sync the files that it replaces, as they are kept."""
        return self._keep > 0

    def drop_oldest(self) -> Generation:
        """Drop the oldest kept generation, and return it. Raises OSError and JournalLost."""
        old, oldest = self.kept, self.kept[0]
        self.kept = old[1:]
        try:
            self.write_manifest()
        except (OSError, JournalLost):
            self.kept = old
            raise
        self._remove_later([oldest])
        self.finish_swap()
        return oldest

    def _remove_later(self, generations: Iterable[Generation]) -> None:
        self.obsolete += [part.name for generation in generations for part in generation.parts]

    def _is_unchanged(self, part: Part) -> bool:
        """Tell whether a file is still the same file, and no shorter. Raises OSError."""
        path = self.directory / part.name
        try:
            return self.disk.identity(path) == self._identities.get(part.name) and self.disk.size(path) >= part.bytes
        except FileNotFoundError:
            return False

    # Checking them

    def check(self) -> None:
        """Check that all files are still there and are the same files. Raises JournalLost and OSError."""
        self.check_lock()
        if not self.file.is_at(self.directory / self.name):
            raise JournalLost(f"{self.directory / self.name} was deleted or replaced")
        for part in self._others():
            path = self.directory / part.name
            try:  # neither opens a descriptor: clients may have used all of them
                size, identity = self.disk.size(path), self.disk.identity(path)
            except FileNotFoundError:
                raise JournalLost(f"{path} was deleted") from None
            if size < part.bytes:
                raise JournalLost(f"{path} was cut off")
            if identity != self._identities[part.name]:
                raise JournalLost(f"{path} was replaced")

    def check_lock(self) -> None:
        """Check that the directory's lock is still ours, before files are swapped. Raises JournalLost and OSError."""
        if not self._lock.is_locked():
            raise JournalLost(f"{self.directory / LOCK_NAME} was deleted or replaced", is_ours=False)

    def _others(self) -> Iterable[Part]:
        return (Part(MANIFEST_NAME), *self.manifest.parts[:-1])

    def close(self) -> None:
        """Close the last file, and store all lengths in the manifest, so that a file that is cut off later is noticed.

        Raises OSError and JournalLost.
        """
        try:
            self.write_manifest()
        finally:
            self.file.close()

    def _replace_manifest(self) -> None:
        """Replace the manifest with one that describes the files as they are now, and store their identities."""
        self._write_manifest()
        self._store_identities()

    def _write_manifest(self) -> None:
        self._serial += 1
        try:
            replace_manifest(self.directory, self.disk, self.manifest)
        except OSError:
            self._serial -= 1
            raise

    def _store_identities(self) -> None:
        names = (MANIFEST_NAME, *(part.name for part in self.manifest.parts))
        self._identities = {name: self._identity(name) for name in names}

    def _identity(self, name: str) -> object:
        try:
            return self.disk.identity(self.directory / name)
        except FileNotFoundError:  # `check` reports it
            return None

    def write_manifest(self) -> None:
        """Write a manifest that describes the files as they are now."""
        self.check_lock()
        self._sync_closed()
        self.finish_swap()  # make the names durable before a manifest uses them
        self._replace_manifest()
        self._names_unsynced = True
        self.finish_swap()


def _as_stated(chain: int) -> str:
    """Return a checksum as a line states it."""
    return f"{chain:08x}"
