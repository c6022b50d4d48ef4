"""The directory that a journal lives in: its lock, and what stands in it at a start."""

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
"""What the name of a file ends with that no manifest names and that was kept."""


class JournalDirectory:
    """A journal's directory, locked for this process until `close`.

    The lock is the operating system's (flock), so that a file left behind by a crash locks nobody out. Whoever makes
    the file removes it again.
    Raises JournalLocked where another process has it, JournalError where it can't be made or written.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.set_aside: list[str] = []
        """What files `clear` renamed because no manifest names them."""
        self.removed: list[str] = []
        """What whole files it removed because a base has taken their place."""
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
        """Read the manifest, and clear away what a crash left: `read` and `clear`. Raises JournalError."""
        manifest = self.read()
        try:
            self.clear(manifest)
        except OSError as error:
            raise JournalError(f"can't write the journal in {self.path}: {error.strerror}") from None
        return manifest

    def read(self) -> Manifest | None:
        """Read the manifest, and see that its files are there; None: it is a new journal. Nothing is changed.

        Raises JournalCorrupt with what was found, rather than start empty beside it, and JournalError.
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
        """Tell whether the lock is still the one that others see. Raises OSError."""
        return self._lock.is_at(self.path / LOCK_NAME)

    def notes(self) -> list[str]:
        """Say what was removed and set aside since this was asked last."""
        removed = [f"{self.path}: removed {name}, which a base had replaced" for name in self.removed]
        aside = [
            f"{self.path}: no manifest names what is now {name}, so it is no part of the journal: it was begun when "
            "the server went down, or it is of a newer journal that a backup was copied over, or was put there since"
            for name in self.set_aside
        ]
        self.removed, self.set_aside = [], []
        return removed + aside

    def close(self) -> None:
        """Let go of the lock."""
        if self._made_lock:
            with contextlib.suppress(OSError):  # it locks nobody out
                if self.is_locked():
                    self.disk.remove(self.path / LOCK_NAME)
        self._lock.close()

    def _check_new(self) -> None:
        """Refuse a directory that holds anything that is not known to be of no value."""
        for name in sorted(self.disk.names(self.path)):
            if name in IGNORED_NAMES or is_from_first_start(self.path, self.disk, name):
                continue
            if number_of(name.removesuffix(TEMPORARY_SUFFIX)):
                raise JournalCorrupt(
                    f"{self.path} holds {name!r} but no {MANIFEST_NAME}: not starting empty beside it. Put the "
                    f"manifest back, or let `memcache-kv journal repair {self.path}` make it anew"
                )
            raise JournalCorrupt(
                f"{self.path} holds {name!r} but no journal: not starting empty beside it. "
                "Give --journal an empty directory, or put the journal back"
            )

    def clear(self, manifest: Manifest | None) -> None:
        """Remove what was never finished and what a new base replaced; set aside all else that no manifest names.

        What is set aside was begun when the machine went down, or the manifest is of a backup that was copied over a
        newer journal. First of all, what was found is made to last: the process before may have been killed between a
        rename and the sync of the directory. Raises OSError, and may be called again then.
        """
        self.disk.sync_directory(self.path)
        for part in manifest.increments[:-1] if manifest is not None else ():
            self._sync(part.name)  # under `never` it may not be on disk, nor named by the manifest there
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
                self.set_aside.append(self._set_aside(name))

    def _sync(self, name: str) -> None:
        file = self.disk.append_to(self.path / name)
        try:
            file.sync()
        finally:
            file.close()

    def _set_aside(self, name: str) -> str:
        """Give a file a name that makes it no part of any journal."""
        aside, number = name + UNLISTED_SUFFIX, 1
        while aside in self.disk.names(self.path):
            number += 1
            aside = f"{name}{UNLISTED_SUFFIX}-{number}"
        self.disk.rename(self.path / name, self.path / aside)
        return aside

    @staticmethod
    def _is_temporary(name: str) -> bool:
        plain = name.removesuffix(TEMPORARY_SUFFIX)
        return plain != name and (plain == MANIFEST_NAME or number_of(plain) > 0)

    def _goes_on_from_kept_base(self, number: int) -> bool:
        return any(name.startswith(base_name(number)) for name in self.set_aside)

    def _is_newer(self, name: str, manifest: Manifest) -> bool:
        """Tell whether a file was begun after the base, which then can't have taken its place."""
        base = manifest.base
        return base is not None and self._begun_at(name) > self._begun_at(base.name)

    def _begun_at(self, name: str) -> int:
        """Return when a file was begun, in unix time; 0 where it does not say."""
        line = b"".join(self.disk.read(self.path / name, START_LIMIT_BYTES)).partition(b"\n")[0]
        try:
            return parse_line(line).at
        except ValueError:
            return 0


def has_no_records(directory: Path, disk: Disk, name: str) -> bool:
    """Tell whether a file holds no more than the record that begins it, or a part of that. Raises OSError."""
    data = b"".join(disk.read(directory / name, START_LIMIT_BYTES))
    line, feed, rest = data.partition(b"\n")
    if not feed:
        return len(data) < START_LIMIT_BYTES
    try:
        first = parse_line(line)
    except ValueError:
        return False
    return first.op == "start" and first.version <= FORMAT_VERSION and not rest


def is_from_first_start(directory: Path, disk: Disk, name: str) -> bool:
    """Tell whether a file may be there before the first manifest, and so tells of no journal. Raises OSError."""
    plain = name.removesuffix(TEMPORARY_SUFFIX)
    if plain != name:
        return plain == MANIFEST_NAME or number_of(plain) == 1
    return number_of(name) == 1 and has_no_records(directory, disk, name)


def is_manifest_lost(directory: Path, disk: Disk) -> bool:
    """Tell whether files of a journal are in a directory that has no manifest. Raises OSError."""
    return any(number_of(name) and not is_from_first_start(directory, disk, name) for name in disk.names(directory))


def check_parts(directory: Path, disk: Disk, manifest: Manifest) -> None:
    """See that every file of a journal is there and as long as it was. Raises JournalCorrupt, OSError."""
    names = set(disk.names(directory))
    for part in manifest.parts:
        if part.name not in names:
            raise JournalCorrupt(
                f"{directory / part.name} is missing, which the journal consists of: put it back, or see what is left "
                f"with `memcache-kv journal repair {directory}`"
            )
        size = disk.size(directory / part.name)
        if size < part.bytes:
            raise JournalCorrupt(
                f"{directory / part.name} has {size} bytes and had {part.bytes}: it was cut off. Put it back, or see "
                f"what is left with `memcache-kv journal repair {directory}`"
            )
