"""The directory that holds a journal: its lock, and the check of its files at a start."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLocked
from memcache_kv.journal.disk import Disk, File, SystemDisk
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    START_LIMIT_BYTES,
    TEMPORARY_SUFFIX,
    Manifest,
    Part,
    base_name,
    number_of,
    read_manifest,
)
from memcache_kv.journal.record import FORMAT_VERSION, parse_line
from memcache_kv.journal.serials import newer_files

LOCK_NAME = "lock"
IGNORED_NAMES = {LOCK_NAME, "lost+found"}
UNLISTED_SUFFIX = ".unlisted"
"""Added to the name of a file that is kept although no manifest names it."""


class JournalDirectory:
    """A journal's directory, locked for this process until `close`.

    The lock is an flock, so a lock file that a crash left does not lock anybody out. The process that created the file
    removes it. On a read-only file system where there is none, the directory itself is locked until it can be created.

    path: created if it does not exist. disk: the file system to use; the operating system's by default. Raises
    JournalLocked if another process holds the lock, and JournalError if the directory can't be created or written.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.set_aside: list[str] = []
        """The new names of files that `clear` renamed because no manifest names them."""
        self.removed: list[str] = []
        """The names of complete files that `clear` removed because a base has replaced them."""
        self.unusable: list[str] = []
        """What is wrong with files of kept generations, a line each. The server needs none of them."""
        self.disk: Disk = disk if disk is not None else SystemDisk()
        self._has_lock_file = True
        try:
            self.disk.make_directory(path)
            self._made_lock = LOCK_NAME not in self.disk.names(path)
            self._lock = self._take_lock()
        except BlockingIOError:
            raise JournalLocked(
                f"another process uses the journal in {path}; stop it, or give --journal another directory"
            ) from None
        except OSError as error:
            raise JournalError(f"can't use the journal directory {path}: {error.strerror}") from None

    def _take_lock(self) -> File:
        """Lock the lock file; on a read-only file system without one, the directory itself until `clear`."""
        try:
            return self.disk.lock(self.path / LOCK_NAME)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            self._has_lock_file = False
            return self.disk.lock_directory(self.path)

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
                check_newest(self.path, self.disk, manifest)
                check_parts(self.path, self.disk, manifest.parts)
                self.unusable = list(unusable_parts(self.path, self.disk, manifest))
        except OSError as error:
            raise JournalError(f"can't read the journal in {self.path}: {error.strerror}") from None
        return manifest

    def is_locked(self) -> bool:
        """Tell whether the lock file in the directory is still the one that is locked. Raises OSError."""
        return self._lock.is_at(self.path / LOCK_NAME)

    def notes(self) -> list[str]:
        """Return a line for each file that was removed, set aside or found unusable since the last call."""
        removed = [f"{self.path}: removed {name}, which a base had replaced" for name in self.removed]
        aside = [
            f"{self.path}: no manifest names the file that is now {name}, so it is not part of the journal: it was "
            "begun when the server went down, or belongs to another journal, or was added by hand"
            for name in self.set_aside
        ]
        unusable = [f"{why} (part of a kept generation: the server does without it)" for why in self.unusable]
        self.removed, self.set_aside, self.unusable = [], [], []
        return removed + aside + unusable

    def close(self) -> None:
        """Unlock the directory."""
        if self._made_lock:
            with contextlib.suppress(OSError):  # a lock file without a lock locks nobody out
                if self.is_locked():
                    self.disk.remove(self.path / LOCK_NAME)
        self._lock.close()

    def forget(self) -> None:
        """Close the lock file's descriptor in a child that was forked. The parent's still holds the lock."""
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

        A file is set aside if a crash of the machine interrupted its start, or if it belongs to another journal. First,
        the files that were found are made durable: the previous process may have been killed between a rename and the
        sync of the directory. Raises OSError; then it may be called again.
        """
        if not self._has_lock_file:
            file = self.disk.lock(self.path / LOCK_NAME)
            self._lock.close()
            self._lock, self._has_lock_file = file, True
        self.disk.sync_directory(self.path)
        for part in manifest.increments[:-1] if manifest is not None else ():
            self._sync(part.name)  # under `never` it may be neither on disk nor in the manifest that is on disk
        listed = {part.name for part in manifest.all_parts} if manifest is not None else set()
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
        return not rest and b"\0" in line  # a start record of which a power loss left a part
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


def unusable_parts(directory: Path, disk: Disk, manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with the files of kept generations, without reading them. Raises OSError."""
    for generation in manifest.kept:
        try:
            check_parts(directory, disk, generation.parts)
        except JournalCorrupt as error:
            yield str(error).partition(": put")[0]


def check_newest(directory: Path, disk: Disk, manifest: Manifest) -> None:
    """Check that no file was begun under a later manifest than this one. Raises JournalCorrupt and OSError.

    Such files are there after an older copy of the journal was put over it. No crash leaves them.
    """
    newer = newer_files(directory, disk, manifest)
    if newer:
        raise JournalCorrupt(
            f"{directory / MANIFEST_NAME} is older than {', '.join(newer)}: an older copy of this journal was put over "
            "it. To start with the copy, move the newer files to another directory; to go on with the newer journal, "
            "put its own manifest back, with the files that the copy replaced"
        )


def check_parts(directory: Path, disk: Disk, parts: tuple[Part, ...]) -> None:
    """Check that some files of a journal exist and are as long as the manifest says.

    Raises JournalCorrupt and OSError.
    """
    names = set(disk.names(directory))
    for part in parts:
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
