"""Going back to how everything was at a moment: what was done later is left out, and kept.

A record belongs to the second of the last `start` or `time` record before it. From the first such record of a later
time on, all is left out: where the clock was set back in between, what came after that too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from memcache_kv.errors import JournalError
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.manifest import Manifest, increment_name
from memcache_kv.journal.record import FORMAT_VERSION, Record
from memcache_kv.journal.recovery import Progress, Replay
from memcache_kv.journal.tools.export import new_store
from memcache_kv.journal.tools.record_times import RecordTimes
from memcache_kv.journal.tools.rewrite import (
    NewPart,
    keep_originals,
    next_number,
    start_line,
    swap,
    uninterrupted,
    write_base,
)
from memcache_kv.journal.tools.snapshot import Snapshot, read_records
from memcache_kv.store.store import Store


@dataclass
class Rewound:
    """What going back to a moment means."""

    until: int
    rewind_at: int = 0
    """The earliest moment that can be gone back to."""
    kept_at: int = 0
    """The last moment of which something is kept."""
    items_before: int = 0
    items_after: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """How many records of each op are left out."""
    first_dropped_flush_at: int = 0
    last_kept_flush_at: int = 0
    skipped_flush_at: int = 0
    """When a flush would have come that was waiting by then; it is left out, as that time has passed."""
    last_cas: int = 0
    last_at: int = 0
    stepped: int | None = None
    """By how much the wall clock was stepped in all until now: expiry times as they were then are moved by the rest."""

    @property
    def dropped_records(self) -> int:
        """How many records are left out."""
        return self.dropped.total()


def preview(snapshot: Snapshot, until: int, progress: Progress | None = None) -> Rewound:
    """Tell what going back to the end of this second, in unix time, would change.

    Raises JournalError where the journal does not reach back so far, JournalCorrupt where it is damaged.
    """
    rewound = Rewound(until)
    store = new_store()
    replay = Replay(store)
    record_times = RecordTimes()
    is_cut = False
    for batch, is_later in _divided(snapshot, until, record_times, progress):
        if is_later and not is_cut:
            is_cut = True
            rewound.items_after = _count_restored(store, rewound)
        replay.apply(batch)
        _note(rewound, batch, is_later)
    replay.finish()
    rewound.stepped = replay.found.stepped
    rewound.items_before = _count(store)
    if not is_cut:
        _check_times(snapshot.directory, record_times)
        rewound.items_after = rewound.items_before
    rewound.rewind_at, rewound.last_cas = record_times.rewind, replay.found.last_cas
    _check_reach(snapshot.directory, rewound)
    return rewound


def rewind(snapshot: Snapshot, rewound: Rewound, directory: JournalDirectory, progress: Progress | None = None) -> Path:
    """Make the journal what it was by then; return where the files are as they were until now.

    The directory is locked. Raises OSError; then the journal is as it was.
    """
    store = new_store()
    replay = Replay(store)
    for batch, is_later in _divided(snapshot, rewound.until, RecordTimes(), progress):
        if is_later:
            break
        replay.apply(batch)
    replay.follow_steps(rewound.stepped)
    if 0 < store.flush_at <= store.clock.now:
        store.flush_at = 0
    path, disk = directory.path, directory.disk
    number = next_number(path, disk)
    with ExitStack() as undo:
        base = undo.enter_context(write_base(path, disk, number, store, rewound.last_cas, progress))
        increment = undo.enter_context(NewPart(path, disk, increment_name(number)))
        increment.write(start_line(rewound.last_cas))
        manifest = Manifest(FORMAT_VERSION, base.part, (increment.finish(),))
        old = [part.name for part in snapshot.manifest.parts]
        with uninterrupted():
            kept = keep_originals(path, disk, old, "restore")
            swap(path, disk, [base, increment], manifest, obsolete=old)
    return kept


def _divided(
    snapshot: Snapshot, until: int, record_times: RecordTimes, progress: Progress | None
) -> Iterator[tuple[list[Record], bool]]:
    """Give all records in batches, each with whether it is later than that."""
    is_later = False
    for is_base, records in read_records(snapshot, progress):
        cut = 0
        for number, record in enumerate(records):
            if not is_later and not is_base and record.op in ("start", "time") and record.at > until:
                _check_times(snapshot.directory, record_times)
                is_later = True
                if number:
                    yield records[:number], False
                cut = number
            record_times.follow(record)
        yield records[cut:], is_later


def _check_times(directory: Path, record_times: RecordTimes) -> None:
    if not record_times.is_timed:
        raise JournalError(
            f"the journal in {directory} was written in format 1 from {local_time(record_times.last)} on, which does "
            "not note when something was done: it can't be rewound into that time"
        )


def _note(rewound: Rewound, records: list[Record], is_later: bool) -> None:
    """Take note of what is kept or left out."""
    for record in records:
        if record.op in ("start", "time"):
            rewound.last_at = record.at or rewound.last_at
            rewound.kept_at = rewound.kept_at if is_later else rewound.last_at
        elif record.op == "flush" and not is_later:
            rewound.last_kept_flush_at = rewound.last_at
        elif record.op == "flush":
            rewound.first_dropped_flush_at = rewound.first_dropped_flush_at or rewound.last_at
        if is_later:
            rewound.dropped[record.op] += 1


def _count(store: Store) -> int:
    """Count what a server would serve of a store."""
    return 0 if 0 < store.flush_at <= store.clock.now else sum(1 for _ in store.items())


def _count_restored(store: Store, rewound: Rewound) -> int:
    """Count what is kept; a flush that was waiting and whose time has passed is not carried out."""
    if 0 < store.flush_at <= store.clock.now:
        rewound.skipped_flush_at = store.flush_at
    return sum(1 for _ in store.items())


def _check_reach(directory: Path, rewound: Rewound) -> None:
    if rewound.until < rewound.rewind_at:
        earliest = f"{local_time(rewound.rewind_at)} ({rewound.rewind_at})"
        raise JournalError(
            f"the journal in {directory} can be rewound to {earliest} at the earliest, when it was begun or last "
            "rewritten: give a later --until, or put an older copy of it back"
        )


def local_time(at: int) -> str:
    """Write a unix time as ISO 8601 in the local zone; 0 is unknown, and what no calendar has stays a number."""
    if not at:
        return "an unknown time"
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"the unix time {at}"
