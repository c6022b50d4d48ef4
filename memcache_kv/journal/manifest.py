"""The manifest: which files make up the journal, in the order in which they are read.

A file that is not named in it is no part of the journal, but for an increment that says of itself that it goes on where
the last one ends. A new manifest replaces the old one by a rename, so that there is always a whole one. See
docs/reference/journal_format.md.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.disk import Disk, write_all
from memcache_kv.journal.record import FORMAT_VERSION, check_line, framed, parse_line

MANIFEST_NAME = "manifest.json"
TEMPORARY_SUFFIX = ".tmp"
"""What a file's name ends with until it is complete."""
FORMER_NAME = "journal-000001.jsonl"
"""The one file of a journal in format 1, which had no manifest."""
MANIFEST_LIMIT_BYTES = 1 << 20
START_LIMIT_BYTES = 4096
"""A file that holds no more than its start record is shorter than this."""


class Part(msgspec.Struct, frozen=True):
    """A file of the journal.

    bytes: how long it is known to be. It may be longer only where it is the last, which is appended to; what stands
    behind these bytes in another is no part of the journal.
    """

    name: str
    bytes: int = 0


class Manifest(msgspec.Struct, tag_field="op", tag="manifest", omit_defaults=True, frozen=True):
    """The base, which holds everything as it was at one time, and what was appended since."""

    version: int = 0
    base: Part | None = None
    increments: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All files in the order in which they are read."""
        return self.increments if self.base is None else (self.base, *self.increments)


def base_name(number: int) -> str:
    """Name the base which increments from this number on continue."""
    return f"base-{number:06}.jsonl"


def increment_name(number: int) -> str:
    """Name an increment."""
    return f"increment-{number:06}.jsonl"


def number_of(name: str) -> int:
    """Return the number in a file's name; 0 where it is none of the journal's."""
    kind, _, rest = name.partition("-")
    digits, dot, suffix = rest.partition(".")
    is_ours = kind in ("base", "increment", "journal") and dot and suffix == "jsonl"
    return int(digits) if is_ours and digits.isascii() and digits.isdigit() else 0


def read_manifest(directory: Path, disk: Disk) -> Manifest | None:
    """Read a directory's manifest; None where there is none.

    Raises JournalCorrupt where it is damaged, JournalError where it is of a newer format, OSError.
    """
    path = directory / MANIFEST_NAME
    names = disk.names(directory)
    if MANIFEST_NAME not in names:
        # Whatever is numbered above 1 was begun when there was a manifest already.
        is_former = all(number_of(name) <= 1 for name in names) and FORMER_NAME in names
        is_begun = is_former and disk.size(directory / FORMER_NAME)
        return Manifest(increments=(Part(FORMER_NAME),)) if is_begun else None
    data = b"".join(disk.read(path, MANIFEST_LIMIT_BYTES))
    try:
        return _with_unnamed(directory, disk, set(names), with_base(parse_manifest(data)))
    except ValueError as error:
        raise JournalCorrupt(
            f"{path} is damaged: {error}; `memcache-kv journal repair {directory}` makes it anew"
        ) from None


def _with_unnamed(directory: Path, disk: Disk, names: set[str], manifest: Manifest) -> Manifest:
    """Add the increments that were begun without a word in the manifest (`never`).

    Each says how long the one before it was. Where that is not so long, the machine has failed since: then it was left
    out of what reached the disk, or something is missing before it, and it counts for nothing.
    """
    *closed, last = manifest.increments
    while (name := increment_name(number_of(last.name) + 1)) in names:
        try:
            after = _length_before(directory / name, disk)
            if not after or after != disk.size(directory / last.name):
                break
        except FileNotFoundError:  # swapped meanwhile, as by a server that is running
            break
        closed.append(Part(last.name, after))
        last = Part(name)
    return Manifest(manifest.version, manifest.base, (*closed, last))


def _length_before(path: Path, disk: Disk) -> int:
    """Return how long a file says that the one before it is; 0 where it does not."""
    line, feed, _ = b"".join(disk.read(path, START_LIMIT_BYTES)).partition(b"\n")
    try:
        return parse_line(line).after if feed else 0
    except ValueError:
        return 0


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from its line. Raises ValueError, saying what is wrong, and JournalError for a newer format."""
    if not data.endswith(b"\n"):
        raise ValueError("it is cut off")
    check_line(data[:-1])
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    check_version(found.version)
    if not found.increments or any(not number_of(part.name) or part.bytes < 0 for part in found.parts):
        raise ValueError("it does not name a journal's files")
    return found


def with_base(manifest: Manifest) -> Manifest:
    """Name the base that there must be where the first increment is numbered above 1; how long it was is not known."""
    number = number_of(manifest.increments[0].name)
    if manifest.base is not None or number == 1:
        return manifest
    return msgspec.structs.replace(manifest, base=Part(base_name(number)))


def check_version(version: int) -> None:
    """Raise JournalError for a format that is newer than this program."""
    if version > FORMAT_VERSION:
        raise JournalError(
            f"the journal was written in format {version}, and this version reads up to {FORMAT_VERSION}: "
            "use a newer memcache_kv"
        )


def replace_manifest(directory: Path, disk: Disk, manifest: Manifest) -> None:
    """Put a manifest in the old one's place. The caller syncs the directory: until then, either may be found.

    Raises OSError; then the old one is there.
    """
    temporary = directory / (MANIFEST_NAME + TEMPORARY_SUFFIX)
    if temporary.name in disk.names(directory):
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        write_all(file, framed(msgspec.json.encode(manifest)[1:]))
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, directory / MANIFEST_NAME)
