"""A `get` of many keys, whose line is too long to be split into words at once.

The words of a line of two megabytes can take fifty, and to make them takes longer than a turn.
"""

from __future__ import annotations

from collections.abc import Iterator

BATCH_BYTES = 4096
"""The length of the part of a line that is split at once."""


def split_long_get(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the command of a `get` or `gets` line and the rest of the line; None for any other line."""
    command, _, keys = line.lstrip(b" ").partition(b" ")
    return (command, keys) if command in (b"get", b"gets") else None


def key_batches(keys: bytes) -> Iterator[list[bytes]]:
    """Yield the words of this part of a line, a few at a time."""
    position = 0
    while position < len(keys):
        stop = keys.find(b" ", position + BATCH_BYTES)
        if stop < 0:
            stop = len(keys)
        yield [word for word in keys[position:stop].split(b" ") if word]
        position = stop
