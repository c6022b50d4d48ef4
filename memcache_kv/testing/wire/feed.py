"""A stream of bytes, let through as it comes or cut at the ends of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Portion(NamedTuple):
    """A whole message, or the rest of one whose beginning was let through before."""

    data: bytes
    is_whole: bool


class Feed:
    """Keeps what has come of a message that is not whole yet, or counts it if it has been let through."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._ahead_bytes = 0

    def pass_through(self, data: bytes, lengths: Iterable[int]) -> bytes:
        """Return what to let through: these bytes, and what was held before.

        lengths: those of the messages that are whole with these bytes.
        """
        self._ahead_bytes += len(self._held) + len(data) - sum(lengths)
        if not self._held:
            return data
        held = bytes(self._held) + data
        self._held.clear()
        return held

    def cut(self, data: bytes, lengths: Iterable[int]) -> list[Portion]:
        """Return the messages that are whole with these bytes, and hold the rest. lengths: as for `pass_through`."""
        self._held += data
        cuts, start = [], 0
        for length in lengths:
            if not length:  # a request without a reply; what was let through belongs to a later one
                cuts.append(Portion(b"", True))
                continue
            end = start + length - self._ahead_bytes
            cuts.append(Portion(bytes(self._held[start:end]), not self._ahead_bytes))
            start, self._ahead_bytes = end, 0
        del self._held[:start]
        return cuts

    def let_go(self) -> bytes:
        """Return what is held, which is let through."""
        return self.pass_through(b"", ())
