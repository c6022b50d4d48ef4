"""Finding all intact records of a file, before and after damage, and the damaged places.

A record contains no line feed, and `{"crc":"` only as its first bytes, because JSON escapes both inside a string. So a
record may begin wherever these occur, and its length and checksum tell whether it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from memcache_kv.journal.record import LINE_HEAD, Record, parse_line

LENGTH_AT = len('{"crc":"00000000","len":')
LENGTH_DIGITS = 12
LONGEST_WAIT_BYTES = 64 * 1024 * 1024
"""When this much has no line feed, it is scanned at once. It is not a record unless it states such a length."""


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
class Tail:
    """The bytes after the last line feed, unless they are a record that lacks only its line feed."""

    offset: int
    bytes: int


Found: TypeAlias = Whole | Damage | Tail


def scan(blocks: Iterable[bytes]) -> Iterator[Found]:
    """Yield the parts of a file in order. Adjacent damage is merged; a tail, if there is one, comes last."""
    waiting: Damage | None = None
    for found in _pieces(blocks):
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


def _pieces(blocks: Iterable[bytes]) -> Iterator[Found]:
    offset = 0
    rest: list[bytes] = []
    rest_bytes = 0
    for block in blocks:
        head, feed, tail = block.rpartition(b"\n")
        if feed:
            data = b"".join((*rest, head, feed))
            yield from _in_lines(data, offset)
            offset += len(data)
            rest, rest_bytes = [tail], len(tail)
            continue
        rest.append(block)
        rest_bytes += len(block)
        if rest_bytes > LONGEST_WAIT_BYTES:
            data = b"".join(rest)
            passed = _discardable_bytes(data)
            if passed:
                yield from _in_bad_line(data[:passed], offset, "not a record of a journal")
            offset += passed
            rest, rest_bytes = [data[passed:]], len(data) - passed
    data = b"".join(rest)
    if data:
        yield from _at_the_end(data, offset)


def _in_lines(data: bytes, offset: int) -> Iterator[Found]:
    """Yield the parts of complete lines."""
    whole = Whole(offset)
    for line in data[:-1].split(b"\n"):
        try:
            record = parse_line(line)
        except ValueError as error:
            if whole.records:
                yield whole
            yield from _in_bad_line(line + b"\n", whole.end, str(error))
            whole = Whole(whole.end + len(line) + 1)
        else:
            whole.records.append(record)
            whole.bytes += len(line) + 1
    if whole.records:
        yield whole


def _in_bad_line(line: bytes, offset: int, reason: str) -> Iterator[Whole | Damage]:
    """Find the intact records in an invalid line: a line feed may be lost, or other bytes be inserted."""
    done = 0
    lacks_feed = False
    at = line.find(LINE_HEAD)
    while at >= 0:
        length = _record_bytes(line, at)
        if not length:
            at = line.find(LINE_HEAD, at + 1)
            continue
        if at > done or lacks_feed:
            yield Damage(offset + done, at - done, "a line feed is missing" if lacks_feed else reason)
        record = parse_line(line[at : at + length])
        done = at + length
        lacks_feed = line[done : done + 1] != b"\n"
        done += not lacks_feed
        yield Whole(offset + at, done - at, [record])
        at = line.find(LINE_HEAD, done)
    if done < len(line):
        yield Damage(offset + done, len(line) - done, "a line feed is missing" if lacks_feed else reason)


def _at_the_end(data: bytes, offset: int) -> Iterator[Found]:
    """Yield the parts of what follows the last line feed: mostly a record that was being written, or nothing."""
    *before, last = _in_bad_line(data, offset, "not a record of a journal")
    behind = 0
    if any(isinstance(piece, Whole) for piece in before):
        yield from before
        behind = last.offset - offset
        if isinstance(last, Damage):
            yield Damage(last.offset, 0, "a line feed is missing")
    yield Tail(offset + behind, len(data) - behind)


def _stated_bytes(data: bytes, at: int) -> int:
    """Return the length that the record at this place states; 0 if it states none."""
    number_at = at + LENGTH_AT
    comma = data.find(b",", number_at, number_at + LENGTH_DIGITS)
    digits = data[number_at:comma]
    return comma + 1 + int(digits) - at if comma >= 0 and digits.isdigit() else 0


def _record_bytes(data: bytes, at: int) -> int:
    """Return the length of the intact record at this place; 0 if there is none."""
    length = _stated_bytes(data, at)
    if not length or at + length > len(data):
        return 0
    try:
        parse_line(data[at : at + length])
    except ValueError:
        return 0
    return length


def _discardable_bytes(data: bytes) -> int:
    """Return how many of these bytes, which have no line feed, can't be the start of a record."""
    last = data.rfind(LINE_HEAD)
    if last < 0:
        return len(data) - len(LINE_HEAD) + 1
    is_over = len(data) - last > max(_stated_bytes(data, last), LENGTH_AT + LENGTH_DIGITS)
    return len(data) - len(LINE_HEAD) + 1 if is_over else last
