"""The journal of a running server: workers queue records, and one thread writes and syncs them."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import NamedTuple

from memcache_kv.config.settings import Fsync
from memcache_kv.errors import JournalFailed, JournalLost
from memcache_kv.journal.codec import encode_queue, rechained
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.files import JournalFiles
from memcache_kv.journal.manifest import Manifest
from memcache_kv.journal.record import (
    ENCODED,
    FORMAT_VERSION,
    UNLIMITED,
    Record,
    Room,
    line_of,
    mark_record,
    put_key,
    set_line,
)
from memcache_kv.store.entry import Entry, moved
from memcache_kv.threads import OnFault, ServerThread

GATHER_SECONDS = 0.008
"""How long records are gathered before one write, if no client waits for it. A `kill -9` under everysec or never loses
the records of this time, and of the time to encode and write them and to finish an fsync in progress."""
SYNC_SECONDS = 0.9
"""everysec: an fsync starts when the oldest record not yet on disk is this old. The rest of the second is for the
fsync."""
QUEUE_LIMIT_BYTES = 64 * 1024 * 1024
MIN_QUEUE_LIMIT_BYTES = 4 * 1024 * 1024
QUEUE_PART = 1 / 16
"""The limit of a journal's queue is this part of the memory for items, within the two limits above."""
GATHER_PART = 8
"""always: more writes are waited for in this part of an fsync's time."""
QUICK_SYNC_SECONDS = 0.001
"""always: if fsyncs take less than this on average, the worker itself makes them at the end of its turn."""
FILE_CHECK_SECONDS = 1.0
"""How often the journal checks that its files are still there, and retries a write that failed."""
QUEUES_IN_MEMORY = 5
THREAD_NAME = "journal"
QUEUED_OVERHEAD_BYTES = 64
"""What a queued record counts besides its key and entry; about what its line needs besides them."""
MAX_STAMP_INTERVAL_SECONDS = 60
"""While no record is written, the time is recorded after one second, then after twice as long each time, up to this. If
the clock is set back while no server runs, the next start assumes that no more time than this is missing."""
RECORDS_AT_ONCE = 384
"""How many small records are encoded before other threads get their turn."""
ENCODE_SLICE_BYTES = 128 * 1024
"""Fewer records are encoded at once if they are longer than this together."""
ENCODE_PAUSE_SECONDS = 0.00005
"""The least time for which other threads get their turn then."""


class Batch(NamedTuple):
    """The records that were taken from the queue, encoded."""

    data: bytes
    chain: int
    """The checksum of the last of them."""
    position: int
    """The journal's position after these records are written."""
    queued_bytes: int
    """What they count in the queue until then."""
    wall_ahead: int
    """How many seconds the wall clock was ahead before the first of them."""


class Journal:
    """An append-only log of writes, and the thread that writes its records in groups.

    Any thread may call the methods of WriteLog (`stored` and so on); they queue a record and return. `position` after a
    write is the position that the journal must reach before the write may be acknowledged: until then
    `must_wait(position)` is true. Callbacks given to `watch` are called on the writer's thread after every step.

    When a write or an fsync fails, `refuses` becomes true: the store rejects all writes, and clients that wait for a
    record get an error. Queued records stay in the queue and are written again every second, until that succeeds.

    The compiled requests queue their records themselves, as `put` does, with the attributes from `queue` to
    `unstamped_second`. They hold the GIL meanwhile, after they have found that nobody holds `queue_lock`.

    Call `start` to start the thread; tests call `step` instead. Hold `pause_writing` while using the files.

    directory: the locked directory.
    fsync: when records are synced.
    manifest: the journal to continue; None starts a new one.
    last_cas, room: stored in the start records. All CAS ids of this run are above the one; the live items fit into
      the other.
    say: called with a line for the log when trouble begins or ends.
    on_fault: called with the exception that ends the thread; nothing is written after that.
    monotonic, unix_time: the clocks, in seconds.
    queue_limit_bytes: when more than this waits to be written, clients that write wait for the disk. Written lines
      that are not synced are kept in memory too, and are synced at once when they reach this size.
    stepped: the sum of the wall clock's steps before this run, in seconds; None if there was none.
    prepare: does what must be done in the directory before anything is written, and may raise OSError. If it is
      given and an existing journal can't be written, that is a failure as above: both are retried.

    Expiry times are written by the wall clock. The store's clock does not follow the wall clock's steps; `follow_wall`
    tells the journal how far the two are apart.

    Raises JournalFailed if the files can't be opened or the start record can't be written, except as described for
    `prepare`.
    """

    def __init__(
        self,
        directory: JournalDirectory,
        fsync: Fsync,
        manifest: Manifest | None = None,
        last_cas: int = 0,
        say: Callable[[str], None] = lambda line: None,
        on_fault: OnFault = lambda name, error: None,
        monotonic: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        room: Room = UNLIMITED,
        queue_limit_bytes: int | None = None,
        stepped: int | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.queue_limit_bytes = QUEUE_LIMIT_BYTES if queue_limit_bytes is None else queue_limit_bytes
        self.fsync = fsync
        self.last_cas = last_cas
        self.room = room
        self.position = 0
        """The number of records queued so far."""
        self.written = 0
        self.synced = 0
        """How many of them are written, and how many are on disk."""
        self.queued_bytes = 0
        self.unsynced_bytes = 0
        self.failure: JournalFailed | JournalLost | None = None
        """The reason why nothing can be written; None if writing works."""
        self.fault: BaseException | None = None
        """The exception that ended the thread. Only a bug does that."""
        self.refuses = False
        self.pause_writing = threading.RLock()
        self._say, self._on_fault = say, on_fault
        self._monotonic, self._unix_time = monotonic, unix_time
        self._watchers: list[Callable[[], None]] = []
        self.may_delay = fsync is Fsync.ALWAYS
        """Whether a write may have to wait. If false, `own_position` and `must_wait` need not be called."""
        self.positions: dict[int, int] = {}
        """For each thread, the position of its last write."""
        self.queue_lock = threading.Lock()
        self._wake = threading.Event()
        self.is_awake = fsync is Fsync.ALWAYS
        """Whether the thread needs no wake-up for a new record: it got one, or (always) `commit` gives it."""
        self._closing = False
        self._unsynced_since = 0.0
        self._checked_at = self._failed_at = monotonic()
        self._thread: ServerThread | None = None
        self._begin_queue()
        self._begin_time(stepped)
        self._begin_counts()
        self._prepare = prepare
        self.files = JournalFiles(directory, manifest, self.start_line)
        try:
            self._open()
        except OSError as error:
            if prepare is None or manifest is None or isinstance(error, PermissionError):  # a retry can't help
                raise JournalFailed(f"can't write the journal in {directory.path}: {error.strerror}") from None
            self._fail(error)

    def _open(self) -> None:
        """Start writing. Raises OSError; then it must be called again."""
        if self._prepare is not None:
            self._prepare()
        self.files.open(partial(self.start_line, stepped=self.stepped(0)))

    def _begin_queue(self) -> None:
        self.queue: list[Entry] = []
        """Keys and entries in turn, or ENCODED and lines."""
        self._unsynced: list[bytes] = []
        """The lines that are written but not synced. They are written again if their fsync fails."""
        self._sync_failed = False
        self._file_is_full = False
        """Whether the file may not grow any more, by a limit of the file system or of the process."""

    def _begin_time(self, stepped: int | None) -> None:
        self.unstamped_second = 0
        """The second that has begun since the last record; 0 if none has."""
        self._stamped_second = int(self._unix_time())
        """The last second that a record gives."""
        self._stamp_interval_seconds = 1
        """How long after it the next one is recorded if nothing else is written."""
        self._stepped_before = stepped
        self._wall_ahead = 0
        """How many seconds the wall clock is ahead of the store's clock. The deadlines of queued entries move by
        this."""
        self._queue_ahead = 0
        """The same at the time of the first record in the queue."""
        self.rotated_ahead = 0
        """The same at the time of the last `rotate`."""
        self.rotated_follows = ""
        """What the increment that the last `rotate` began states about the file before it."""

    def _begin_counts(self) -> None:
        self.syncs = 0
        self.sync_seconds = 0.0
        self.longest_sync_seconds = 0.0
        self.average_sync_seconds = 0.01
        """Over the last dozen or so; an estimate before the first."""
        self.waits = 0
        """How many times a client had to wait for the disk before it got its reply."""
        self.refusals = 0
        """How many writes were rejected since the start."""
        self.failures = 0
        """How many times the disk began to fail."""

    def start_line(self, after: int = 0, follows: str = "", stepped: int | None = None) -> bytes:
        """Return the start record of a file.

        after: the length of the previous file in bytes, if no manifest has it yet. follows: the checksum of its last
        record. stepped: the sum of the wall clock's steps in seconds, if it has changed (see the method `stepped`).
        """
        now = int(self._unix_time())
        limit, items = self.room
        record = Record("start", cas=self.last_cas, at=now, version=FORMAT_VERSION, limit=limit, items=items)
        record.stepped, record.after, record.id, record.follows = stepped, after, self.files.id, follows
        return line_of(record)

    def set_room(self, room: Room) -> None:
        """Record that the journal's live items need this much room."""
        if room != self.room:
            self.room = room
            self._append(self.start_line())

    def widen_room(self, limit_bytes: int) -> None:
        """Record that the store may now use this many bytes, so that a server with less may lack room for its items."""
        self.set_room(self.room.joined(self.room._replace(limit_bytes=limit_bytes)))

    def stepped(self, wall_ahead: int) -> int | None:
        """Return the sum of the wall clock's steps when it is `wall_ahead` seconds ahead; None if there was none."""
        return None if self._stepped_before is None else self._stepped_before + wall_ahead

    # WriteLog

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Record that this value is now stored for the key."""
        self._append(set_line(key, flags, self._by_wall(deadline), cas, value, state))

    def put(self, key: bytes, entry: Entry) -> None:
        """Record the same for an entry. It is encoded later, many at once, which is faster."""
        lock = self.queue_lock
        lock.acquire()  # faster than `with`
        try:
            if self.unstamped_second:
                self._stamp_locked()
            self.queue += (key, entry)
            self.queued_bytes += len(key) + len(entry) + QUEUED_OVERHEAD_BYTES
            self.position += 1
            if self.queued_bytes > self.queue_limit_bytes:
                self.may_delay = True
            if self.may_delay:
                self.positions[get_ident()] = self.position
        finally:
            lock.release()
        if not self.is_awake:
            self.is_awake = True
            self._wake.set()

    def deleted(self, key: bytes) -> None:
        """Record that the key has no value any more."""
        self._append(line_of(put_key(Record("delete"), key)))

    def touched(self, key: bytes, deadline: int) -> None:
        """Record the key's new deadline."""
        self._append(line_of(put_key(Record("touch", exp=self._by_wall(deadline)), key)))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        """Record that the key's present value was given this CAS id.

        Does nothing while the disk fails, since a read may give an id: the next run's ids are all higher anyway.
        """
        if not self.refuses:
            self._append(line_of(put_key(Record("cas", cas=cas), key)))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Record the deadline, CAS id and state of the key's present value."""
        self._append(line_of(put_key(mark_record(self._by_wall(deadline), cas, state), key)))

    def flushed(self, at: int) -> None:
        """Record a flush of all items, at once (0) or at a unix time."""
        self._append(line_of(Record("flush", at=self._by_wall(at))))
        self._wake.set()  # a flush that fell due has no client that waits for it

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Record a step of the wall clock, and write later expiry times by its new time.

        Called while all keys are locked. Records in the queue belong to the time before, so they are encoded now.
        """
        with self.queue_lock:
            seconds, queue = wall_ahead - self._wall_ahead, self.queue
            if queue:
                self.queue = [ENCODED, encode_queue(queue, self._wall_ahead)[0]]
            self._stepped_before = self._stepped_before or 0
            self._wall_ahead, self.unstamped_second = wall_ahead, now
            self._stamp_locked()
        self._wake.set()
        way = "forward" if seconds > 0 else "back"
        self._say(f"the system's clock was set {way} by {abs(seconds)} s; items expire as if it had not been")

    def wake_up(self) -> None:
        """Have the thread write what is queued."""
        self._wake.set()

    def new_second(self, now: int) -> None:
        """Let the next record be preceded by the time: it was made at this unix time or later."""
        self.unstamped_second = now

    # For clients that wait

    def must_wait(self, position: int) -> bool:
        """Tell whether a client whose write is at this position must still wait for its reply.

        Under `always`, a client may wait for a write that fails: nothing is known then about whether it reached the
        disk.
        """
        if self.fsync is Fsync.ALWAYS:
            return self.synced < position
        return self.queued_bytes > self.queue_limit_bytes and not self.refuses

    def own_position(self) -> int:
        """Return the position of the calling thread's last write while `may_delay` was true; 0 for none."""
        return self.positions.get(get_ident(), 0)

    def commit(self) -> None:
        """Have all queued records written now. Called by a thread that waits for them, after all its other work.

        Under `always` with short fsyncs, the caller writes and syncs them itself, instead of waiting for the journal's
        thread. This may block for an fsync.
        """
        if self.fsync is Fsync.ALWAYS and self.average_sync_seconds < QUICK_SYNC_SECONDS and not self.refuses:
            self._try_step()
        else:
            self._wake.set()

    @property
    def gather_seconds(self) -> float:
        """How long a worker waits for more writes to commit, if none comes meanwhile: a part of the time of an fsync.

        Where that is long, the journal's thread waits instead.
        """
        average = self.average_sync_seconds
        return average / GATHER_PART if average < QUICK_SYNC_SECONDS else 0.0

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this function on the writer's thread after every step that it made."""
        self._watchers.append(callback)

    @property
    def max_memory_bytes(self) -> int:
        """The most memory for the queue, for twice as much and more while it is encoded, and for unsynced lines."""
        return QUEUES_IN_MEMORY * self.queue_limit_bytes

    @property
    def lag_records(self) -> int:
        """The number of records that are not yet as safe as the fsync policy asks for."""
        return self.position - (self.written if self.fsync is Fsync.NEVER else self.synced)

    @property
    def lag_seconds(self) -> float:
        """How long the oldest record has been written without being on disk; 0 if there is none."""
        return 0.0 if self.synced == self.written else self._monotonic() - self._unsynced_since

    # The thread

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread = ServerThread(THREAD_NAME, self._run)
        self._thread.on_fault = self._end_by_fault
        self._thread.start()

    def close(self) -> None:
        """Write and sync all queued records, whatever the fsync policy, and end the thread. Blocks until done.

        Raises JournalFailed if that fails.
        """
        self._closing = True
        self._stamp_time(at_once=True)
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self.pause_writing:
            self.step(closing=True)
            try:
                if self.files.is_open:
                    self.files.close()
            except (OSError, JournalLost) as error:
                self._fail(error)
        if self.synced < self.position or self.failure is not None:
            raise JournalFailed(f"{self.failure}; {self._what_may_be_lost()} at the end")

    def _what_may_be_lost(self) -> str:
        unwritten, unsynced = self.position - self.written, self.written - self.synced
        written = f"{unsynced} records were written and may not be on disk" if unsynced else ""
        if not unwritten:
            return written or "all records are on disk"
        lost = f"{unwritten} records could not be written"
        return f"{lost}, and {written}" if written else lost

    def _run(self) -> None:
        while not self._closing and self.fault is None:
            self._wake.wait(self._seconds_until_due())
            self._wake.clear()
            if not self._closing:
                self._gather()
            self._try_step()

    def _gather(self) -> None:
        """Wait for more records, which are then written together.

        Under `always` this takes a part of an fsync's time, so that the clients that just got their replies can send
        their next writes.
        """
        if self.fsync is Fsync.ALWAYS:
            time.sleep(min(self.average_sync_seconds, GATHER_SECONDS) / GATHER_PART)
        else:
            time.sleep(GATHER_SECONDS)
            self.is_awake = False

    def _try_step(self) -> None:
        """Do what is due. A bug here must cost the clients no more than the journal."""
        try:
            self.step()
        except Exception as error:
            self._end_by_fault(THREAD_NAME, error)

    def _end_by_fault(self, name: str, error: BaseException) -> None:
        """Reject all writes from now on, and report the exception so that the server ends."""
        self.fault, self.refuses = error, True
        self._on_fault(name, error)

    def _seconds_until_due(self) -> float:
        """Return how long there is nothing to do if no record is queued."""
        due = self._checked_at + FILE_CHECK_SECONDS
        if self.fsync is Fsync.EVERYSEC and self.synced < self.written and not self.refuses:
            due = min(due, self._unsynced_since + SYNC_SECONDS)
        return max(0.0, due - self._monotonic())

    def step(self, closing: bool = False) -> None:
        """Write queued records and sync what is due; check the files, and retry after a failure, once a second."""
        with self.pause_writing:
            now = self._monotonic()
            looks = closing or now - self._checked_at >= FILE_CHECK_SECONDS
            if looks:
                self._checked_at = now
            try:
                if looks:
                    self._check_files()
                if not self.refuses or looks:
                    self._write_and_sync(closing)
            except (OSError, JournalLost) as error:
                self._fail(error)
        for callback in self._watchers:
            callback()

    def _check_files(self) -> None:
        """Check that the files are still there."""
        if self.files.is_open:
            self.files.check()
        else:
            self._open()
        self._stamp_time()

    def _write_and_sync(self, closing: bool) -> None:
        if self._sync_failed:
            self._write_again()
        if self._file_is_full:
            self._begin_increment()
        self._write()
        if self.refuses or closing or self._sync_is_due():
            self._sync()
        if self.refuses:
            self._recovered()

    def _sync_is_due(self) -> bool:
        if self.synced == self.written or self.fsync is Fsync.NEVER:
            return False
        if self.fsync is Fsync.ALWAYS or self.unsynced_bytes > self.queue_limit_bytes:
            return True
        return self._monotonic() - self._unsynced_since >= SYNC_SECONDS

    def _write(self) -> None:
        """Write the queued records. Raises OSError; then they are still in the queue."""
        stamp, synced_bytes = self._synced_stamp(), self.files.synced_bytes
        batch = self._take(stamp)
        data = batch.data
        if not data:
            return
        try:
            self.files.append(data, batch.chain)
        except OSError as error:
            self._put_back([ENCODED, data], batch.wall_ahead)
            self._file_is_full = error.errno == errno.EFBIG
            raise
        if stamp:
            self.files.claimed_bytes = synced_bytes
        if self.synced == self.written:
            self._unsynced_since = self._monotonic()
        if self.fsync is not Fsync.NEVER:
            self._unsynced.append(data)
            self.unsynced_bytes += len(data)
        self._count_written(batch)

    def _synced_stamp(self) -> bytes:
        """Return a record that says how much of the file is on disk; empty if no more is than records say already.

        A start refuses damage before that place, and cuts off what is damaged behind it.
        """
        synced = self.files.synced_bytes
        if self.fsync is Fsync.NEVER or synced <= self.files.claimed_bytes:
            return b""
        return line_of(Record("time", synced=synced))

    def _take(self, stamp: bytes = b"") -> Batch:
        """Take all records from the queue and encode them. Those taken before have been written or put back.

        stamp: a record that goes before them, if there are any.
        """
        with self.queue_lock:
            queue, self.queue = self.queue, []
            position, queued_bytes = self.position, self.queued_bytes
            began, self._queue_ahead = self._queue_ahead, self._wall_ahead
        try:
            return Batch(*self._encoded(queue, queued_bytes, self._queue_ahead, stamp), position, queued_bytes, began)
        except BaseException:
            self._put_back(queue, began)
            raise

    def _encoded(self, queue: list[Entry], queued_bytes: int, wall_ahead: int, stamp: bytes) -> tuple[bytes, int]:
        """Encode queued records. Pauses now and then, except in a worker, whose clients wait for it."""
        fitting = ENCODE_SLICE_BYTES * len(queue) // 2 // max(1, queued_bytes)
        step = 2 * max(1, min(RECORDS_AT_ONCE, fitting))
        first, chain = rechained(stamp if queue else b"", self.files.chain)
        slices = [first]
        for start in range(0, len(queue), step):
            if start and get_ident() not in self.positions:
                time.sleep(ENCODE_PAUSE_SECONDS)
            data, chain = encode_queue(queue[start : start + step], wall_ahead, chain)
            slices.append(data)
        return b"".join(slices), chain

    def _put_back(self, queue: list[Entry], wall_ahead: int) -> None:
        with self.queue_lock:
            self.queue[:0] = queue
            self._queue_ahead = wall_ahead

    def _count_written(self, batch: Batch) -> None:
        self.written = batch.position
        with self.queue_lock:
            self.queued_bytes -= batch.queued_bytes
            self.may_delay = self.fsync is Fsync.ALWAYS or self.queued_bytes > self.queue_limit_bytes

    def _sync(self, first: int = 0) -> None:
        """Sync the records that were written, from the increment of this number on."""
        began = time.perf_counter()
        try:
            self.files.sync(first)
        except OSError:
            self._sync_failed = True
            raise
        took = time.perf_counter() - began
        self.sync_seconds += took
        self.longest_sync_seconds = max(self.longest_sync_seconds, took)
        self.average_sync_seconds += (took - self.average_sync_seconds) / 8
        self.syncs += 1
        if self.files.is_synced:
            self._all_synced()

    def _all_synced(self) -> None:
        self.synced = self.written
        self._unsynced.clear()
        self.unsynced_bytes = 0

    def _write_again(self) -> None:
        """Write to a new increment the records that the old one may have lost when its fsync failed."""
        self.files.replace_tail(None if self.fsync is Fsync.NEVER else b"".join(self._unsynced))
        self._sync_failed = False
        self._all_synced()

    # For the rewrite

    def rotate(self) -> int:
        """Continue in a new increment and return its number. All records from now on are in it or in a later one.

        Under `never` this does not wait for the disk. Raises OSError and JournalLost.
        """
        with self.pause_writing:
            return self._begin_increment()

    def _begin_increment(self) -> int:
        """Start a new increment. If nothing can be written to the old one, it begins with the queued records."""
        if not self.files.is_open:
            self._open()
        if self._sync_failed:
            self._write_again()
        if not self.refuses:
            self._write()
        waits = self.fsync is not Fsync.NEVER or self.refuses
        if waits:
            self._sync()
        batch = self._take()
        try:
            number = self.files.rotate(batch.data) if waits else self.files.rotate_unsynced(batch.data)
        except (OSError, JournalLost):
            self._put_back([ENCODED, batch.data], batch.wall_ahead)
            raise
        self.rotated_ahead, self.rotated_follows = batch.wall_ahead, self.files.follows
        self._count_written(batch)
        if waits:
            self._all_synced()
        self._file_is_full = False
        return number

    def adopt(self, number: int, size: int) -> None:
        """Let a base, which has its final name, replace all files before the increment of its number.

        size: its length in bytes. All writes that the base may include are synced first, so that no later write is on
        disk without an earlier one. Raises OSError and JournalLost.
        """
        with self.pause_writing:
            if self._sync_failed:
                self._write_again()
            self._write()
            self._sync(number)
            self.files.adopt_base(number, size)
            self._all_synced()

    # A disk that fails

    def _fail(self, error: OSError | JournalLost) -> None:
        if isinstance(error, JournalLost):
            failure: JournalFailed | JournalLost = error
        else:
            reason = error.strerror or error
            failure = JournalFailed(f"can't write the journal in {self.files.directory}: {reason}")
        if str(failure) != str(self.failure):
            self._say(f"{failure}; writes are rejected until it can be written; reads go on")
        if not self.refuses:
            self.failures += 1
            self._failed_at = self._monotonic()
        self.failure, self.refuses = failure, True

    def _recovered(self) -> None:
        self.failure, self.refuses = None, False
        self._say(f"the journal is written again, after {self._monotonic() - self._failed_at:.0f} s")

    # The queue

    def _append(self, line: bytes) -> None:
        self.put(ENCODED, line)

    def _by_wall(self, deadline: int) -> int:
        return moved(deadline, self._wall_ahead) if self._wall_ahead else deadline

    def _stamp_time(self, at_once: bool = False) -> None:
        """Record the time without a write, if that is due and the disk works."""
        with self.queue_lock:
            passed = self.unstamped_second - self._stamped_second
            if self.unstamped_second and not self.refuses and (at_once or passed >= self._stamp_interval_seconds):
                longer = min(2 * self._stamp_interval_seconds, MAX_STAMP_INTERVAL_SECONDS)
                self._stamp_locked()
                self._stamp_interval_seconds = longer

    def _stamp_locked(self) -> None:
        ahead = self._wall_ahead
        stamp = line_of(Record("time", at=self.unstamped_second + ahead, stepped=self.stepped(ahead)))
        self._stamped_second, self.unstamped_second, self._stamp_interval_seconds = self.unstamped_second, 0, 1
        self.queue += (ENCODED, stamp)
        self.queued_bytes += len(stamp) + QUEUED_OVERHEAD_BYTES
        self.position += 1


def queue_limit_bytes(items_bytes: int) -> int:
    """Return the limit of the journal's queue for a server whose items may take `items_bytes`."""
    return max(MIN_QUEUE_LIMIT_BYTES, min(QUEUE_LIMIT_BYTES, int(items_bytes * QUEUE_PART)))
