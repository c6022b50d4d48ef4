"""The journal of a running server: workers queue records, and one thread writes and syncs them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from memcache_kv.clock import unix_seconds
from memcache_kv.config.settings import Fsync
from memcache_kv.errors import JournalFailed, JournalLost
from memcache_kv.histogram import Histogram
from memcache_kv.journal.appender import Appender, Extent
from memcache_kv.journal.directory import JournalDirectory
from memcache_kv.journal.files import JournalFiles
from memcache_kv.journal.manifest import Manifest, in_words
from memcache_kv.journal.record import UNLIMITED, Room
from memcache_kv.journal.record_queue import RecordQueue
from memcache_kv.threads import OnFault, ServerThread
from memcache_kv.unpatched import threading, time

GATHER_SECONDS = 0.001
"""always: the longest time for which the thread waits for more writes before an fsync."""
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
THREAD_NAME = "journal"
SYNC_BOUNDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The bounds of the histogram of fsyncs, in seconds."""


class Journal(RecordQueue):
    """An append-only log of writes, and the thread that syncs its records in groups.

    Any thread may call the methods of the queue (`stored` and so on). A write may be acknowledged once it is written,
    or synced under `always`: until then, `must_wait` of its position is true. So that a client need not wait for the
    thread, a worker calls `append` before it sends its replies, or, if that has not written everything, `commit` after
    all its other work. Callbacks given to `watch` are called on the writer's thread when it has come further.

    When a write or an fsync fails, `refuses` becomes true: the store rejects all writes, and clients that wait for a
    record get an error. Queued records stay in the queue and are written again every second, until that succeeds.

    Call `start` to start the thread; tests call `step` instead. `files_lock` is held while files are synced, created
    and swapped, which takes long; the lock of the Appender, while records are written, which takes little. The first
    one is taken first.

    directory: the locked directory.
    fsync: when records are synced.
    manifest: the journal to continue; None starts a new one.
    last_cas, room: stored in the start records. All CAS ids of this run are above the one; the live items fit into
      the other.
    say: called with a line for the log when trouble begins or ends.
    on_fault: called with the exception that ends the thread; nothing is written after that.
    monotonic: the clock for what is due, in seconds. now: the present second by the store's clock.
    queue_limit_bytes: written lines that are not synced are kept in memory, and are synced at once when they reach this
      size. At twice this size, clients that write wait for the disk.
    stepped: the sum of the wall clock's steps before this run, in seconds; None if there was none.
    keep: how many earlier generations of files to keep after a rewrite.
    prepare: does what must be done in the directory before anything is written, and may raise OSError. If it is
      given and an existing journal can't be written, that is a failure as above: both are retried.

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
        now: int | None = None,
        room: Room = UNLIMITED,
        queue_limit_bytes: int | None = None,
        stepped: int | None = None,
        keep: int = 0,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        limit_bytes = QUEUE_LIMIT_BYTES if queue_limit_bytes is None else queue_limit_bytes
        super().__init__(last_cas, room, limit_bytes, say, int(unix_seconds()) if now is None else now, stepped)
        self.fsync = fsync
        self.failure: JournalFailed | JournalLost | None = None
        """The reason why nothing can be written; None if writing works."""
        self.fault: BaseException | None = None
        """The exception that ended the thread. Only a bug does that."""
        self.files_lock = threading.RLock()
        self._on_fault, self._monotonic = on_fault, monotonic
        self._watchers: list[Callable[[], None]] = []
        self._closing = False
        self._checked_at = self._failed_at = monotonic()
        self._thread: ServerThread | None = None
        self._begin_counts()
        self._prepare = prepare
        self.files = JournalFiles(directory, manifest, self.start_line, keep)
        self.id = self.files.id
        self._appender = Appender(self, self.files, fsync is not Fsync.NEVER, monotonic)
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
        self.files.open(partial(self.start_line, ahead=0))

    def _begin_counts(self) -> None:
        self.syncs = 0
        self.sync_seconds = 0.0
        self.longest_sync_seconds = 0.0
        self.sync_times = Histogram(SYNC_BOUNDS)
        self.average_sync_seconds = 0.01
        """Over the last dozen or so; an estimate before the first."""
        self.waits = 0
        """How many times a client had to wait for the disk before it got its reply."""
        self.refusals = 0
        """How many writes were rejected since the start."""
        self.failures = 0
        """How many times the disk began to fail."""

    # For clients that wait

    @property
    def written(self) -> int:
        """How many of the queued records are written."""
        return self._appender.written

    @property
    def synced(self) -> int:
        """How many of the queued records are on disk."""
        return self._appender.synced

    def must_wait(self, position: int) -> bool:
        """Tell whether a client whose write is at this position must still wait for its reply.

        A client may wait for a write that fails: nothing is known then about whether the journal has it.
        """
        return (self.synced if self.fsync is Fsync.ALWAYS else self._appender.written) < position

    def append(self) -> bool:
        """Write the queued records, if that is enough for a reply and takes little time; return whether it was done.

        Called by a worker before it sends replies to clients that have written.
        """
        if self.fsync is Fsync.ALWAYS:
            return False
        try:
            if self._appender.append_at_once():
                if self._appender.unsynced_bytes > self.queue_limit_bytes:
                    self._wake.set()
                return True
        except OSError as error:
            self._fail(error)
        except Exception as error:  # a bug must cost the clients no more than the journal
            self._end_by_fault(THREAD_NAME, error)
        self._wake.set()
        return False

    def commit(self) -> None:
        """Have all queued records written now. Called by a thread that waits for them, after all its other work.

        Under `always` with short fsyncs, the caller writes and syncs them itself, instead of waiting for the journal's
        thread. This may block for an fsync.
        """
        if self.fsync is not Fsync.ALWAYS:
            self.append()
        elif self.average_sync_seconds < QUICK_SYNC_SECONDS and not self.refuses:
            self._try_step(pauses=False)
        else:
            self._wake.set()

    @property
    def gather_seconds(self) -> float:
        """How long a worker waits for more writes to commit, if none comes meanwhile: a part of the time of an fsync.

        Where that is long, the journal's thread waits instead.
        """
        average = self.average_sync_seconds
        return average / GATHER_PART if self.fsync is Fsync.ALWAYS and average < QUICK_SYNC_SECONDS else 0.0

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this function on the writer's thread when it has written or synced something, or failed."""
        self._watchers.append(callback)

    @property
    def lag_records(self) -> int:
        """The number of records that are not yet as safe as the fsync policy asks for."""
        return self.position - (self.written if self.fsync is Fsync.NEVER else self.synced)

    @property
    def lag_seconds(self) -> float:
        """How long the oldest record has been written without being on disk; 0 if there is none."""
        return 0.0 if self.synced == self.written else self._monotonic() - self._appender.unsynced_since

    # The thread

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread = ServerThread(THREAD_NAME, self._run)
        self._thread.on_fault = self._end_by_fault
        self._thread.start()

    def close(self) -> None:
        """Write and sync all queued records, whatever the fsync policy, and end the thread. Blocks until done.

        What fails is tried once more: after a failed fsync, in a new file. Raises JournalFailed if that fails too.
        """
        self._closing = True
        self._stamp_time(at_once=True)
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self.files_lock:
            self.step(closing=True)
            if self.refuses:
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
        """Under `always`, wait for more records, which then share an fsync.

        This takes a part of an fsync's time, so that the clients that just got replies can send their next writes.
        """
        if self.fsync is Fsync.ALWAYS:
            time.sleep(min(self.average_sync_seconds / GATHER_PART, GATHER_SECONDS))

    def _try_step(self, pauses: bool = True) -> None:
        """Do what is due. A bug here must cost the clients no more than the journal."""
        try:
            self.step(pauses=pauses)
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
            due = min(due, self._appender.unsynced_since + SYNC_SECONDS)
        return min(max(0.0, due - self._monotonic()), SYNC_SECONDS)  # a worker may write something meanwhile

    def step(self, closing: bool = False, pauses: bool = True) -> None:
        """Write queued records and sync what is due; check the files, and retry after a failure, once a second.

        pauses: whether other threads get their turn now and then, as no client of this one waits.
        """
        if self.fsync is not Fsync.ALWAYS and not self.refuses and not self._appender.keeps_too_much:
            self._append_first()
        self._appender.is_left_alone = True
        with self.files_lock:
            now = self._monotonic()
            looks = closing or now - self._checked_at >= FILE_CHECK_SECONDS
            if looks:
                self._checked_at = now
            try:
                if looks:
                    self._check_files()
                if not self.refuses or looks:
                    self._write_and_sync(closing, pauses)
            except (OSError, JournalLost) as error:
                self._fail(error)
        self._appender.is_left_alone = False
        self._report_progress()

    def _append_first(self) -> None:
        """Write what clients wait for, before anything that takes longer."""
        try:
            if self._appender.append():
                self._report_progress()
        except OSError as error:
            self._fail(error)

    def _report_progress(self) -> None:
        for callback in self._watchers:
            callback()

    def _check_files(self) -> None:
        """Check that the files are still there."""
        if self.files.is_open:
            self.files.check()
        else:
            self._open()
        self._stamp_time()

    def _write_and_sync(self, closing: bool, pauses: bool) -> None:
        if self._appender.has_failed:
            self._write_again()
        if self._appender.is_full:
            self._begin_increment()
        if self.files.unstated_serial:
            self.state_serial(self.files.unstated_serial)
            self.files.must_state_serial = False
        if self._appender.keeps_too_much:
            self._sync()
        self._appender.append(pauses)
        if self.refuses or closing or self._sync_is_due():
            self._sync()
        if self.refuses:
            self._recovered()

    def _sync_is_due(self) -> bool:
        if self.synced == self.written or self.fsync is Fsync.NEVER:
            return False
        if self.fsync is Fsync.ALWAYS or self._appender.unsynced_bytes > self.queue_limit_bytes:
            return True
        return self._monotonic() - self._appender.unsynced_since >= SYNC_SECONDS

    def _sync(self) -> None:
        """Sync all records that were written before. Others append meanwhile."""
        self._appender.synced_up_to(self._sync_files())

    def _sync_files(self, first: int = 0) -> Extent:
        """Sync what was written before, from the increment of number `first` on, and return how far that was.

        The caller counts it as synced, once, when nothing before that increment need be synced any more.
        """
        extent, began = self._appender.extent, time.perf_counter()
        try:
            self.files.sync(first)
        except OSError:
            self._appender.sync_failed()
            raise
        took = time.perf_counter() - began
        self.sync_seconds += took
        self.sync_times.observe(took)
        self.longest_sync_seconds = max(self.longest_sync_seconds, took)
        self.average_sync_seconds += (took - self.average_sync_seconds) / 8
        self.syncs += 1
        return extent

    def _write_again(self) -> None:
        """Write to a new increment the records that the old one may have lost when its fsync failed.

        Nobody appends anything meanwhile.
        """
        extent, kept = self._appender.extent, self._appender.unsynced
        if self.fsync is Fsync.NEVER:
            self.files.replace_tail()
        elif kept is None:
            self.files.replace_tail(b"")
        else:  # a part of it may be on disk already, behind a step of the wall clock that came later
            self.files.replace_tail(kept.lines, partial(self.start_line, ahead=kept.wall_ahead))
        self._appender.go_on_with_new_file(extent)

    # For the rewrite

    def rotate(self) -> int:
        """Continue in a new increment and return its number. All records from now on are in it or in a later one.

        Others append to the old one until the new one is there. Raises OSError and JournalLost.
        """
        with self.files_lock:
            return self._begin_increment()

    def sync_closed(self) -> None:
        """Bring all increments but the last to the disk, under every policy, and let the manifest name them.

        Raises OSError and JournalLost.
        """
        with self.files_lock:
            if self._appender.has_failed:
                self._write_again()
            if not self.files.is_synced:
                self._sync()
            self.files.write_manifest()

    def _begin_increment(self) -> int:
        """Start a new increment. If nothing can be written to the old one, it begins with the queued records."""
        if not self.files.is_open:
            self._open()
        if self._appender.has_failed:
            self._write_again()
        if not self.refuses:
            self._appender.append()
        following = self.files.create_next()
        with self._appender.lock:
            self.files.continue_in(following)
            self.rotated_ahead, self.rotated_follows = self.queue_ahead, self.files.follows
            self._appender.is_full = False
        return following.number

    def adopt(self, number: int, size: int) -> None:
        """Let a base, which has its final name, replace all files before the increment of its number.

        size: its length in bytes. All writes that the base may include are synced first, so that no later write is on
        disk without an earlier one. So is the time: the base leaves out what has expired, and the increments must tell
        when that was to those who read them behind a kept generation. Raises OSError and JournalLost.
        """
        with self.files_lock:
            if self._appender.has_failed:
                self._write_again()
            self.stamp_second()
            self._appender.append()
            extent = self._sync_files(0 if self.files.syncs_all else number)
            self.files.adopt_base(number, size)
            self._appender.synced_up_to(extent)
            for generation in self.files.lost:
                self._say(f"{self.files.directory}: {in_words(generation)} is not kept: a file was missing or replaced")
            self._wake.set()

    def make_room(self, bytes_needed: int) -> None:
        """Drop kept generations, the oldest first, until the disk has so much room, if that makes enough.

        Raises OSError, with ENOSPC if it does not; then none is dropped. Raises JournalLost.
        """
        with self.files_lock:
            files = self.files
            missing = bytes_needed - files.disk.free_bytes(files.directory)
            if missing > files.kept_bytes:
                raise OSError(errno.ENOSPC, "not enough room for a new base beside the old one")
            if missing > 0 and not files.is_open:
                self._open()
            while missing > 0:
                dropped = files.drop_oldest()
                missing -= dropped.bytes
                self._say(
                    f"{files.directory}: removed {in_words(dropped)}, which was kept, as the disk is too small for it "
                    "and a rewrite of the journal"
                )

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


def queue_limit_bytes(items_bytes: int) -> int:
    """Return the limit of the journal's queue for a server whose items may take `items_bytes`."""
    return max(MIN_QUEUE_LIMIT_BYTES, min(QUEUE_LIMIT_BYTES, int(items_bytes * QUEUE_PART)))
