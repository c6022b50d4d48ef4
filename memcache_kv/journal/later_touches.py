"""Which keys a later record of the journal touches, known within bounded memory.

While a journal is read, an item that a later record touches must not be left out for lack of memory: it was there when
it was touched. Nor may an entry that has expired by now, if that record gives it more time.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final

from memcache_kv.journal.disk import Disk
from memcache_kv.journal.manifest import Manifest, Part
from memcache_kv.journal.reading import PartReader
from memcache_kv.journal.record import decode_line

TOUCH_WORDS: Final = (b'"op":"touch",', b'"op":"mark",')
"""Occur only in records that change a key's deadline: inside JSON strings the quotation marks are escaped."""
TOUCH = re.compile(rb'"op":"(?:touch|mark)",(?:"key":"([^"\\]*+)"(?:,"exp":([0-9]++))?+)?+')
"""Such a record, with its key and deadline if the key is text without escapes."""
STEPPED = re.compile(rb'"stepped":(-?\d++)')
"""The sum of the wall clock's steps in a record."""
POSITION_BITS: Final = 15
"""The first bits of an offset, by which positions are compared."""
PLACES_PART: Final = 128
"""The part of the memory limit that the positions take."""
MIN_PLACES: Final = 1 << 16
MOST_PLACES: Final = 1 << 23
"""More places would not make a start of any size more exact."""


class LaterTouches:
    """The last position at which a key is touched, by the key's hash. Keys that share a place share the later position.

    now: the present unix time; a touch that has expired by then does not count, unless the wall clock was stepped.
    position: returns the offset in all files together up to which records were applied. look: called now and then while
    the files are read; it may raise an exception. limit_bytes: the memory limit for items, which bounds the memory that
    this takes.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        manifest: Manifest,
        now: int,
        position: Callable[[], int],
        look: Callable[[], None],
        limit_bytes: int,
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._manifest = manifest
        self._now = now
        self._position = position
        self._look = look
        places = min(max(limit_bytes // PLACES_PART // 2, MIN_PLACES), MOST_PLACES)
        self.mask = (1 << places.bit_length() - 1) - 1
        self.positions: array[int] | None = None
        """The last position by hash, once the files were read. What is later than `at` is still to come."""
        self._shift = 0
        self.at = 0
        self._has_steps = False
        self._most_stepped = 0

    @property
    def is_known(self) -> bool:
        """Whether the files were read."""
        return self.positions is not None

    def __call__(self, key: bytes) -> bool:
        """Tell whether a later record may touch a key. The first call reads all files. Raises OSError."""
        if self.positions is None:
            self.positions = self._read()
        return self.positions[hash(key) & self.mask] > self.at

    def advance(self) -> None:
        """Compare with the present position from now on."""
        self.at = self._position() >> self._shift

    def may_move(self, deadline: int, stepped: int) -> bool:
        """Tell whether a later step of the wall clock may move a deadline behind the present time.

        stepped: the sum of the steps so far. Call this before.
        """
        return self._has_steps and deadline + self._most_stepped - stepped > self._now

    def _read(self) -> array[int]:
        """Read the files; twice if the wall clock was stepped, because then touches that have expired count too."""
        self.positions = last = array("H", bytes(2 * (self.mask + 1)))
        total = sum(part.bytes for part in self._manifest.parts[:-1])
        total += self._disk.size(self._directory / self._manifest.parts[-1].name)
        self._shift = max(0, total.bit_length() - POSITION_BITS)
        self.advance()
        offset = 0 if self._manifest.base is None else self._manifest.base.bytes
        for again in (False, True):
            at = offset
            for part in self._manifest.increments:
                self._read_part(part, at, last)
                at += part.bytes
            if again or not self._has_steps:
                break
        return last

    def _read_part(self, part: Part, offset: int, last: array[int]) -> None:
        is_last = part is self._manifest.parts[-1]
        for block in PartReader(self._directory, self._disk, part, is_base=False, is_last=is_last).whole_lines():
            if b'"stepped":' in block:
                self._note_steps(block)
            if any(words in block for words in TOUCH_WORDS):
                self._note_touches(block, offset, last)
            offset += len(block)
            self._look()

    def _note_steps(self, block: bytearray) -> None:
        for match in STEPPED.finditer(block):
            stepped = int(match[1])
            self._has_steps = self._has_steps or stepped != 0
            self._most_stepped = max(self._most_stepped, stepped)

    def _note_touches(self, block: bytearray, offset: int, last: array[int]) -> None:
        for match in TOUCH.finditer(block):
            key, deadline = match[1], int(match[2] or 0)
            if key is None:
                line = bytes(block[block.rfind(b"\n", 0, match.start()) + 1 : block.index(b"\n", match.end())])
                with contextlib.suppress(ValueError):  # damage, which the reader reports when it gets there
                    record = decode_line(line)
                    key, deadline = record.key_bytes(), record.exp
            if key is not None and (deadline == 0 or deadline > self._now or self._has_steps):
                last[hash(key) & self.mask] = (offset + match.start() >> self._shift) + 1
