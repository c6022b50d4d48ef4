"""Reading a file in blocks of complete lines, into buffers that are used again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from memcache_kv.journal import disk as disks
from memcache_kv.journal.disk import Disk, Readable
from memcache_kv.journal.record import stated_bytes

LENGTH_WITHIN_BYTES = 64
"""At least as long as what a line begins with, in which it states its length."""
LONG_LINE_BYTES = 1 << 20
"""A longer beginning of a line is kept in memory only as long as the line may be of the length that it states."""


class LineBlocks:
    """Read a file in blocks of complete lines, without an unfinished last line.

    Ends early where so much has no line feed that it can't become a record, or has a zero, which JSON escapes. New
    memory costs more than what is read into it, so a caller that is done with a block gives it back (`give_back`).

    limit_bytes: how much of the file is read; None for all. block_bytes: how much is read at once; 0 for BLOCK_BYTES.
    """

    def __init__(self, disk: Disk, path: Path, limit_bytes: int | None, block_bytes: int = 0) -> None:
        self._disk = disk
        self._path = path
        self._left = limit_bytes
        self._block_bytes = block_bytes or disks.BLOCK_BYTES
        self._free: deque[bytearray] = deque()

    def give_back(self, block: bytearray) -> None:
        """Let the next blocks be read into this one's memory, once nothing refers to that."""
        self._free.append(block)

    def __iter__(self) -> Iterator[bytearray]:
        """Yield the blocks. Raises OSError."""
        rest = bytearray()
        with closing(self._disk.open(self._path)) as file:
            while True:
                block = self._buffer(rest)
                filled = len(rest) + self._read(file, block, len(rest))
                if filled == len(rest):
                    return
                end = block.rfind(b"\n", len(rest), filled) + 1
                if not end and self._is_endless(block, len(rest), filled):
                    return
                rest = block[end:filled]
                del block[end:]
                if end:
                    yield block
                else:
                    self.give_back(block)

    def _buffer(self, rest: bytearray) -> bytearray:
        """Return a buffer that begins with the rest of the block before.

        For a long line, it has room for twice as much, so that not much is copied again, but for no more than the line.
        """
        size = max(self._block_bytes, 2 * len(rest))
        if size > self._block_bytes and (stated := stated_bytes(rest[:LENGTH_WITHIN_BYTES])) > len(rest):
            size = max(self._block_bytes, min(size, stated))
        for _ in range(len(self._free)):
            block = self._free.popleft()
            try:
                block.append(0)  # fails if the decoder still refers to it, as every change of its length does
                del block[size:]
                block.extend(bytes(size - len(block)))
            except BufferError:
                self._free.append(block)
            else:
                block[: len(rest)] = rest
                return block
        block = bytearray(size)
        block[: len(rest)] = rest
        return block

    def _read(self, file: Readable, block: bytearray, start: int) -> int:
        """Read into a buffer from `start` on. Returns how many bytes there are."""
        most = len(block) - start if self._left is None else min(len(block) - start, self._left)
        if not most:
            return 0
        with memoryview(block) as whole, whole[start : start + most] as part:
            count = file.readinto(part) or 0
        if self._left is not None:
            self._left -= count
        return count

    @staticmethod
    def _is_endless(block: bytearray, start: int, end: int) -> bool:
        """Tell whether what a block begins with can't become a record, of which the bytes from `start` on are new."""
        if end <= LONG_LINE_BYTES:
            return False
        return block.find(0, start, end) >= 0 or end > stated_bytes(block[:LENGTH_WITHIN_BYTES])
