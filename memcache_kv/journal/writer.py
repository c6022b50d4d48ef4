"""The journal while serving: changes are queued by the workers, written and synced by one thread."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from itertools import compress
from threading import get_ident
from typing import NamedTuple

from memcache_kv.config.settings import Fsync
from memcache_kv.errors import JournalFailed, JournalLost
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.files import JournalFiles
from memcache_kv.journal.manifest import Manifest
from memcache_kv.journal.record import (
    FORMAT_VERSION,
    UNLIMITED,
    Record,
    Room,
    line_of,
    mark_record,
    put_key,
    set_line,
    set_lines,
)
from memcache_kv.store.entry import Entry, cas_of, deadline_of, flags_of, moved, value_of, wire_bytes_of
from memcache_kv.threads import OnFault, ServerThread

GATHER_SECONDS = 0.008
"""How long records are gathered before one write, where no client waits for it. With the time to encode and write them,
and with that of an fsync that is under way, it is what `kill -9` can cost under everysec and never."""
SYNC_SECONDS = 0.9
"""everysec: an fsync begins when the oldest record not yet on disk is this old; the rest of the second is its own."""
QUEUE_LIMIT_BYTES = 64 * 1024 * 1024
MIN_QUEUE_LIMIT_BYTES = 4 * 1024 * 1024
QUEUE_PART = 1 / 16
"""A server's limit on its journal's queue is this part of its items' memory, between the two above."""
QUICK_SYNC_SECONDS = 0.001
"""always: fsyncs that take less on average are made by the worker itself, at the end of its turn."""
FILE_CHECK_SECONDS = 1.0
"""How often it is looked whether the files are still there, and tried again whether a disk that failed works."""
QUEUES_IN_MEMORY = 5
THREAD_NAME = "journal"
ENCODED = b"\n"
"""Stands in the queue in place of a key, before lines that are ready. No entry that is bytes has such a key."""
QUEUED_OVERHEAD_BYTES = 64
"""What a record is counted as beside key and entry while it is queued: about what its line has beside them."""
MAX_STAMP_INTERVAL_SECONDS = 60
"""While nothing changes, the time is noted after one second, then after twice as long each time, up to this. A start
takes it that no less had passed, should the clock have been set back meanwhile."""
RECORDS_AT_ONCE = 384
"""How many small records are encoded before the interpreter is given up: half a millisecond's."""
ENCODE_SLICE_BYTES = 128 * 1024
"""Fewer, where so many would be longer than this on average."""
MIN_RECORDS_AT_ONCE = 16
ENCODE_PAUSE_SECONDS = 0.00005
"""How long the others have it then, at least. With what it costs to wake up, it is a tenth of the work of a slice."""


class Batch(NamedTuple):
    """What was taken from the queue: all that was in it."""

    data: bytes
    position: int
    """The journal's, once this is written."""
    queued_bytes: int
    """What it is counted as until then."""
    wall_ahead: int
    """How far ahead the wall clock is where it begins."""


class Journal:
    """An append-only log of changes, behind a thread that writes them in groups.

    The methods of WriteLog (`stored` …) may be called by any thread; they queue something and return. `position`
    after a change tells how far the journal must come before that change may be acknowledged: `must_wait(position)` is
    True until then. Whoever waits is told of every step by the callbacks given to `watch`, called on the writer's
    thread.

    A write or an fsync that fails makes `refuses` true: the store changes nothing any more, and whoever waits for
    that record is told so. What is queued stays so, and is tried again every second; once it is on disk, all goes on.

    `start` begins the thread; without it `step` does what is due, which only tests want.
    `pause_writing` is what others hold who do something with the files.

    queue_limit_bytes: with more than this waiting to be written, clients that change something wait for the disk; what
    was written and not synced is kept in memory too, and synced at once when it is this much. None is the default.
    last_cas, room: what the start records say: the CAS ids of this run are all above the one, and what lives of the
    journal finds room in the other; say: told of trouble and its end; on_fault: told of what ends the thread by a fault
    of ours, after which nothing is written any more; stepped: how far the wall clock was stepped in all before this
    run, None where it never was.
    prepare: does what has to be done in the directory before anything is written, and may raise OSError. With it, a
    journal that was there and can't be written yet is a disk that fails as above: it is tried again, and both are.

    Expiry times are written by the wall clock. The store's clock knows no steps of that, so that the two are apart
    once there was one: `follow_wall` says how far.

    Raises JournalFailed where the files can't be opened or the start record can't be written, but for that.
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
        """How many records were queued in all."""
        self.written = 0
        self.synced = 0
        """How many of them were, and how many of these are on disk."""
        self.queued_bytes = 0
        self.unsynced_bytes = 0
        self.failure: JournalFailed | JournalLost | None = None
        """Why nothing can be written; None while all is well."""
        self.fault: BaseException | None = None
        """What ended the thread, which only a fault of ours does."""
        self.refuses = False
        self.pause_writing = threading.RLock()
        self._say, self._on_fault = say, on_fault
        self._monotonic, self._unix_time = monotonic, unix_time
        self._watchers: list[Callable[[], None]] = []
        self.may_delay = fsync is Fsync.ALWAYS
        """Whether some position may be held; where it is not, `mine` and `holds` need not be asked."""
        self._positions: dict[int, int] = {}
        """How far the journal must come for the last change of each thread."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_awake = fsync is Fsync.ALWAYS
        """Whether the thread need not be told of what is queued: it was, or (always) `commit` does that."""
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
            if prepare is None or manifest is None or isinstance(error, PermissionError):  # time mends none of these
                raise JournalFailed(f"can't write the journal in {directory.path}: {error.strerror}") from None
            self._fail(error)

    def _open(self) -> None:
        """Begin to write. Raises OSError; then it is to be tried again."""
        if self._prepare is not None:
            self._prepare()
        self.files.open(self.start_line(stepped=self.stepped(0)))

    def _begin_queue(self) -> None:
        self._queue: list[bytes] = []
        """A key and its entry, or ENCODED and lines, by turns."""
        self._unsynced: list[bytes] = []
        """What was written and may have to be written again, should its fsync fail."""
        self._sync_failed = False
        self._file_is_full = False
        """Whether it may grow no further, by a limit of the file system or of the process."""

    def _begin_time(self, stepped: int | None) -> None:
        self._new_second = 0
        """What second has begun since the last record; 0: none."""
        self._stamped_second = int(self._unix_time())
        """What second was noted last."""
        self._stamp_interval_seconds = 1
        """How long after that the next is noted though nothing changes."""
        self._stepped_before = stepped
        self._wall_ahead = 0
        """How far ahead the wall clock is of the store's; what is queued as entries is to be moved by that."""
        self._queue_ahead = 0
        """How far it was where the queue begins."""
        self.rotated_ahead = 0
        """How far it was where the last increment was begun by `rotate`."""

    def _begin_counts(self) -> None:
        self.syncs = 0
        self.sync_seconds = 0.0
        self.longest_sync_seconds = 0.0
        self.average_sync_seconds = 0.01
        """Of the last dozen or so; before the first, a guess."""
        self.waits = 0
        """How often a client had to wait for its answer until the disk followed."""
        self.refusals = 0
        """How many changes were refused since the start."""
        self.failures = 0
        """How often the disk began to fail."""

    def start_line(self, after: int = 0, stepped: int | None = None) -> bytes:
        """Make the record that begins a file.

        after: how long the one before it is, where no manifest says so yet; stepped: as `stepped` gives it, where that
        is not as before.
        """
        now = int(self._unix_time())
        limit, items = self.room
        record = Record("start", cas=self.last_cas, at=now, version=FORMAT_VERSION, limit=limit, items=items)
        record.stepped, record.after = stepped, after
        return line_of(record)

    def set_room(self, room: Room) -> None:
        """Have the journal say from now on that this is the room for what lives of it."""
        if room != self.room:
            self.room = room
            self._append(self.start_line())

    def widen_room(self, limit_bytes: int) -> None:
        """Take note that the store may now take as much as this: a start with less could not hold it."""
        self.set_room(self.room.joined(self.room._replace(limit_bytes=limit_bytes)))

    def stepped(self, wall_ahead: int) -> int | None:
        """Return what a record says of the wall clock's steps when it is so far ahead; None: there was none yet."""
        return None if self._stepped_before is None else self._stepped_before + wall_ahead

    # WriteLog

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Note that this is now kept for the key."""
        self._append(set_line(key, flags, self._by_wall(deadline), cas, value, state))

    def put(self, key: bytes, entry: Entry) -> None:
        """Note the same of an entry. One that is bytes is encoded later, with others, which takes less time."""
        if entry.__class__ is not bytes:
            wire_bytes = wire_bytes_of(entry)
            self.stored(key, flags_of(wire_bytes), deadline_of(entry), cas_of(entry), value_of(wire_bytes))
            return
        lock = self._lock
        lock.acquire()  # `with` takes 80 ns more
        try:
            if self._new_second:
                self._stamp_locked()
            self._queue += (key, entry)
            self.queued_bytes += len(key) + len(entry) + QUEUED_OVERHEAD_BYTES
            self.position += 1
            if self.queued_bytes > self.queue_limit_bytes:
                self.may_delay = True
            if self.may_delay:
                self._positions[get_ident()] = self.position
        finally:
            lock.release()
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()

    def deleted(self, key: bytes) -> None:
        """Note that nothing is kept for the key any more."""
        self._append(line_of(put_key(Record("delete"), key)))

    def touched(self, key: bytes, deadline: int) -> None:
        """Note the key's new deadline."""
        self._append(line_of(put_key(Record("touch", exp=self._by_wall(deadline)), key)))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        """Note that the key's present value was given this CAS id.

        While the disk fails nothing is noted, as a read may give an id: the next run gives none twice anyway.
        """
        if not self.refuses:
            self._append(line_of(put_key(Record("cas", cas=cas), key)))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Note the rare facts of the key's present value."""
        self._append(line_of(put_key(mark_record(self._by_wall(deadline), cas, state), key)))

    def flushed(self, at: int) -> None:
        """Note that all was forgotten (0), or will be at this unix time."""
        self._append(line_of(Record("flush", at=self._by_wall(at))))
        self._wake.set()  # it may have fallen due, and then nobody waits for it

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Note a step of the wall clock, and write what follows by it as it is now. Called with all keys' locks held.

        What is queued was done before, so it is encoded now.
        """
        with self._lock:
            seconds, queue = wall_ahead - self._wall_ahead, self._queue
            if queue:
                self._queue = [ENCODED, encoded(queue[0::2], queue[1::2], self._wall_ahead)]
            self._stepped_before = self._stepped_before or 0
            self._wall_ahead, self._new_second = wall_ahead, now
            self._stamp_locked()
        self._wake.set()
        way = "forward" if seconds > 0 else "back"
        self._say(f"the system's clock was set {way} by {abs(seconds)} s; items expire as if it had not been")

    def new_second(self, now: int) -> None:
        """Let what follows be known to have happened at this unix time or later."""
        self._new_second = now

    # For those who wait

    def must_wait(self, position: int) -> bool:
        """Tell whether a client whose change is at this position must still wait for its answer.

        Under `always` while the journal refuses, it waits in vain: what became of its change is not known.
        """
        if self.fsync is Fsync.ALWAYS:
            return self.synced < position
        return self.queued_bytes > self.queue_limit_bytes and not self.refuses

    def own_position(self) -> int:
        """Return the position of the last change that the calling thread made while the journal `delays`; 0: none."""
        return self._positions.get(get_ident(), 0)

    def commit(self) -> None:
        """Have all that is queued written now; for whoever waits, after all that it had to do.

        Under `always`, where an fsync is short, the caller does it itself, and need not wait for another thread's
        turn. Otherwise the journal's thread does.
        """
        if self.fsync is Fsync.ALWAYS and self.average_sync_seconds < QUICK_SYNC_SECONDS and not self.refuses:
            self._try_step()
        else:
            self._wake.set()

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this, on the writer's thread, whenever the journal has come further."""
        self._watchers.append(callback)

    @property
    def max_memory_bytes(self) -> int:
        """What it may take in memory: what waits, twice that with some more while it is encoded, and what is written
        and not synced."""
        return QUEUES_IN_MEMORY * self.queue_limit_bytes

    @property
    def lag_records(self) -> int:
        """How many records are not yet on disk, as far as the policy asks for it."""
        return self.position - (self.written if self.fsync is Fsync.NEVER else self.synced)

    @property
    def lag_seconds(self) -> float:
        """How long the oldest record has waited that is written and not on disk; 0 where there is none."""
        return 0.0 if self.synced == self.written else self._monotonic() - self._unsynced_since

    # The thread

    def start(self) -> None:
        """Begin the thread that writes."""
        self._thread = ServerThread(THREAD_NAME, self._run)
        self._thread.on_fault = self._end_by_fault
        self._thread.start()

    def close(self) -> None:
        """Write and sync all that is queued, whatever the policy, and end the thread. Blocks until done.

        Raises JournalFailed where that can't be done.
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
        """Wait for more to be written at once.

        Under `always` that is for a part of an fsync's time, in which those who were answered by the last come again.
        """
        if self.fsync is Fsync.ALWAYS:
            time.sleep(min(self.average_sync_seconds, GATHER_SECONDS) / 8)
        else:
            time.sleep(GATHER_SECONDS)
            self._is_awake = False

    def _try_step(self) -> None:
        """Do what is due; a fault of ours must cost nobody more than the journal."""
        try:
            self.step()
        except Exception as error:
            self._end_by_fault(THREAD_NAME, error)

    def _end_by_fault(self, name: str, error: BaseException) -> None:
        """Refuse all changes from now on, and have the server end."""
        self.fault, self.refuses = error, True
        self._on_fault(name, error)

    def _seconds_until_due(self) -> float:
        """Tell how long there is nothing to do unless somebody queues something."""
        due = self._checked_at + FILE_CHECK_SECONDS
        if self.fsync is Fsync.EVERYSEC and self.synced < self.written and not self.refuses:
            due = min(due, self._unsynced_since + SYNC_SECONDS)
        return max(0.0, due - self._monotonic())

    def step(self, closing: bool = False) -> None:
        """Write what is queued and sync what is due; see after the files and after a disk that failed."""
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
        for tell in self._watchers:
            tell()

    def _check_files(self) -> None:
        """See after the files."""
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
        """Write what is queued. Raises OSError; then it is queued still."""
        batch = self._take()
        data = batch.data
        if not data:
            return
        try:
            self.files.append(data)
        except OSError as error:
            self._put_back([ENCODED, data], batch.wall_ahead)
            self._file_is_full = error.errno == errno.EFBIG
            raise
        if self.synced == self.written:
            self._unsynced_since = self._monotonic()
        if self.fsync is not Fsync.NEVER:
            self._unsynced.append(data)
            self.unsynced_bytes += len(data)
        self._count_written(batch)

    def _take(self) -> Batch:
        """Take all that is queued, and encode it. What was taken before is written by now, or was put back."""
        with self._lock:
            queue, self._queue = self._queue, []
            position, queued_bytes = self.position, self.queued_bytes
            began, self._queue_ahead = self._queue_ahead, self._wall_ahead
        try:
            return Batch(self._encoded(queue, queued_bytes, self._queue_ahead), position, queued_bytes, began)
        except BaseException:
            self._put_back(queue, began)
            raise

    def _encoded(self, queue: list[bytes], queued_bytes: int, wall_ahead: int) -> bytes:
        """Encode what was queued; others may run now and then, unless a worker does it, whose clients wait for it."""
        fitting = ENCODE_SLICE_BYTES * len(queue) // 2 // max(1, queued_bytes)
        step = 2 * max(MIN_RECORDS_AT_ONCE, min(RECORDS_AT_ONCE, fitting))
        slices = []
        for start in range(0, len(queue), step):
            if start and get_ident() not in self._positions:
                time.sleep(ENCODE_PAUSE_SECONDS)
            part = queue[start : start + step]
            slices.append(encoded(part[0::2], part[1::2], wall_ahead))
        return b"".join(slices)

    def _put_back(self, queue: list[bytes], wall_ahead: int) -> None:
        with self._lock:
            self._queue[:0] = queue
            self._queue_ahead = wall_ahead

    def _count_written(self, batch: Batch) -> None:
        self.written = batch.position
        with self._lock:
            self.queued_bytes -= batch.queued_bytes
            self.may_delay = self.fsync is Fsync.ALWAYS or self.queued_bytes > self.queue_limit_bytes

    def _sync(self, first: int = 0) -> None:
        """Sync what was written, from the increment of this number on."""
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
        """Write to a new increment what the old one may have lost with the fsync that failed."""
        self.files.replace_tail(None if self.fsync is Fsync.NEVER else b"".join(self._unsynced))
        self._sync_failed = False
        self._all_synced()

    # For the compaction

    def rotate(self) -> int:
        """Go on in a new increment; return its number. All that is appended from now on is in it, or in a later one.

        Under `never` this waits for no disk. Raises OSError.
        """
        with self.pause_writing:
            return self._begin_increment()

    def _begin_increment(self) -> int:
        """Go on in a new increment; while nothing can be written to the old one, it begins with what is queued."""
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
        self.rotated_ahead = batch.wall_ahead
        self._count_written(batch)
        if waits:
            self._all_synced()
        self._file_is_full = False
        return number

    def adopt(self, number: int, size: int) -> None:
        """Let a base, which has its name, take the place of all before the increment of that number.

        What the base may know of is on disk by then: nothing that was done later is there without what came before.
        Raises OSError.
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
            self._say(f"{failure}; changes are refused until it can be written, reads go on")
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
        """Note the time though nothing changes, where it is due; while the disk fails, nothing is to be added."""
        with self._lock:
            passed = self._new_second - self._stamped_second
            if self._new_second and not self.refuses and (at_once or passed >= self._stamp_interval_seconds):
                longer = min(2 * self._stamp_interval_seconds, MAX_STAMP_INTERVAL_SECONDS)
                self._stamp_locked()
                self._stamp_interval_seconds = longer

    def _stamp_locked(self) -> None:
        ahead = self._wall_ahead
        stamp = line_of(Record("time", at=self._new_second + ahead, stepped=self.stepped(ahead)))
        self._stamped_second, self._new_second, self._stamp_interval_seconds = self._new_second, 0, 1
        self._queue += (ENCODED, stamp)
        self.queued_bytes += len(stamp) + QUEUED_OVERHEAD_BYTES
        self.position += 1


def queue_limit_bytes(items_bytes: int) -> int:
    """Choose how much may wait to be written where items may take so much."""
    return max(MIN_QUEUE_LIMIT_BYTES, min(QUEUE_LIMIT_BYTES, int(items_bytes * QUEUE_PART)))


def encoded(keys: list[bytes], entries: list[bytes], wall_ahead: int) -> bytes:
    """Make the lines of what was queued: of the entries of keys, and as they are where ENCODED is in place of one."""
    if ENCODED not in keys:
        return set_lines(keys, entries, wall_ahead)
    are_sets = [key != ENCODED for key in keys]
    lines = set_lines([*compress(keys, are_sets)], [*compress(entries, are_sets)], wall_ahead)
    made = iter(lines.splitlines(keepends=True))
    return b"".join([next(made) if is_set else entry for entry, is_set in zip(entries, are_sets, strict=True)])
