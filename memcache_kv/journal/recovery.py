"""Reading a journal back into a store after a stop or a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memcache_kv.errors import JournalError
from memcache_kv.journal import disk as disks
from memcache_kv.journal.codec import BLOCKS_AHEAD, Lines, Parsed, leave_out, parse_block
from memcache_kv.journal.disk import Disk
from memcache_kv.journal.later_touches import LaterTouches
from memcache_kv.journal.manifest import Manifest, check_version
from memcache_kv.journal.reading import JournalReader
from memcache_kv.journal.record import UNLIMITED, Record, Room, decode_line
from memcache_kv.journal.tail import Tail
from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    PLAIN,
    Entry,
    cas_of,
    deadline_of,
    make_entry,
    moved,
    pack,
    state_of,
    wire_bytes_of,
)
from memcache_kv.store.restoring import needed_by_none
from memcache_kv.store.store import ItemStore
from memcache_kv.unpatched import time

CAS_RUN_BITS = 32
"""Each run of a server with a journal gives CAS ids from its own range of 2^32. So an id whose record was lost in a
crash is never given again."""
CAS_RUN = 1 << CAS_RUN_BITS

EXPIRED_BYTES = 16 * 1024 * 1024
EXPIRED_PART = 64
"""When expired entries take more than these bytes, or than this part of the memory limit, the journal is searched for
later records that renew them."""
HELD_AFTER_RECORDS = 512
"""The limits are checked after so many records."""
LIMIT_PER_BLOCK_BYTES = 64 * 1024 * 1024
MOST_BLOCKS_AT_ONCE = 4
"""For each such part of the memory limit one more BLOCK_BYTES is read at once, up to so many."""

Progress = Callable[[int, int, int], None]
"""Called with the bytes read so far, the bytes in all, and the records applied so far."""


@dataclass
class Recovered:
    """What a journal held."""

    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    last_cas: int = 0
    """The highest CAS id that the store gave; the next run's ids must be higher. An id more than a whole run above it
    was chosen by a client."""
    room: Room = UNLIMITED
    """The room that the journal's live items need, by the last start record."""
    expired: int = 0
    """The number of values that had expired and that no later record renewed."""
    no_room: int = 0
    """The number of items that the store had no room for. They stay in the journal."""
    tail: Tail | None = None
    """What follows the last record that can be trusted, if anything does."""
    manifest: Manifest | None = None
    """The journal's manifest once the tail is cut off."""
    last_at: int = 0
    """The last unix time in the journal."""
    stepped: int | None = None
    """The sum of the wall clock's steps in seconds, from which the next run continues. None: there was none."""
    set_back: int = 0
    """How many seconds of it are a step back since the journal's last time."""

    @property
    def torn_bytes(self) -> int:
        """The length of the tail; 0 if there is none."""
        return self.tail.bytes if self.tail is not None else 0

    @property
    def torn_copy(self) -> Path | None:
        """The file to which the tail was copied before it was cut off."""
        return self.tail.copy if self.tail is not None else None

    def next_run(self) -> int:
        """Return the CAS id before the first one of the next run."""
        return ((self.last_cas >> CAS_RUN_BITS) + 1) << CAS_RUN_BITS


def recover(
    directory: Path,
    disk: Disk,
    manifest: Manifest,
    store: ItemStore,
    progress: Progress | None = None,
    cuts: bool = True,
) -> Recovered:
    """Apply a journal's records to a store, in order.

    What follows the last record that can be trusted is a tail if nothing of it is known to have been on disk: an
    unfinished line, or lost pages. It is copied to a file beside the journal and cut off; if `cuts` is false, the
    caller must call its `cut`. The journal goes on with the manifest in the result. progress: called after each block
    that was read.

    Raises JournalCorrupt, with the file and the offset, for any other damage, and JournalError if a file can't be read
    or has a newer format.
    """
    started = time.perf_counter()
    journal = JournalReader(directory, disk, manifest, block_bytes(store.limit_bytes))

    def look() -> None:
        if progress is not None:
            progress(journal.read_bytes, journal.total_bytes, replay.found.records)

    later = LaterTouches(
        directory, disk, manifest, store.clock.now, lambda: journal.read_bytes, look, store.limit_bytes
    )
    replay = Replay(store, later)
    _read(journal, manifest, replay, progress, cuts)
    replay.found.seconds = time.perf_counter() - started
    return replay.found


def block_bytes(limit_bytes: int) -> int:
    """Return how much of a journal is read at once for a store with this limit.

    Fewer blocks are passed on faster from thread to thread, but take memory beyond that of the items.
    """
    return disks.BLOCK_BYTES * max(1, min(limit_bytes // LIMIT_PER_BLOCK_BYTES, MOST_BLOCKS_AT_ONCE))


def survey(directory: Path, disk: Disk, manifest: Manifest, now: int, progress: Progress | None = None) -> Recovered:
    """Read a journal as `recover` does, without keeping its items.

    now: the present unix time. Raises the same errors.
    """
    found = Survey(now)
    _read(JournalReader(directory, disk, manifest), manifest, found, progress)
    return found.found


def _read(
    journal: JournalReader,
    manifest: Manifest,
    reading: Replay | Survey,
    progress: Progress | None,
    cuts: bool = True,
) -> None:
    found = reading.found
    found.manifest = manifest
    try:
        total_bytes = journal.total_bytes
        for _ in journal.blocks(parse_block, reading.apply_parsed, BLOCKS_AHEAD):
            if progress is not None:
                progress(journal.read_bytes, total_bytes, found.records)
        found.bytes = journal.read_bytes
        reading.finish()
        found.tail = journal.tail
        if found.tail is not None:
            found.manifest = manifest.up_to(found.tail.part)
            if cuts:
                found.tail.cut()
    except OSError as error:
        raise JournalError(f"can't read the journal in {journal.directory}: {error.strerror or error}") from None


class ExpiredEntries:
    """Entries that have expired by now. They are kept while a journal is read, because a later touch may renew them.

    Most of them are never touched. So when they take more than `limit_bytes`, those are dropped that no later record
    renews, and from then on no others are kept.

    is_needed: tells whether a later record may renew an entry; None if that can't be known, so that all are kept.
    parts: how many tables they are in, a power of two. A table that grows takes up to three times its size meanwhile.
    """

    def __init__(self, is_needed: Callable[[bytes, Entry], bool] | None, limit_bytes: int, parts: int = 1) -> None:
        self._is_needed = is_needed
        self._limit_bytes = limit_bytes
        self._is_selective = False
        self.bytes = 0
        """What the entries take, by the accounting of `entry.py`."""
        self.tables: list[dict[bytes, Entry]] = [{} for _ in range(parts)]
        """The entries, in the table that the key's hash gives."""

    def __len__(self) -> int:
        """Count the entries."""
        return sum(map(len, self.tables))

    def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key; None if it is not here."""
        return self._table_of(key).get(key)

    def _table_of(self, key: bytes) -> dict[bytes, Entry]:
        return self.tables[hash(key) & len(self.tables) - 1]

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an expired entry if it may be renewed."""
        self.remove(key)
        if self._is_selective and self._is_needed is not None and not self._is_needed(key, entry):
            return
        self._table_of(key)[key] = entry
        self.bytes += len(key) + len(entry) + ENTRY_COST_BYTES
        if self.bytes > self._limit_bytes and self._is_needed is not None:
            self._drop_others(self._is_needed)

    def _drop_others(self, is_needed: Callable[[bytes, Entry], bool]) -> None:
        """Drop what is needed no more. It is done again only when twice as much is kept."""
        self._is_selective = True
        for table in self.tables:
            for key in [key for key, entry in table.items() if not is_needed(key, entry)]:
                self.remove(key)
        self._limit_bytes = max(self._limit_bytes, 2 * self.bytes)

    def drop_oldest(self, wanted_bytes: int) -> None:
        """Drop entries, needed or not, until so many bytes are freed or none is left.

        The oldest of each table go in turn.
        """
        target = self.bytes - wanted_bytes
        while self.bytes > target and len(self):
            for table in self.tables:
                if table:
                    self.remove(next(iter(table)))

    def remove(self, key: bytes) -> None:
        """Remove a key if it is here."""
        entry = self._table_of(key).pop(key, None)
        if entry is not None:
            self.bytes -= len(key) + len(entry) + ENTRY_COST_BYTES

    def clear(self) -> None:
        """Remove all entries."""
        for table in self.tables:
            table.clear()
        self.bytes = 0


class Survey:
    """Check records and keep only the totals, in `found`.

    now: the present unix time.
    """

    def __init__(self, now: int) -> None:
        self.found = Recovered()
        self._now = now

    def finish(self) -> None:
        """Finish after the last record.

        If the clock is behind the journal's last time, it was set back, as `Replay.finish` assumes too.
        """
        found = self.found
        found.set_back = max(0, found.last_at - self._now)
        if found.set_back:
            found.stepped = (found.stepped or 0) - found.set_back

    def _check(self, line: bytes) -> None:
        record = decode_line(line)
        _count(record, self.found)
        if record.stepped is not None:
            self.found.stepped = record.stepped

    def apply_parsed(self, parsed: Parsed) -> None:
        """Count the records of a block. Raises ValueError at the first record of an unknown form."""
        self.count(*parsed.lines(0, len(parsed), 0))

    def count(self, keys: list[bytes], entries: list[Entry | None]) -> None:
        """Count records, given as `decode_lines` returns them. Raises ValueError as `apply_parsed` does."""
        for key, entry in zip(keys, entries, strict=True):
            if entry is None:
                self._check(key)
            elif cas := cas_of(entry):
                _count_cas(cas, self.found)
        self.found.records += len(keys)


class Replay:
    """Apply records to a store again, and count them in `found`. The store's limits are held meanwhile.

    later: which keys later records touch, so that their items are not left out. Without it, that is not known, and all
    expired entries are kept until the end.
    """

    def __init__(self, store: ItemStore, later: LaterTouches | None = None) -> None:
        self.found = Recovered()
        self._store = store
        self._restoring = store.restoring(leave_out)
        self._later = later
        self._is_touched_later = needed_by_none if later is None else later
        self._expired = ExpiredEntries(
            None if later is None else self._may_be_renewed,
            min(EXPIRED_BYTES, store.limit_bytes // EXPIRED_PART),
            len(store.shards),
        )

    def _may_be_renewed(self, key: bytes, entry: Entry) -> bool:
        """Tell whether a later touch, or a later step of the wall clock, may renew an expired entry."""
        assert self._later is not None
        return self._later(key) or self._later.may_move(deadline_of(entry), self.found.stepped or 0)

    def _hold(self) -> None:
        """Hold the limits. Expired entries that may be renewed were items too when they were stored."""
        expired = self._expired
        if self._later is not None and self._later.is_known:
            self._later.advance()
        self._restoring.hold(self._is_touched_later, expired.bytes, len(expired))
        if (excess := expired.bytes - self._store.limit_bytes + self._store.reserved_bytes) > 0:
            expired.drop_oldest(excess)

    def apply(self, records: list[Record]) -> None:
        """Apply these records in order."""
        for record in records:
            self._apply(record)
        self.found.records += len(records)
        self._hold()

    def finish(self) -> None:
        """Finish after the last record. If the clock is behind the journal's last time, it was set back since then.

        Entries that had expired by that time stay expired, and live items keep the time that they had left.
        """
        found = self.found
        found.set_back = max(0, found.last_at - self._store.clock.now)
        if found.set_back:
            self.follow_steps((found.stepped or 0) - found.set_back)
        self._expired.clear()
        self._restoring.finish()
        found.no_room = self._restoring.no_room

    def follow_steps(self, stepped: int | None) -> None:
        """Move all expiry times to the wall clock as it is after steps of `stepped` seconds in all.

        stepped: the sum since the journal was started; None if there was none.
        """
        seconds = (stepped or 0) - (self.found.stepped or 0)
        self.found.stepped = stepped
        if not seconds:
            return
        self._store.flush_at = moved(self._store.flush_at, seconds)
        were_expired = [[*table.items()] for table in self._expired.tables]
        for table in self._store.tables:  # one at a time, as this needs memory for each
            for key, entry in zip([*table], [*table.values()], strict=True):
                self._move(table, key, entry, seconds)
        for table, items in zip(self._expired.tables, were_expired, strict=True):
            for key, entry in items:
                self._move(table, key, entry, seconds)

    def _move(self, table: dict[bytes, Entry], key: bytes, entry: Entry, seconds: int) -> None:
        """Move the deadline of an entry, if it has one and is still in this table."""
        deadline = deadline_of(entry)
        if deadline and table.get(key) is entry:
            self._change(key, deadline=moved(deadline, seconds))

    def apply_parsed(self, parsed: Parsed) -> None:
        """Apply the records of a block. Raises ValueError at the first record of an unknown form."""
        for start in range(0, len(parsed), HELD_AFTER_RECORDS):
            self._apply_some(parsed, start, min(start + HELD_AFTER_RECORDS, len(parsed)))
            self._hold()
        self.found.records += len(parsed)

    def _apply_some(self, parsed: Parsed, start: int, end: int) -> None:
        """Apply some records of a block: what is simple by `parsed` itself."""
        found, now, left_out = self.found, self._store.clock.now, self._restoring.left_out
        while start < end:
            start, behind, found.last_cas = parsed.restore(
                self._store.shards, self._expired.tables, start, end, now, found.last_cas, left_out
            )
            if start < behind:
                self._apply_lines(parsed.lines(start, behind, now, left_out is not None))
                left_out = self._restoring.left_out  # a flush begins another one
            start = behind

    def _apply_lines(self, lines: Lines) -> None:
        """Apply keys with their entries, and the lines of other records."""
        expired, put, now = self._expired, self._restoring.put, self._store.clock.now
        for key, entry in zip(*lines, strict=True):
            if entry is None:
                self._apply(decode_line(key))
                continue
            is_plain = entry.__class__ is bytes and entry[-1] == PLAIN
            if not is_plain and (cas := cas_of(entry)):
                _count_cas(cas, self.found)
            is_live = is_plain or not 0 < deadline_of(entry) <= now
            if is_live and not (expired.bytes and expired.get(key) is not None):
                put(key, entry)
            else:
                self._keep(key, entry)

    def _apply(self, record: Record) -> None:
        """Apply a record."""
        _count(record, self.found)
        op = record.op
        if op == "set":
            key = record.key_bytes()
            wire_bytes = pack(record.flags, record.value_bytes())
            self._keep(key, make_entry(key, wire_bytes, record.exp, record.cas, self._store.clock.now, record.state))
        elif op == "delete":
            self._restoring.remove(record.key_bytes())
            self._expired.remove(record.key_bytes())
        elif op == "touch":
            self._change(record.key_bytes(), deadline=record.exp)
        elif op == "cas":
            self._change(record.key_bytes(), cas=record.cas)
        elif op == "mark":
            self._change(record.key_bytes(), record.exp, record.cas, record.state)
        elif op == "flush":
            self._flush(record.at)
        elif record.stepped is not None:  # start, time, end
            self.follow_steps(record.stepped)

    def _keep(self, key: bytes, entry: Entry) -> None:
        """Put an entry into the store, or among the expired ones."""
        if 0 < deadline_of(entry) <= self._store.clock.now:
            self._restoring.remove(key)
            self._expired.put(key, entry)
            self.found.expired += 1
        else:
            self._expired.remove(key)
            self._restoring.put(key, entry)

    def _flush(self, at: int) -> None:
        """Replay a flush. One with a time waits again, even if that time has passed while no server ran.

        Items that were stored before that time belong to it, and the first `new_second` carries it out.
        """
        if at:
            self._store.flush_at = at
        else:
            self._store.flush()
            self._store.forget_flushed()  # `get_flushed` counts no flush of before the restart
            while self._store.free_some():
                pass
            self._expired.clear()
            self._restoring.flushed()

    def _change(
        self, key: bytes, deadline: int | None = None, cas: int | None = None, state: int | None = None
    ) -> None:
        """Replay a new deadline, CAS id or state (None: unchanged). An evicted key is ignored."""
        expired = self._expired.get(key)
        entry = self._store.kept(key) or expired
        if entry is None:
            return
        self.found.expired -= entry is expired
        changed = make_entry(
            key,
            wire_bytes_of(entry),
            deadline_of(entry) if deadline is None else deadline,
            cas_of(entry) if cas is None else cas,
            self._store.clock.now,
            state_of(entry) if state is None else state,
        )
        self._keep(key, changed)


def _count(record: Record, found: Recovered) -> None:
    """Update the totals from a record. Raises JournalError if its format is newer than this program."""
    _count_cas(record.cas, found)
    if record.op == "start":
        found.last_cas = max(found.last_cas, record.cas)
        check_version(record.version)
        found.room = record.room
    if record.op in ("start", "time", "end"):
        found.last_at = record.at or found.last_at


def _count_cas(cas: int, found: Recovered) -> None:
    """Update the highest CAS id that the store gave."""
    if found.last_cas < cas <= found.last_cas + CAS_RUN:
        found.last_cas = cas
