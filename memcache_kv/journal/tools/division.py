"""Reading a journal of any length in bounded memory: its records are divided by their keys into shares.

What concerns all keys goes into every share. So each share is a short journal of its own, which is replayed alone. The
shares are kept in a temporary file.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Self
from zlib import crc32

from memcache_kv.clock import Clock
from memcache_kv.journal.codec import encode_queue, parse_block
from memcache_kv.journal.manifest import Manifest
from memcache_kv.journal.record import ENCODED, Record, decode_line, last_crc
from memcache_kv.journal.recovery import Progress, Replay, Survey
from memcache_kv.journal.tools.snapshot import Snapshot, read_blocks
from memcache_kv.journal.tools.spill import Spill
from memcache_kv.store.entry import Entry
from memcache_kv.store.shard import Shard
from memcache_kv.store.store import ItemStore

SHARE_BYTES = 8 * 1024 * 1024
"""About how many bytes of the journal belong to one share."""
HELD_BYTES = 16 * 1024 * 1024
"""So many bytes of records are kept in memory before they are written to the temporary file."""
UNLIMITED_BYTES = 1 << 60

Follow = Callable[[Record], None]
"""Called with every record but those that `plain_sets` counts, in order."""
EndsBefore = Callable[[Record], bool]
"""Tells whether the earlier part of a journal ends before a record. Called with the same records, before `Follow`."""


class Share:
    """The records of some of the keys: those in the temporary file, and those that are not written yet."""

    __slots__ = ("queue", "chain", "extents", "cut_at", "before_cut", "rest")

    def __init__(self) -> None:
        self.queue: list[Entry] = []
        """Keys and entries in turn, or ENCODED and lines."""
        self.chain = 0
        """The checksum of the last encoded line."""
        self.extents = array("Q")
        """Offsets and lengths in the file in turn."""
        self.cut_at = 0
        """How many numbers of `extents` belong to the earlier part."""
        self.before_cut = b""
        """The last lines of the earlier part. They stay in memory, and so do the last lines of all."""
        self.rest = b""

    def encoded(self) -> bytes:
        """Take what is not encoded yet, as lines."""
        data, self.chain = encode_queue(self.queue, 0, self.chain)
        self.queue.clear()
        return data

    def cut(self) -> None:
        """End the earlier part here."""
        self.cut_at, self.before_cut = len(self.extents), self.encoded()

    def end(self) -> None:
        """Take no more records."""
        self.rest = self.encoded()


class DividedJournal:
    """The records of a journal, and the live items that result from them, one share after the other.

    Everything is read when this is made; the snapshot is not needed after that. Use it as a context, whose end frees
    the temporary disk space: as much as the journal's length, in the directory that TMPDIR names.

    follow: see `Follow`. progress: called after each block that was read. manifest: the files to read, those of the
    journal by default. ends_before: see `EndsBefore`; without it, all of the journal is its earlier part.

    Raises JournalCorrupt, with the file and the offset, for damage that is not a tail, and JournalError.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        follow: Follow = lambda record: None,
        progress: Progress | None = None,
        manifest: Manifest | None = None,
        ends_before: EndsBefore = lambda record: False,
    ) -> None:
        self.plain_sets = 0
        """How many `set` records were not passed to `follow`."""
        self.is_cut = False
        """Whether the earlier part ends before the journal does."""
        self.plain_sets_before_cut = 0
        """How many of them are in the earlier part, if it does."""
        self.clock = Clock()
        self._follow = follow
        self._ends_before = ends_before
        self._shares = [Share() for _ in range(1 + snapshot.total_bytes // SHARE_BYTES)]
        self._common = Share()
        """What concerns all keys."""
        self._held_bytes = 0
        self._spill = Spill()
        self._survey = Survey(self.clock.now)
        self.found = self._survey.found
        """The totals of all records."""
        self.shares_read = 0
        """How many shares were read of those that are being read."""
        try:
            for done, total in read_blocks(snapshot, self._divide, manifest):
                if progress is not None:
                    progress(done, total, self.found.records)
            self._survey.finish()
            for share in self._all_shares():
                share.end()
        except BaseException:
            self.close()
            raise

    # Dividing

    def _divide(self, block: bytearray, before: int) -> None:
        """Check a block of lines and divide it. Raises ValueError at the first invalid record."""
        parsed = parse_block(block, before)
        keys, entries = parsed.lines(0, len(parsed), 0)
        self._survey.count(keys, entries)
        queues = [share.queue for share in self._shares]
        count = len(queues)
        for key, entry in zip(keys, entries, strict=True):
            if entry is None:
                self._divide_other(key, decode_line(key), queues)
            else:
                queues[crc32(key) % count] += (key, entry)
                self.plain_sets += 1
        self._held_bytes += len(block)
        if self._held_bytes > HELD_BYTES:
            self._write_out()

    def _divide_other(self, line: bytes, record: Record, queues: list[list[Entry]]) -> None:
        if not self.is_cut and self._ends_before(record):
            self._cut()
        self._follow(record)
        if record.op not in ("start", "time", "end", "flush"):
            queues[crc32(record.key_bytes()) % len(queues)] += (ENCODED, line + b"\n")
        elif record.op == "flush" or record.stepped is not None:
            for share in self._all_shares():
                share.queue += (ENCODED, line + b"\n")
            self._held_bytes += len(line) * len(queues)

    def _cut(self) -> None:
        """End the earlier part here."""
        self.is_cut, self.plain_sets_before_cut = True, self.plain_sets
        for share in self._all_shares():
            share.cut()

    def _all_shares(self) -> Iterator[Share]:
        yield self._common
        yield from self._shares

    def _write_out(self) -> None:
        for share in self._all_shares():
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

    @property
    def earlier_flush_at(self) -> int:
        """The unix time of a flush that waited at the end of the earlier part; 0 if none did."""
        return self._replayed_earlier(self._common).flush_at

    def stores(self) -> Iterator[ItemStore]:
        """Yield a store with the live items of each share. It is emptied when the next one is asked for."""
        return self._stores(self._replayed)

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all live items."""
        for store in self.stores():
            yield from store.items()

    def earlier_items(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all items that were live at the end of the earlier part, and would be now.

        A flush that waited then is not carried out.
        """
        for store in self._stores(self._replayed_earlier):
            yield from store.items()

    def _stores(self, replayed: Callable[[Share], ItemStore]) -> Iterator[ItemStore]:
        self.shares_read = 0
        for share in self._shares:
            store = replayed(share)
            yield store
            for shard in store.shards:
                shard.table.clear()
            self.shares_read += 1

    def _replayed(self, share: Share) -> ItemStore:
        store, replay = self._applied(self._blocks_of(share))
        replay.apply([Record("time", at=self.found.last_at)])
        replay.finish()
        store.new_second()  # carry out a flush that is due, as a server does at its start
        return store

    def _replayed_earlier(self, share: Share) -> ItemStore:
        store, replay = self._applied(self._earlier_blocks_of(share) if self.is_cut else self._blocks_of(share))
        replay.follow_steps(self.found.stepped)
        return store

    def _applied(self, blocks: Iterable[bytes]) -> tuple[ItemStore, Replay]:
        store = ItemStore(self.clock, limit_bytes=UNLIMITED_BYTES, shards=1)
        replay = Replay(store)
        before = 0
        for data in blocks:
            replay.apply_parsed(parse_block(data, before))
            before = last_crc(data)
        return store, replay

    def _earlier_blocks_of(self, share: Share) -> Iterator[bytes]:
        yield from self._spill.read(share.extents[: share.cut_at])
        if share.before_cut:
            yield share.before_cut

    def _blocks_of(self, share: Share) -> Iterator[bytes]:
        yield from self._earlier_blocks_of(share)
        yield from self._spill.read(share.extents[share.cut_at :])
        if share.rest:
            yield share.rest

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
