"""Reading a journal back into a store after a stop or a crash."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memcache_kv.errors import JournalError
from memcache_kv.journal.codec import decode_block
from memcache_kv.journal.disk import Disk
from memcache_kv.journal.manifest import Manifest, check_version
from memcache_kv.journal.reading import JournalReader, PartReader
from memcache_kv.journal.record import UNLIMITED, Record, Room, decode_line
from memcache_kv.journal.tail import Tail
from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    PLAIN,
    WITH_CAS,
    Entry,
    cas_of,
    deadline_of,
    make_entry,
    moved,
    pack,
    state_of,
    wire_bytes_of,
)
from memcache_kv.store.store import Store

CAS_RUN_BITS = 32
"""Each run of a server with a journal gives CAS ids from its own range of 2^32. So an id whose record was lost in a
crash is never given again."""
CAS_RUN = 1 << CAS_RUN_BITS

NEW_DEADLINE = re.compile(rb'"op":"(?:touch|mark)",')
"""Occurs only in records that change a key's deadline: inside JSON strings the quotation marks are escaped."""
STEPPED = re.compile(rb'"stepped":(-?\d++)')
"""The sum of the wall clock's steps in a record."""
EXPIRED_BYTES = 16 * 1024 * 1024
"""When expired entries take more than this, the journal is searched for later records that renew them."""

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
    store: Store,
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
    replay = Replay(store, lambda stepped: find_renewed_keys(directory, disk, manifest, store.clock.now, stepped))
    _read(directory, disk, manifest, replay, progress, cuts)
    replay.found.no_room = store.fit()
    replay.found.seconds = time.perf_counter() - started
    return replay.found


def survey(directory: Path, disk: Disk, manifest: Manifest, now: int, progress: Progress | None = None) -> Recovered:
    """Read a journal as `recover` does, without keeping its items.

    now: the present unix time. Raises the same errors.
    """
    found = Survey(now)
    _read(directory, disk, manifest, found, progress)
    return found.found


def _read(
    directory: Path,
    disk: Disk,
    manifest: Manifest,
    reading: Replay | Survey,
    progress: Progress | None,
    cuts: bool = True,
) -> None:
    found = reading.found
    found.manifest = manifest
    journal = JournalReader(directory, disk, manifest)
    try:
        total_bytes = journal.total_bytes
        for _ in journal.blocks(reading.apply_block):
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
        raise JournalError(f"can't read the journal in {directory}: {error.strerror or error}") from None


def find_renewed_keys(
    directory: Path, disk: Disk, manifest: Manifest, now: int, stepped: int | None
) -> set[bytes] | None:
    """Find the keys that some record gives a deadline after `now`, without storing any value.

    All other keys that have expired stay expired. stepped: the sum of the wall clock's steps read so far. Returns None
    if a record has another sum, because then all deadlines may move. Does not check the lines. Raises OSError.
    """
    keys = set()
    for part in manifest.increments:
        for block in PartReader(directory, disk, part, is_base=False, is_last=True).whole_lines():
            if any(int(match[1]) != (stepped or 0) for match in STEPPED.finditer(block)):
                return None
            for match in NEW_DEADLINE.finditer(block):
                line = block[block.rfind(b"\n", 0, match.start()) + 1 : block.index(b"\n", match.end())]
                with contextlib.suppress(ValueError):  # damage, which the reader reports when it gets there
                    record = decode_line(line)
                    if record.exp == 0 or record.exp > now:
                        keys.add(record.key_bytes())
    return keys


class ExpiredEntries:
    """Entries that have expired by now. They are kept while a journal is read, because a later touch may renew them.

    Most of them are never touched. So when they take more than EXPIRED_BYTES, `find_renewed` is asked for the keys that
    are renewed later, and from then on no others are kept.
    """

    def __init__(self, find_renewed: Callable[[], set[bytes] | None] | None) -> None:
        self._find = find_renewed
        self._renewed: set[bytes] | None = None
        self._bytes = 0
        self.table: dict[bytes, Entry] = {}

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an expired entry if it may be renewed."""
        if self._renewed is not None and key not in self._renewed:
            return
        self.remove(key)
        self.table[key] = entry
        self._bytes += len(key) + len(entry) + ENTRY_COST_BYTES
        if self._find is not None and self._renewed is None and self._bytes > EXPIRED_BYTES:
            self._renewed = self._find()
            if self._renewed is None:
                self._find = None
                return
            for other in self.table.keys() - self._renewed:
                self.remove(other)

    def remove(self, key: bytes) -> None:
        """Remove a key if it is here."""
        entry = self.table.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry) + ENTRY_COST_BYTES

    def clear(self) -> None:
        """Remove all entries."""
        self.table.clear()
        self._bytes = 0


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

    def apply_block(self, block: bytes, before: int) -> None:
        """Check a block of complete lines. Raises ValueError at the first invalid record.

        before: the checksum of the record before, or UNCHAINED.
        """
        keys, entries = decode_block(block, before)
        for key, entry in zip(keys, entries, strict=True):
            if entry is None:
                self._check(key)
            elif entry[-1] == WITH_CAS:
                _count_cas(cas_of(entry), self.found)
        self.found.records += len(keys)


class Replay:
    """Apply records to a store again, and count them in `found`.

    find_renewed: called with the sum of the wall clock's steps; returns the keys that a later record renews, or None if
    that can't be known. Without it, all expired entries are kept until the end.
    """

    def __init__(self, store: Store, find_renewed: Callable[[int | None], set[bytes] | None] | None = None) -> None:
        self.found = Recovered()
        self._store = store
        self._expired = ExpiredEntries(None if find_renewed is None else lambda: find_renewed(self.found.stepped))

    def apply(self, records: list[Record]) -> None:
        """Apply these records in order."""
        for record in records:
            self._apply(record)
        self.found.records += len(records)

    def finish(self) -> None:
        """Finish after the last record. If the clock is behind the journal's last time, it was set back since then.

        Entries that had expired by that time stay expired, and live items keep the time that they had left.
        """
        found = self.found
        found.set_back = max(0, found.last_at - self._store.clock.now)
        if found.set_back:
            self.follow_steps((found.stepped or 0) - found.set_back)

    def follow_steps(self, stepped: int | None) -> None:
        """Move all expiry times to the wall clock as it is after steps of `stepped` seconds in all.

        stepped: the sum since the journal was started; None if there was none.
        """
        seconds = (stepped or 0) - (self.found.stepped or 0)
        self.found.stepped = stepped
        if not seconds:
            return
        self._store.flush_at = moved(self._store.flush_at, seconds)
        tables = (*self._store.tables, self._expired.table)
        dated = [(table, key, entry) for table in tables for key, entry in table.items() if deadline_of(entry)]
        for table, key, entry in dated:
            if table.get(key) is entry:
                self._change(key, deadline=moved(deadline_of(entry), seconds))

    def apply_block(self, block: bytes, before: int) -> None:
        """Check a block of complete lines and apply them. Raises ValueError at the first invalid record.

        If a checksum or length is wrong, none is applied. before: the checksum of the record before, or UNCHAINED.
        """
        keys, entries = decode_block(block, before)
        expired, put, now = self._expired.table, self._store.restore_live, self._store.clock.now
        for key, entry in zip(keys, entries, strict=True):
            if entry is None:
                self._apply(decode_line(key))
                continue
            kind = entry[-1]
            if kind == WITH_CAS:
                _count_cas(cas_of(entry), self.found)
            is_live = kind == PLAIN or not 0 < deadline_of(entry) <= now
            if is_live and not (expired and key in expired):
                put(key, entry)
            else:
                self._keep(key, entry)
        self.found.records += len(keys)

    def _apply(self, record: Record) -> None:
        """Apply a record."""
        _count(record, self.found)
        op = record.op
        if op == "set":
            key = record.key_bytes()
            wire_bytes = pack(record.flags, record.value_bytes())
            self._keep(key, make_entry(key, wire_bytes, record.exp, record.cas, self._store.clock.now, record.state))
        elif op == "delete":
            self._store.restore(record.key_bytes(), None)
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
            self._store.restore(key, None)
            self._expired.put(key, entry)
            self.found.expired += 1
        else:
            self._expired.remove(key)
            self._store.restore(key, entry)

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

    def _change(
        self, key: bytes, deadline: int | None = None, cas: int | None = None, state: int | None = None
    ) -> None:
        """Replay a new deadline, CAS id or state (None: unchanged). An evicted key is ignored."""
        expired = self._expired.table.get(key)
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
