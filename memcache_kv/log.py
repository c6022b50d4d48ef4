"""What the server says on standard error, in memcached's manner."""

from __future__ import annotations

import sys
from typing import Protocol


class Stream(Protocol):
    """Where a log goes."""

    def write(self, text: str, /) -> object:
        """Take a line, with its end."""

    def flush(self) -> object:
        """Pass on what was taken."""


class SystemLog:
    """The system's log as a stream, for a server in the background, which has no standard error."""

    def __init__(self) -> None:
        import syslog

        syslog.openlog("memcache-kv", syslog.LOG_PID, syslog.LOG_DAEMON)
        self._take = syslog.syslog

    def write(self, text: str, /) -> None:
        """Pass on each line as a message."""
        for line in text.splitlines():
            self._take(line)

    def flush(self) -> None:
        """Do nothing: each message has gone."""


class Log:
    """Lines on standard error; `verbosity` (memcached's -v, `verbosity` command) decides which.

    May be used by any thread: a line is one write. A log that can't be written (a closed pipe, no standard error at
    all) is dropped.
    """

    def __init__(self, verbosity: int = 0, stream: Stream | None = None) -> None:
        self.verbosity = verbosity
        self._stream: Stream | None = stream if stream is not None else sys.stderr

    def redirect(self, stream: Stream) -> None:
        """Write to another stream from now on."""
        self._stream = stream

    def say(self, text: str) -> None:
        """Write a line that everybody should see: where we listen, what was recovered, what went wrong."""
        if self._stream is None:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def event(self, text: str) -> None:
        """Write a line under -v: who connects and leaves."""
        if self.verbosity > 0:
            self.say(text)

    def request(self, fd: int, line: bytes) -> None:
        """Write a request under -vv."""
        if self.verbosity > 1:
            self.say(f"<{fd} {line.decode('utf-8', 'backslashreplace')}")

    def reply(self, fd: int, line: bytes) -> None:
        """Write a reply under -vv."""
        if self.verbosity > 1:
            self.say(f">{fd} {line.decode('utf-8', 'backslashreplace')}")
