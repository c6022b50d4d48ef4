"""Appending queued records to the journal's file. Nothing here waits for the disk."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from memcache_kv.journal.codec import encode_queue, rechained
from memcache_kv.journal.files import JournalFiles
from memcache_kv.journal.record import ENCODED, Record, line_of
from memcache_kv.journal.record_queue import Batch, RecordQueue
from memcache_kv.unpatched import threading, time

RECORDS_AT_ONCE = 384
"""How many small records are encoded before other threads get their turn."""
ENCODE_SLICE_BYTES = 128 * 1024
"""Fewer records are encoded at once if they are longer than this together."""
ENCODE_PAUSE_SECONDS = 0.00005
"""The least time for which other threads get their turn then."""
HAND_OVER_BYTES = 256 * 1024
"""A worker leaves more queued bytes than this to the journal's thread, if that has nothing else to do."""
LINES_AT_ONCE_BYTES = 1 << 20
"""Encoded lines are written once they are so long together."""
UNSYNCED_LIMITS = 2
"""Clients that write wait while the lines that are not synced take this many times the limit of the queue."""


class Extent(NamedTuple):
    """How far the journal was written at some moment."""

    position: int
    lines: int
    """How many of the kept lines."""
    at: float


class Kept(NamedTuple):
    """Lines that are written but not synced."""

    lines: bytes
    wall_ahead: int
    """How many seconds the wall clock was ahead before the first of them."""


class Appender:
    """Appends records in the order of the queue, one thread at a time, and keeps the lines that are not synced.

    Whoever changes the file that is appended to, or `has_failed`, holds `lock`. It is held while records are taken,
    encoded and written; nobody who holds it waits for the disk. The journal's lock for files is taken before it.

    keeps_lines: whether lines are kept until they are synced. monotonic: the clock, in seconds.
    """

    def __init__(
        self, queue: RecordQueue, files: JournalFiles, keeps_lines: bool, monotonic: Callable[[], float]
    ) -> None:
        self.lock = threading.Lock()
        self.written = 0
        self.synced = 0
        """How many of the queued records are written, and how many are on disk."""
        self.unsynced_since = 0.0
        """When the oldest record was written that is not on disk."""
        self.unsynced_bytes = 0
        """The length of the kept lines."""
        self.has_failed = False
        """Whether an fsync of the present file has failed, so that nothing may be appended to it."""
        self.is_full = False
        """Whether the file may not grow any more, by a limit of the file system or of the process."""
        self.is_left_alone = False
        """Whether the journal's thread is busy, so that nothing can be left to it."""
        self._queue = queue
        self._files = files
        self._keeps_lines = keeps_lines
        self._monotonic = monotonic
        self._unsynced: list[Kept] = []

    def append_at_once(self) -> bool:
        """Append all queued records, unless that may take long. Returns whether they are written.

        For a worker, before it sends the replies. Raises OSError; then they are still in the queue.
        """
        if not self.lock.acquire(blocking=False):
            return False
        try:
            queue = self._queue
            if self.has_failed or self.is_full or queue.refuses:
                return False
            if self.keeps_too_much:
                return False
            if queue.queued_bytes > HAND_OVER_BYTES and not self.is_left_alone:
                return False
            self._append(pauses=False)
            return True
        finally:
            self.lock.release()

    @property
    def keeps_too_much(self) -> bool:
        """Whether the lines that are not synced are so many that nothing is appended before they are."""
        return self.unsynced_bytes > UNSYNCED_LIMITS * self._queue.queue_limit_bytes

    def append(self, pauses: bool = True) -> bool:
        """Append all queued records. Returns whether there were any.

        Does nothing while the present file may not be appended to. Raises OSError; then they are still in the queue.
        pauses: whether other threads get their turn now and then.
        """
        with self.lock:
            return not (self.has_failed or self.is_full) and self._append(pauses)

    def _append(self, pauses: bool) -> bool:
        batch = self._queue.take()
        if not batch.queue:
            return False
        claim = self._claim()
        if self.synced == self.written:
            self.unsynced_since = self._monotonic()
        pieces = self._encoded(batch, claim, pauses)
        for data, chain in pieces:
            try:
                self._files.append(data, chain)
            except OSError as error:
                rest = b"".join([data, *(more for more, _ in pieces)])
                self._queue.put_back(batch._replace(queue=[ENCODED, rest]))
                self.is_full = error.errno == errno.EFBIG
                raise
            if self._keeps_lines:
                self._unsynced.append(Kept(data, batch.began_ahead))
                self.unsynced_bytes += len(data)
        if claim:
            self._files.claimed_bytes = claim.synced
        self.written, self._queue.taken_bytes = batch.position, 0
        return True

    def _claim(self) -> Record | None:
        """Return a record that says how much of the file is on disk; None if no more is than records say already.

        A start refuses damage before that place, and cuts off what is damaged behind it.
        """
        synced = self._files.synced_bytes
        if not self._keeps_lines or synced <= self._files.claimed_bytes:
            return None
        return Record("time", synced=synced)

    def _encoded(self, batch: Batch, claim: Record | None, pauses: bool) -> Iterator[tuple[bytes, int]]:
        """Yield the lines of queued records in pieces, a claim before them, and the checksum of each piece's last line.

        If that fails, the records that are not in a piece yet are back in the queue. A batch with a step of the wall
        clock in it is one piece, as it can't be known on which side of the step the rest would be.
        """
        queue = batch.queue
        most = LINES_AT_ONCE_BYTES if batch.began_ahead == batch.wall_ahead else sys.maxsize
        fitting = ENCODE_SLICE_BYTES * len(queue) // 2 // max(1, batch.queued_bytes)
        step = 2 * max(1, min(RECORDS_AT_ONCE, fitting))
        slices: list[bytes] = []
        size, first, chain = 0, 0, self._files.end.chain
        try:
            if claim is not None:
                data, chain = rechained(line_of(claim), chain)
                slices.append(data)
            for start in range(0, len(queue), step):
                if start and pauses:
                    time.sleep(ENCODE_PAUSE_SECONDS)
                data, chain = encode_queue(queue[start : start + step], batch.wall_ahead, chain)
                slices.append(data)
                size += len(data)
                if size >= most and start + step < len(queue):
                    whole, slices, size, first = b"".join(slices), [], 0, start + step
                    del data
                    yield whole, chain
        except BaseException:
            self._queue.put_back(batch._replace(queue=queue[first:]))
            raise
        yield b"".join(slices), chain

    # What is on disk

    @property
    def extent(self) -> Extent:
        """How far the journal is written. An fsync that begins after this was read brings all of it to the disk."""
        with self.lock:
            return Extent(self.written, len(self._unsynced), self._monotonic())

    @property
    def unsynced(self) -> Kept | None:
        """The lines that are written but not synced, which are written again if their fsync fails; None for none."""
        kept = self._unsynced
        return Kept(b"".join([each.lines for each in kept]), kept[0].wall_ahead) if kept else None

    def sync_failed(self) -> None:
        """Append nothing to the present file any more."""
        with self.lock:
            self.has_failed = True

    def go_on_with_new_file(self, extent: Extent) -> None:
        """Append again after a failed fsync: a new file holds what was written, and is on disk."""
        self.synced_up_to(extent)
        with self.lock:
            self.has_failed = False

    def synced_up_to(self, extent: Extent) -> None:
        """Count as synced what was written at some moment, or a part of it."""
        with self.lock:
            done = self._unsynced[: extent.lines]
            del self._unsynced[: extent.lines]
            self.unsynced_bytes -= sum(len(each.lines) for each in done)
            self.synced, self.unsynced_since = max(self.synced, extent.position), extent.at
