"""What root's tools make in a journal's directory belongs to whom the journal belongs to: its server reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from memcache_kv.journal.disk import CREATE_FLAGS, File, SystemDisk, SystemFile
from memcache_kv.journal.manifest import MANIFEST_NAME, number_of

PRIVATE_MODE = 0o600


class Owner(NamedTuple):
    """Whom files are given to, and with which mode."""

    uid: int
    gid: int
    mode: int = PRIVATE_MODE


class OwnersDisk(SystemDisk):
    """The system's disk, on which all that is made is given to an owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def make_directory(self, path: Path) -> None:
        """Make a directory that belongs to the owner."""
        is_new = not path.exists()
        super().make_directory(path)
        if is_new:
            self._give(path, os.O_RDONLY | os.O_DIRECTORY)

    def lock(self, path: Path) -> File:
        """Make a file that the owner can lock too, and lock it."""
        file = super().lock(path)
        found = path.lstat()
        # Another link, symbolic or not, may be to a file that is none of the owner's.
        if found.st_uid != self._owner.uid and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            self._give(path, os.O_RDONLY)
        return file

    def create(self, path: Path) -> File:
        """Make a file that is not there yet, of the owner and with its mode, and open it."""
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
    """Return the disk on which a tool changes a journal. Raises OSError."""
    owner = owner_of(directory) if os.geteuid() == 0 else None
    return SystemDisk() if owner is None else OwnersDisk(owner)


def owner_of(directory: Path) -> Owner | None:
    """Tell whom a journal belongs to, where that is not root. Raises OSError.

    It is the directory's owner; or else, where that is root, the owner of its files. These also tell the mode.
    """
    if not directory.is_dir():
        return None
    own = directory.stat()
    for file in _files_in(directory):
        if file.st_uid and own.st_uid in (0, file.st_uid):
            return Owner(file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode) & 0o666)
    return Owner(own.st_uid, own.st_gid) if own.st_uid else None


def _files_in(directory: Path) -> list[os.stat_result]:
    """Look at the journal's files, the manifest first."""
    names = [name for name in sorted(os.listdir(directory)) if number_of(name)]
    paths = [path for path in (directory / MANIFEST_NAME, *(directory / name for name in names)) if path.is_file()]
    return [found for found in (path.lstat() for path in paths) if stat.S_ISREG(found.st_mode)]
