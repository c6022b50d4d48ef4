"""What the load tester needs from a protocol."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class Outcome(IntEnum):
    """What a reply says about its request."""

    STORED = 0
    HIT = 1
    MISS = 2
    ERROR = 3


INCOMPLETE = (0, Outcome.ERROR)
"""What `Wire.reply` returns while the end of the reply has not arrived."""


class BadReply(Exception):
    """Bytes that are no reply of this protocol: where the next reply begins can't be known."""


class Wire(Protocol):
    """One protocol: how requests are written, and where replies end."""

    longest_key: int
    longest_value: int
    """The most bytes of a key, and of a value."""

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return the request that stores a value."""

    def get(self, key: bytes) -> bytes:
        """Return the request that asks for a value."""

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Return where the reply that begins at a position ends, and its outcome; INCOMPLETE before it has arrived.

        Raises BadReply.
        """

    def words_of(self, reply: bytes) -> str:
        """Return the message of a reply that is an error."""
