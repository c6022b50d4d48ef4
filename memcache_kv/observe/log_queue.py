"""The lines of the log on their way to its stream: a bounded queue and the thread that writes them."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol

from memcache_kv.threads import ServerThread
from memcache_kv.unpatched import threading, time

QUEUE_LIMIT_CHARACTERS = 1 << 20
"""The most that waits to be written. Lines beyond it are dropped and counted."""


DROPPED = "dropped, as they could not be written fast enough"


class LogStream(Protocol):
    """What a log writes to."""

    def write(self, text: str, /) -> object:
        """Write lines, which end with line ends."""

    def flush(self) -> object:
        """Write out what is buffered."""


class LogQueue:
    """Lines in the order in which they were put, and the thread that writes them, so that no other thread waits.

    write: writes lines, and may block; form_report: makes a line of what the queue reports itself.

    Any thread may call `put`, which returns at once. One thread calls `start`, and later `stop`.
    """

    def __init__(self, write: Callable[[str], None], form_report: Callable[[str], str] = "{}\n".format) -> None:
        self._write = write
        self._form_report = form_report
        self._lines: deque[str] = deque()
        self._waiting_characters = 0
        self._is_writing = False
        self._is_stopping = False
        self._is_over = False
        self._unreported = 0
        """How many lines were dropped since the log last said so."""
        self.dropped = 0
        """The number of lines that were dropped since the start."""
        self._changed = threading.Condition()
        self.thread = ServerThread("log", self._serve)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def put(self, text: str) -> bool:
        """Queue lines, or drop and count them if there is no room. Return False after the thread's end."""
        with self._changed:
            if self._is_over:
                return False
            if self._waiting_characters + len(text) > QUEUE_LIMIT_CHARACTERS:
                self._unreported += 1
                self.dropped += 1
                return True
            self._lines.append(text)
            self._waiting_characters += len(text)
            if not self._is_writing:
                self._changed.notify_all()
        return True

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written, for so long at most. Return whether they are."""
        give_up_at = time.monotonic() + seconds
        with self._changed:
            while self._lines or self._unreported or self._is_writing:
                left = give_up_at - time.monotonic()
                if left <= 0 or not self.thread.is_alive():
                    return False
                self._changed.wait(left)
        return True

    def stop(self, seconds: float) -> bool:
        """Write what waits, for so long at most, and end the thread. Return whether everything was written.

        A thread that is blocked by its stream ends with the process.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def _serve(self) -> None:
        while batch := self._take():
            self._write(batch)

    def _take(self) -> str:
        """Return all that waits, once there is something. Return nothing after the last line, to end the thread."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            while not (self._lines or self._unreported or self._is_stopping):
                self._changed.wait()
            batch = "".join(self._lines)
            self._lines.clear()
            if self._unreported:  # these came while the queue was full, so behind all that was in it
                batch += self._form_report(f"{self._unreported} lines of the log were {DROPPED}")
            self._waiting_characters = self._unreported = 0
            self._is_writing, self._is_over = bool(batch), not batch
            return batch


def write_through(stream: LogStream, text: str) -> None:
    """Write lines to a stream. They are lost if it can't be written, as there is nowhere to report this."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def write_past_buffer(stream: LogStream, text: str) -> None:
    """Write lines to a stream, past its buffer if it is a file.

    A thread that is blocked while it holds such a buffer's lock would keep the interpreter from ending.
    """
    try:
        fd: int = stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        write_through(stream, text)
        return
    data = text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]
