"""Counting a journal's records, files, live items, times and key prefixes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from memcache_kv.journal.record import Record, entry_line
from memcache_kv.journal.recovery import Progress
from memcache_kv.journal.tools.division import DividedJournal
from memcache_kv.journal.tools.generations import Reach, flushes, reaches
from memcache_kv.journal.tools.prefixes import Prefix, PrefixCounts
from memcache_kv.journal.tools.record_times import RecordTimes
from memcache_kv.journal.tools.snapshot import Snapshot, take_snapshot

LAST_FLUSHES = 10


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
    prefixes: list[tuple[bytes, Prefix]] = field(default_factory=list)
    """The prefixes with the most bytes, largest first."""

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return sum(self.files.values())

    @property
    def live_ratio(self) -> float:
        """The part of the journal that the live items take, from 0 to 1."""
        return self.live_bytes / self.total_bytes if self.total_bytes else 0.0


def statistics(directory: Path, delimiter: bytes = b":", top: int = 10, progress: Progress | None = None) -> Statistics:
    """Count the contents of a journal, which a server may be writing.

    delimiter: ends a key's prefix. top: how many prefixes are kept. Raises JournalError.
    """
    found = Statistics(directory)
    counted = _RecordCounts(found)
    with take_snapshot(directory) as snapshot:
        found.files = {part.name: _bytes_of(snapshot, part.name, part.bytes) for part in snapshot.manifest.parts}
        found.generations = reaches(snapshot)[:-1]
        for kept in found.generations:
            found.last_flushes += flushes(snapshot, kept.files)
        divided = DividedJournal(snapshot, counted.follow, progress)
    with divided, PrefixCounts() as prefixes:
        counted.finish(divided.plain_sets)
        _count_items(found, divided, delimiter, prefixes)
        found.prefixes = prefixes.top(top)
    found.rewind_at = next((kept.made_at for kept in found.generations if kept.made_at), found.rewind_at)
    return found


def _bytes_of(snapshot: Snapshot, name: str, listed: int) -> int:
    is_last = name == snapshot.manifest.parts[-1].name
    return snapshot.size(snapshot.directory / name) if is_last and name not in snapshot.missing else listed


class _RecordCounts:
    """Counts records, by what they are and when they were written."""

    def __init__(self, found: Statistics) -> None:
        self._found = found
        self._times = RecordTimes()
        self._runs: set[int] = set()

    def follow(self, record: Record) -> None:
        """Count a record."""
        self._found.records[record.op] += 1
        self._times.follow(record)
        if record.op == "start":
            self._runs.add(record.cas)
        elif record.op == "flush" and not record.at:
            self._found.last_flushes.append(self._times.last)

    def finish(self, plain_sets: int) -> None:
        """Add the `set` records that `follow` was not called with, and set the totals."""
        found, times = self._found, self._times
        if plain_sets:
            found.records["set"] += plain_sets
        found.runs = len(self._runs)
        found.first_at, found.last_at, found.rewind_at = times.first, times.last, times.rewind


def _count_items(found: Statistics, divided: DividedJournal, delimiter: bytes, prefixes: PrefixCounts) -> None:
    for key, entry in divided.items():
        size = len(entry_line(key, entry))
        found.live_items += 1
        found.live_bytes += size
        prefix, delimited, _ = key.partition(delimiter)
        if delimited:
            prefixes.count(prefix, 1, size)
