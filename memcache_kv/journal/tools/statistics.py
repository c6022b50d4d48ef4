"""Counting a journal's records, files, live items, times and key prefixes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.journal.record import entry_line
from memcache_kv.journal.recovery import Progress, Replay
from memcache_kv.journal.tools.export import new_store
from memcache_kv.journal.tools.generations import Reach, flushes, reaches
from memcache_kv.journal.tools.record_times import RecordTimes
from memcache_kv.journal.tools.snapshot import Snapshot, read_records, take_snapshot
from memcache_kv.store.store import Store

LAST_FLUSHES = 10


@dataclass
class Prefix:
    """The live items whose keys share a prefix."""

    items: int = 0
    bytes: int = 0


@dataclass
class Statistics:
    """The counts of a journal. Times are unix times, 0 if unknown."""

    directory: Path
    files: dict[str, int] = field(default_factory=dict)
    """The length of each file."""
    records: Counter[str] = field(default_factory=Counter)
    """The number of records of each op."""
    runs: int = 0
    """The number of server runs that wrote these records."""
    first_at: int = 0
    last_at: int = 0
    rewind_at: int = 0
    """The earliest time that `restore` can return to."""
    generations: list[Reach] = field(default_factory=list)
    """The kept generations, the oldest first."""
    last_flushes: deque[int] = field(default_factory=lambda: deque(maxlen=LAST_FLUSHES))
    """The times of the last flushes of all items."""
    live_items: int = 0
    live_bytes: int = 0
    """The length that the journal would have if it held nothing else."""
    prefixes: dict[bytes, Prefix] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return sum(self.files.values())

    @property
    def live_ratio(self) -> float:
        """The part of the journal that the live items take, from 0 to 1."""
        return self.live_bytes / self.total_bytes if self.total_bytes else 0.0

    def top_prefixes(self, most: int) -> list[tuple[bytes, Prefix]]:
        """Return the prefixes with the most bytes, largest first."""
        return sorted(self.prefixes.items(), key=lambda pair: (-pair[1].bytes, pair[0]))[:most]


def statistics(directory: Path, delimiter: bytes = b":", progress: Progress | None = None) -> Statistics:
    """Count the contents of a journal, which a server may be writing.

    delimiter: ends a key's prefix. Raises JournalError.
    """
    found = Statistics(directory)
    store = new_store()
    with take_snapshot(directory) as snapshot:
        found.files = {part.name: _bytes_of(snapshot, part.name, part.bytes) for part in snapshot.manifest.parts}
        found.generations = reaches(snapshot)[:-1]
        for kept in found.generations:
            found.last_flushes += flushes(snapshot, kept.files)
        replay = Replay(store)
        _count_records(found, snapshot, replay, progress)
        replay.finish()
    found.rewind_at = next((kept.made_at for kept in found.generations if kept.made_at), found.rewind_at)
    store.new_second()  # carry out a flush that is due, as a server does at its start
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
        size = len(entry_line(key, entry))
        found.live_items += 1
        found.live_bytes += size
        prefix, delimited, _ = key.partition(delimiter)
        if delimited:
            counted = found.prefixes.setdefault(prefix, Prefix())
            counted.items += 1
            counted.bytes += size
