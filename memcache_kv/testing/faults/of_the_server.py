"""Faults that look like the server's: errors and misses. The server does not get the requests that are answered so."""

from __future__ import annotations

from memcache_kv.protocol.binary.frames import TEXTS, Status
from memcache_kv.testing.faults.answers import INTERNAL_ERROR, error_for, miss_for
from memcache_kv.testing.faults.base import Fault, Place
from memcache_kv.testing.wire import Direction, Passage

STORES = frozenset(("set", "add", "replace", "append", "prepend", "cas", "ms"))
NO_MEMORY_TEXT = b"out of memory storing object"


class ErrorAnswer(Fault):
    """Requests are answered `SERVER_ERROR` and a message, in the binary protocol by status 0x84 with the message."""

    direction = Direction.UPSTREAM

    def __init__(self, place: Place, *, message: str = "temporary failure") -> None:
        super().__init__(place)
        if not message or set(message) & set("\r\n"):
            raise ValueError("a message is one line")
        self._message = message.encode()

    def change(self, passage: Passage) -> None:
        """Answer with the error."""
        passage.answer = error_for(passage.request, self._message, INTERNAL_ERROR)


class OutOfMemoryAnswer(Fault):
    """Requests that store something are answered that there is no memory: in the binary protocol by status 0x82."""

    direction = Direction.UPSTREAM

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        if self.selection.commands is None:
            self.selection.commands = STORES

    def change(self, passage: Passage) -> None:
        """Answer with the error."""
        is_binary = passage.request.data[:1] == b"\x80"
        text = TEXTS[Status.NO_MEMORY] if is_binary else NO_MEMORY_TEXT
        passage.answer = error_for(passage.request, text, Status.NO_MEMORY)


class Miss(Fault):
    """Items seem not to be there: reads miss, and `touch`, `delete`, `incr`, `decr`, `md` and `ma` find nothing.

    Of a request for several keys, those that fit the pattern miss.
    """

    direction = Direction.UPSTREAM

    def change(self, passage: Passage) -> None:
        """Answer with a miss, or ask the server for the other keys only."""
        missing = [key for key in passage.request.keys if self.selection.fits(key)]
        passage.answer, passage.data = miss_for(passage.request, missing)
