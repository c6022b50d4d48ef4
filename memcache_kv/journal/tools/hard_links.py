"""A copy of a journal as of one moment, made of hard links, while a server may go on writing it.

A file that the manifest names is not changed any more once another one follows it, so those are linked. Records are
still appended to the last one, which is copied up to its last complete record. So are increments that no manifest names
yet: a start may cut off their end, and only the server may sync them, as one that fails is reported once.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from memcache_kv.errors import JournalError
from memcache_kv.journal.disk import Disk, read_from, write_all
from memcache_kv.journal.manifest import Part, replace_manifest
from memcache_kv.journal.record import FORMAT_VERSION
from memcache_kv.journal.tools.snapshot import ATTEMPTS, Snapshot, present_manifest, take_snapshot


@dataclass
class Linked:
    """What a copy consists of."""

    linked: int = 0
    """How many files are hard links."""
    linked_bytes: int = 0
    copied_bytes: int = 0
    """How much was copied: the last increments, and what could not be linked."""
    unlinkable: int = 0
    """How many files were copied because the system does not link them to this place."""


class _Gone(Exception):
    """A server has swapped the files meanwhile."""


def link_journal(directory: Path, target: Path, disk: Disk) -> Linked:
    """Make a journal in `target` with what the journal in `directory` holds now.

    target: must not exist, or be an empty directory. disk: creates the files. The copy is on disk when this returns. If
    it fails, what was made is removed again. Raises JournalError and OSError.
    """
    present_manifest(directory)
    is_new = not target.exists()
    if not is_new and (not target.is_dir() or any(target.iterdir())):
        raise JournalError(f"{target} exists and is not an empty directory: name another one")
    disk.make_directory(target)
    try:
        for _ in range(ATTEMPTS):
            with take_snapshot(directory) as snapshot, contextlib.suppress(_Gone):
                return _Linking(snapshot, target, disk).work()
            _clear(target, disk)
        raise JournalError(f"the files of the journal in {directory} keep changing; try again")
    except BaseException:
        _clear(target, disk)
        if is_new:
            with contextlib.suppress(OSError):  # the caller reports the failure
                target.rmdir()
        raise


def _clear(target: Path, disk: Disk) -> None:
    with contextlib.suppress(OSError):  # the caller reports the failure
        for name in disk.names(target):
            disk.remove(target / name)


class _Linking:
    """Makes one copy from one snapshot."""

    def __init__(self, snapshot: Snapshot, target: Path, disk: Disk) -> None:
        self._snapshot = snapshot
        self._target = target
        self._disk = disk
        self._made = Linked()

    def work(self) -> Linked:
        """Link and copy all files, and write the manifest last. Raises _Gone, JournalError and OSError."""
        manifest = self._snapshot.manifest
        for name in self._snapshot.missing:
            raise JournalError(f"{self._snapshot.directory / name} is missing, which is part of the journal")
        *closed, last = manifest.parts
        for part in closed:
            if manifest.may_end_early(part):
                self._copy(part.name, part.bytes)
            else:
                self._link(part)
        end = self._copy(last.name, self._snapshot.lines_end(self._snapshot.directory / last.name))
        self._disk.sync_directory(self._target)
        increments = (*manifest.increments[:-1], Part(last.name, end))
        whole = replace(manifest, version=FORMAT_VERSION, increments=increments, kept=(), unnamed=0, named_bytes=0)
        replace_manifest(self._target, self._disk, whole)
        self._disk.sync_directory(self._target)
        return self._made

    def _link(self, part: Part) -> None:
        """Link a file that is closed. Raises _Gone if a server has removed it."""
        old, new = self._snapshot.directory / part.name, self._target / part.name
        try:
            os.link(old, new)
        except FileNotFoundError:
            raise _Gone from None
        except OSError:  # another file system, or one without hard links, or links to others' files are forbidden
            self._copy(part.name, part.bytes)
            self._made.unlinkable += 1
            return
        if not self._snapshot.is_at(old, new):
            raise _Gone
        self._made.linked += 1
        self._made.linked_bytes += part.bytes

    def _copy(self, name: str, end: int) -> int:
        copy = self._disk.create(self._target / name)
        try:
            for block in read_from(self._snapshot, self._snapshot.directory / name, 0, end):
                write_all(copy, block)
            copy.sync()
        finally:
            copy.close()
        self._made.copied_bytes += end
        return end
