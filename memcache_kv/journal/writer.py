"""The journal while serving: changes are queued by the workers, written and synced by one thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from memcache_kv.errors import JournalFailed
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of, mark_record, put_key, set_line
from memcache_kv.settings import Fsync

GATHER_SECONDS = 0.01
"""How long records are gathered before one write, where no client waits for it. It is what `kill -9` can cost
under everysec and never."""
SYNC_SECONDS = 0.9
"""everysec: an fsync begins when the oldest record not yet on disk is this old; the rest of the second is its own."""
QUEUE_LIMIT_BYTES = 64 * 1024 * 1024
"""With more than this waiting to be written, clients that change something wait for the disk."""


class Journal:
    """An append-only file of changes, behind a thread that writes them in groups.

    The methods of ChangeLog (`stored` …) may be called by any thread; they queue a line and return. `position` after
    a change tells how far the journal must come before that change may be acknowledged: `holds(position)` is
    True until then. Whoever waits is told of every step by the callbacks given to `watch`, called on the writer's
    thread. After a failed write or fsync nothing is released any more; `on_failure` is called once.

    last_cas: what the start record says of CAS ids: all of this run are above it.
    Raises JournalFailed where the file can't be opened or the start record can't be written.
    """

    def __init__(
        self,
        path: Path,
        fsync: Fsync,
        last_cas: int = 0,
        on_failure: Callable[[JournalFailed], None] | None = None,
    ) -> None:
        self.path = path
        self.fsync = fsync
        self.position = 0
        self.written = 0
        self.synced = 0
        self.queued_bytes = 0
        self.syncs = 0
        self.sync_seconds = 0.0
        self.failure: JournalFailed | None = None
        self._on_failure = on_failure
        self._watchers: list[Callable[[], None]] = []
        self._queue: list[bytes] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._unsynced_since = 0.0
        self._begin(last_cas)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def _begin(self, last_cas: int) -> None:
        """Open the file and note, durably, that a run begins."""
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._append(line_of(Record("start", cas=last_cas, at=int(time.time()), version=FORMAT_VERSION)))
            self._write(self._take())
            self._sync()
        except OSError as error:
            raise JournalFailed(f"can't write the journal {self.path}: {error.strerror}") from None

    # ChangeLog

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Note that this is now kept for the key."""
        self._append(set_line(key, flags, deadline, cas, value, state))

    def deleted(self, key: bytes) -> None:
        """Note that nothing is kept for the key any more."""
        self._append(line_of(put_key(Record("delete"), key)))

    def touched(self, key: bytes, deadline: int) -> None:
        """Note the key's new deadline."""
        self._append(line_of(put_key(Record("touch", exp=deadline), key)))

    def named(self, key: bytes, cas: int) -> None:
        """Note that the key's present value was given this CAS id."""
        self._append(line_of(put_key(Record("cas", cas=cas), key)))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Note the rare facts of the key's present value."""
        self._append(line_of(put_key(mark_record(deadline, cas, state), key)))

    def flushed(self, at: int) -> None:
        """Note that all was forgotten (0), or will be at this unix time."""
        self._append(line_of(Record("flush", at=at)))

    # For those who wait

    def holds(self, position: int) -> bool:
        """Tell whether a client whose change is at this position must still wait for its answer."""
        if self.fsync is Fsync.ALWAYS:
            return self.synced < position
        return self.queued_bytes > QUEUE_LIMIT_BYTES or self.failure is not None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this, on the writer's thread, whenever the journal has come further."""
        self._watchers.append(callback)

    @property
    def lag_records(self) -> int:
        """How many records are not yet on disk, as far as the policy asks for it."""
        return self.position - (self.written if self.fsync is Fsync.NEVER else self.synced)

    def close(self) -> None:
        """Write and sync all that is queued, whatever the policy, and end the thread. Blocks until done."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        os.close(self._fd)

    # The queue

    def _append(self, line: bytes) -> None:
        with self._lock:
            self._queue.append(line)
            self.queued_bytes += len(line)
            self.position += 1
        if not self._wake.is_set():
            self._wake.set()

    def _take(self) -> list[bytes]:
        with self._lock:
            lines, self._queue = self._queue, []
        return lines

    # The writer's thread

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            self.failure = JournalFailed(f"can't write the journal {self.path}: {reason}; nothing more is acknowledged")
            if self._on_failure is not None:
                self._on_failure(self.failure)

    def _step(self) -> bool:
        """Write what is queued and sync what is due; False when all is done and the journal closes."""
        self._wake.wait(self._seconds_until_sync())
        self._wake.clear()
        closing = self._closing  # after the clear, or a close in between would go unnoticed
        if not closing and self.fsync is not Fsync.ALWAYS:
            time.sleep(GATHER_SECONDS)
        self._write(self._take())
        if self.synced < self.written and (closing or self._sync_is_due()):
            self._sync()
        for tell in self._watchers:
            tell()
        return not closing

    def _seconds_until_sync(self) -> float | None:
        if self.fsync is not Fsync.EVERYSEC or self.synced == self.written:
            return None
        return max(0.0, self._unsynced_since + SYNC_SECONDS - time.monotonic())

    def _sync_is_due(self) -> bool:
        if self.fsync is Fsync.EVERYSEC:
            return time.monotonic() - self._unsynced_since >= SYNC_SECONDS
        return self.fsync is Fsync.ALWAYS

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self.synced == self.written:
            self._unsynced_since = time.monotonic()
        rest = memoryview(b"".join(lines))
        size = len(rest)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self.written += len(lines)
        with self._lock:
            self.queued_bytes -= size

    def _sync(self) -> None:
        written = self.written
        began = time.perf_counter()
        os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)
        self.sync_seconds += time.perf_counter() - began
        self.syncs += 1
        self.synced = written
