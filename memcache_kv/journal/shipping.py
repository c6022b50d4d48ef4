"""Closing increments regularly, and running a command for each file that is closed, to copy it elsewhere.

The files reach the command in an order in which they make up a journal at any time: a base and increments that are
closed and on disk, each after the one before it, and then a manifest that names exactly these.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from memcache_kv.errors import JournalLost
from memcache_kv.journal.manifest import MANIFEST_NAME, Manifest, Part, replace_manifest
from memcache_kv.journal.writer import Journal
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import subprocess, threading, time

FILE_VARIABLE = "MEMCACHE_KV_CLOSED_FILE"
DIRECTORY_VARIABLE = "MEMCACHE_KV_JOURNAL"
CLOSED_NAME = "closed"
"""The directory inside the journal's that holds the manifest of the closed files."""
LOOK_SECONDS = 0.2
"""How often the thread checks whether an increment is to be closed or was closed, and whether a command has ended."""
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
"""A command that failed is run again after the first of these times, then after twice as long each time, up to this."""
GRACE_SECONDS = 5.0
"""How long a command may go on when the server stops."""
SAID_BYTES = 200


class Shipper(ServerThread):
    """Close the last increment every so often, and run a command for each closed file. Holds no write back.

    command: run by the shell, one at a time; empty for none. rotate_seconds: how often an increment with writes is
    closed; 0 leaves that to the rewrite. Any thread may call `stop`.
    """

    def __init__(self, journal: Journal, log: Log, command: str = "", rotate_seconds: int = 0) -> None:
        super().__init__("shipper")
        self._journal = journal
        self._log = log
        self._command = command
        self._rotate_seconds = rotate_seconds
        self._rotate_at = time.monotonic() + rotate_seconds
        self._rotated_write = 0
        """The position of the last write before the last rotation."""
        self._base: Part | None = None
        """The base since which an increment was closed."""
        self._shipped: set[str] = set()
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread. A command that runs may go on for GRACE_SECONDS; then it is killed. Blocks until done."""
        self._stopping.set()
        self.join()

    def work(self) -> None:
        """Do what is due, until `stop`."""
        while not self._stopping.wait(LOOK_SECONDS):
            if time.monotonic() < self._retry_at:
                continue
            try:
                if self._is_rotation_due():
                    self._rotate()
                if self._command:
                    self._ship()
            except (OSError, JournalLost) as error:
                self._log.failure("can't close an increment", error, "this is tried again")
                self._put_off()

    # Closing increments

    def _is_rotation_due(self) -> bool:
        journal = self._journal
        if not journal.files.is_open or journal.refuses:
            return False
        if self._command and self._base != journal.files.base:
            return True  # a base is of use only with the increment in which it was completed
        is_time = self._rotate_seconds > 0 and time.monotonic() >= self._rotate_at
        return is_time and journal.last_write > self._rotated_write

    def _rotate(self) -> None:
        self._rotate_at = time.monotonic() + self._rotate_seconds
        last_write, base = self._journal.last_write, self._journal.files.base
        self._journal.rotate()
        self._rotated_write, self._base = last_write, base
        if not self._command:
            self._journal.sync_closed()
            self._retry_seconds = FIRST_RETRY_SECONDS

    # Shipping them

    def _ship(self) -> None:
        """Run the command for all files that were closed since. Raises OSError and JournalLost."""
        manifest = self._closed_manifest()
        if manifest is None or all(part.name in self._shipped for part in manifest.parts):
            return
        self._journal.sync_closed()
        directory = self._journal.files.directory
        for part in manifest.parts:
            if part.name not in self._shipped and not self._run(directory / part.name):
                return
            self._shipped.add(part.name)
        if not self._run(self._written(manifest)):
            self._shipped.discard(manifest.parts[-1].name)  # so that the manifest is not forgotten
            return
        self._shipped.intersection_update(part.name for part in manifest.parts)
        self._retry_seconds = FIRST_RETRY_SECONDS

    def _closed_manifest(self) -> Manifest | None:
        """Return a manifest of the closed files; None if they make up no journal."""
        with self._journal.files_lock:
            files = self._journal.files
            if not files.is_open or not files.closed or files.base != self._base:
                return None
            return replace(files.manifest, increments=tuple(files.closed), kept=())

    def _written(self, manifest: Manifest) -> Path:
        """Write a manifest of the closed files, and return its path. Raises OSError."""
        disk, directory = self._journal.files.disk, self._journal.files.directory / CLOSED_NAME
        disk.make_directory(directory)
        replace_manifest(directory, disk, manifest)
        disk.sync_directory(directory)
        return directory / MANIFEST_NAME

    def _run(self, path: Path) -> bool:
        """Run the command for a file, and return whether it succeeded. A failure is logged, unless the server stops."""
        with tempfile.TemporaryFile() as said:
            status = self._status_of(path, said)
            if status == 0:
                return True
            if not self._stopping.is_set() and path.exists():  # a rewrite may have removed it meanwhile
                said.seek(max(0, said.tell() - SAID_BYTES))
                words = said.read().decode(errors="replace").strip().replace("\n", "; ")
                self._put_off(f"--on-rotate failed with status {status} for {path}: {words or 'it said nothing'}")
        return False

    def _status_of(self, path: Path, said: BinaryIO) -> int:
        """Run the command to its end, or kill it some time after the server was asked to stop. Raises OSError."""
        process = subprocess.Popen(  # nosec B603: the command is the operator's own
            ["/bin/sh", "-c", self._command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            env={**os.environ, FILE_VARIABLE: str(path), DIRECTORY_VARIABLE: str(self._journal.files.directory)},
            start_new_session=True,
        )  # fmt: skip
        kill_at = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(LOOK_SECONDS)
                said.seek(0, os.SEEK_END)
                return status
            if kill_at is None and self._stopping.is_set():
                kill_at = time.monotonic() + GRACE_SECONDS
            if kill_at is not None and time.monotonic() >= kill_at:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                self._log.say("--on-rotate was killed, as the server stops", Level.WARNING)
                return process.wait()

    def _put_off(self, failure: str = "") -> None:
        """Wait before the next attempt, longer each time."""
        if failure:
            self._log.say(f"{failure}; it is run again in {self._retry_seconds:.0f} s", Level.WARNING)
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
