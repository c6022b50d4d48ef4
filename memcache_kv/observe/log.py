"""The log: lines on standard error, like memcached's, in a file, or in the system's log."""

from __future__ import annotations

import sys
from collections.abc import Callable

from memcache_kv.errors import MemcacheKVError
from memcache_kv.observe.log_form import Form, Level, plain
from memcache_kv.observe.log_queue import LogQueue, LogStream, write_past_buffer, write_through
from memcache_kv.threads import OnFault
from memcache_kv.unpatched import threading, time


class SystemLog:
    """The system's log as a `LogStream`, for a server in the background, which has no standard error.

    The lines have the form `with_priority`.
    """

    def __init__(self) -> None:
        import syslog

        syslog.openlog("memcache-kv", syslog.LOG_PID, syslog.LOG_DAEMON)
        self._take = syslog.syslog

    def write(self, text: str, /) -> None:
        """Send each line to the system's log as a message."""
        for line in text.splitlines():
            priority, _, message = line[1:].partition(">")
            self._take(int(priority), message)

    def flush(self) -> None:
        """Do nothing, as messages are not buffered."""


REPEAT_SECONDS = 10.0
"""The time in which only one line of a kind is logged, if any client can cause it with every packet."""
FLUSH_SECONDS = 2.0
"""How long the end of a server waits for the last lines of the log to be written."""


class Log:
    """A log with memcached's levels of verbosity: -v, -vv, and the command `verbosity`.

    verbosity: the number of -v; stream: what to write to, standard error by default; monotonic: the clock, in seconds;
    form: what a line looks like; level: the least severe lines that are written.

    Any thread may call any method. Control characters are escaped, as clients choose some of the text. If the stream
    can't be written (a closed pipe, no standard error), lines are lost.

    At first, and again after `stop_queue`, each line is written before the method returns. From `start_queue` on a
    thread writes them, so that a stream that takes nothing, such as a full pipe, stops nobody.
    """

    def __init__(
        self,
        verbosity: int = 0,
        stream: LogStream | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        form: Form = plain,
        level: Level = Level.DEBUG,
    ) -> None:
        self.verbosity = verbosity
        self._form = form
        self._level = level
        self.stream: LogStream | None = stream if stream is not None else sys.stderr
        """What the lines are written to; None if the process has no standard error."""
        self._queue: LogQueue | None = None
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._repeats: dict[object, tuple[float, int]] = {}
        """For each kind of line, when one was last written, and how many were left out since."""

    def redirect(self, stream: LogStream, form: Form) -> None:
        """Write to another stream from now on. What waits is written to the present one, if that takes it soon."""
        queue = self._queue
        if queue is not None:
            queue.flush(FLUSH_SECONDS)
        self.stream, self._form = stream, form

    def start_queue(self, on_fault: OnFault | None = None) -> None:
        """Have a thread write the lines from now on. on_fault: called with an exception that ends that thread."""
        queue = LogQueue(self._write_queued, lambda text: self._form(Level.WARNING, text, []))
        queue.thread.on_fault = on_fault
        queue.start()
        self._queue = queue

    def stop_queue(self) -> None:
        """Write what waits, for FLUSH_SECONDS at most. If the stream does not take it, all further lines are lost."""
        queue = self._queue
        if queue is not None:
            if not queue.stop(FLUSH_SECONDS):
                self.stream = None
            self._queue = None

    @property
    def dropped_lines(self) -> int:
        """The number of lines that were dropped because the stream took them too slowly."""
        queue = self._queue
        return 0 if queue is None else queue.dropped

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """Write a line at any verbosity: a listening address, what was recovered, an error."""
        self._write_lines(level, printable(text))

    def warn(self, text: str) -> None:
        """Write a line that begins with "warning: "."""
        self.say(f"warning: {text}", Level.WARNING)

    def say_rarely(self, kind: object, text: str) -> None:
        """Write a warning that clients can cause often, unless one of its kind was written within REPEAT_SECONDS.

        The next line of the kind says how many were left out. kind: anything hashable; there must be few kinds, as all
        of them are remembered.
        """
        left_out = self._count(kind)
        if left_out is not None:
            self.say(text + _and_others(left_out), Level.WARNING)

    def failure(self, what: str, error: BaseException, outcome: str = "") -> None:
        """Write a line with what failed, the reason and the consequence; with -v also the traceback."""
        self._write_failure(f"{what}: {reason(error)}" + (f"; {outcome}" if outcome else ""), error)

    def fatal(self, what: str, error: BaseException, outcome: str) -> None:
        """Write a line with what failed, the reason and the consequence, and the traceback at any verbosity."""
        self._write_failure(f"{what}: {reason(error)}; {outcome}", error, with_traceback=True)

    def failure_rarely(self, what: str, error: BaseException) -> None:
        """Write a failure that clients can cause often, at most once within REPEAT_SECONDS; see `say_rarely`.

        Errors with the same type and errno from the same line of code are of one kind.
        """
        left_out = self._count((type(error), getattr(error, "errno", None), place(error)))
        if left_out is not None:
            self._write_failure(f"{what}: {reason(error)}{_and_others(left_out)}", error)

    def event(self, text: str) -> None:
        """Write a line with -v: connections opened and closed, signals, files read again."""
        if self.verbosity > 0:
            self.say(text)

    def request(self, fd: int, line: bytes) -> None:
        """Write a request of the connection with this descriptor, with -vv."""
        if self.verbosity > 1:
            self.say(f"<{fd} {line.decode('utf-8', 'backslashreplace')}", Level.DEBUG)

    def reply(self, fd: int, line: bytes) -> None:
        """Write a reply to the connection with this descriptor, with -vv."""
        if self.verbosity > 1:
            self.say(f">{fd} {line.decode('utf-8', 'backslashreplace')}", Level.DEBUG)

    def _count(self, kind: object) -> int | None:
        """Return how many lines of a kind were left out since the last one, or None to leave out this one too."""
        now = self._monotonic()
        with self._lock:
            said_at, left_out = self._repeats.get(kind, (now - REPEAT_SECONDS, 0))
            if now - said_at < REPEAT_SECONDS:
                self._repeats[kind] = (said_at, left_out + 1)
                return None
            self._repeats[kind] = (now, 0)
        return left_out

    def _write_failure(self, line: str, error: BaseException, with_traceback: bool = False) -> None:
        trace: list[str] = []
        if with_traceback or self.verbosity > 0:
            import traceback  # imported here, as it would slow down every start

            trace = [printable(each) for each in "".join(traceback.format_exception(error)).splitlines()]
        self._write_lines(Level.ERROR, printable(line), trace)

    def _write_lines(self, level: Level, line: str, trace: list[str] | None = None) -> None:
        if level > self._level:
            return
        text = self._form(level, line, trace or [])
        queue = self._queue
        if queue is None or not queue.put(text):
            self._write_now(text)

    def _write_now(self, text: str) -> None:
        stream = self.stream
        if stream is not None:
            write_through(stream, text)

    def _write_queued(self, text: str) -> None:
        stream = self.stream
        if stream is not None:
            write_past_buffer(stream, text)


def printable(text: str) -> str:
    r"""Return a text with escapes such as \x1b for characters that are not printable, including line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: BaseException) -> str:
    """Return why something failed: the system's message or ours. For other exceptions, add the line of code."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemcacheKVError):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} (at {place(error)})"


def place(error: BaseException) -> str:
    """Return the module and line that an error came from, of this package if it was involved."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_globals.get("__name__", "?"), trace.tb_lineno))
        trace = trace.tb_next
    ours = [line for line in lines if line[0].startswith("memcache_kv")]
    module, number = (ours or lines or [("?", 0)])[-1]
    return f"{module}:{number}"


def _and_others(left_out: int) -> str:
    return f" (and {left_out} more of this kind since the last line)" if left_out else ""
