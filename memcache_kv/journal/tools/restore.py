"""Returning to an earlier state: records that were written later are left out, and kept elsewhere.

A record belongs to the second of the last `start` or `time` record before it. `--until` means the last second in which
the system's clock showed that time (`find_moment`). From the first `start` or `time` record behind it on, all records
are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from memcache_kv.errors import JournalError
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.manifest import Manifest, base_name, increment_name, new_id
from memcache_kv.journal.record import FORMAT_VERSION, Record
from memcache_kv.journal.recovery import Progress, Replay
from memcache_kv.journal.tools.export import new_store
from memcache_kv.journal.tools.generations import reach_for
from memcache_kv.journal.tools.record_times import Moment, RecordTimes, is_point
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
    last_cas: int = 0
    last_at: int = 0
    stepped: int | None = None
    """The sum of the wall clock's steps in seconds until now: the restored expiry times move by the steps made
    since."""

    @property
    def dropped_records(self) -> int:
        """The number of records that are left out."""
        return self.dropped.total()


def preview(snapshot: Snapshot, until: int, progress: Progress | None = None) -> Rewound:
    """Return what restoring the end of a second would change, without changing anything.

    until: that second, in unix time. Raises JournalError if the journal does not reach back so far, and JournalCorrupt
    if it is damaged.
    """
    store = new_store()
    rewound = _rewound(snapshot, until, store.clock.now)
    _check_reach(snapshot.directory, rewound)
    replay = Replay(store)
    record_times = RecordTimes()
    is_cut = False
    for batch, is_later in _divided(snapshot, rewound, record_times, progress):
        if is_later and not is_cut:
            is_cut = True
            rewound.items_after = _count_restored(store, rewound)
        replay.apply(batch)
        _count_records(rewound, batch, is_later)
    replay.finish()
    rewound.stepped = replay.found.stepped
    rewound.items_before = _count(store if rewound.source is snapshot.manifest else _present(snapshot, progress))
    if not is_cut:
        _check_times(snapshot.directory, record_times)
        rewound.items_after = rewound.items_before
    rewound.last_cas = replay.found.last_cas
    return rewound


def _present(snapshot: Snapshot, progress: Progress | None) -> Store:
    """Return what a server would have. What was evicted before the last rewrite is not in it."""
    store = new_store()
    replay = Replay(store)
    for _, records in read_records(snapshot, progress):
        replay.apply(records)
    replay.finish()
    return store


def rewind(snapshot: Snapshot, rewound: Rewound, directory: JournalDirectory, progress: Progress | None = None) -> Path:
    """Restore a journal to an earlier time, and return the directory that holds the original files.

    rewound: what `preview` returned. The directory must be locked. Raises OSError; then the journal is unchanged.
    """
    store = new_store()
    replay = Replay(store)
    for batch, is_later in _divided(snapshot, rewound, RecordTimes(), progress):
        if is_later:
            break
        replay.apply(batch)
    replay.follow_steps(rewound.stepped)
    if 0 < store.flush_at <= store.clock.now:
        store.flush_at = 0
    path, disk = directory.path, directory.disk
    number = next_number(path, disk)
    before = replace(snapshot.manifest, id=snapshot.manifest.id or new_id())
    with ExitStack() as undo:
        base = undo.enter_context(NewPart(path, disk, base_name(number)))
        write_base(base, store, rewound.last_cas, before, progress)
        increment = undo.enter_context(NewPart(path, disk, increment_name(number)))
        increment.write(start_line(rewound.last_cas, before.id, before.serial))
        manifest = Manifest(FORMAT_VERSION, base.part, (increment.finish(),), before.id, before.serial + 1)
        old = [part.name for part in before.all_parts]
        with uninterrupted():
            kept = keep_originals(path, disk, old, "restore")
            swap(path, disk, [base, increment], manifest, obsolete=old)
    return kept


def _rewound(snapshot: Snapshot, until: int, now: int) -> Rewound:
    """Find the place in the files that restoring a time returns to."""
    try:
        reach, moment = reach_for(snapshot, until, now)
    except OSError as error:
        raise JournalError(f"can't read the journal in {snapshot.directory}: {error.strerror or error}") from None
    return Rewound(until, moment, reach.source, reach.made_at)


def _divided(
    snapshot: Snapshot, rewound: Rewound, record_times: RecordTimes, progress: Progress | None
) -> Iterator[tuple[list[Record], bool]]:
    """Yield all records of the generation in batches, each with whether it is in the part that is left out."""
    is_later, point, first_later = False, -1, rewound.moment.cut
    for is_base, records in read_records(snapshot, progress, rewound.source):
        cut = 0
        for number, record in enumerate(records):
            point += not is_base and is_point(record)
            if not is_later and point == first_later:
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
            "not record times: that part can't be restored"
        )


def _count_records(rewound: Rewound, records: list[Record], is_later: bool) -> None:
    """Count records that are kept or left out."""
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
    """Return the number of items that a server would serve from a store."""
    return 0 if 0 < store.flush_at <= store.clock.now else sum(1 for _ in store.items())


def _count_restored(store: Store, rewound: Rewound) -> int:
    """Return the number of items that are kept. A waiting flush whose time has passed is not carried out."""
    if 0 < store.flush_at <= store.clock.now:
        rewound.skipped_flush_at = store.flush_at
    return sum(1 for _ in store.items())


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
