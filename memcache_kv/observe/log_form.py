"""The forms of a line of the log: text, text with its time or its priority, and JSON."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

from memcache_kv.unpatched import time


class Level(enum.IntEnum):
    """How severe a line is. The numbers are those of syslog (RFC 5424, section 6.2.1)."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


Form: TypeAlias = Callable[[Level, str, list[str]], str]
"""Makes the text of a line, with its line end. It is given the line's level, its words and the lines of a traceback."""


def plain(level: Level, line: str, traceback: list[str]) -> str:
    """Return the words alone, as memcached writes them."""
    return "".join(f"{each}\n" for each in (line, *traceback))


def with_priority(level: Level, line: str, traceback: list[str]) -> str:
    """Return lines that begin with `<N>`, from which systemd's journal takes their priority (sd-daemon(3))."""
    return "".join(f"<{level}>{each}\n" for each in (line, *traceback))


def with_time(unix_time: Callable[[], float] = time.time) -> Form:
    """Return a form whose lines begin with the local time and the level."""

    def form(level: Level, line: str, traceback: list[str]) -> str:
        now = unix_time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"
        return "".join(f"{stamp} {level.name:7} {each}\n" for each in (line, *traceback))

    return form


def as_json(unix_time: Callable[[], float] = time.time) -> Form:
    """Return a form whose lines are JSON objects with `time` (UTC), `level`, `message` and perhaps `traceback`."""
    import json  # imported here, as it would slow down every start

    def form(level: Level, line: str, traceback: list[str]) -> str:
        row = {"time": utc(unix_time()), "level": level.name.lower(), "message": line}
        if traceback:
            row["traceback"] = "\n".join(traceback)
        return json.dumps(row, ensure_ascii=False) + "\n"

    return form


def utc(unix_time: float) -> str:
    """Return a time with milliseconds, as in RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_time)) + f".{int(unix_time % 1 * 1000):03d}Z"
