"""Telling the files of a newer journal from what a crash leaves, after an older copy was put over it.

Each manifest has a serial one above that of the one before. Records state the serial of the last manifest that was on
disk when they were written. So a file that states a higher serial than the manifest has was written after it: the
manifest is an older copy.
"""

from __future__ import annotations

from pathlib import Path

from memcache_kv.journal.claims import claims_behind
from memcache_kv.journal.disk import Disk
from memcache_kv.journal.manifest import START_LIMIT_BYTES, Manifest, number_of
from memcache_kv.journal.record import Record, parse_line


def newer_files(directory: Path, disk: Disk, manifest: Manifest) -> list[str]:
    """Return the names of the files of the same journal that were written after the manifest. Raises OSError."""
    listed = {part.name for part in manifest.all_parts}
    return [
        name
        for name in sorted(disk.names(directory))
        if number_of(name) and name not in listed and _is_newer(directory / name, disk, manifest)
    ]


def _is_newer(path: Path, disk: Disk, manifest: Manifest) -> bool:
    try:
        journal_id = start_of(path, disk).id
        is_ours = journal_id == manifest.id or not manifest.id
        return bool(journal_id) and is_ours and serial_in(path, disk) > manifest.serial
    except FileNotFoundError:  # a running server has removed it
        return False


def start_of(path: Path, disk: Disk) -> Record:
    """Return a file's start record; an empty one if it has none. Raises OSError."""
    try:
        return parse_line(disk.read_range(path, 0, START_LIMIT_BYTES).partition(b"\n")[0])
    except ValueError:
        return Record("start")


def serial_in(path: Path, disk: Disk) -> int:
    """Return the highest serial that a file states; 0 for none. Raises OSError."""
    return max((start_of(path, disk).serial, *claims_behind(disk, path, 0, disk.size(path), b"serial")))
