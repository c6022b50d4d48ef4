"""The operation log: what HTTP clients stored, read and deleted, and when the journal was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memcache_kv.errors import FAILED_STATUS, ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_queue import LogQueue
from memcache_kv.observe.rotated_file import RotatedFile
from memcache_kv.threads import OnFault
from memcache_kv.unpatched import time

LOGGED_LIMIT_BYTES = 200
"""A longer key or value is cut."""
LAST_LINES_SECONDS = 5.0
"""How long the end of the server waits until the last lines are written."""


class OperationLog:
    """A file that gets a line for each operation, written by a thread of its own.

    path: the file; log: where failures to write are reported; wall_clock: unix time in seconds. Raises ConfigError if
    the file can't be opened.

    The file is opened again before each write if it was moved or removed. Any thread may call `add`, `saved` and
    `reopen`, which return at once. Lines that come faster than they can be written are dropped, and their number is
    written instead.
    """

    def __init__(self, path: Path, log: Log, wall_clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._log = log
        self._wall_clock = wall_clock
        self._second = 0
        self._time = ""
        self._saved_second = 0
        self._saved_position = 0
        try:
            self._file = RotatedFile(path)
        except OSError as error:
            raise ConfigError(f"can't write the operation log {path}: {error.strerror}", FAILED_STATUS) from None
        self._queue = LogQueue(self._write)

    def start(self, on_fault: OnFault) -> None:
        """Start the thread. on_fault: called with an exception that ends it."""
        self._queue.thread.on_fault = on_fault
        self._queue.start()

    def stop(self) -> None:
        """Write what waits, and close the file. To be called when nobody adds anything any more."""
        if self._queue.thread.ident is None or self._queue.stop(LAST_LINES_SECONDS):
            self._file.close()

    def add(self, method: str, key: bytes, value: bytes | None = None) -> None:
        """Write an operation on a key. value: what was stored or found; None leaves it out."""
        rest = "" if value is None else f", Value: {_readable(value)}"
        self._queue.put(f"{self._timestamp()} - {method} - Key: {_readable(key)}{rest}\n")

    def saved(self, position: int) -> None:
        """Write that the journal is on disk up to this position, once a second at most."""
        second = int(self._wall_clock())
        if position != self._saved_position and second != self._saved_second:
            self._saved_position, self._saved_second = position, second
            self._queue.put(f"{self._timestamp()} - SAVE\n")

    def reopen(self) -> None:
        """Open the file again before the next line."""
        self._file.reopen()

    def _timestamp(self) -> str:
        """Return the local time, which is formatted once a second."""
        second = int(self._wall_clock())
        if second != self._second:
            self._time, self._second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)), second
        return self._time

    def _write(self, text: str) -> None:
        """Write lines. Called by the thread."""
        try:
            self._file.write(text)
        except OSError as error:
            self._log.failure_rarely(f"can't write to the operation log {self._path}", error)


def _readable(data: bytes) -> str:
    """Return a key or value as text on one line."""
    text = data[:LOGGED_LIMIT_BYTES].decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text + "..." if len(data) > LOGGED_LIMIT_BYTES else text
