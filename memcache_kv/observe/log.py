"""What the server says on standard error, in memcached's manner."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from memcache_kv.errors import MemcacheKVError


class LogStream(Protocol):
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


REPEAT_SECONDS = 10.0
"""What a stranger can cause with every packet is said once in this time."""


class Log:
    """Lines on standard error; `verbosity` (memcached's -v, `verbosity` command) decides which.

    May be used by any thread: a line is one write. Characters that a terminal would act on are escaped, as clients
    choose some of what is written. A log that can't be written (a closed pipe, no standard error at all) is dropped.
    """

    def __init__(
        self, verbosity: int = 0, stream: LogStream | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.verbosity = verbosity
        self.stream: LogStream | None = stream if stream is not None else sys.stderr
        """Where the lines go."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._repeats: dict[object, tuple[float, int]] = {}
        """When each kind of line was said last, and how many of it were left out since."""

    def redirect(self, stream: LogStream) -> None:
        """Write to another stream from now on."""
        self.stream = stream

    def say(self, text: str) -> None:
        """Write a line that everybody should see: where we listen, what was recovered, what went wrong."""
        self._write(printable(text) + "\n")

    def say_rarely(self, kind: object, text: str) -> None:
        """Write a line that a stranger can cause with every packet, unless one of its kind was written just now.

        The next one that is written tells how many were left out. There must be few kinds: all are remembered.
        """
        left_out = self._count(kind)
        if left_out is not None:
            self.say(text + _and_others(left_out))

    def failure(self, what: str, error: BaseException, outcome: str = "") -> None:
        """Write in one line what failed and why, and what comes of it; under -v the traceback too."""
        self._write_failure(f"{what}: {reason(error)}" + (f"; {outcome}" if outcome else ""), error)

    def fatal(self, what: str, error: BaseException, outcome: str) -> None:
        """Write what ended the server, and the traceback in any case."""
        self._write_failure(f"{what}: {reason(error)}; {outcome}", error, with_traceback=True)

    def failure_rarely(self, what: str, error: BaseException) -> None:
        """Write the same of what a stranger can cause with every packet; see `say_rarely`.

        Errors of one type and number from one line of the code are of one kind.
        """
        left_out = self._count((type(error), getattr(error, "errno", None), place(error)))
        if left_out is not None:
            self._write_failure(f"{what}: {reason(error)}{_and_others(left_out)}", error)

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

    def _count(self, kind: object) -> int | None:
        """Return how many of a kind were left out since its last line; None where this one is left out too."""
        now = self._monotonic()
        with self._lock:
            said_at, left_out = self._repeats.get(kind, (now - REPEAT_SECONDS, 0))
            if now - said_at < REPEAT_SECONDS:
                self._repeats[kind] = (said_at, left_out + 1)
                return None
            self._repeats[kind] = (now, 0)
        return left_out

    def _write_failure(self, line: str, error: BaseException, with_traceback: bool = False) -> None:
        lines = [line]
        if with_traceback or self.verbosity > 0:
            import traceback  # loading it takes 4 ms of a start, and mostly nobody needs it

            lines += "".join(traceback.format_exception(error)).splitlines()
        self._write("".join(f"{printable(line)}\n" for line in lines))

    def _write(self, text: str) -> None:
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            pass  # there is nowhere left to tell of it


def printable(text: str) -> str:
    r"""Escape control characters, line ends among them, and others that can't be seen: \x1b for an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: BaseException) -> str:
    """Tell why something failed: what the system says, or our own words; for a fault in the code, its place too."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemcacheKVError):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} (at {place(error)})"


def place(error: BaseException) -> str:
    """Name the line of our code that an error came from, or of other code where ours had no part in it."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_globals.get("__name__", "?"), trace.tb_lineno))
        trace = trace.tb_next
    ours = [line for line in lines if line[0].startswith("memcache_kv")]
    module, number = (ours or lines or [("?", 0)])[-1]
    return f"{module}:{number}"


def _and_others(left_out: int) -> str:
    return f" (and {left_out} more of this kind since the last line)" if left_out else ""
