"""What a journal consists of: records, files, what lives of them, since when, and under which prefixes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.journal.compaction import record_of
from memcache_kv.journal.recovery import Progress, Replay
from memcache_kv.journal.tools.export import new_store
from memcache_kv.journal.tools.record_times import RecordTimes
from memcache_kv.journal.tools.snapshot import Snapshot, read_records, take_snapshot
from memcache_kv.store.store import Store

LAST_FLUSHES = 10


@dataclass
class Prefix:
    """What lives under the keys that begin alike."""

    items: int = 0
    bytes: int = 0


@dataclass
class Statistics:
    """What was found in a journal. Times are unix times, 0 where none is known."""

    directory: Path
    files: dict[str, int] = field(default_factory=dict)
    """How long each file is."""
    records: Counter[str] = field(default_factory=Counter)
    """How many there are of each op."""
    runs: int = 0
    """How many runs of a server have written what is there."""
    first_at: int = 0
    last_at: int = 0
    rewind_at: int = 0
    """The earliest moment to which `restore` can go back."""
    last_flushes: deque[int] = field(default_factory=lambda: deque(maxlen=LAST_FLUSHES))
    """When everything was last forgotten."""
    live_items: int = 0
    live_bytes: int = 0
    """How long the journal would be if it held nothing else."""
    prefixes: dict[bytes, Prefix] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """How long all files are together."""
        return sum(self.files.values())

    @property
    def live_ratio(self) -> float:
        """What part of the journal lives."""
        return self.live_bytes / self.total_bytes if self.total_bytes else 0.0

    def top_prefixes(self, most: int) -> list[tuple[bytes, Prefix]]:
        """Return the prefixes with most bytes, largest first."""
        return sorted(self.prefixes.items(), key=lambda pair: (-pair[1].bytes, pair[0]))[:most]


def statistics(directory: Path, delimiter: bytes = b":", progress: Progress | None = None) -> Statistics:
    """Count what is in a journal that a server may be writing. Raises JournalError."""
    found = Statistics(directory)
    store = new_store()
    with take_snapshot(directory) as snapshot:
        found.files = {part.name: _bytes_of(snapshot, part.name, part.bytes) for part in snapshot.manifest.parts}
        replay = Replay(store)
        _count_records(found, snapshot, replay, progress)
        replay.finish()
    store.new_second()  # a flush that waited may be due, as at a server's start
    _count_items(found, store, delimiter)
    return found


def _bytes_of(snapshot: Snapshot, name: str, listed: int) -> int:
    is_last = name == snapshot.manifest.parts[-1].name
    return snapshot.size(snapshot.directory / name) if is_last and name not in snapshot.missing else listed


def _count_records(found: Statistics, snapshot: Snapshot, replay: Replay, progress: Progress | None) -> None:
    record_times = RecordTimes()
    runs = set()
    for _, records in read_records(snapshot, progress):
        replay.apply(records)
        for record in records:
            found.records[record.op] += 1
            record_times.follow(record)
            if record.op == "start":
                runs.add(record.cas)
            elif record.op == "flush" and not record.at:
                found.last_flushes.append(record_times.last)
    found.runs = len(runs)
    found.first_at, found.last_at, found.rewind_at = record_times.first, record_times.last, record_times.rewind


def _count_items(found: Statistics, store: Store, delimiter: bytes) -> None:
    for key, entry in store.items():
        size = len(record_of(key, entry))
        found.live_items += 1
        found.live_bytes += size
        prefix, delimited, _ = key.partition(delimiter)
        if delimited:
            counted = found.prefixes.setdefault(prefix, Prefix())
            counted.items += 1
            counted.bytes += size
