"""Where typed lines come from: a terminal with history, or a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

HISTORY_LINES = 2000


class LineInput(Protocol):
    """Give one line after the other, without line ends."""

    interactive: bool

    def read_line(self, prompt: str) -> bytes | None:
        """Return the next line, or None at the end of the input."""


class PipedLines:
    """Read lines from a pipe or file, byte for byte and without a prompt."""

    interactive = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read_line(self, prompt: str) -> bytes | None:
        """Return the next line, or None at the end of the input."""
        line = self._stream.readline()
        if not line:
            return None
        return line.removesuffix(b"\n").removesuffix(b"\r")


class TerminalLines:
    """Read lines from a terminal with readline's editing; raise KeyboardInterrupt on Ctrl-C."""

    interactive = True

    def read_line(self, prompt: str) -> bytes | None:
        """Return the next line, or None at Ctrl-D."""
        try:
            return input(prompt).encode("utf-8", "surrogateescape")
        except EOFError:
            print()
            return None


def history_path() -> Path:
    """Name the history file, in XDG_STATE_HOME or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "memcache_kv" / "shell_history"


@contextlib.contextmanager
def kept_history(path: Path) -> Iterator[None]:
    """Load the line history and save it in the end; a file that cannot be used is no failure."""
    try:
        import readline
    except ImportError:  # a Python built without it: lines still work, only without editing
        yield
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.set_history_length(HISTORY_LINES)
            readline.write_history_file(path)


def stdin_lines() -> LineInput:
    """Choose between terminal and pipe by what standard input is."""
    return TerminalLines() if sys.stdin.isatty() else PipedLines(sys.stdin.buffer)
