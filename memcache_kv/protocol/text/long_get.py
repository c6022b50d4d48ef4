"""A `get` of many keys, whose line is too long to be split into words at once.

The words of a line of two megabytes can take fifty, and to make them takes longer than a turn.
"""

from __future__ import annotations

from collections.abc import Iterator

BATCH_BYTES = 4096
"""The length of the part of a line that is split at once."""


def split_long_get(line: bytes) -> tuple[bytes, bytes, int] | None:
    """Return the command of a `get` or `gets` line, the line, and where its keys begin; None for any other line."""
    line = line.lstrip(b" ")
    keys_at = line.find(b" ") + 1
    command = line[: keys_at - 1]
    return (command, line, keys_at) if command in (b"get", b"gets") else None


def key_batches(line: bytes, position: int) -> Iterator[list[bytes]]:
    """Yield the words of a line from `position` on, a few at a time."""
    while position < len(line):
        stop = line.find(b" ", position + BATCH_BYTES)
        if stop < 0:
            stop = len(line)
        yield [word for word in line[position:stop].split(b" ") if word]
        position = stop
