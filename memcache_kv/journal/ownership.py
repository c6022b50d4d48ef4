"""Files that root's tools create in a journal belong to the journal's owner, so that its server can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from memcache_kv.journal.disk import CREATE_FLAGS, File, SystemDisk, SystemFile
from memcache_kv.journal.manifest import MANIFEST_NAME, number_of

PRIVATE_MODE = 0o600


class Owner(NamedTuple):
    """The user, group and mode for new files."""

    uid: int
    gid: int
    mode: int = PRIVATE_MODE


class OwnersDisk(SystemDisk):
    """The system's disk, on which everything that is created belongs to an owner.

    owner: gets the new files and directories.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def make_directory(self, path: Path) -> None:
        """Create a directory that belongs to the owner."""
        is_new = not path.exists()
        super().make_directory(path)
        if is_new:
            self._give(path, os.O_RDONLY | os.O_DIRECTORY)

    def lock(self, path: Path) -> File:
        """Create a file that the owner can lock too, and lock it."""
        file = super().lock(path)
        found = path.lstat()
        # A link, symbolic or hard, may lead to a file that is not the owner's.
        if found.st_uid != self._owner.uid and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            self._give(path, os.O_RDONLY)
        return file

    def create(self, path: Path) -> File:
        """Create a file that does not exist yet, with the owner and the owner's mode, and open it for appending."""
        fd = os.open(path, CREATE_FLAGS, PRIVATE_MODE)
        try:
            os.fchown(fd, self._owner.uid, self._owner.gid)
            os.fchmod(fd, self._owner.mode)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return SystemFile(fd)

    def _give(self, path: Path, flags: int) -> None:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, self._owner.uid, self._owner.gid)
        finally:
            os.close(fd)


def disk_for(directory: Path) -> SystemDisk:
    """Return the disk with which a tool changes a journal. Raises OSError."""
    owner = owner_of(directory) if os.geteuid() == 0 else None
    return SystemDisk() if owner is None else OwnersDisk(owner)


def owner_of(directory: Path) -> Owner | None:
    """Return the owner of a journal; None if that is root or the directory does not exist. Raises OSError.

    The owner is the directory's owner, or if that is root, the owner of its files. The files give the mode too.
    """
    if not directory.is_dir():
        return None
    own = directory.stat()
    for file in _files_in(directory):
        if file.st_uid and own.st_uid in (0, file.st_uid):
            return Owner(file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode) & 0o666)
    return Owner(own.st_uid, own.st_gid) if own.st_uid else None


def _files_in(directory: Path) -> list[os.stat_result]:
    """Return the status of each of the journal's files, the manifest first."""
    names = [name for name in sorted(os.listdir(directory)) if number_of(name)]
    paths = [path for path in (directory / MANIFEST_NAME, *(directory / name for name in names)) if path.is_file()]
    return [found for found in (path.lstat() for path in paths) if stat.S_ISREG(found.st_mode)]
