"""The tail of a journal: what follows its last valid record, if nothing of it is known to have been on disk.

After a power loss, a file may end in a part of a record, and pages that were written but not synced may be missing
while later ones are there. No client was told that such records are safe, so a start cuts them off. Damage before a
place that is known to have been on disk is another matter: nothing but a failing disk, or somebody, makes it.

Three things say what was on disk: the lengths in the manifest, the length that a base and a closed increment must have,
and the field `synced` in the records of time behind the damage. A record that was written again to a newer file says
what was true of the older one. It stands at the newer one's beginning, which is on disk as a whole before the file is
used, so damage before it is no tail either.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from memcache_kv.journal.claims import claims_behind
from memcache_kv.journal.directory import set_aside
from memcache_kv.journal.disk import Disk, File, blocks_with_data, write_all
from memcache_kv.journal.manifest import Manifest, Part, replace_manifest
from memcache_kv.unpatched import time


def is_known_synced(directory: Path, disk: Disk, manifest: Manifest, part: Part, offset: int) -> bool:
    """Tell whether something at this offset of a file, or behind it, is known to have been on disk. Raises OSError."""
    if not manifest.may_end_early(part) or manifest.synced_bytes(part) > offset:
        return True
    path = directory / part.name
    return any(claimed > offset for claimed in claims_behind(disk, path, offset, disk.size(path), b"synced"))


class Tail:
    """What must be cut off: a file from an offset on, and the increments behind it.

    `cut` does it; before that nothing is changed.
    """

    def __init__(self, directory: Path, disk: Disk, manifest: Manifest, part: Part, offset: int) -> None:
        self.part = part
        self.offset = offset
        self.path = directory / part.name
        self.bytes = disk.size(self.path) - offset
        self.copy: Path | None = None
        """The file to which the bytes were copied before they were cut off."""
        self.is_cut = False
        self.aside: list[str] = []
        """The new names of the increments behind it."""
        self.lines = 0
        """The number of line feeds in it."""
        self.zeros = 0
        """How many of its bytes, all zero, were left out of the copy."""
        self._disk = disk
        at = manifest.increments.index(part) + 1
        self._later = [later.name for later in manifest.increments[at:]]
        self._manifest = manifest.up_to(part)
        self._is_later_named = len(self._later) > manifest.unnamed

    def cut(self) -> None:
        """Copy the bytes to a file beside the journal, durably, then cut them off, and set the later files aside.

        Does nothing the second time. Raises OSError; then it may be called again.
        """
        if self.is_cut:
            return
        if self.bytes and self.copy is None:
            copy = self.path.with_name(f"{self.path.name}.torn-{time.time_ns()}")
            self._copy_to(copy)
            self.copy = copy
        self._set_aside()
        file = self._disk.append_to(self.path)
        try:
            file.truncate(self.offset)
            file.sync()
        finally:
            file.close()
        self.is_cut = True

    def _set_aside(self) -> None:
        """Rename the later files, unless that was done already. First, see that no manifest names them any more."""
        if self._is_later_named:
            replace_manifest(self.path.parent, self._disk, self._manifest)
            self._disk.sync_directory(self.path.parent)
            self._is_later_named = False
        names = self._disk.names(self.path.parent)
        for name in self._later:
            if name in names:
                self.aside.append(set_aside(self.path.parent, self._disk, name))
        if self._later:
            self._disk.sync_directory(self.path.parent)

    def _copy_to(self, copy: Path) -> None:
        """Copy the bytes to a new file that is durable, with its name, when this returns."""
        kept = self._disk.create(copy)
        try:
            self._copy_blocks(kept)
            kept.sync()
        except OSError:
            kept.close()
            with contextlib.suppress(OSError):
                self._disk.remove(copy)
            raise
        kept.close()
        self._disk.sync_directory(copy.parent)

    def _copy_blocks(self, kept: File) -> None:
        self.lines = self.zeros = 0
        copied_bytes = 0
        for _, block in blocks_with_data(self._disk, self.path, self.offset, self.offset + self.bytes):
            self.lines += block.count(b"\n")
            write_all(kept, block)
            copied_bytes += len(block)
        self.zeros = self.bytes - copied_bytes

    def in_words(self) -> str:
        """Return a line for the log about what was cut off."""
        if self.zeros == self.bytes > 0 and not self.aside:
            return f"{self.path}: cut off {self.bytes:,} bytes behind the last record, all zero, as after a power loss"
        zeros = f" except {self.zeros:,} bytes, all zero," if self.zeros else ""
        if self.bytes and not self.lines and not self.aside:
            return (
                f"{self.path.parent}: the last record was not finished; "
                f"cut off its {self.bytes} bytes and kept them{zeros} in {self.copy}"
            )
        rest = f"; set aside {', '.join(self.aside)}, which came after it" if self.aside else ""
        if self.bytes:
            cut = f"; cut off {self.bytes:,} bytes, about {self.lines:,} records, and kept them{zeros} in {self.copy}"
            rest = cut + rest
        return (
            f"{self.path}: no valid record follows at offset {self.offset:,}, and nothing from there on is known to "
            f"have been on disk, as after a power loss; all records before it are kept{rest}"
        )
