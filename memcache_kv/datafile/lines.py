"""Lines that hold a key, a space or a tab, and the value up to the end of the line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from memcache_kv.store.entry import KEY_LIMIT_BYTES

SPLIT_BYTES = 1 << 17
"""How much is read and split at once."""
LARGEST_ITEM_BYTES = 1 << 30
"""The most bytes of a key and its value, if there is no lower limit: -I goes no further."""
LINE_CONTROLS = bytes({*range(32), 127} - {ord("\n")})
"""What a line in its common form does not contain."""
ITEM_LINE = re.compile(rb"([^\x00-\x20\x7f]{1,%d})[ \t](.*)" % KEY_LIMIT_BYTES, re.DOTALL)


class Rejected(NamedTuple):
    """A line that is not a valid item."""

    number: int
    reason: str


class LineBatch(NamedTuple):
    """The items of some lines, and the lines that are none."""

    keys: list[bytes]
    values: list[bytes]
    rejected: list[Rejected]


def read_batches(file: BinaryIO, limit_bytes: int = LARGEST_ITEM_BYTES) -> Iterator[LineBatch]:
    """Yield the items of a file, those of a block at a time.

    limit_bytes: the most bytes of a key and its value. A line that is longer is rejected, and never kept in memory.
    Raises what the file's `read` raises.
    """
    first = 1
    for block, lost_bytes in _blocks(file, limit_bytes + len(b" \r\n")):
        if lost_bytes:
            yield LineBatch([], [], [Rejected(first, too_large(lost_bytes, limit_bytes))])
            first += 1
            continue
        lines = block.split(b"\n")
        if not lines[-1]:
            del lines[-1]
        is_common = len(block.translate(None, LINE_CONTROLS)) == len(block)
        yield _common_items(lines, first, limit_bytes) if is_common else _items(lines, first, limit_bytes)
        first += len(lines)


def _blocks(file: BinaryIO, line_limit_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines, many at a time, with the number 0; of a line that is too long only its length."""
    pieces: list[bytes] = []
    size = lost_bytes = 0
    while piece := file.read(SPLIT_BYTES):
        if lost_bytes or size + len(piece) > line_limit_bytes + SPLIT_BYTES:
            feed = piece.find(b"\n")
            lost_bytes += size + (len(piece) if feed < 0 else feed)
            pieces, size = [], 0
            if feed < 0:
                continue
            yield b"", lost_bytes
            lost_bytes, piece = 0, piece[feed + 1 :]
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join((*pieces, piece[:end])), 0
            pieces, size, piece = [], 0, piece[end:]
        pieces.append(piece)
        size += len(piece)
    if lost_bytes:
        yield b"", lost_bytes
    elif size:
        yield b"".join(pieces), 0


def _common_items(lines: list[bytes], first: int, limit_bytes: int) -> LineBatch:
    """Split lines without control characters: a shorter `_items`."""
    keys: list[bytes] = []
    values: list[bytes] = []
    rejected: list[Rejected] = []
    for line in lines:
        key, space, value = line.partition(b" ")
        if space and 0 < len(key) <= KEY_LIMIT_BYTES and len(line) <= limit_bytes:
            keys.append(key)
            values.append(value)
        else:
            number = first + len(keys) + len(rejected)
            rejected.append(Rejected(number, problem_of(line, limit_bytes)))
    return LineBatch(keys, values, rejected)


def _items(lines: list[bytes], first: int, limit_bytes: int) -> LineBatch:
    keys: list[bytes] = []
    values: list[bytes] = []
    rejected: list[Rejected] = []
    for number, ended in enumerate(lines, first):
        line = ended.removesuffix(b"\r")
        match = ITEM_LINE.fullmatch(line)
        if match is not None and len(line) <= limit_bytes:
            keys.append(match[1])
            values.append(match[2])
        else:
            rejected.append(Rejected(number, problem_of(line, limit_bytes)))
    return LineBatch(keys, values, rejected)


def problem_of(line: bytes, limit_bytes: int) -> str:
    """Return why a line, given without its end, is not a valid item."""
    blanks = [at for at in (line.find(b" "), line.find(b"\t")) if at >= 0]
    if not line:
        return "the line is empty"
    if not blanks:
        return "there is no value after the key"
    return key_problem(line[: min(blanks)]) or too_large(len(line), limit_bytes)


def too_large(size: int, limit_bytes: int) -> str:
    """Return what is wrong with a line of this length."""
    return f"the line has {size} bytes; the limit is {limit_bytes}"


def key_problem(key: bytes) -> str:
    """Return why a key is invalid in the text protocol; an empty string if it is valid."""
    if not key:
        return "the line begins with a space: there is no key"
    if len(key) > KEY_LIMIT_BYTES:
        return f"the key has {len(key)} bytes; the limit is {KEY_LIMIT_BYTES}"
    if any(byte <= 32 or byte == 127 for byte in key):
        return "the key contains a control character"
    return ""
