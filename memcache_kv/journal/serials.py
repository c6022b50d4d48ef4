"""Telling the files of a newer journal from what a crash leaves, after an older copy was put over it.

Each manifest has a serial one above that of the one before. Records state the serial of the last manifest that was on
disk when they were written. So a file that states a higher serial than the manifest has was written after it: the
manifest is an older copy.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from memcache_kv.journal.claims import claims_behind
from memcache_kv.journal.disk import Disk
from memcache_kv.journal.manifest import START_LIMIT_BYTES, Manifest, number_of
from memcache_kv.journal.record import Record, parse_line


def newer_files(directory: Path, disk: Disk, manifest: Manifest) -> list[str]:
    """Return the names of the files of the same journal that were written after the manifest. Raises OSError.

    If there is one, all that belong with it by their numbers are named too.
    """
    listed = {part.name for part in manifest.all_parts}
    found: dict[str, int] = {}
    for name in disk.names(directory):
        with contextlib.suppress(FileNotFoundError):  # a running server has removed it
            if number_of(name) and name not in listed and _is_ours(directory / name, disk, manifest):
                found[name] = serial_in(directory / name, disk)
    first = min((number_of(name) for name, serial in found.items() if serial > manifest.serial), default=None)
    return sorted(name for name in found if first is not None and number_of(name) >= first)


def _is_ours(path: Path, disk: Disk, manifest: Manifest) -> bool:
    journal_id = start_of(path, disk).id
    return bool(journal_id) and manifest.id in ("", journal_id)


def start_of(path: Path, disk: Disk) -> Record:
    """Return a file's start record; an empty one if it has none. Raises OSError."""
    try:
        return parse_line(disk.read_range(path, 0, START_LIMIT_BYTES).partition(b"\n")[0])
    except ValueError:
        return Record("start")


def serial_in(path: Path, disk: Disk) -> int:
    """Return the highest serial that a file states; 0 for none. Raises OSError."""
    return max((start_of(path, disk).serial, *claims_behind(disk, path, 0, disk.size(path), b"serial")))
