"""Finding all intact records of a file, before and after damage, and the damaged places.

A record contains no line feed, and `{"crc":"` only as its first bytes, because JSON escapes both inside a string. So a
record may begin wherever these occur, and its length and checksum tell whether it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias
from zlib import crc32

from memcache_kv.journal.record import (
    CHAINED_VERSION,
    CRC_DIGITS,
    LINE_HEAD,
    UNCHAINED,
    Record,
    check_line,
    decode_line,
)

CRC_AT = len(LINE_HEAD)
LENGTH_AT = len('{"crc":"00000000","len":')
LENGTH_DIGITS = 12
LONGEST_WAIT_BYTES = 1024 * 1024
"""When this much has no line feed, it is scanned at once, unless it begins like a record that states such a length."""


@dataclass(slots=True)
class Whole:
    """Intact records that follow one another."""

    offset: int
    bytes: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset after the last of them."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A place without an intact record. If it has 0 bytes, something is missing between its neighbours."""

    offset: int
    bytes: int
    reason: str

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The bytes after the last line feed, unless they are a record that lacks only its line feed."""

    offset: int
    bytes: int


Found: TypeAlias = Whole | Damage | Unfinished


def scan(blocks: Iterable[bytes]) -> Iterator[Found]:
    """Yield the parts of a file in order. Adjacent damage is merged; a tail, if there is one, comes last."""
    waiting: Damage | None = None
    for found in _Scanner().pieces(blocks):
        if isinstance(found, Damage) and waiting is not None and waiting.end == found.offset:
            waiting = Damage(waiting.offset, waiting.bytes + found.bytes, waiting.reason)
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        if isinstance(found, Damage):
            waiting = found
        else:
            yield found
    if waiting is not None:
        yield waiting


class _Scanner:
    """Divide one file into intact records and damage.

    A record is intact if its checksum continues that of the last intact record, or the one that a damaged line behind
    that states. So what lies behind damage can be checked, but for the first record behind a hole.
    """

    def __init__(self) -> None:
        self._before = 0
        """The checksum of the last intact record; UNCHAINED in an older format."""
        self._others: tuple[int, ...] = ()
        """What the next record may continue instead: the checksum that a damaged line behind that record states, and
        the one that it should state, if that is where it is damaged."""
        self._records = 0
        self._last_line = b""

    def pieces(self, blocks: Iterable[bytes]) -> Iterator[Found]:
        """Yield the parts of the file in order."""
        offset = 0
        rest: list[bytes] = []
        rest_bytes, wait_bytes = 0, LONGEST_WAIT_BYTES
        for block in blocks:
            head, feed, tail = block.rpartition(b"\n")
            if feed:
                data = b"".join((*rest, head, feed))
                yield from self._in_lines(data, offset)
                offset += len(data)
                rest, rest_bytes, wait_bytes = [tail], len(tail), LONGEST_WAIT_BYTES
                continue
            rest.append(block)
            rest_bytes += len(block)
            if rest_bytes > wait_bytes or b"\0" in block:
                data = b"".join(rest)
                passed = _discardable_bytes(data)
                if passed:
                    yield from self._in_bad_line(data[:passed], offset, "not a record of a journal")
                offset += passed
                rest, rest_bytes = [data[passed:]], len(data) - passed
                wait_bytes = max(LONGEST_WAIT_BYTES, _stated_bytes(data, passed))
        data = b"".join(rest)
        if data:
            yield from self._at_the_end(data, offset)

    def _parsed(self, line: bytes) -> Record:
        """Check and decode a line that may come next. Raises ValueError, which says what is wrong."""
        try:
            return self._parsed_behind(line, self._before)
        except ValueError as error:
            for before in self._others:
                with contextlib.suppress(ValueError):
                    return self._parsed_behind(line, before)
            raise ValueError(self._reason(line, str(error))) from None

    def _parsed_behind(self, line: bytes, before: int) -> Record:
        checksum = check_line(line, before)
        record = decode_line(line)
        if not self._records and record.op == "start" and record.version < CHAINED_VERSION:
            self._before = UNCHAINED
        if self._before != UNCHAINED:
            self._before, self._others = checksum, ()
        self._records += 1
        self._last_line = line
        return record

    def _reason(self, line: bytes, why: str) -> str:
        """Say what is wrong with a line, more exactly if it is whole in itself."""
        if self._before == UNCHAINED or "checksum" not in why:
            return why
        if line == self._last_line:
            return "the record before it is repeated"
        try:
            decode_line(line)
        except ValueError:
            return "the record's checksum does not fit its content"
        return (
            "the record's checksum does not fit behind the record before it: a record is missing there, this one is "
            "out of place or comes from another journal, or one of the two was changed"
        )

    def _went_wrong(self, line: bytes) -> None:
        """Let the next record continue a damaged line too, in whichever of its parts that is damaged."""
        if self._before == UNCHAINED:
            return
        line = line.removesuffix(b"\n")
        comma = line.find(b",", LENGTH_AT, LENGTH_AT + LENGTH_DIGITS)
        self._others = (crc32(line[comma + 1 :], self._before),) if comma >= 0 else ()
        with contextlib.suppress(ValueError):
            self._others += (int(line[CRC_AT : CRC_AT + CRC_DIGITS], 16),)

    def _in_lines(self, data: bytes, offset: int) -> Iterator[Found]:
        """Yield the parts of complete lines."""
        whole = Whole(offset)
        for line in data[:-1].split(b"\n"):
            try:
                record = self._parsed(line)
            except ValueError as error:
                if whole.records:
                    yield whole
                yield from self._in_bad_line(line + b"\n", whole.end, str(error))
                whole = Whole(whole.end + len(line) + 1)
            else:
                whole.records.append(record)
                whole.bytes += len(line) + 1
        if whole.records:
            yield whole

    def _in_bad_line(self, line: bytes, offset: int, reason: str) -> Iterator[Whole | Damage]:
        """Find the intact records in an invalid line: a line feed may be lost, or other bytes be inserted."""
        done = 0
        lacks_feed = False
        at = line.find(LINE_HEAD)
        while at >= 0:
            found = self._record_at(line, at)
            if found is None:
                at = line.find(LINE_HEAD, at + 1)
                continue
            if at > done or lacks_feed:
                yield Damage(offset + done, at - done, "a line feed is missing" if lacks_feed else reason)
            record, length = found
            done = at + length
            lacks_feed = line[done : done + 1] != b"\n"
            done += not lacks_feed
            yield Whole(offset + at, done - at, [record])
            at = line.find(LINE_HEAD, done)
        if done < len(line):
            self._went_wrong(line[done:])
            yield Damage(offset + done, len(line) - done, "a line feed is missing" if lacks_feed else reason)

    def _record_at(self, data: bytes, at: int) -> tuple[Record, int] | None:
        """Return the intact record at this place, and its length; None if there is none."""
        length = _stated_bytes(data, at)
        if not length or at + length > len(data):
            return None
        try:
            return self._parsed(data[at : at + length]), length
        except ValueError:
            return None

    def _at_the_end(self, data: bytes, offset: int) -> Iterator[Found]:
        """Yield the parts of what follows the last line feed: mostly a record that was being written, or nothing."""
        *before, last = self._in_bad_line(data, offset, "not a record of a journal")
        behind = 0
        if any(isinstance(piece, Whole) for piece in before):
            yield from before
            behind = last.offset - offset
            if isinstance(last, Damage):
                yield Damage(last.offset, 0, "a line feed is missing")
        yield Unfinished(offset + behind, len(data) - behind)


def _stated_bytes(data: bytes, at: int) -> int:
    """Return the length that the record at this place states; 0 if it states none."""
    number_at = at + LENGTH_AT
    comma = data.find(b",", number_at, number_at + LENGTH_DIGITS)
    digits = data[number_at:comma]
    return comma + 1 + int(digits) - at if comma >= 0 and digits.isdigit() else 0


def _discardable_bytes(data: bytes) -> int:
    """Return how many of these bytes, which have no line feed, can't be the start of a record.

    A zero is in no record, as JSON escapes it.
    """
    last = data.rfind(LINE_HEAD)
    if last < 0:
        return len(data) - len(LINE_HEAD) + 1
    is_over = len(data) - last > max(_stated_bytes(data, last), LENGTH_AT + LENGTH_DIGITS) or b"\0" in data[last:]
    return len(data) - len(LINE_HEAD) + 1 if is_over else last
