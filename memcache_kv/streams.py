"""The standard streams of the process."""

from __future__ import annotations

import contextlib
import os
import sys


def open_standard_streams() -> None:
    """Open closed standard streams on /dev/null.

    Otherwise the next file or socket would get the descriptor of one, and log lines would be written to it. Call this
    before other imports: libffi, which ctypes loads, keeps a file open.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # the interpreter found the descriptor closed
            lowest_free = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(lowest_free, "w" if number else "r"))


def discard_broken_streams() -> None:
    """Discard output that can't be written to a broken pipe. Otherwise the interpreter would exit with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
