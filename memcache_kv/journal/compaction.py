"""Rewriting the journal while the server runs: a new base holds the live items and replaces the records behind it.

First the journal continues in a new increment. Then the base is written from the store as it is at that time, a few
items at a time. Writes made meanwhile go to the new increment. Its records do not depend on earlier values, so the
result is the same whether or not the base includes these writes. Last, a manifest names the two files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from memcache_kv.compiled import ACCELERATED
from memcache_kv.errors import JournalLost
from memcache_kv.journal.codec import encode_queue, rechained, take_live
from memcache_kv.journal.disk import File, write_all
from memcache_kv.journal.record import Record, Room, line_of
from memcache_kv.journal.writer import Journal
from memcache_kv.observe.log import Log
from memcache_kv.store.entry import moved
from memcache_kv.store.shard import Shard
from memcache_kv.store.store import ItemStore
from memcache_kv.store.time import Time
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading, time

ITEMS_AT_ONCE = 500 if ACCELERATED else 100
"""Items looked up at once. Compiled, only that keeps other threads from running; otherwise encoding them does, too."""
COMPILED_SLICE_BYTES = 128 * 1024
REWRITE_SLICE_BYTES = COMPILED_SLICE_BYTES if ACCELERATED else 64 * 1024
"""Fewer items are taken if they are longer than this together."""
REWRITE_PAUSE_SECONDS = 0.0006 if ACCELERATED else 0.001
"""How long the rewrite pauses between two slices. It bounds how fast a journal is rewritten."""
SYNC_BYTES = 8 * 1024 * 1024
"""The base is synced after this many bytes, so that no fsync of the increment waits for a whole base."""
MIN_REWRITE_BYTES = 64 * 1024 * 1024
"""A shorter journal is not rewritten unless a client asks for it."""
DUE_CHECK_SECONDS = 1.0
BACK_OFF_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 3600.0
"""After a failure the rewrite is retried after the first of these times, then after twice as long each time, up to the
second."""
RECORD_OVERHEAD_BYTES = 100
"""The most that a record needs besides its key and value, if neither is written in base64."""


class ItemSource(Protocol):
    """What holds the live items for a new base; a Store is one."""

    @property
    def clock(self) -> Time:
        """The clock by which they expire."""

    @property
    def flush_at(self) -> int:
        """The unix time of a flush that waits; 0 if none does."""

    @property
    def shards(self) -> Iterable[Shard]:
        """The tables of the items, which are read once, in order."""

    @property
    def used_bytes(self) -> int:
        """The memory that all items take, if it is known."""

    def __len__(self) -> int:
        """Count the items that are known."""


class Compaction:
    """One rewrite: `steps` does the work in slices, `discard` removes what an unfinished one left."""

    def __init__(self, journal: Journal, store: ItemSource) -> None:
        self._journal = journal
        self._store = store
        self._files = journal.files
        self._file: File | None = None
        self.bytes = 0
        self.items = 0
        self.replaced_bytes = 0
        """The total length of the files that the base replaces."""
        self._records = 1
        self._chain = 0
        """The checksum of the base's last record."""
        self._number = 0
        self._wall_ahead = 0
        """How many seconds the wall clock, by which expiry times are written, is ahead of the store's clock."""
        self._is_named = False
        self._unsynced = 0

    def steps(self) -> Iterator[None]:
        """Write a new base and let it replace the older files, yielding between two slices of work.

        Raises OSError; ENOSPC is raised before anything is written if the disk is likely to be too small. Raises
        JournalLost when another process may use the directory.
        """
        self._check_space()
        with self._journal.files_lock:  # another thread may rotate too
            self._number = self._journal.rotate()
            self.replaced_bytes = self._files.closed_bytes
            self._wall_ahead = ahead = self._journal.rotated_ahead
            follows = self._journal.rotated_follows
        self._file = self._files.disk.create(self._files.base_path(self._number))
        self._write_line(self._journal.start_line(follows=follows, ahead=ahead, serial=self._files.serial_on_disk))
        if self._store.flush_at:
            self._write_line(line_of(Record("flush", at=moved(self._store.flush_at, ahead))))
            self._records += 1
        for shard in self._store.shards:
            for data, chain in self._slices(shard):
                self._write(data, chain)
                yield
        self._write_line(line_of(Record("end", at=self._store.clock.now + ahead, count=self._records + self.items)))
        self._file.sync()
        yield
        self._files.name_base(self._number)
        self._is_named = True
        yield
        self._journal.adopt(self._number, self.bytes)
        self._file.close()
        self._file = None

    def discard(self) -> None:
        """Remove the files of an unfinished base. Does nothing after a rewrite that succeeded."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):  # the caller reports the failure; the next start removes what is left
                self._files.drop_base(self._number, self._is_named)

    def _check_space(self) -> None:
        """Raise ENOSPC if the disk may have no room for the base beside the old files.

        Kept generations are dropped if that makes the room.
        """
        most = self._store.used_bytes * 4 // 3 + len(self._store) * RECORD_OVERHEAD_BYTES
        self._journal.make_room(min(most, self._files.total_bytes))

    def _slices(self, shard: Shard) -> Iterator[tuple[bytes, int]]:
        """Yield the records of a shard's items, a few at a time, and the checksum of the last of them."""
        with shard.lock:
            keys = list(shard.table)
        keys.reverse()  # the first ones are at the end, from where each slice takes its own and lets go of them
        while keys:
            with shard.lock:  # no write to the shard is in progress
                found = take_live(shard.table, keys, self._store.clock.now, ITEMS_AT_ONCE, REWRITE_SLICE_BYTES)
            self.items += len(found) // 2
            yield encode_queue(found, self._wall_ahead, self._chain)

    def _write_line(self, line: bytes) -> None:
        self._write(*rechained(line, self._chain))

    def _write(self, data: bytes, chain: int) -> None:
        assert self._file is not None
        write_all(self._file, data)
        self._chain = chain
        self.bytes += len(data)
        self._unsynced += len(data)
        if self._unsynced > SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0


class Compactor(ServerThread):
    """Rewrite the journal when it has grown, when a client asks for it, and when one of its files is gone.

    Reads the store under its shards' locks, a few items at a time, and writes a file of its own; the journal swaps the
    files. Any thread may call `request` and `stop` and read the counts.

    ratio: how many times as long as after the last rewrite the journal may become; 0 rewrites it only on request.
    min_bytes: a shorter journal is never due. is_held: whether the journal holds items that the store had no room for.
    Such a journal is not rewritten until a client asks for it, however long it becomes.
    """

    def __init__(
        self,
        journal: Journal,
        store: ItemStore,
        ratio: float,
        log: Log,
        min_bytes: int = MIN_REWRITE_BYTES,
        is_held: bool = False,
    ) -> None:
        super().__init__("compactor")
        self.running = False
        """Whether a rewrite is in progress or was requested."""
        self.done = 0
        self.failures = 0
        self.last_seconds = 0.0
        """How long the last successful rewrite took."""
        self._journal = journal
        self._store = store
        self.ratio = ratio
        self._log = log
        self.min_bytes = min_bytes
        self._is_held = is_held
        self._wake = threading.Event()
        self._is_stopping = False
        self._lock = threading.Lock()
        """Held while `running` and `_requested` are read and set together."""
        self._requested = False
        self.not_before = 0.0
        """No rewrite is due before this monotonic time, which is set by a failure."""
        self._back_off_seconds = BACK_OFF_SECONDS
        self._was_lost = False
        """Whether a file was missing at the last check."""

    def request(self) -> bool:
        """Ask for a rewrite now. Returns False if one is in progress already."""
        with self._lock:
            if self.running:
                return False
            self.running = self._requested = True
        self._wake.set()
        return True

    def request_stop(self) -> None:
        """Ask the thread to end, in the middle of a rewrite too. Returns at once."""
        self._is_stopping = True
        self._wake.set()

    def stop(self) -> None:
        """End the thread, in the middle of a rewrite too. Blocks until it has ended."""
        self.request_stop()
        self.join()

    def work(self) -> None:
        """Rewrite the journal whenever that is due or requested, until `stop`."""
        while not self._is_stopping:
            self._wake.wait(DUE_CHECK_SECONDS)
            self._wake.clear()
            if self._is_stopping or not (self._requested or self.is_due()):
                continue
            with self._lock:
                self.running, self._requested = True, False
            try:
                self.rewrite()
            except Exception as error:  # a bug; the journal is written on without a rewrite
                self._failed(error)
            finally:
                self.running = False

    def is_due(self) -> bool:
        """Tell whether the journal has grown so much, or lost a file, that it must be rewritten without a request."""
        failure = self._journal.failure
        is_lost = isinstance(failure, JournalLost) and failure.is_ours
        if is_lost and not self._was_lost:
            self.not_before, self._back_off_seconds = (
                0.0,
                DUE_CHECK_SECONDS,
            )  # do not wait for a back-off: data is missing on disk
        self._was_lost = is_lost
        if time.monotonic() < self.not_before or (failure is not None and not is_lost):
            return False
        if is_lost:
            return True
        files = self._journal.files
        base_bytes = files.base.bytes if files.base is not None else 0
        is_long = files.total_bytes > self.ratio * max(base_bytes, self.min_bytes)
        return self.ratio > 0 and is_long and not self._is_held

    def rewrite(self) -> None:
        """Rewrite the journal in the calling thread. A failure is logged and delays the next rewrite."""
        began = time.monotonic()
        work = Compaction(self._journal, self._store)
        try:
            for _ in work.steps():
                if self._is_stopping:
                    return
                time.sleep(REWRITE_PAUSE_SECONDS)
        except (OSError, JournalLost) as error:
            self._failed(error)
            return
        finally:
            work.discard()
        self.done += 1
        self._is_held = False
        self._journal.set_room(Room(self._store.limit_bytes, self._store.max_items))
        self.last_seconds = time.monotonic() - began
        self.not_before, self._back_off_seconds = 0.0, BACK_OFF_SECONDS
        self._log.say(
            f"rewrote the journal: {work.items} items, {work.replaced_bytes:,} bytes before and {work.bytes:,} after, "
            f"in {self.last_seconds:.1f} s; {self._journal.files.total_bytes - work.bytes:,} bytes were added meanwhile"
        )

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.not_before = time.monotonic() + self._back_off_seconds
        self._log.failure(
            f"can't rewrite the journal in {self._journal.files.directory}",
            error,
            f"it is used as it is; the next rewrite starts in {self._back_off_seconds:.0f} s at the earliest",
        )
        self._back_off_seconds = min(self._back_off_seconds * 2, MAX_BACK_OFF_SECONDS)
