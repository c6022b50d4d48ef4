"""Reading a journal of any length in bounded memory: its records are divided by their keys into shares.

What concerns all keys goes into every share. So each share is a short journal of its own, which is replayed alone. The
shares are kept in a temporary file.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Self
from zlib import crc32

from memcache_kv.clock import Clock
from memcache_kv.journal.codec import encode_queue, parse_block
from memcache_kv.journal.manifest import check_version
from memcache_kv.journal.record import ENCODED, Record, decode_line, last_crc, line_of
from memcache_kv.journal.recovery import Progress, Replay
from memcache_kv.journal.tools.snapshot import Snapshot, read_blocks
from memcache_kv.journal.tools.spill import Spill
from memcache_kv.store.entry import Entry
from memcache_kv.store.shard import Shard
from memcache_kv.store.store import Store

SHARE_BYTES = 8 * 1024 * 1024
"""About how many bytes of the journal belong to one share."""
HELD_BYTES = 16 * 1024 * 1024
"""So many bytes of records are kept in memory before they are written to the temporary file."""
UNLIMITED_BYTES = 1 << 60

Follow = Callable[[Record], None]
"""Called with every record but those that `plain_sets` counts, in order."""


class Share:
    """The records of some of the keys: those in the temporary file, and those that are not written yet."""

    __slots__ = ("queue", "chain", "extents")

    def __init__(self) -> None:
        self.queue: list[Entry] = []
        """Keys and entries in turn, or ENCODED and lines."""
        self.chain = 0
        """The checksum of the last line in the file."""
        self.extents = array("Q")
        """Offsets and lengths in the file in turn."""

    def encoded(self) -> bytes:
        """Take what is not written yet, as lines."""
        data, self.chain = encode_queue(self.queue, 0, self.chain)
        self.queue = []
        return data


class DividedJournal:
    """The records of a journal, and the live items that result from them, one share after the other.

    Everything is read when this is made; the snapshot is not needed after that. Use it as a context, whose end frees
    the temporary disk space: as much as the journal's length, in the directory that TMPDIR names.

    follow: see `Follow`. progress: called after each block that was read.

    Raises JournalCorrupt, with the file and the offset, for damage that is not a tail, and JournalError.
    """

    def __init__(
        self, snapshot: Snapshot, follow: Follow = lambda record: None, progress: Progress | None = None
    ) -> None:
        self.plain_sets = 0
        """How many `set` records were not passed to `follow`."""
        self.clock = Clock()
        self._follow = follow
        self._shares = [Share() for _ in range(1 + snapshot.total_bytes // SHARE_BYTES)]
        self._common = Share()
        """What concerns all keys."""
        self._held_bytes = 0
        self._spill = Spill()
        self._last_at = 0
        self.records = 0
        self.shares_read = 0
        """How many shares `stores` has read."""
        try:
            for done in read_blocks(snapshot, self._divide):
                if progress is not None:
                    progress(done, snapshot.total_bytes, self.records)
            self._divide_closing()
        except BaseException:
            self.close()
            raise

    # Dividing

    def _divide(self, block: bytearray, before: int) -> None:
        """Check a block of lines and divide it. Raises ValueError at the first invalid record."""
        parsed = parse_block(block, before)
        keys, entries = parsed.lines(0, len(parsed), 0)
        queues = [share.queue for share in self._shares]
        count = len(queues)
        for key, entry in zip(keys, entries, strict=True):
            if entry is None:
                self._divide_other(key, decode_line(key), queues)
            else:
                queues[crc32(key) % count] += (key, entry)
                self.plain_sets += 1
        self.records += len(keys)
        self._held_bytes += len(block)
        if self._held_bytes > HELD_BYTES:
            self._write_out()

    def _divide_other(self, line: bytes, record: Record, queues: list[list[Entry]]) -> None:
        self._follow(record)
        if record.op not in ("start", "time", "end", "flush"):
            queues[crc32(record.key_bytes()) % len(queues)] += (ENCODED, line + b"\n")
            return
        check_version(record.version)
        if record.op != "flush":
            self._last_at = record.at or self._last_at
        if record.op == "flush" or record.stepped is not None:
            self._put_everywhere(line + b"\n")

    def _divide_closing(self) -> None:
        """End every share with the journal's last time."""
        if self._last_at:
            self._put_everywhere(line_of(Record("time", at=self._last_at)))

    def _put_everywhere(self, line: bytes) -> None:
        for share in (self._common, *self._shares):
            share.queue += (ENCODED, line)

    def _write_out(self) -> None:
        for share in (self._common, *self._shares):
            if share.queue:
                self._spill.write(share.encoded(), share.extents)
        self._held_bytes = 0

    # Reading them

    @property
    def shares(self) -> int:
        """How many shares there are."""
        return len(self._shares)

    @property
    def flush_at(self) -> int:
        """The unix time of a flush that waits; 0 if none does."""
        return self._replayed(self._common).flush_at

    def stores(self) -> Iterator[Store]:
        """Yield a store with the live items of each share. It is emptied when the next one is asked for."""
        for share in self._shares:
            store = self._replayed(share)
            yield store
            for shard in store.shards:
                shard.table.clear()
            self.shares_read += 1

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all live items."""
        for store in self.stores():
            yield from store.items()

    def _replayed(self, share: Share) -> Store:
        store = Store(self.clock, limit_bytes=UNLIMITED_BYTES, shards=1)
        replay = Replay(store)
        before = 0
        for data in self._blocks_of(share):
            replay.apply_parsed(parse_block(data, before))
            before = last_crc(data)
        replay.finish()
        store.new_second()  # carry out a flush that is due, as a server does at its start
        return store

    def _blocks_of(self, share: Share) -> Iterator[bytes]:
        yield from self._spill.read(share.extents)
        if share.queue:
            yield share.encoded()

    def close(self) -> None:
        """Free the temporary disk space."""
        self._spill.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DividedItems:
    """The live items of a divided journal, in the form in which a rewrite takes those of a store.

    progress: called with the number of shares that were read, that of all, and the number of items so far.
    """

    used_bytes = 0
    """How much they take is not known before they are read."""

    def __init__(self, divided: DividedJournal, progress: Progress) -> None:
        self.clock = divided.clock
        self.flush_at = divided.flush_at
        self._divided = divided
        self._progress = progress
        self._items = 0

    def __len__(self) -> int:
        """Count the items that were read so far."""
        return self._items

    @property
    def shards(self) -> Iterator[Shard]:
        """Yield tables of the items. Each is emptied when the next one is asked for."""
        for store in self._divided.stores():
            self._items += len(store)
            yield from store.shards
            self._progress(self._divided.shares_read, self._divided.shares, self._items)
