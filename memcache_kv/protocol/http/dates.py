"""The header `Date`, which is made once a second."""

from __future__ import annotations

from email.utils import formatdate


class DateLine:
    """The line of the header for the present second. Any thread may call `at`."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest = (-1, b"")

    def at(self, now: int) -> bytes:
        """Return the line for a unix time."""
        second, line = self._latest
        if second != now:
            line = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode()
            self._latest = (now, line)
        return line
