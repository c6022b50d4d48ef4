"""What the server says on standard error, in memcached's manner."""

from __future__ import annotations

import sys
from typing import TextIO


class Log:
    """Lines on standard error; `verbosity` (memcached's -v, `verbosity` command) decides which.

    May be used by any thread: a line is one write. A log that can't be written (a closed pipe) is dropped.
    """

    def __init__(self, verbosity: int = 0, stream: TextIO | None = None) -> None:
        self.verbosity = verbosity
        self._stream = stream if stream is not None else sys.stderr

    def say(self, text: str) -> None:
        """Write a line that everybody should see: where we listen, what was recovered, what went wrong."""
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
