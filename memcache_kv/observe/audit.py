"""The audit log: who logged in, who tried to, and who used which admin command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from memcache_kv.errors import FAILED_STATUS, ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.unpatched import threading, time

COMMAND_LIMIT_BYTES = 200
"""A longer command is cut."""
STRANGERS_LIMIT, STRANGERS_SECONDS = 20, 1.0
"""The number of failed logins and refused commands written in this time. The next line says how many were left out."""
AUDIT_MODE = 0o600


class AuditLog:
    """A file that gets a JSON object a line. Lines are never buffered here.

    path: the file; log: where failures to write are reported; wall_clock: unix time in seconds. Raises ConfigError if
    the file can't be opened.

    Any thread may call any method. None but the constructor raises, and none waits for a pipe that nobody reads.
    """

    def __init__(self, path: Path, log: Log, wall_clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._log = log
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._strangers_since = 0.0
        self._strangers = 0
        self._left_out = 0
        self._is_torn = False
        """Whether the last line was written in part only."""
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(f"can't write the audit log {path}: {error.strerror}", FAILED_STATUS) from None

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(self._path, flags, AUDIT_MODE)

    def reopen(self) -> None:
        """Open the file again, which may have been renamed. If it can't be opened, log that and keep the old one."""
        try:
            new = self._open()
        except OSError as error:
            self._log.say(
                f"can't open the audit log {self._path} again: {error.strerror}; the old file stays in use",
                Level.WARNING,
            )
            return
        os.dup2(new, self._fd, inheritable=False)  # atomic: another thread may be writing
        os.close(new)

    def close(self) -> None:
        """Close the file. To be called when nobody writes any more."""
        os.close(self._fd)

    def login(self, address: str, user: bytes | None, succeeded: bool) -> None:
        """Write a login. user: None if its name is not to be written."""
        self._write("login", address, user, succeeded)

    def command(self, address: str, user: bytes | None, command: bytes, is_allowed: bool) -> None:
        """Write an admin command with its arguments."""
        self._write("command", address, user, is_allowed, _text(command[:COMMAND_LIMIT_BYTES]))

    def _write(self, event: str, address: str, user: bytes | None, succeeded: bool, command: str | None = None) -> None:
        now = self._wall_clock()
        left_out = 0
        if not succeeded or self._left_out:
            with self._lock:
                if not succeeded and not self._has_room(now):
                    self._left_out += 1
                    return
                left_out, self._left_out = self._left_out, 0
        row: dict[str, object] = {"time": _timestamp(now), "event": event, "outcome": _OUTCOMES[event][succeeded]}
        row |= {"address": address, "user": None if user is None else _text(user)}
        if command is not None:
            row["command"] = command
        if left_out:
            row["left_out"] = left_out
        self._append(json.dumps(row).encode() + b"\n")

    def _has_room(self, now: float) -> bool:
        """Count a line that a stranger causes, and return whether there is room for it."""
        if not 0 <= now - self._strangers_since < STRANGERS_SECONDS:
            self._strangers_since, self._strangers = now, 0
        self._strangers += 1
        return self._strangers <= STRANGERS_LIMIT

    def _append(self, line: bytes) -> None:
        """Write a line with one call, so that lines of several threads do not mix."""
        if self._is_torn:
            line = b"\n" + line
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._log.failure_rarely(f"can't write to the audit log {self._path}", error)
            return
        self._is_torn = written < len(line)
        if self._is_torn:
            self._log.say_rarely("audit log", f"a line of the audit log {self._path} was written in part only")


_OUTCOMES = {"login": ("failed", "ok"), "command": ("refused", "allowed")}


def _timestamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
