"""Reading a journal back into a store after a stop or a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal.record import FORMAT_VERSION, LINE_HEAD, Record, parse_line
from memcache_kv.store.item import Entry, cas_of, deadline_of, make_entry, pack, ready_of, state_of
from memcache_kv.store.shard import Shard
from memcache_kv.store.store import Store

READ_BYTES = 1 << 20
CAS_RUN_BITS = 32
"""Each run with a journal gives CAS ids from a range of 2^32 of its own, so that an id whose record was lost in a
crash is never given twice."""
CAS_RUN = 1 << CAS_RUN_BITS

Progress = Callable[[int, int, int], None]
"""Told the bytes read so far, the bytes in all, and the records applied so far."""


@dataclass
class Recovered:
    """What was found in a journal."""

    records: int = 0
    seconds: float = 0.0
    last_cas: int = 0
    """The highest CAS id that the store gave; those of the next run must be above it. One that lies further away than
    a whole run was a client's own choice."""
    torn_bytes: int = 0
    """Length of the unfinished last line that was cut off; 0 where there was none."""
    torn_copy: Path | None = None

    def next_run(self) -> int:
        """Return the id before the first that the next run may give."""
        return ((self.last_cas >> CAS_RUN_BITS) + 1) << CAS_RUN_BITS


def recover(path: Path, store: Store, progress: Progress | None = None) -> Recovered:
    """Apply a journal's records to a store, in order.

    A last line without its line feed was being written when the process or machine went down: it is copied to a file
    beside the journal and cut off. Raises JournalCorrupt, naming file and offset, for anything else that
    is not a whole record, and JournalError where the file can't be read or is of a newer format.
    """
    found = Recovered()
    started = time.perf_counter()
    try:
        offset = _replay(path, store, found, progress)
        found.torn_bytes = path.stat().st_size - offset
        if found.torn_bytes:
            found.torn_copy = _cut_tail(path, offset)
    except OSError as error:
        raise JournalError(f"can't read the journal {path}: {error.strerror}") from None
    found.seconds = time.perf_counter() - started
    return found


def _replay(path: Path, store: Store, found: Recovered, progress: Progress | None) -> int:
    """Apply every whole line; return the offset behind the last."""
    size = path.stat().st_size
    lapsed = Shard()
    offset = 0
    for lines in _lines(path):
        for line in lines:
            try:
                record = parse_line(line)
            except ValueError as error:
                raise JournalCorrupt(f"{path} is damaged at offset {offset}: {error}") from None
            if offset == 0 and record.op != "start":
                raise JournalCorrupt(f"{path} does not begin with a start record: it is not a whole journal")
            _apply(record, store, lapsed, found)
            offset += len(line) + 1
        found.records += len(lines)
        if progress is not None:
            progress(offset, size, found.records)
    return offset


def _lines(path: Path) -> Iterator[list[bytes]]:
    """Read the whole lines of a file, about a megabyte at a time, without their line feeds."""
    rest: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            head, feed, tail = block.rpartition(b"\n")
            if not feed:
                rest.append(block)
                continue
            rest.append(head)
            yield b"".join(rest).split(b"\n")
            rest = [tail]


def _apply(record: Record, store: Store, lapsed: Shard, found: Recovered) -> None:
    """Do again what a record tells of.

    lapsed: what has expired by now. It is kept until the journal's end, as a touch further on may show that it lives.
    """
    if found.last_cas < record.cas <= found.last_cas + CAS_RUN or record.op == "start":
        found.last_cas = max(found.last_cas, record.cas)
    op = record.op
    if op == "set":
        key = record.key_bytes()
        ready = pack(record.flags, record.value_bytes())
        _keep(key, make_entry(key, ready, record.exp, record.cas, store.clock.now, record.state), store, lapsed)
    elif op == "delete":
        store.restore(record.key_bytes(), None)
        lapsed.remove_locked(record.key_bytes())
    elif op == "touch":
        _change(record.key_bytes(), store, lapsed, deadline=record.exp)
    elif op == "cas":
        _change(record.key_bytes(), store, lapsed, cas=record.cas)
    elif op == "mark":
        _change(record.key_bytes(), store, lapsed, record.exp, record.cas, record.state)
    elif op == "flush":
        _flush(store, lapsed, record.at)
    elif record.version > FORMAT_VERSION:
        raise JournalError(
            f"the journal was written in format {record.version}, and this version reads up to {FORMAT_VERSION}: "
            "use a newer memcache_kv"
        )


def _keep(key: bytes, entry: Entry, store: Store, lapsed: Shard) -> None:
    """Put an entry where it belongs; those that have expired take no more memory than the store may."""
    if 0 < deadline_of(entry) <= store.clock.now:
        store.restore(key, None)
        lapsed.put_locked(key, entry)
        if lapsed.used_bytes > store.limit_bytes:
            lapsed.evict(lapsed.used_bytes - store.limit_bytes, 0, key)
        return
    lapsed.remove_locked(key)
    store.restore(key, entry)


def _flush(store: Store, lapsed: Shard, at: int) -> None:
    """Replay a flush. One that was to come waits again, even when its time has passed while nobody served:

    what was stored between the command and that time belongs to it, and the first `new_second` carries it out.
    """
    if at:
        store.flush_at = at
    else:
        store.flush()
        lapsed.clear_locked()


def _change(
    key: bytes,
    store: Store,
    lapsed: Shard,
    deadline: int | None = None,
    cas: int | None = None,
    state: int | None = None,
) -> None:
    """Replay a change of rare facts (None: it stays); a key that was evicted is passed over."""
    entry = store.get(key) or lapsed.table.get(key)
    if entry is None:
        return
    changed = make_entry(
        key,
        ready_of(entry),
        deadline_of(entry) if deadline is None else deadline,
        cas_of(entry) if cas is None else cas,
        store.clock.now,
        state_of(entry) if state is None else state,
    )
    _keep(key, changed, store, lapsed)


def _cut_tail(path: Path, offset: int) -> Path:
    """Copy what stands behind an offset to a file beside the journal, durably, then cut it off."""
    copy = path.with_name(f"{path.name}.torn-{time.time_ns()}")
    with path.open("r+b") as file:
        if not offset and not LINE_HEAD.startswith(file.read(len(LINE_HEAD))):
            raise JournalCorrupt(f"{path} is not a journal: its only line is not a record that was begun")
        file.seek(offset)
        with copy.open("xb") as kept:
            kept.write(file.read())
            kept.flush()
            os.fsync(kept.fileno())
        file.truncate(offset)
        os.fsync(file.fileno())
    return copy
