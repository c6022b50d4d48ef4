"""Finding all damage that would stop a server's start, and all intact records behind it. Nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.directory import LOCK_NAME, UNLISTED_SUFFIX, check_newest
from memcache_kv.journal.disk import SystemDisk, last_line
from memcache_kv.journal.manifest import (
    MANIFEST_NAME,
    TEMPORARY_SUFFIX,
    Generation,
    Manifest,
    Part,
    base_name,
    check_version,
    increment_name,
    number_of,
)
from memcache_kv.journal.record import CHAINED_VERSION, FORMAT_VERSION, LINE_HEAD, Record, stated_crc
from memcache_kv.journal.recovery import Progress
from memcache_kv.journal.serials import serial_in, start_of
from memcache_kv.journal.tail import is_known_synced
from memcache_kv.journal.tools.scan import Damage, Found, Unfinished, Whole, scan
from memcache_kv.journal.tools.snapshot import Snapshot, present_manifest, take_snapshot


@dataclass
class FileCheck:
    """The result for one file of a journal."""

    part: Part
    is_base: bool
    is_last: bool
    bytes: int = 0
    """The length of the part that belongs to the journal."""
    records: int = 0
    damages: list[Damage] = field(default_factory=list)
    whole_bytes: int = 0
    """The offset after its last intact record."""
    unfinished_bytes: int = 0
    is_missing: bool = False
    lacks_start: bool = True
    cas: int = 0
    """The highest CAS id in a start record."""
    start: Record | None = None
    """The first record, if it is intact and a start record."""
    tail_at: int | None = None
    """The offset from which on a start cuts it off, if that is known."""
    foreign_id: str = ""
    """The journal to which it belongs, if that is another one."""

    @property
    def lost_bytes(self) -> int:
        """The number of damaged bytes, and of those that are known to be missing."""
        return sum(damage.bytes for damage in self.damages) + max(0, self.part.bytes - self.bytes)

    @property
    def is_loss_unknown(self) -> bool:
        """Whether the file is missing and its length is unknown."""
        return self.is_missing and not self.part.bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A file in the directory that is not part of the journal."""

    name: str
    bytes: int
    kind: str


@dataclass
class Verification:
    """The result for a whole journal."""

    directory: Path
    manifest: Manifest
    manifest_damage: str | None
    files: list[FileCheck] = field(default_factory=list)
    kept: list[list[FileCheck]] = field(default_factory=list)
    """The files of each kept generation."""
    others: list[Other] = field(default_factory=list)

    @property
    def damages(self) -> int:
        """The number of damaged places that a start needs, missing files included, and a damaged manifest."""
        return sum(len(file.damages) for file in self.files) + (self.manifest_damage is not None)

    @property
    def kept_damages(self) -> int:
        """The number of damaged places in kept generations, which a server does without."""
        return sum(len(file.damages) for files in self.kept for file in files)

    @property
    def is_sound(self) -> bool:
        """Whether a server starts with this journal."""
        return not self.damages

    @property
    def records(self) -> int:
        """The number of intact records."""
        return sum(file.records for file in self.files)

    @property
    def unfinished_bytes(self) -> int:
        """The length of the record that was being written."""
        return sum(file.unfinished_bytes for file in self.files)


def verify(directory: Path, progress: Progress | None = None) -> Verification:
    """Check every file of a journal, which a server may be writing.

    Raises JournalError if there is no journal, it can't be read, or its format is newer than this program.
    """
    damage: str | None = None
    try:
        snapshot = take_snapshot(directory, newest_manifest)
    except JournalCorrupt as error:
        damage = str(error)
        snapshot = take_snapshot(directory, reconstruct_manifest)
    with snapshot:
        found = Verification(directory, snapshot.manifest, damage)
        found.kept = [_check_generation(snapshot, kept, progress) for kept in snapshot.manifest.kept]
        before = sum(file.bytes for files in found.kept for file in files)
        for part in snapshot.manifest.parts:
            file = check_file(snapshot, part, is_length_unknown=damage is not None, progress=progress, before=before)
            _check_identity(snapshot, file, found.files)
            before += file.bytes
            if damage is None and _has_only_tail(snapshot, file):
                file = check_file(snapshot, part, progress=progress, tail_at=_first_damage(file))
                found.files.append(file)
                break
            found.files.append(file)
    found.others = list(_others(directory, snapshot.manifest))
    return found


def newest_manifest(directory: Path) -> Manifest:
    """Read the manifest of an existing journal, and check that no file is newer.

    Raises JournalError if there is no journal, and JournalCorrupt for a manifest that is damaged, missing or too old.
    """
    while True:
        manifest = present_manifest(directory)
        try:
            check_newest(directory, SystemDisk(), manifest)
        except JournalCorrupt:
            if present_manifest(directory).serial == manifest.serial:
                raise
        except OSError as error:
            raise JournalError(f"can't read the journal in {directory}: {error.strerror}") from None
        else:
            return manifest


def _check_generation(snapshot: Snapshot, kept: Generation, progress: Progress | None) -> list[FileCheck]:
    """Check the files of a kept generation."""
    files: list[FileCheck] = []
    for part in kept.parts:
        file = check_file(snapshot, part, progress=progress)
        _check_identity(snapshot, file, files)
        files.append(file)
    return files


def _check_identity(snapshot: Snapshot, file: FileCheck, before: list[FileCheck]) -> None:
    """Check that a file belongs to this journal and continues the one before it."""
    start = file.start
    if start is None or start.version < CHAINED_VERSION:
        return
    journal_id = snapshot.manifest.id
    if journal_id and start.id and start.id != journal_id:
        file.foreign_id = start.id
        file.damages.insert(0, Damage(0, file.bytes, f"it belongs to another journal ({file.foreign_id})"))
    elif before and not before[-1].damages and not file.is_base and not _continues(snapshot, start, before[-1], file):
        reason = "it does not continue the file before it: it is of another time, or that one is"
        file.damages.insert(0, Damage(0, 0, reason))


def _continues(snapshot: Snapshot, start: Record, before: FileCheck, file: FileCheck) -> bool:
    if before.is_base:
        base = before.start
        is_beside = number_of(before.part.name) == number_of(file.part.name)
        return base is None or base.version < CHAINED_VERSION or not is_beside or start.follows == base.follows
    return not before.records or start.follows == follows_of(snapshot, before)


def follows_of(snapshot: Snapshot, before: FileCheck) -> str:
    """Return what the start record of the file behind this one must state about its last intact record.

    Behind a base, that is what the base states, since both were begun behind the same record.
    """
    if before.is_base:
        return before.start.follows if before.start is not None else ""
    return f"{stated_crc(last_line(snapshot, snapshot.directory / before.part.name, before.whole_bytes)):08x}"


def _first_damage(file: FileCheck) -> int:
    return min(damage.offset for damage in file.damages)


def _has_only_tail(snapshot: Snapshot, file: FileCheck) -> bool:
    """Tell whether a start cuts off what is damaged, since nothing of it is known to have been on disk."""
    if not file.damages or file.is_missing or file.foreign_id or not file.whole_bytes:
        return False
    if file.start is None or file.start.version < CHAINED_VERSION:
        return False
    manifest = snapshot.manifest
    return not is_known_synced(snapshot.directory, snapshot, manifest, file.part, _first_damage(file))


def check_file(
    snapshot: Snapshot,
    part: Part,
    is_length_unknown: bool = False,
    progress: Progress | None = None,
    before: int = 0,
    tail_at: int | None = None,
) -> FileCheck:
    """Check one file.

    is_length_unknown: whether the manifest does not give its length. before: the bytes of the files read before it, for
    `progress`. tail_at: the offset from which on a start cuts it off.
    """
    is_last = part is snapshot.manifest.parts[-1]
    bases = (snapshot.manifest.base, *(kept.base for kept in snapshot.manifest.kept))
    file = FileCheck(part, is_base=any(part is base for base in bases), is_last=is_last)
    path = snapshot.directory / part.name
    if tail_at is not None:
        file.is_last, file.tail_at = True, tail_at
    if part.name in snapshot.missing:
        file.is_missing = True
        length = f"it had {part.bytes} bytes" if part.bytes else "its length is unknown"
        file.damages.append(Damage(0, 0, f"the file is missing; {length}"))
        return file
    is_whole_file = file.is_last or is_length_unknown
    file.bytes = snapshot.size(path) if is_whole_file else min(part.bytes, snapshot.size(path))
    last: Record | None = None
    for found in pieces_of(snapshot, file):
        if isinstance(found, Whole):
            last = _whole_found(file, found)
        elif isinstance(found, Damage):
            file.damages.append(found)
        else:
            _tail_found(file, found)
        if progress is not None:
            progress(before + found.offset + found.bytes, snapshot.total_bytes, file.records)
    _check_ends(file, last)
    if not file.records and not file.damages:
        file.damages += _without_records(snapshot, file, is_length_unknown)
    if file.damages and file.bytes < snapshot.size(path):
        # Bytes inserted in the middle may have moved the records after them.
        whole = check_file(snapshot, part, is_length_unknown=True, progress=progress, before=before)
        whole.damages = whole.damages or [Damage(part.bytes, 0, f"no record ends, and it had {part.bytes} bytes")]
        return whole
    return file


def pieces_of(snapshot: Snapshot, file: FileCheck) -> Iterator[Found]:
    """Yield the parts of a file in order.

    What follows the last line feed of the last file counts as a record that was being written, as it does at a start.
    It is scanned only if the manifest says that more of the file was complete.
    """
    path = snapshot.directory / file.part.name
    if file.tail_at is not None:
        yield from scan(snapshot.read(path, file.tail_at))
        yield Unfinished(file.tail_at, file.bytes - file.tail_at)
        return
    end = snapshot.lines_end(path) if file.is_last else file.bytes
    if end == file.bytes or end < file.part.bytes:
        yield from scan(snapshot.read(path, file.bytes))
        return
    yield from scan(snapshot.read(path, end))
    yield Unfinished(end, file.bytes - end)


def _without_records(snapshot: Snapshot, file: FileCheck, is_length_unknown: bool) -> Iterator[Damage]:
    """Yield damage if a file without records is a loss. It is not if its first record was being written."""
    if is_length_unknown and not file.unfinished_bytes:
        yield Damage(0, 0, "it has no record")
    elif file.unfinished_bytes:
        begun = snapshot.read_range(snapshot.directory / file.part.name, 0, len(LINE_HEAD))
        if not LINE_HEAD.startswith(begun.rstrip(b"\0")):
            yield Damage(0, file.bytes, "it is not a journal: its only line does not begin like a record")


def _whole_found(file: FileCheck, found: Whole) -> Record:
    """Count intact records, and return the last of them."""
    for record in found.records:
        if record.op == "start":
            check_version(record.version)
            file.cas = max(file.cas, record.cas)
    if not file.records:
        file.lacks_start = found.records[0].op != "start"
        file.start = None if file.lacks_start else found.records[0]
        if file.lacks_start and not file.damages:
            file.damages.append(Damage(found.offset, 0, "it does not begin with a start record"))
    file.records += len(found.records)
    file.whole_bytes = found.end
    return found.records[-1]


def _tail_found(file: FileCheck, tail: Unfinished) -> None:
    """Decide whether the bytes after the last line feed are a record that was being written."""
    if not file.is_last:
        file.damages.append(Damage(tail.offset, tail.bytes, "a record is cut off"))
    elif tail.offset < file.part.bytes and file.tail_at is None:
        file.damages.append(Damage(tail.offset, tail.bytes, f"it was {file.part.bytes} bytes long without damage"))
    else:
        file.unfinished_bytes = tail.bytes


def _check_ends(file: FileCheck, last: Record | None) -> None:
    """Check that the file is as long as it was, and that a base is complete."""
    if file.bytes < file.part.bytes and file.tail_at is None:
        reason = f"it has {file.bytes} bytes and had {file.part.bytes}: it was cut off"
        file.damages.append(Damage(file.bytes, 0, reason))
    if file.is_base:
        if last is None or last.op != "end":
            file.damages.append(Damage(file.bytes, 0, "it is not a complete base: its end record is missing"))
        elif last.count != file.records - 1:
            reason = f"it has {file.records - 1} records and had {last.count}"
            file.damages.append(Damage(file.bytes, 0, reason))


def _others(directory: Path, manifest: Manifest) -> Iterator[Other]:
    """Yield the other files in the directory."""
    listed = {LOCK_NAME, MANIFEST_NAME, *(part.name for part in manifest.all_parts)}
    for path in sorted(directory.iterdir()):
        if path.name in listed:
            continue
        try:
            yield Other(path.name, path.stat().st_size, _kind_of(path))
        except FileNotFoundError:  # a server has removed it meanwhile
            continue


def _kind_of(path: Path) -> str:
    name = path.name
    if path.is_dir():
        return "originals" if name.startswith(("before-repair-", "before-restore-")) else "directory"
    if name.endswith(TEMPORARY_SUFFIX):
        return "temporary"
    if number_of(name) or UNLISTED_SUFFIX in name:
        return "unlisted"
    if ".torn-" in name or ".cut-" in name:
        return "cut off"
    return "unknown"


# Without a manifest


def has_parts(directory: Path) -> bool:
    """Tell whether a directory holds any file of a journal."""
    return directory.is_dir() and any(number_of(path.name) for path in directory.iterdir())


def reconstruct_manifest(directory: Path) -> Manifest:
    """Reconstruct a missing or damaged manifest from the names of the files. Raises JournalError."""
    try:
        names = sorted((name for name in SystemDisk().names(directory) if number_of(name)), key=number_of)
    except OSError as error:
        raise JournalError(f"can't read the journal in {directory}: {error.strerror}") from None
    if not names:
        raise JournalError(f"there is no file of a journal in {directory}")
    increments = [name for name in names if not name.startswith("base-")]
    base = _best_base(directory, [name for name in names if name.startswith("base-")])
    if base is None and number_of(increments[0]) > 1:
        base = Part(base_name(number_of(increments[0])))  # an increment numbered above 1 continues a base
    first = number_of(base.name) if base is not None else 1
    parts = tuple(_without_gaps(increments, first))
    disk = SystemDisk()
    try:
        ids = Counter(filter(None, (start_of(directory / name, disk).id for name in names)))
        journal_id = ids.most_common(1)[0][0] if ids else ""
        serial = max(serial_in(directory / name, disk) for name in names)
        kept = _kept_before(directory, names, first, journal_id)
    except OSError as error:
        raise JournalError(f"can't read the journal in {directory}: {error.strerror}") from None
    return Manifest(FORMAT_VERSION, base, parts, journal_id, serial, kept)


def _kept_before(directory: Path, names: list[str], first: int, journal_id: str) -> tuple[Generation, ...]:
    """Return the generations before the base of this number, back to the first gap, or to a file of another journal.

    Raises OSError.
    """
    disk = SystemDisk()
    bases = {number_of(name): name for name in names if name.startswith("base-") and number_of(name) < first}
    kept: list[Generation] = []
    end = first
    for start in sorted({1, *bases} - {first}, reverse=True):
        increments = [name for name in names if not name.startswith("base-") and start <= number_of(name) < end]
        base = [bases[start]] if start in bases else []
        ids = {start_of(directory / name, disk).id for name in (*base, *increments)}
        if [*map(number_of, increments)] != [*range(start, end)] or ids - {journal_id, ""}:
            break
        parts = [Part(name, disk.size(directory / name)) for name in (*base, *increments)]
        kept.insert(0, Generation(parts[0] if base else None, tuple(parts[len(base) :])))
        end = start
    return tuple(kept)


def _without_gaps(names: list[str], first: int) -> Iterator[Part]:
    """Yield the increments from this number on, and a missing one for each gap in their numbers."""
    expected = first
    for name in [name for name in names if number_of(name) >= first] or [increment_name(first)]:
        if number_of(name) > expected:
            yield Part(increment_name(expected))
        yield Part(name)
        expected = number_of(name) + 1


def _best_base(directory: Path, names: list[str]) -> Part | None:
    """Return the newest complete base, or if none is complete, the newest."""
    for name in reversed(names):
        part = Part(name)
        with Snapshot(directory, Manifest(FORMAT_VERSION, part)) as snapshot:
            if not check_file(snapshot, part, is_length_unknown=True).damages:
                return part
    return Part(names[-1]) if names else None
