"""Finding all whole records of a file, before a damaged place and behind it, and the places that are none.

An intact record holds no line feed, and `{"crc":"` only as its first bytes, as JSON escapes both inside a string. So
wherever these stand a record may begin, and its length and checksum tell whether one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from memcache_kv.journal.record import LINE_HEAD, Record, parse_line

LENGTH_AT = len('{"crc":"00000000","len":')
LENGTH_DIGITS = 12
LONGEST_WAIT_BYTES = 64 * 1024 * 1024
"""So much without a line feed is looked at once more: it is no record, unless it says that it is so long."""


@dataclass(slots=True)
class Whole:
    """Records that stand one behind the other and are as they were written."""

    offset: int
    bytes: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Where they end."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where there is no whole record; one of 0 bytes lacks something between what is before and behind it."""

    offset: int
    bytes: int
    reason: str

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """What stands behind the last line feed, where no record does that only lacks its own."""

    offset: int
    bytes: int


Found: TypeAlias = Whole | Damage | Tail


def scan(blocks: Iterable[bytes]) -> Iterator[Found]:
    """Tell what a file consists of, in order. Neighbouring damages are one; a tail comes last, if at all."""
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
    """Look through whole lines."""
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
    """Find the whole records in a line that is none: where a line feed was lost, or something else stands between."""
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
    """Look through what no line feed ends: mostly a record that was being written, or nothing."""
    *before, last = _in_bad_line(data, offset, "not a record of a journal")
    behind = 0
    if any(isinstance(piece, Whole) for piece in before):
        yield from before
        behind = last.offset - offset
        if isinstance(last, Damage):
            yield Damage(last.offset, 0, "a line feed is missing")
    yield Tail(offset + behind, len(data) - behind)


def _stated_bytes(data: bytes, at: int) -> int:
    """Return how long the record that begins here would be by its own word; 0 where it does not say."""
    number_at = at + LENGTH_AT
    comma = data.find(b",", number_at, number_at + LENGTH_DIGITS)
    digits = data[number_at:comma]
    return comma + 1 + int(digits) - at if comma >= 0 and digits.isdigit() else 0


def _record_bytes(data: bytes, at: int) -> int:
    """Return the length of the whole record that begins here; 0 where none does."""
    length = _stated_bytes(data, at)
    if not length or at + length > len(data):
        return 0
    try:
        parse_line(data[at : at + length])
    except ValueError:
        return 0
    return length


def _discardable_bytes(data: bytes) -> int:
    """Return how much of what no line feed has ended yet can't be the beginning of a record."""
    last = data.rfind(LINE_HEAD)
    if last < 0:
        return len(data) - len(LINE_HEAD) + 1
    is_over = len(data) - last > max(_stated_bytes(data, last), LENGTH_AT + LENGTH_DIGITS)
    return len(data) - len(LINE_HEAD) + 1 if is_over else last
