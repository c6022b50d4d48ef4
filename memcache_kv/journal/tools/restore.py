"""Returning to an earlier state: records that were written later are left out, and kept elsewhere.

A record belongs to the second of the last `start` or `time` record before it. `--until` means the last second in which
the system's clock showed that time (`find_moment`). From the first `start` or `time` record behind it on, all records
are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from memcache_kv.clock import Clock
from memcache_kv.errors import JournalError
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.manifest import Manifest, base_name, increment_name, new_id
from memcache_kv.journal.record import FORMAT_VERSION, Record
from memcache_kv.journal.recovery import Progress
from memcache_kv.journal.tools.division import DividedJournal
from memcache_kv.journal.tools.generations import reach_for
from memcache_kv.journal.tools.record_times import Moment, RecordTimes, is_point
from memcache_kv.journal.tools.rewrite import (
    PROGRESS_ITEMS,
    NewPart,
    keep_originals,
    next_number,
    start_line,
    swap,
    uninterrupted,
    write_base,
)
from memcache_kv.journal.tools.snapshot import Snapshot
from memcache_kv.store.entry import Entry


@dataclass
class Rewound:
    """What returning to an earlier time changes."""

    until: int
    moment: Moment
    source: Manifest
    """The generation of files that holds it, and all that came after, as a journal."""
    rewind_at: int
    """The earliest unix time that can be restored."""
    kept_at: int = 0
    """The last unix time of which records are kept."""
    items_before: int = 0
    items_after: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """The number of records that are left out, by op."""
    first_dropped_flush_at: int = 0
    last_kept_flush_at: int = 0
    skipped_flush_at: int = 0
    """The unix time of a flush that was waiting then and is left out, because its time has passed."""
    last_at: int = 0

    @property
    def dropped_records(self) -> int:
        """The number of records that are left out."""
        return self.dropped.total()


class Rewinding:
    """Returning to the end of a second: `rewound` says what it changes, and only `carry_out` does it.

    All records are read when this is made, in bounded memory. Use it as a context, whose end frees temporary disk
    space.

    until: that second, in unix time. Raises JournalError if the journal does not reach back so far, and JournalCorrupt
    if it is damaged.
    """

    def __init__(self, snapshot: Snapshot, until: int, progress: Progress | None = None) -> None:
        self._manifest = snapshot.manifest
        self.rewound = _rewound(snapshot, until, Clock().now)
        _check_reach(snapshot.directory, self.rewound)
        division = _Division(snapshot.directory, self.rewound)
        self._divided = DividedJournal(
            snapshot, division.follow, progress, self.rewound.source, ends_before=division.ends_before
        )
        try:
            division.finish(self._divided)
        except BaseException:
            self.close()
            raise
        if 0 < self._divided.earlier_flush_at <= self._divided.clock.now:
            self.rewound.skipped_flush_at = self._divided.earlier_flush_at

    def count(self, snapshot: Snapshot, progress: Progress | None = None) -> None:
        """Count the items of now, of which those that were evicted before the last rewrite are none, and of then."""
        divided, rewound = self._divided, self.rewound
        if rewound.source is self._manifest:
            rewound.items_before = _count(divided.items(), divided, progress)
        else:
            with DividedJournal(snapshot) as present:
                rewound.items_before = _count(present.items(), present, progress)
        rewound.items_after = rewound.items_before
        if divided.is_cut:
            rewound.items_after = _count(divided.earlier_items(), divided, progress)

    def carry_out(self, directory: JournalDirectory, progress: Progress | None = None) -> Path:
        """Restore the journal, and return the directory that holds the original files.

        The directory must be locked. Raises OSError; then the journal is unchanged.
        """
        path, disk = directory.path, directory.disk
        number = next_number(path, disk)
        before = replace(self._manifest, id=self._manifest.id or new_id())
        with ExitStack() as undo:
            base = undo.enter_context(NewPart(path, disk, base_name(number)))
            self._write_base(base, before, progress)
            increment = undo.enter_context(NewPart(path, disk, increment_name(number)))
            increment.write(start_line(self._divided.found.last_cas, before.id, before.serial))
            manifest = Manifest(FORMAT_VERSION, base.part, (increment.finish(),), before.id, before.serial + 1)
            old = [part.name for part in before.all_parts]
            with uninterrupted():
                kept = keep_originals(path, disk, old, "restore")
                swap(path, disk, [base, increment], manifest, obsolete=old)
        return kept

    def _write_base(self, base: NewPart, before: Manifest, progress: Progress | None) -> None:
        """Write the items of then. A waiting flush whose time has passed is left out."""
        divided, total = self._divided, self.rewound.items_after
        flush_at = 0 if self.rewound.skipped_flush_at else divided.earlier_flush_at
        written = None if progress is None else lambda count: progress(count, total, count)
        write_base(base, divided.earlier_items(), divided.found.last_cas, before, flush_at, written)

    def close(self) -> None:
        """Free the temporary disk space."""
        self._divided.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rewound(snapshot: Snapshot, until: int, now: int) -> Rewound:
    """Find the place in the files that restoring a time returns to."""
    try:
        reach, moment = reach_for(snapshot, until, now)
    except OSError as error:
        raise JournalError(f"can't read the journal in {snapshot.directory}: {error.strerror or error}") from None
    return Rewound(until, moment, reach.source, reach.made_at)


class _Division:
    """Finds the record from which on all are left out, and counts what is kept and what is not."""

    def __init__(self, directory: Path, rewound: Rewound) -> None:
        self._directory = directory
        self._rewound = rewound
        self._times = RecordTimes()
        self._is_in_base = rewound.source.base is not None
        self._point = -1
        self._is_later = False

    def ends_before(self, record: Record) -> bool:
        """Tell whether this is the first record that is left out. Raises JournalError if that can't be known."""
        if self._is_in_base:
            self._is_in_base = record.op != "end"
            return False
        self._point += is_point(record)
        self._is_later = self._point == self._rewound.moment.cut
        if self._is_later:
            _check_times(self._directory, self._times)
        return self._is_later

    def follow(self, record: Record) -> None:
        """Count a record that is kept or left out."""
        rewound, is_later = self._rewound, self._is_later
        self._times.follow(record)
        if record.op in ("start", "time"):
            rewound.last_at = record.at or rewound.last_at
            rewound.kept_at = rewound.kept_at if is_later else rewound.last_at
        elif record.op == "flush" and not is_later:
            rewound.last_kept_flush_at = rewound.last_at
        elif record.op == "flush":
            rewound.first_dropped_flush_at = rewound.first_dropped_flush_at or rewound.last_at
        if is_later:
            rewound.dropped[record.op] += 1

    def finish(self, divided: DividedJournal) -> None:
        """Count the `set` records that `follow` was not called with. Raises JournalError if a time can't be known."""
        if not divided.is_cut:
            _check_times(self._directory, self._times)
        elif divided.plain_sets > divided.plain_sets_before_cut:
            self._rewound.dropped["set"] += divided.plain_sets - divided.plain_sets_before_cut


def _check_times(directory: Path, record_times: RecordTimes) -> None:
    if not record_times.is_timed:
        raise JournalError(
            f"the journal in {directory} was written in format 1 from {local_time(record_times.last)} on, which does "
            "not record times: that part can't be restored"
        )


def _count(items: Iterable[tuple[bytes, Entry]], divided: DividedJournal, progress: Progress | None) -> int:
    """Count items of a divided journal."""
    count = 0
    for count, _ in enumerate(items, 1):
        if progress is not None and not count % PROGRESS_ITEMS:
            progress(divided.shares_read, divided.shares, count)
    return count


def _check_reach(directory: Path, rewound: Rewound) -> None:
    if not rewound.moment.is_reached:
        earliest = f"{local_time(rewound.rewind_at)} ({rewound.rewind_at})"
        raise JournalError(
            f"the journal in {directory} can be restored to {earliest} at the earliest, when it was created or the "
            "oldest base that is kept was written: use a later --until, or an older copy of the journal"
        )


def local_time(at: int) -> str:
    """Return a unix time as ISO 8601 in the local zone. 0 is unknown; a time outside the calendar stays a number."""
    if not at:
        return "an unknown time"
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"the unix time {at}"
