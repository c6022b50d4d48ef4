"""Mending a journal that no server uses: what is damaged is cut out and kept, whole records before and behind it stay.

The damage is taken from `verify`. A plan says what would be done and how much would go; only `carry_out` does it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.disk import Disk, write_all
from memcache_kv.journal.manifest import Manifest, Part, base_name, increment_name, number_of, with_base
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of
from memcache_kv.journal.recovery import CAS_RUN, Progress
from memcache_kv.journal.tools.rewrite import NewPart, keep_originals, next_number, start_line, swap, uninterrupted
from memcache_kv.journal.tools.scan import Whole
from memcache_kv.journal.tools.snapshot import Snapshot
from memcache_kv.journal.tools.verify import FileCheck, Verification, pieces_of

SKIPPED_RUNS = 1024
"""So many ranges of CAS ids are left out after a repair, as start records that named some may be among what is lost."""


@dataclass
class Plan:
    """What a repair would do."""

    directory: Path
    steps: list[str] = field(default_factory=list)
    """What, in words; none where there is nothing to do."""
    lost_bytes: int = 0
    """How much would no longer be part of the journal, and how much is gone already."""
    is_loss_unknown: bool = False
    """Whether more is gone, of which nothing tells how much."""
    kept_records: int = 0
    damaged: list[FileCheck] = field(default_factory=list)
    """What is written anew."""
    dropped: list[FileCheck] = field(default_factory=list)
    sound: list[FileCheck] = field(default_factory=list)


@dataclass
class Repaired:
    """What a repair did."""

    originals: Path
    """Where the files are as they were."""
    cuts: list[Path] = field(default_factory=list)
    """Copies of what was cut out."""


def make_plan(found: Verification) -> Plan:
    """Decide what is to be done about what was found."""
    plan = Plan(found.directory, kept_records=found.records)
    for file in found.files:
        plan.lost_bytes += file.lost_bytes
        plan.is_loss_unknown |= file.is_loss_unknown
        if file.is_missing:
            plan.dropped.append(file)
            gone = "it is missing, and how long it was is not known"
            gone = gone if file.is_loss_unknown else f"its {file.part.bytes:,} bytes are missing"
            plan.steps.append(f"{file.part.name}: go on without it; {gone}")
        elif file.damages:
            plan.damaged.append(file)
            plan.steps.extend(_steps_for(file))
        else:
            plan.sound.append(file)
    if found.manifest_damage is not None:
        names = ", ".join(file.part.name for file in found.files)
        plan.steps.append(f"manifest.json: make it anew, to name {names}")
    return plan


def _steps_for(file: FileCheck) -> list[str]:
    steps = [
        f"{file.part.name}: cut out {damage.bytes:,} bytes at offset {damage.offset:,} ({damage.reason})"
        if damage.bytes
        else f"{file.part.name}: go on although at offset {damage.offset:,} {damage.reason}"
        for damage in file.damages
    ]
    return [*steps, f"{file.part.name}: keep {file.records:,} records"]


def carry_out(
    plan: Plan, found: Verification, directory: JournalDirectory, progress: Progress | None = None
) -> Repaired:
    """Do what a plan says, with the directory locked. Raises OSError; then the journal is as it was."""
    path, disk = directory.path, directory.disk
    cas = max((file.cas for file in found.files), default=0) + CAS_RUN * SKIPPED_RUNS
    with ExitStack() as undo:
        snapshot = undo.enter_context(Snapshot(path, found.manifest))
        mended = {}
        for file in plan.damaged:
            mended[file.part.name] = undo.enter_context(NewPart(path, disk, file.part.name))
            _mend(snapshot, file, mended[file.part.name], progress)
        last = undo.enter_context(NewPart(path, disk, increment_name(next_number(path, disk))))
        last.write(start_line(cas))
        parts = {file.part.name: Part(file.part.name, file.whole_bytes) for file in plan.sound}
        parts |= {name: new.finish() for name, new in mended.items()}
        manifest = _manifest(found.manifest, parts, last.finish())
        new = [*mended.values(), last]
        if with_base(manifest).base is not manifest.base:
            new.append(undo.enter_context(_empty_base(path, disk, number_of(manifest.increments[0].name), cas)))
            manifest = Manifest(FORMAT_VERSION, new[-1].part, manifest.increments)
        with uninterrupted():
            names = [file.part.name for file in (*plan.damaged, *plan.sound)]
            repaired = Repaired(keep_originals(path, disk, names, "repair"))
            for file in plan.damaged:
                repaired.cuts += _keep_cuts(snapshot, file, directory)
            swap(path, disk, new, manifest)
    return repaired


def _manifest(old: Manifest, parts: dict[str, Part], last: Part) -> Manifest:
    """Name what is left, in the old order, and the increment that begins now."""
    base = parts.get(old.base.name) if old.base is not None else None
    increments = tuple(parts[part.name] for part in old.increments if part.name in parts)
    return Manifest(FORMAT_VERSION, base, (*increments, last))


def _empty_base(directory: Path, disk: Disk, number: int, cas: int) -> NewPart:
    """Write what takes the place of a base that is lost: without one, increments numbered above 1 are a loss anew."""
    new = NewPart(directory, disk, base_name(number))
    with ExitStack() as undo:
        undo.push(new)
        new.write(start_line(cas))
        new.write(line_of(Record("end", at=int(time.time()), count=1)))
        new.finish()
        undo.pop_all()
    return new


def _mend(snapshot: Snapshot, file: FileCheck, new: NewPart, progress: Progress | None) -> None:
    """Write a file anew with all its whole records, and the first and last that it needs."""
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
    """Copy what is cut out of a file to files beside it, durably."""
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
