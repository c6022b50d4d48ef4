"""The directory that holds a journal: its lock, and the check of its files at a start."""

from __future__ import annotations

import contextlib
from pathlib import Path

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLocked
from memcache_kv.journal.disk import Disk, SystemDisk
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    START_LIMIT_BYTES,
    TEMPORARY_SUFFIX,
    Manifest,
    base_name,
    number_of,
    read_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION, parse_line

LOCK_NAME = "lock"
IGNORED_NAMES = {LOCK_NAME, "lost+found"}
UNLISTED_SUFFIX = ".unlisted"
"""Added to the name of a file that is kept although no manifest names it."""


class JournalDirectory:
    """A journal's directory, locked for this process until `close`.

    The lock is an flock, so a lock file that a crash left does not lock anybody out. The process that created the file
    removes it.

    path: created if it does not exist. disk: the file system to use; the operating system's by default. Raises
    JournalLocked if another process holds the lock, and JournalError if the directory can't be created or written.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.set_aside: list[str] = []
        """The new names of files that `clear` renamed because no manifest names them."""
        self.removed: list[str] = []
        """The names of complete files that `clear` removed because a base has replaced them."""
        self.disk: Disk = disk if disk is not None else SystemDisk()
        try:
            self.disk.make_directory(path)
            self._made_lock = LOCK_NAME not in self.disk.names(path)
            self._lock = self.disk.lock(path / LOCK_NAME)
        except BlockingIOError:
            raise JournalLocked(
                f"another process uses the journal in {path}; stop it, or give --journal another directory"
            ) from None
        except OSError as error:
            raise JournalError(f"can't use the journal directory {path}: {error.strerror}") from None

    def open(self) -> Manifest | None:
        """Read the manifest and remove what a crash left (`read`, then `clear`). Raises JournalError."""
        manifest = self.read()
        try:
            self.clear(manifest)
        except OSError as error:
            raise JournalError(f"can't write the journal in {self.path}: {error.strerror}") from None
        return manifest

    def read(self) -> Manifest | None:
        """Read the manifest and check that its files are there, without changing anything.

        Returns None for a new journal. Raises JournalCorrupt, which says what was found, if files are missing, cut off,
        or there without a manifest: the server must not start empty beside them. Raises JournalError if the directory
        can't be read.
        """
        try:
            manifest = read_manifest(self.path, self.disk)
            if manifest is None:
                self._check_new()
            else:
                check_parts(self.path, self.disk, manifest)
        except OSError as error:
            raise JournalError(f"can't read the journal in {self.path}: {error.strerror}") from None
        return manifest

    def is_locked(self) -> bool:
        """Tell whether the lock file in the directory is still the one that is locked. Raises OSError."""
        return self._lock.is_at(self.path / LOCK_NAME)

    def notes(self) -> list[str]:
        """Return a line for each file that was removed or set aside since the last call."""
        removed = [f"{self.path}: removed {name}, which a base had replaced" for name in self.removed]
        aside = [
            f"{self.path}: no manifest names the file that is now {name}, so it is not part of the journal: it was "
            "begun when the server went down, or a backup was copied over a newer journal, or it was added by hand"
            for name in self.set_aside
        ]
        self.removed, self.set_aside = [], []
        return removed + aside

    def close(self) -> None:
        """Unlock the directory."""
        if self._made_lock:
            with contextlib.suppress(OSError):  # a lock file without a lock locks nobody out
                if self.is_locked():
                    self.disk.remove(self.path / LOCK_NAME)
        self._lock.close()

    def _check_new(self) -> None:
        """Raise JournalCorrupt if a directory without a manifest holds anything that may be of value."""
        for name in sorted(self.disk.names(self.path)):
            if name in IGNORED_NAMES or is_from_first_start(self.path, self.disk, name):
                continue
            if number_of(name.removesuffix(TEMPORARY_SUFFIX)):
                raise JournalCorrupt(
                    f"{self.path} holds {name!r} but no {MANIFEST_NAME}: not starting empty beside it. Put the "
                    f"manifest back, or create a new one with `memcache-kv journal repair {self.path}`"
                )
            raise JournalCorrupt(
                f"{self.path} holds {name!r} but no journal: not starting empty beside it. "
                "Give --journal an empty directory, or put the journal back"
            )

    def clear(self, manifest: Manifest | None) -> None:
        """Remove unfinished files and those that a base replaced; set aside all other files that no manifest names.

        A file is set aside if a crash of the machine interrupted its start, or if the manifest comes from a backup that
        was copied over a newer journal. First, the files that were found are made durable: the previous process may
        have been killed between a rename and the sync of the directory. Raises OSError; then it may be called again.
        """
        self.disk.sync_directory(self.path)
        for part in manifest.increments[:-1] if manifest is not None else ():
            self._sync(part.name)  # under `never` it may be neither on disk nor in the manifest that is on disk
        listed = {part.name for part in manifest.parts} if manifest is not None else set()
        increments = manifest.increments if manifest is not None else ()
        first = min((number_of(part.name) for part in increments), default=0)
        for name in sorted(self.disk.names(self.path)):
            number = number_of(name)
            if self._is_temporary(name):
                self.disk.remove(self.path / name)
            elif not number or name in listed:
                continue
            elif has_no_records(self.path, self.disk, name) and not self._goes_on_from_kept_base(number):
                self.disk.remove(self.path / name)
            elif manifest is not None and number < first and not self._is_newer(name, manifest):
                self.disk.remove(self.path / name)
                self.removed.append(name)
            else:
                self.set_aside.append(set_aside(self.path, self.disk, name))

    def _sync(self, name: str) -> None:
        file = self.disk.append_to(self.path / name)
        try:
            file.sync()
        finally:
            file.close()

    @staticmethod
    def _is_temporary(name: str) -> bool:
        plain = name.removesuffix(TEMPORARY_SUFFIX)
        return plain != name and (plain == MANIFEST_NAME or number_of(plain) > 0)

    def _goes_on_from_kept_base(self, number: int) -> bool:
        return any(name.startswith(base_name(number)) for name in self.set_aside)

    def _is_newer(self, name: str, manifest: Manifest) -> bool:
        """Tell whether a file was started after the base, which therefore can't have replaced it."""
        base = manifest.base
        return base is not None and self._begun_at(name) > self._begun_at(base.name)

    def _begun_at(self, name: str) -> int:
        """Return the unix time at which a file was started; 0 if the file does not say."""
        line = b"".join(self.disk.read(self.path / name, START_LIMIT_BYTES)).partition(b"\n")[0]
        try:
            return parse_line(line).at
        except ValueError:
            return 0


def set_aside(directory: Path, disk: Disk, name: str) -> str:
    """Rename a file so that it belongs to no journal, and return its new name. Raises OSError."""
    aside, number = name + UNLISTED_SUFFIX, 1
    while aside in disk.names(directory):
        number += 1
        aside = f"{name}{UNLISTED_SUFFIX}-{number}"
    disk.rename(directory / name, directory / aside)
    return aside


def has_no_records(directory: Path, disk: Disk, name: str) -> bool:
    """Tell whether a file holds nothing but its start record, or a part of it. Raises OSError.

    A power loss may leave only the end of it, with zeros before that.
    """
    data = b"".join(disk.read(directory / name, START_LIMIT_BYTES))
    line, feed, rest = data.partition(b"\n")
    if not feed:
        return len(data) < START_LIMIT_BYTES
    try:
        first = parse_line(line)
    except ValueError:
        return line.startswith(b"\0") and not rest
    return first.op == "start" and first.version <= FORMAT_VERSION and not rest


def is_from_first_start(directory: Path, disk: Disk, name: str) -> bool:
    """Tell whether a file may exist before the first manifest, and so proves no journal. Raises OSError."""
    plain = name.removesuffix(TEMPORARY_SUFFIX)
    if plain != name:
        return plain == MANIFEST_NAME or number_of(plain) == 1
    return number_of(name) == 1 and has_no_records(directory, disk, name)


def is_manifest_lost(directory: Path, disk: Disk) -> bool:
    """Tell whether a directory without a manifest holds a journal's files. Raises OSError."""
    return any(number_of(name) and not is_from_first_start(directory, disk, name) for name in disk.names(directory))


def check_parts(directory: Path, disk: Disk, manifest: Manifest) -> None:
    """Check that all files of a journal exist and are as long as the manifest says.

    Raises JournalCorrupt and OSError.
    """
    names = set(disk.names(directory))
    for part in manifest.parts:
        if part.name not in names:
            raise JournalCorrupt(
                f"{directory / part.name} is missing, which is part of the journal: put it back, or see what is left "
                f"with `memcache-kv journal repair {directory}`"
            )
        size = disk.size(directory / part.name)
        if size < part.bytes:
            raise JournalCorrupt(
                f"{directory / part.name} has {size} bytes and had {part.bytes}: it was cut off. Put it back, or see "
                f"what is left with `memcache-kv journal repair {directory}`"
            )
