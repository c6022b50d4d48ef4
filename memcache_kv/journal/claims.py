"""What records of time claim about the disk at the time when they were written, wherever they are in a file.

They are found by their neighbours: a line counts if its checksum continues the one that the line before it states. So a
claim counts behind damage, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from memcache_kv.journal.disk import BLOCK_BYTES, Disk, blocks_with_data
from memcache_kv.journal.record import stated_crc

_CLAIM = re.compile(
    rb'\n\{"crc":"([0-9a-f]{8})","len":[0-9]++,("op":"time",[^\n]{0,200}?"(synced|serial)":([0-9]++)[^\n]*+)(?=\n)'
)
"""A record of time that claims something, with the end of the line before. It begins with fixed bytes, which are found
fast."""
LINE_START_BYTES = 32
"""So much of a long line is kept in memory: its checksum is there."""


def claims_behind(disk: Disk, path: Path, offset: int, size: int, field: bytes) -> Iterator[int]:
    """Yield what each record of time behind an offset of a file claims in a field: `synced` or `serial`.

    A record with both is one of `synced`. Raises OSError.
    """
    context = b""
    for at, block in blocks_with_data(disk, path, offset, size):
        data = (context if at == offset else b"\0") + block
        for match in _CLAIM.finditer(data):
            previous = data.rfind(b"\n", 0, match.start()) + 1
            stated = _stated(data[previous : previous + LINE_START_BYTES])
            is_whole = stated is not None and crc32(match[2], stated) == int(match[1], 16)
            if is_whole and match[3] == field:
                yield int(match[4])
        context, offset = _context(data), at + len(block)


def _context(data: bytes) -> bytes:
    """Return what is needed to check the next line: the start of the last complete line, and what is behind it."""
    before, feed, rest = data.rpartition(b"\n")
    rest = rest if len(rest) < BLOCK_BYTES else rest[:LINE_START_BYTES]
    start = before.rfind(b"\n") + 1
    return before[start : start + LINE_START_BYTES] + feed + rest


def _stated(line: bytes) -> int | None:
    try:
        return stated_crc(line)
    except ValueError:
        return None
