"""Turns: the processes of one run take a server that they share one after the other."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class SharedTurns:
    """A context manager that blocks while another process of the run is in it. It may be nested.

    path: a file that all processes of the run have; None where there is but one process.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._depth = 0
        self._fd = -1

    def __enter__(self) -> Self:
        if self._path is not None and not self._depth:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._fd >= 0 and not self._depth:
            os.close(self._fd)
            self._fd = -1
