"""One JSON object a line for each item that lives: a copy of the data that any program can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from memcache_kv.clock import Clock
from memcache_kv.journal.recovery import Progress, Recovered, Replay
from memcache_kv.journal.snapshot import Snapshot, read_records, take_snapshot
from memcache_kv.store.item import STALE, WON, Entry, cas_of, deadline_of, flags_of, ready_of, state_of, value_of
from memcache_kv.store.store import Store

UNLIMITED_BYTES = 1 << 60


class ExportedItem(msgspec.Struct, omit_defaults=True, gc=False):
    """An item as a line of an export has it; what is 0 or false is left out.

    key64 and value64: in base64, where key and value are no valid UTF-8; exp: the unix time of expiry, 0 for never;
    cas: its CAS id, where a client has asked for it.
    """

    key: str | None = None
    key64: bytes | None = None
    value: str | None = None
    value64: bytes | None = None
    flags: int = 0
    exp: int = 0
    cas: int = 0
    stale: bool = False
    won: bool = False

    def key_bytes(self) -> bytes:
        """Return the key as the protocol has it."""
        return self.key.encode() if self.key is not None else self.key64 or b""

    def value_bytes(self) -> bytes:
        """Return the value as the protocol has it."""
        return self.value.encode() if self.value is not None else self.value64 or b""


_encode = msgspec.json.Encoder().encode


def new_store() -> Store:
    """Make a store that takes whatever a journal holds."""
    return Store(Clock(), limit_bytes=UNLIMITED_BYTES)


def replay_into(store: Store, snapshot: Snapshot, progress: Progress | None = None) -> Recovered:
    """Put into a store what a journal holds. Raises JournalCorrupt."""
    replay = Replay(store)
    for _, records in read_records(snapshot, progress):
        replay.apply(records)
    replay.finish()
    store.new_second()  # a flush that waited may be due, as at a server's start
    return replay.found


def load_store(directory: Path, progress: Progress | None = None) -> Store:
    """Read a journal that a server may be writing, as it is at one moment. Raises JournalError."""
    store = new_store()
    with take_snapshot(directory) as snapshot:
        replay_into(store, snapshot, progress)
    return store


def export_lines(store: Store) -> Iterator[bytes]:
    """Give a line for each item that lives."""
    for key, entry in store.items():
        yield _encode(_exported(key, entry)) + b"\n"


def _exported(key: bytes, entry: Entry) -> ExportedItem:
    ready = ready_of(entry)
    state = state_of(entry)
    item = ExportedItem(
        flags=flags_of(ready),
        exp=deadline_of(entry),
        cas=cas_of(entry),
        stale=bool(state & STALE),
        won=bool(state & WON),
    )
    try:
        item.key = key.decode()
    except UnicodeDecodeError:
        item.key64 = key
    value = value_of(ready)
    try:
        item.value = value.decode()
    except UnicodeDecodeError:
        item.value64 = value
    return item
