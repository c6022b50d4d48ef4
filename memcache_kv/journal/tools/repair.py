"""Repairing a journal that no server uses: damage is cut out and kept in files of its own, and intact records stay.

`verify` finds the damage. A plan says what would be done and how much would be lost; only `carry_out` does it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from memcache_kv.clock import unix_seconds
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.disk import blocks_with_data, write_all
from memcache_kv.journal.manifest import (
    Generation,
    Manifest,
    Part,
    base_name,
    in_words,
    increment_name,
    new_id,
    number_of,
    with_base,
)
from memcache_kv.journal.record import CHAINED_VERSION, FORMAT_VERSION, Record, line_of
from memcache_kv.journal.recovery import CAS_RUN, Progress
from memcache_kv.journal.tools.rewrite import NewPart, keep_originals, next_number, start_line, swap, uninterrupted
from memcache_kv.journal.tools.scan import Whole
from memcache_kv.journal.tools.snapshot import Snapshot
from memcache_kv.journal.tools.verify import FileCheck, Verification, follows_of, pieces_of
from memcache_kv.unpatched import time

SKIPPED_RUNS = 1024
"""How many ranges of CAS ids a repair skips, because start records that used some of them may be lost."""


@dataclass
class Plan:
    """What a repair would do."""

    directory: Path
    steps: list[str] = field(default_factory=list)
    """The steps in words; empty if there is nothing to do."""
    lost_bytes: int = 0
    """How many bytes would be cut out, together with those that are missing already."""
    is_loss_unknown: bool = False
    """Whether a file of unknown length is missing."""
    kept_records: int = 0
    damaged: list[FileCheck] = field(default_factory=list)
    """The files that are rewritten without their damage."""
    dropped: list[FileCheck] = field(default_factory=list)
    sound: list[FileCheck] = field(default_factory=list)
    ends_at: dict[str, int] = field(default_factory=dict)
    """The files of which only the records before an offset are kept."""
    generations: list[list[FileCheck]] = field(default_factory=list)
    """The kept generations that stay."""


@dataclass
class Repaired:
    """The result of a repair."""

    originals: Path
    """The directory that holds the original files."""
    cuts: list[Path] = field(default_factory=list)
    """The files that hold the bytes that were cut out."""


def make_plan(found: Verification, cuts_at_first_damage: bool = False) -> Plan:
    """Return what must be done about the damage that was found.

    cuts_at_first_damage: whether to keep everything before the first damage and nothing behind it, instead of every
    record that can still be checked.
    """
    plan = Plan(found.directory, kept_records=found.records)
    for number, file in enumerate(found.files):
        if file.is_missing or file.foreign_id:
            _drop(plan, file)
        elif file.damages:
            plan.damaged.append(file)
            plan.steps.extend(_steps_for(file))
        elif plan.steps:
            plan.damaged.append(file)
            plan.steps.append(f"{file.part.name}: write it again, so that it continues what is before it")
        else:
            plan.sound.append(file)
        plan.lost_bytes += file.lost_bytes
        plan.is_loss_unknown |= file.is_loss_unknown
        if cuts_at_first_damage and file.damages:
            _cut(plan, file, found.files[number + 1 :])
            break
    _plan_generations(plan, found)
    if found.manifest_damage is not None:
        names = ", ".join(file.part.name for file in found.files)
        plan.steps.append(f"manifest.json: create a new one that names {names}")
    return plan


def _plan_generations(plan: Plan, found: Verification) -> None:
    """Plan which kept generations stay: those behind the last damaged one, if the journal still continues them."""
    is_continued = not any(file.is_base for file in plan.damaged) and found.files[0] not in plan.dropped
    for files in reversed(found.kept):
        if not is_continued or any(file.damages for file in files):
            is_continued = False
            name = in_words(Generation(None, tuple(file.part for file in files)))
            plan.steps.append(f"{name}: no longer keep it, as it is damaged or what follows it is")
        else:
            plan.generations.insert(0, files)


def _drop(plan: Plan, file: FileCheck) -> None:
    """Plan to continue without a file."""
    plan.dropped.append(file)
    if file.foreign_id:
        plan.kept_records -= file.records
        gone = f"it belongs to another journal ({file.foreign_id})"
    elif file.is_loss_unknown:
        gone = "it is missing, and its length is unknown"
    else:
        gone = f"its {file.part.bytes:,} bytes are missing"
    plan.steps.append(f"{file.part.name}: continue without it; {gone}")


def _cut(plan: Plan, file: FileCheck, later: list[FileCheck]) -> None:
    """Plan to keep nothing from the first damage on, which is in this file."""
    plan.steps = []
    if file in plan.damaged:
        offset = min(damage.offset for damage in file.damages)
        plan.ends_at[file.part.name] = offset
        plan.lost_bytes += file.bytes - offset - sum(damage.bytes for damage in file.damages)
        reason = file.damages[0].reason
        plan.steps.append(f"{file.part.name}: cut off everything from offset {offset:,} on ({reason})")
    else:
        plan.steps.append(f"{file.part.name}: end the journal before it; {file.damages[0].reason}")
    for each in later:
        plan.dropped.append(each)
        plan.lost_bytes += each.bytes
        plan.steps.append(f"{each.part.name}: leave it out, with its {each.records:,} records")
    plan.kept_records = sum(each.records for each in plan.sound)


def _steps_for(file: FileCheck) -> list[str]:
    steps = [
        f"{file.part.name}: cut out {damage.bytes:,} bytes at offset {damage.offset:,} ({damage.reason})"
        if damage.bytes
        else f"{file.part.name}: accept that at offset {damage.offset:,} {damage.reason}"
        for damage in file.damages
    ]
    return [*steps, f"{file.part.name}: keep {file.records:,} records"]


def carry_out(
    plan: Plan, found: Verification, directory: JournalDirectory, progress: Progress | None = None
) -> Repaired:
    """Carry out a plan; the directory must be locked. Raises OSError; then the journal is unchanged.

    found: the verification that the plan was made from.
    """
    path, disk = directory.path, directory.disk
    cas = max((file.cas for file in found.files), default=0) + CAS_RUN * SKIPPED_RUNS
    journal_id, serial = found.manifest.id or new_id(), found.manifest.serial
    with ExitStack() as undo:
        snapshot = undo.enter_context(Snapshot(path, found.manifest))
        parts = {file.part.name: Part(file.part.name, file.whole_bytes) for file in plan.sound}
        new: list[NewPart] = []
        follows = follows_of(snapshot, plan.sound[-1]) if plan.sound else ""
        for file in plan.damaged:
            mended = undo.enter_context(NewPart(path, disk, file.part.name))
            _mend(snapshot, file, mended, Beginning(journal_id, follows), plan.ends_at.get(file.part.name), progress)
            parts[file.part.name] = mended.finish()
            follows = "" if file.is_base else mended.end
            new.append(mended)
        last = undo.enter_context(NewPart(path, disk, increment_name(next_number(path, disk))))
        last.write(start_line(cas, journal_id, serial, follows, has_time=False))
        manifest = _manifest(found.manifest, parts, last.finish(), journal_id, plan.generations)
        new.append(last)
        if with_base(manifest).base is not manifest.base:
            base = undo.enter_context(NewPart(path, disk, base_name(number_of(manifest.increments[0].name))))
            new.append(base)
            manifest = replace(manifest, base=_write_empty_base(base, cas, manifest))
        with uninterrupted():
            kept = [file.part.name for files in found.kept for file in files if not file.is_missing]
            gone = set(kept) - {part.name for part in manifest.all_parts}
            names = [*kept, *(file.part.name for file in (*plan.damaged, *plan.sound))]
            repaired = Repaired(keep_originals(path, disk, names, "repair"))
            for file in plan.damaged:
                repaired.cuts += _keep_cuts(snapshot, file, directory)
            swap(path, disk, new, manifest, obsolete=gone)
    return repaired


def _manifest(
    old: Manifest, parts: dict[str, Part], last: Part, journal_id: str, generations: list[list[FileCheck]]
) -> Manifest:
    """Return the manifest of the files that are left, in their old order, and of the new increment."""
    base = parts.get(old.base.name) if old.base is not None else None
    increments = tuple(parts[part.name] for part in old.increments if part.name in parts)
    kept = tuple(_generation(files) for files in generations)
    return Manifest(FORMAT_VERSION, base, (*increments, last), journal_id, old.serial + 1, kept)


def _generation(files: list[FileCheck]) -> Generation:
    """Return a kept generation as a manifest names it."""
    parts = tuple(Part(file.part.name, file.whole_bytes) for file in files)
    return Generation(parts[0], parts[1:]) if files[0].is_base else Generation(None, parts)


def _write_empty_base(base: NewPart, cas: int, manifest: Manifest) -> Part:
    """Write an empty base in place of a lost one, whose absence would count as a loss again."""
    base.write(start_line(cas, manifest.id, manifest.serial - 1))
    base.write(line_of(Record("end", at=int(unix_seconds()), count=1)))
    return base.finish()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the start record of a file that is written again states: its journal, and the end of the file before."""

    id: str
    follows: str

    def line(self, start: Record) -> bytes:
        """Return this start record with these fields."""
        return line_of(replace(start, version=FORMAT_VERSION, id=self.id, follows=self.follows))


def _mend(
    snapshot: Snapshot,
    file: FileCheck,
    new: NewPart,
    beginning: Beginning,
    ends_at: int | None,
    progress: Progress | None,
) -> None:
    """Write a file again with its intact records, those before an offset if one is given, and a first and last one."""
    path = snapshot.directory / file.part.name
    new.write(beginning.line(file.start or Record("start")))
    count = 1
    for found in pieces_of(snapshot, file):
        if ends_at is not None and found.offset >= ends_at:
            break
        if not isinstance(found, Whole):
            continue
        lines = snapshot.read_range(path, found.offset, found.bytes).removesuffix(b"\n").split(b"\n")
        is_replaced = not found.offset and file.start is not None and file.start.version >= CHAINED_VERSION
        skipped = int(is_replaced)  # an older one says more: whether the records behind it have times
        pairs = [*zip(lines, found.records, strict=True)][skipped:]
        kept = [line + b"\n" for line, record in pairs if record.op != "end"]
        new.write(b"".join(kept))
        count += len(kept)
        if progress is not None:
            progress(found.end, file.bytes, count)
    if file.is_base:
        new.write(line_of(Record("end", at=int(unix_seconds()), count=count)))


def _keep_cuts(snapshot: Snapshot, file: FileCheck, directory: JournalDirectory) -> list[Path]:
    """Copy the bytes that are cut out of a file to files beside it, durably, without whole megabytes of zeros."""
    path = snapshot.directory / file.part.name
    cuts = []
    for found in pieces_of(snapshot, file):
        if isinstance(found, Whole) or not found.bytes:
            continue
        cut = path.with_name(f"{path.name}.cut-{found.offset}-{time.time_ns()}")
        copy = directory.disk.create(cut)
        try:
            for _, block in blocks_with_data(snapshot, path, found.offset, found.offset + found.bytes):
                write_all(copy, block)
            copy.sync()
        finally:
            copy.close()
        cuts.append(cut)
    return cuts
