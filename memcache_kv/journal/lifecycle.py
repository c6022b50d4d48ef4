"""The journal of a running server: recovered at its start, rewritten while it runs, closed at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from memcache_kv.config.settings import Settings
from memcache_kv.errors import JournalFailed
from memcache_kv.journal import Compactor, Journal, JournalDirectory, Manifest, Recovered, Room, recover
from memcache_kv.journal.writer import queue_limit_bytes
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.progress import show_progress
from memcache_kv.store import ItemStore
from memcache_kv.threads import OnFault

if TYPE_CHECKING:
    from memcache_kv.journal.shipping import Shipper


class JournalLifecycle:
    """Open, recover and close the journal of a server with --journal. Used by one thread only.

    path: the journal's directory. check: called now and then while the journal is read, with how much was read and how
    much there is, in the same unit; it may raise to end the start. on_fault: called when an exception ends one of the
    journal's threads. fill: called with the directory of a new journal, to which it may add items before it is read.

    After `close`, `failure` says which records could not be written, if any.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        store: ItemStore,
        log: Log,
        check: Callable[[int, int], None],
        on_fault: OnFault,
        fill: Callable[[JournalDirectory], None] | None = None,
    ) -> None:
        self._path = path
        self._settings = settings
        self._store = store
        self._log = log
        self._check = check
        self._on_fault = on_fault
        self._fill = fill
        self._directory: JournalDirectory | None = None
        self.journal: Journal | None = None
        self.compactor: Compactor | None = None
        self._shipper: Shipper | None = None
        self.failure: JournalFailed | None = None
        self.recovered_records = self.recovered_bytes = 0
        self.recovered_seconds = 0.0
        self.no_room = 0
        """How many items of the journal there was no room for."""
        self.is_new = False
        """Whether there was no journal before `open`."""

    def open(self) -> None:
        """Recover the journal into the store, and write the store's changes to it from now on. Blocks while it is read.

        Raises JournalError, and what `check` raises. Call `close` in these cases too.
        """
        self._directory = directory = JournalDirectory(self._path)
        manifest = directory.read()
        self.is_new = manifest is None
        if manifest is None and self._fill is not None:
            self._fill(directory)
            manifest = directory.read()
        found, last_cas = Recovered(), 0
        room, is_held = Room(self._store.limit_bytes, self._store.max_items), False
        if manifest is not None:
            found = self._recover(directory, manifest)
            manifest = found.manifest
            last_cas = found.next_run()
            self.recovered_records, self.no_room = found.records, found.no_room
            self.recovered_bytes, self.recovered_seconds = found.bytes, found.seconds
            is_held = found.no_room > 0 and not room.holds(found.room)
            room = found.room if is_held else room
            self._say_what_was_recovered(directory, found, is_held)
        self._store.start_cas_at(last_cas + 1)
        self._store.clock.tick()  # reading may have taken minutes
        self.journal = Journal(
            directory,
            self._settings.fsync,
            manifest,
            last_cas,
            self._log.say,
            on_fault=self._on_fault,
            room=room,
            queue_limit_bytes=queue_limit_bytes(self._settings.memory_limit),
            now=self._store.clock.now,
            stepped=found.stepped,
            keep=self._settings.keep,
            prepare=lambda: self._prepare(directory, manifest, found),
        )
        self.journal.start()
        self.compactor = Compactor(self.journal, self._store, self._settings.compact_ratio, self._log, is_held=is_held)
        self.compactor.on_fault = self._on_fault
        if self._settings.compact:
            self.compactor.request()
        self._store.log = self.journal
        if self._settings.on_rotate or self._settings.rotate_seconds:
            self._start_shipping(self.journal)
        self._store.new_second()

    def _start_shipping(self, journal: Journal) -> None:
        from memcache_kv.journal.shipping import Shipper

        self._shipper = Shipper(journal, self._log, self._settings.on_rotate, self._settings.rotate_seconds)
        self._shipper.on_fault = self._on_fault
        self._shipper.start()

    def close(self) -> None:
        """Write and sync the queued records, end the journal's threads, and unlock the directory. Blocks until done."""
        if self._shipper is not None:
            self._shipper.stop()
        if self.journal is not None:
            try:
                self.journal.close()
            except JournalFailed as error:
                self.failure = error
                self._log.say(str(error), Level.ERROR)
        if self._directory is not None:
            self._directory.close()

    def forget(self) -> None:
        """Give up the lock in a child that was forked; the parent keeps it."""
        if self._directory is not None:
            self._directory.forget()

    def _recover(self, directory: JournalDirectory, manifest: Manifest) -> Recovered:
        """Replay a journal and show the progress."""
        with show_progress(self._log, directory.path) as show:

            def progress(done: int, total: int, records: int) -> None:
                show(done, total, records)
                self._check(done, total)

            return recover(directory.path, directory.disk, manifest, self._store, progress, cuts=False)

    def _prepare(self, directory: JournalDirectory, manifest: Manifest | None, found: Recovered) -> None:
        """Remove what a crash left, and log what was done. Raises OSError; then it is called again."""
        tail = found.tail
        if tail is not None and not tail.is_cut:
            tail.cut()
            self._log.say(tail.in_words(), Level.WARNING)
        directory.clear(manifest)
        for note in directory.notes():
            self._log.say(note, Level.WARNING)

    def _say_what_was_recovered(self, directory: JournalDirectory, found: Recovered, is_held: bool) -> None:
        if found.set_back:
            self._log.say(
                f"{directory.path}: the system's clock is {found.set_back} s behind the journal's last time, so it was "
                "set back; items expire as if it had not been",
                Level.WARNING,
            )
        left_out = "".join(
            f"; {count} {what}"
            for count, what in ((found.no_room, "items did not fit"), (found.expired, "values had expired"))
            if count
        )
        self._log.say(
            f"recovered {len(self._store)} items from {found.records} records in {found.seconds:.2f} s{left_out}"
        )
        if is_held and not self._settings.compact:
            self._log.say(
                f"{directory.path}: the {found.no_room} items that did not fit stay in the journal for a start with "
                "more memory: it is not rewritten, which would remove them, until a client sends `journal compact` or "
                "the server starts with --compact",
                Level.WARNING,
            )
