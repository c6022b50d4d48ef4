"""Reading a journal's files in order and checking them, up to their end or to a tail that may be cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from memcache_kv.errors import JournalCorrupt
from memcache_kv.journal.disk import Disk, read_from
from memcache_kv.journal.line_blocks import LineBlocks
from memcache_kv.journal.manifest import Manifest, Part, check_version, number_of
from memcache_kv.journal.read_ahead import Decoded, decoded_ahead
from memcache_kv.journal.record import (
    CHAINED_VERSION,
    LINE_HEAD,
    UNCHAINED,
    Record,
    check_line,
    decode_line,
    last_crc,
    parse_line,
)
from memcache_kv.journal.tail import Tail, is_known_synced

Applied = TypeVar("Applied")


class JournalDamaged(JournalCorrupt):
    """A file holds something else than the next record. It may be a tail."""


class PartReader:
    """Read and check one file of the journal. `blocks` yields its lines, many at a time.

    is_base, is_last: whether the file is the manifest's base, or its last increment. journal_id: the journal to which
    it must belong; empty for any. follows: what the start record must state about the file before it, if anything.

    Raises JournalDamaged, with the offset, for anything but the next record, for a file that does not continue the one
    before, and for a file other than the last that does not end where it should; JournalCorrupt for a file of another
    journal, and for an incomplete base.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        part: Part,
        is_base: bool,
        is_last: bool,
        journal_id: str = "",
        follows: str | None = None,
        block_bytes: int = 0,
    ) -> None:
        self.path = directory / part.name
        self.offset = 0
        """The offset of the first record that was not applied yet."""
        self.before = 0
        """The checksum of the record before that one; UNCHAINED in an older format."""
        self.last_crc: int | None = None
        """The same, whatever the format. None before the first record."""
        self.is_unfinished = False
        """Whether all that follows the last record is a line without its line feed."""
        self.start: Record | None = None
        """The first record."""
        self._disk = disk
        self._part = part
        self._is_base = is_base
        self._is_last = is_last
        self._journal_id = journal_id
        self._follows = follows
        self._block_bytes = block_bytes
        self._lines = self.whole_lines()
        self._records = 0
        self._last = b""

    def blocks(self) -> Iterator[tuple[bytearray, int]]:
        """Yield the file in blocks of complete lines, not yet checked, each with the checksum of the record before it.

        The caller calls `passed` with each block that it has checked, maybe some blocks later, and `check_end` after
        the last of them.
        """
        stated = 0
        for block in self._lines:
            if self.start is None:
                self._check_start(bytes(block[: block.index(b"\n")]))
            if self._is_base:
                self._records += block.count(b"\n")
                self._last = bytes(block[block.rfind(b"\n", 0, -1) + 1 : -1])
            yield block, UNCHAINED if self.before == UNCHAINED else stated
            with contextlib.suppress(ValueError):  # the block is damaged, which is found before the next one is used
                stated = last_crc(block)

    def passed(self, block: bytearray) -> None:
        """Go on behind lines that were checked. Their memory is used again once nothing refers to it."""
        self.offset += len(block)
        self.last_crc = last_crc(block)
        if self.before != UNCHAINED:
            self.before = self.last_crc
        self._lines.give_back(block)

    def whole_lines(self) -> LineBlocks:
        """Return the file in blocks of complete lines without any check, and without an unfinished last line."""
        return LineBlocks(self._disk, self.path, None if self._is_last else self._part.bytes, self._block_bytes)

    def damage_in(self, block: bytearray) -> tuple[bytearray, JournalCorrupt]:
        """Return the lines of a block before the first that is not a valid record, and the error for that one."""
        at, before = 0, self.before
        for line in bytes(block[:-1]).split(b"\n"):
            try:
                checksum = check_line(line, before)
            except ValueError as error:
                return block[:at], self.damaged(str(error), at)
            try:
                decode_line(line)
            except ValueError as error:
                return bytearray(), self._refused(str(error), at)
            before = before if before == UNCHAINED else checksum
            at += len(line) + 1
        raise AssertionError("all lines are records")

    def _check_start(self, line: bytes) -> None:
        try:
            first = parse_line(line)  # check the line first: a damaged version is not a newer one
        except ValueError as error:
            raise (self._refused if self._follows is None else self.damaged)(str(error)) from None
        if first.op != "start":
            raise JournalCorrupt(f"{self.path} does not begin with a start record: it is not a complete journal")
        check_version(first.version)
        self.start = first
        if first.version < CHAINED_VERSION:
            self.before = UNCHAINED
            return
        if self._journal_id and first.id and first.id != self._journal_id:
            raise JournalCorrupt(
                f"{self.path} belongs to another journal ({first.id}, not {self._journal_id}): put this "
                "journal's own file back"
            )
        if self._follows is not None and first.follows != self._follows:
            raise self.damaged("the file does not continue the one before it: it is of another time, or that one is")

    def check_end(self) -> None:
        """Check that the file ends as it should, after all blocks were passed."""
        if self._is_last:
            if self.offset < self._part.bytes:
                raise self.damaged(f"the file was {self._part.bytes} bytes long, and there is no record here")
            if self.before == UNCHAINED and self._has_feed_behind():
                raise self.damaged("not a record of a journal")
        elif self.offset != self._part.bytes:
            raise self.damaged("a record is cut off")
        if self._is_base and not self._is_whole_base(self._last):
            raise self._refused("it is not a complete base")

    def _has_feed_behind(self) -> bool:
        blocks = read_from(self._disk, self.path, self.offset, self._disk.size(self.path))
        return any(b"\n" in block for block in blocks)

    def _is_whole_base(self, last: bytes) -> bool:
        if not last:
            return False
        try:
            end = decode_line(last)
        except ValueError as error:
            raise self._refused(str(error)) from None
        return end.op == "end" and end.count == self._records - 1

    def damaged(self, why: str, behind: int = 0) -> JournalDamaged:
        """Return the error for damage so many bytes behind the present offset."""
        return JournalDamaged(self._words(why, behind))

    def _refused(self, why: str, behind: int = 0) -> JournalCorrupt:
        """Return the error for what no failing machine leaves."""
        return JournalCorrupt(self._words(why, behind))

    def _words(self, why: str, behind: int) -> str:
        return (
            f"{self.path} is damaged at offset {self.offset + behind}: {why}. Put a copy back, or see what can be "
            f"saved with `memcache-kv journal repair {self.path.parent}`"
        )


class JournalReader:
    """Read all files of a journal in order. After `blocks` has ended, `tail` is what must be cut off, if anything.

    block_bytes: how much is read at once; 0 for BLOCK_BYTES.

    Raises JournalCorrupt, with the file and the offset, for damage that is not a tail, JournalError if the format is
    newer than this program, and OSError.
    """

    def __init__(self, directory: Path, disk: Disk, manifest: Manifest, block_bytes: int = 0) -> None:
        self.tail: Tail | None = None
        self.is_in_base = False
        self.directory = directory
        self._disk = disk
        self._manifest = manifest
        self._block_bytes = block_bytes
        self._before = 0
        """The length of the files before the present one."""
        self._reader: PartReader | None = None

    @property
    def read_bytes(self) -> int:
        """How much was read."""
        return self._before + (self._reader.offset if self._reader is not None else 0)

    @property
    def total_bytes(self) -> int:
        """How much there is to read. Raises OSError."""
        last = self._manifest.parts[-1]
        return sum(part.bytes for part in self._manifest.parts[:-1]) + self._disk.size(self.directory / last.name)

    def blocks(
        self, decode: Callable[[bytearray, int], Decoded], apply: Callable[[Decoded], Applied], ahead: int = 0
    ) -> Iterator[Applied]:
        """Yield what `apply` returns for each block of complete lines.

        decode: checks a block, given the checksum of the record before it, and returns what is applied. Raises
        ValueError at the first invalid record. apply: may raise ValueError too, for a record that is whole but has an
        unknown form. ahead: how many blocks may be read and decoded by a second thread before they are applied.
        """
        previous: PartReader | None = None
        for part in self._manifest.parts:
            self._before = self.read_bytes
            self.is_in_base = part is self._manifest.base
            self._reader = reader = self._reader_of(part, previous)
            try:
                for block, decoded in decoded_ahead(reader.blocks(), decode, ahead):
                    yield from self._applied(reader, block, decoded, decode, apply)
                reader.check_end()
                self._check_rest(part, reader)
            except JournalDamaged:
                if reader.before == UNCHAINED and not reader.is_unfinished:
                    raise
                if is_known_synced(self.directory, self._disk, self._manifest, part, reader.offset):
                    raise
                self.tail = self._tail(part, reader, previous)
                return
            previous = reader

    def _tail(self, part: Part, reader: PartReader, previous: PartReader | None) -> Tail:
        """Return what must be cut off: of a file without a valid record, nothing, since all of it is set aside."""
        increments = self._manifest.increments
        if not reader.offset and previous is not None and part is not increments[0]:
            part, reader = increments[increments.index(part) - 1], previous
        return Tail(self.directory, self._disk, self._manifest, part, reader.offset)

    def _reader_of(self, part: Part, previous: PartReader | None) -> PartReader:
        """Return the reader of a file that must continue the previous one."""
        follows: str | None = None
        if previous is not None and previous.path.name.startswith("base-"):
            is_beside = number_of(previous.path.name) == number_of(part.name)
            start = previous.start
            if is_beside and start is not None and start.version >= CHAINED_VERSION:
                follows = start.follows
        elif previous is not None and previous.last_crc is not None:
            follows = f"{previous.last_crc:08x}"
        is_last = part is self._manifest.parts[-1]
        journal_id = self._manifest.id
        return PartReader(
            self.directory, self._disk, part, self.is_in_base, is_last, journal_id, follows, self._block_bytes
        )

    @staticmethod
    def _applied(
        reader: PartReader,
        block: bytearray,
        decoded: Callable[[], Decoded],
        decode: Callable[[bytearray, int], Decoded],
        apply: Callable[[Decoded], Applied],
    ) -> Iterator[Applied]:
        try:
            applied = apply(decoded())
        except ValueError:
            whole, error = reader.damage_in(block)
            if whole:
                yield apply(decode(whole, reader.before))
                reader.passed(whole)
            raise error from None
        reader.passed(block)
        yield applied

    def _check_rest(self, part: Part, reader: PartReader) -> None:
        """Take what follows the last complete line of the last file for a tail, if it may be one."""
        if part is not self._manifest.parts[-1] or reader.offset == self._disk.size(reader.path):
            return
        head = self._disk.read_range(reader.path, 0, len(LINE_HEAD))
        if not reader.offset and not LINE_HEAD.startswith(head.rstrip(b"\0")):
            raise JournalCorrupt(f"{reader.path} is not a journal: its only line does not begin like a record")
        reader.is_unfinished = True
        raise reader.damaged("a record is not finished")
