"""A file that is appended to, and that others may move away meanwhile, as logrotate does."""

from __future__ import annotations

import os
from pathlib import Path

MODE = 0o600


class RotatedFile:
    """A file that is opened anew once it was moved or removed, and after `reopen`.

    path: the file, which is created if it is missing. The constructor, `write` and nothing else raise OSError. `reopen`
    may be called by any thread; the rest by one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._must_reopen = False
        self._fd = self._open()

    def reopen(self) -> None:
        """Open the file anew before the next write."""
        self._must_reopen = True

    def write(self, text: str, /) -> None:
        """Append text, in UTF-8. Bytes of a surrogate are escaped."""
        if self._must_reopen or self._was_moved():
            new = self._open()
            self._must_reopen = False
            os.close(self._fd)
            self._fd = new
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def flush(self) -> None:
        """Do nothing, as nothing is buffered here."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _open(self) -> int:
        """Open the file. A named pipe without a reader is an error, instead of being waited for."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(self.path, flags, MODE)
        os.set_blocking(fd, True)
        return fd

    def _was_moved(self) -> bool:
        """Tell whether the path names another file than the one that is open, or none."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return True
