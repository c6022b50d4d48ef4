"""The manifest: the list of the files that make up the journal, in the order in which they are read.

A file that is not in the list is not part of the journal. The only exceptions are increments whose start records say
that they continue the last one. A new manifest replaces the old one by a rename, so that one complete manifest always
exists. See docs/reference/journal_format.md.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import msgspec

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.disk import Disk, write_all
from memcache_kv.journal.record import FORMAT_VERSION, check_line, framed, parse_line

MANIFEST_NAME = "manifest.json"
TEMPORARY_SUFFIX = ".tmp"
"""The end of a file's name until the file is complete."""
FORMER_NAME = "journal-000001.jsonl"
"""The only file of a journal in format 1, which had no manifest."""
MANIFEST_LIMIT_BYTES = 1 << 20
START_LIMIT_BYTES = 4096
"""A start record is always shorter than this."""


class Part(msgspec.Struct, frozen=True):
    """A file of the journal.

    bytes: its known length. Only the last file, to which records are appended, may be longer and still belong to the
    journal as a whole; in any other file, what follows these bytes is not part of the journal.
    """

    name: str
    bytes: int = 0


class Generation(msgspec.Struct, omit_defaults=True, frozen=True):
    """The files that a later base replaced: the base before it, and the increments up to it."""

    base: Part | None = None
    increments: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All files in the order in which they are read."""
        return self.increments if self.base is None else (self.base, *self.increments)

    @property
    def bytes(self) -> int:
        """The length of all files together."""
        return sum(part.bytes for part in self.parts)


class Manifest(msgspec.Struct, tag_field="op", tag="manifest", omit_defaults=True, frozen=True):
    """The base, which holds all items at one time, and the increments, which hold the writes since then."""

    version: int = 0
    base: Part | None = None
    increments: tuple[Part, ...] = ()
    id: str = ""
    """The journal to which all these files belong; empty before format 3."""
    serial: int = 0
    """One more than that of the manifest before. Records say which manifest was on disk when they were written."""
    kept: tuple[Generation, ...] = ()
    """Earlier generations, the oldest first. The server does not read them; `restore` does."""
    unnamed: int = 0
    """How many of the last increments the manifest on disk does not name. They may not be on disk as a whole."""
    named_bytes: int = 0
    """If there are any: the length that the manifest on disk gives for the increment before them."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All files in the order in which they are read."""
        return self.increments if self.base is None else (self.base, *self.increments)

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """The files of the kept generations, and then those of the journal."""
        return (*(part for generation in self.kept for part in generation.parts), *self.parts)

    def since(self, number: int) -> Manifest:
        """Return the journal as it would be if no base had replaced the kept generation of this index.

        Each generation's increments continue those of the one before.
        """
        increments = [part for generation in self.kept[number:] for part in generation.increments]
        return msgspec.structs.replace(
            self, base=self.kept[number].base, increments=(*increments, *self.increments), kept=self.kept[:number]
        )

    def synced_bytes(self, part: Part) -> int:
        """Return up to which length a file is known to be on disk."""
        if part is self.base or not self.unnamed:
            return part.bytes
        behind = len(self.increments) - 1 - self.increments.index(part)
        if behind < self.unnamed:
            return 0
        return self.named_bytes if behind == self.unnamed else part.bytes

    def may_end_early(self, part: Part) -> bool:
        """Tell whether the end of a file may not be on disk: it is the last, or was closed without waiting for that."""
        if part is self.base:
            return False
        return len(self.increments) - 1 - self.increments.index(part) <= self.unnamed

    def up_to(self, part: Part) -> Manifest:
        """Return the manifest without the increments behind this one, which is not closed any more."""
        increments = (*self.increments[: self.increments.index(part)], Part(part.name, self.synced_bytes(part)))
        unnamed = max(0, self.unnamed - (len(self.increments) - len(increments)))
        named_bytes = self.named_bytes * (unnamed > 0)
        return msgspec.structs.replace(self, increments=increments, unnamed=unnamed, named_bytes=named_bytes)


def in_words(generation: Generation) -> str:
    """Return a phrase that names a kept generation in messages."""
    first, last = generation.parts[0].name, generation.parts[-1].name
    return f"the generation {first}" if first == last else f"the generation {first} to {last}"


def new_id() -> str:
    """Return a name for a new journal."""
    return secrets.token_hex(8)


def base_name(number: int) -> str:
    """Return the name of the base that the increments from this number on continue."""
    return f"base-{number:06}.jsonl"


def increment_name(number: int) -> str:
    """Return an increment's name."""
    return f"increment-{number:06}.jsonl"


def number_of(name: str) -> int:
    """Return the number in the name of a journal file; 0 for any other name."""
    kind, _, rest = name.partition("-")
    digits, dot, suffix = rest.partition(".")
    is_ours = kind in ("base", "increment", "journal") and dot and suffix == "jsonl"
    return int(digits) if is_ours and digits.isascii() and digits.isdigit() else 0


def read_manifest(directory: Path, disk: Disk) -> Manifest | None:
    """Read a directory's manifest. Returns None if there is none.

    Raises JournalCorrupt if it is damaged, JournalError if its format is newer than this program, and OSError.
    """
    path = directory / MANIFEST_NAME
    names = disk.names(directory)
    if MANIFEST_NAME not in names:
        # A number above 1 means that there was a manifest when the file was started.
        is_former = all(number_of(name) <= 1 for name in names) and FORMER_NAME in names
        is_begun = is_former and disk.size(directory / FORMER_NAME)
        return Manifest(increments=(Part(FORMER_NAME),)) if is_begun else None
    data = b"".join(disk.read(path, MANIFEST_LIMIT_BYTES))
    try:
        return _with_unnamed(directory, disk, set(names), with_base(parse_manifest(data)))
    except ValueError as error:
        raise JournalCorrupt(
            f"{path} is damaged: {error}; create a new one with `memcache-kv journal repair {directory}`"
        ) from None


def _with_unnamed(directory: Path, disk: Disk, names: set[str], manifest: Manifest) -> Manifest:
    """Add the increments that were started without a new manifest, as every rotation does.

    Each of them gives the length of the file before it. If that file has another length, the machine has failed since:
    either the increment was ahead of what reached the disk, or records before it are missing. Then it is left out.
    """
    *closed, last = manifest.increments
    named = last
    while (name := increment_name(number_of(last.name) + 1)) in names:
        try:
            after = _length_before(directory / name, disk)
            if not after or after != disk.size(directory / last.name):
                break
        except FileNotFoundError:  # a running server has swapped the files meanwhile
            break
        closed.append(Part(last.name, after))
        last = Part(name)
    unnamed = len(closed) + 1 - len(manifest.increments)
    if not unnamed:
        return manifest
    increments = (*closed, last)
    return msgspec.structs.replace(manifest, increments=increments, unnamed=unnamed, named_bytes=named.bytes)


def _length_before(path: Path, disk: Disk) -> int:
    """Return the length that a file gives for the file before it; 0 if it gives none."""
    line, feed, _ = b"".join(disk.read(path, START_LIMIT_BYTES)).partition(b"\n")
    try:
        return parse_line(line).after if feed else 0
    except ValueError:
        return 0


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest's line, with its line feed. Its checksum stands for itself.

    Raises ValueError, which says what is wrong, and JournalError if the format is newer than this program.
    """
    if not data.endswith(b"\n"):
        raise ValueError("it is cut off")
    check_line(data[:-1])
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    check_version(found.version)
    if not found.increments or any(not number_of(part.name) or part.bytes < 0 for part in found.all_parts):
        raise ValueError("it does not name a journal's files")
    return found


def with_base(manifest: Manifest) -> Manifest:
    """Add the base that must exist if the first increment's number is above 1. Its length stays unknown.

    Returns the same object if nothing is missing.
    """
    number = number_of(manifest.increments[0].name)
    if manifest.base is not None or number == 1:
        return manifest
    return msgspec.structs.replace(manifest, base=Part(base_name(number)))


def check_version(version: int) -> None:
    """Raise JournalError if this version of the format is newer than this program."""
    if version > FORMAT_VERSION:
        raise JournalError(
            f"the journal was written in format {version}, and this program reads up to format {FORMAT_VERSION}: "
            "use a newer memcache_kv"
        )


def replace_manifest(directory: Path, disk: Disk, manifest: Manifest) -> None:
    """Replace the manifest by a new one.

    The caller must sync the directory: until then, a crash may leave either of them. Raises OSError; then the old one
    is still there.
    """
    temporary = directory / (MANIFEST_NAME + TEMPORARY_SUFFIX)
    if temporary.name in disk.names(directory):
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        try:
            write_all(file, framed(msgspec.json.encode(manifest)[1:]))
            file.sync()
        finally:
            file.close()
        disk.rename(temporary, directory / MANIFEST_NAME)
    except OSError:
        with contextlib.suppress(OSError):  # the next attempt, or the next start, removes it
            disk.remove(temporary)
        raise
