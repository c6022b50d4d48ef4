"""Repairing a journal that no server uses: damage is cut out and kept in files of its own, and intact records stay.

`verify` finds the damage. A plan says what would be done and how much would be lost; only `carry_out` does it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.disk import write_all
from memcache_kv.journal.manifest import Manifest, Part, base_name, increment_name, number_of, with_base
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of
from memcache_kv.journal.recovery import CAS_RUN, Progress
from memcache_kv.journal.tools.rewrite import NewPart, keep_originals, next_number, start_line, swap, uninterrupted
from memcache_kv.journal.tools.scan import Whole
from memcache_kv.journal.tools.snapshot import Snapshot
from memcache_kv.journal.tools.verify import FileCheck, Verification, pieces_of

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


@dataclass
class Repaired:
    """The result of a repair."""

    originals: Path
    """The directory that holds the original files."""
    cuts: list[Path] = field(default_factory=list)
    """The files that hold the bytes that were cut out."""


def make_plan(found: Verification) -> Plan:
    """Return what must be done about the damage that was found."""
    plan = Plan(found.directory, kept_records=found.records)
    for file in found.files:
        plan.lost_bytes += file.lost_bytes
        plan.is_loss_unknown |= file.is_loss_unknown
        if file.is_missing:
            plan.dropped.append(file)
            gone = "it is missing, and its length is unknown"
            gone = gone if file.is_loss_unknown else f"its {file.part.bytes:,} bytes are missing"
            plan.steps.append(f"{file.part.name}: continue without it; {gone}")
        elif file.damages:
            plan.damaged.append(file)
            plan.steps.extend(_steps_for(file))
        else:
            plan.sound.append(file)
    if found.manifest_damage is not None:
        names = ", ".join(file.part.name for file in found.files)
        plan.steps.append(f"manifest.json: create a new one that names {names}")
    return plan


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
    with ExitStack() as undo:
        snapshot = undo.enter_context(Snapshot(path, found.manifest))
        mended = {}
        for file in plan.damaged:
            mended[file.part.name] = undo.enter_context(NewPart(path, disk, file.part.name))
            _mend(snapshot, file, mended[file.part.name], progress)
        last = undo.enter_context(NewPart(path, disk, increment_name(next_number(path, disk))))
        last.write(start_line(cas, found.manifest.id))
        parts = {file.part.name: Part(file.part.name, file.whole_bytes) for file in plan.sound}
        parts |= {name: new.finish() for name, new in mended.items()}
        manifest = _manifest(found.manifest, parts, last.finish())
        new = [*mended.values(), last]
        if with_base(manifest).base is not manifest.base:
            base = undo.enter_context(NewPart(path, disk, base_name(number_of(manifest.increments[0].name))))
            new.append(base)
            manifest = Manifest(FORMAT_VERSION, _write_empty_base(base, cas), manifest.increments)
        with uninterrupted():
            names = [file.part.name for file in (*plan.damaged, *plan.sound)]
            repaired = Repaired(keep_originals(path, disk, names, "repair"))
            for file in plan.damaged:
                repaired.cuts += _keep_cuts(snapshot, file, directory)
            swap(path, disk, new, manifest)
    return repaired


def _manifest(old: Manifest, parts: dict[str, Part], last: Part) -> Manifest:
    """Return the manifest of the files that are left, in their old order, and of the new increment."""
    base = parts.get(old.base.name) if old.base is not None else None
    increments = tuple(parts[part.name] for part in old.increments if part.name in parts)
    return Manifest(FORMAT_VERSION, base, (*increments, last))


def _write_empty_base(base: NewPart, cas: int) -> Part:
    """Write an empty base in place of a lost one, whose absence would count as a loss again."""
    base.write(start_line(cas, ""))
    base.write(line_of(Record("end", at=int(time.time()), count=1)))
    return base.finish()


def _mend(snapshot: Snapshot, file: FileCheck, new: NewPart, progress: Progress | None) -> None:
    """Rewrite a file with all its intact records, and with the first and last records that it needs."""
    path = snapshot.directory / file.part.name
    count = int(file.lacks_start)
    if file.lacks_start:
        new.write(line_of(Record("start", version=FORMAT_VERSION)))
    for found in pieces_of(snapshot, file):
        if not isinstance(found, Whole):
            continue
        lines = snapshot.read_range(path, found.offset, found.bytes).removesuffix(b"\n").split(b"\n")
        kept = [line + b"\n" for line, record in zip(lines, found.records, strict=True) if record.op != "end"]
        new.write(b"".join(kept))
        count += len(kept)
        if progress is not None:
            progress(found.end, file.bytes, count)
    if file.is_base:
        new.write(line_of(Record("end", at=int(time.time()), count=count)))


def _keep_cuts(snapshot: Snapshot, file: FileCheck, directory: JournalDirectory) -> list[Path]:
    """Copy the bytes that are cut out of a file to files beside it, durably."""
    path = snapshot.directory / file.part.name
    cuts = []
    for found in pieces_of(snapshot, file):
        if isinstance(found, Whole) or not found.bytes:
            continue
        cut = path.with_name(f"{path.name}.cut-{found.offset}-{time.time_ns()}")
        copy = directory.disk.create(cut)
        try:
            write_all(copy, snapshot.read_range(path, found.offset, found.bytes))
            copy.sync()
        finally:
            copy.close()
        cuts.append(cut)
    return cuts
