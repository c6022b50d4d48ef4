"""The times in a journal: the second to which each record belongs, and the earliest state that can be restored."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from memcache_kv.journal.disk import last_line
from memcache_kv.journal.manifest import START_LIMIT_BYTES, Manifest
from memcache_kv.journal.reading import PartReader
from memcache_kv.journal.record import Record, decode_line
from memcache_kv.journal.tools.snapshot import Snapshot

POINT = re.compile(rb'"op":"(?:start|time)",[^\n]*?"at":(\d++)(?:[^\n]*?"stepped":(-?\d++))?')
"""A Point of an increment. Inside JSON strings the quotation marks are escaped."""

TIMED_VERSION = 2
"""The first format version with `time` records."""


class RecordTimes:
    """Follow the times that a journal's records give. Call `follow` with every record, in order."""

    def __init__(self) -> None:
        self.first = 0
        self.last = 0
        self.rewind = 0
        """The earliest unix time whose state the journal can restore."""
        self.is_timed = True
        """Whether the run that wrote the present records recorded their times."""

    def follow(self, record: Record) -> None:
        """Update the times from a record."""
        if record.op == "start":
            self.is_timed = record.version >= TIMED_VERSION
        if record.op not in ("start", "time", "end") or not record.at:
            return
        self.first = self.first or record.at
        self.last = record.at
        if record.op == "end" or not self.rewind:
            self.rewind = record.at


class Point(NamedTuple):
    """A record that gives a time: the end of the base, or a `start` or `time` record of an increment."""

    number: int
    """Its number among those of the increments; -1 for the end of the base."""
    at: int
    stepped: int
    """The sum of the system clock's steps then."""


class Moment(NamedTuple):
    """The place in a journal at which the system's clock passed a time."""

    cut: int | None
    """The number of the first point that is later; None if there is none."""
    passes: int
    """How many times the clock showed the time: more than once if it was set back."""
    is_reached: bool
    """Whether the journal reaches back so far."""


def is_point(record: Record) -> bool:
    """Tell whether a record of an increment is a Point."""
    return record.op in ("start", "time") and record.at > 0


def find_moment(snapshot: Snapshot, manifest: Manifest, until: int, now: int) -> Moment:
    """Find the end of the last second in which the system's clock showed `until`, or when it was set forward over it.

    manifest: the files to search. until, now: unix times; `now` is the present. No line is checked. Raises OSError.
    """
    passed: list[int] = []
    jumped = last = None
    for point in _points(snapshot, manifest):
        if last is not None:
            before_step = point.at - (point.stepped - last.stepped)
            if last.at <= until < before_step:
                passed.append(point.number)
            elif before_step <= until < point.at:
                jumped = point.number
        last = point
    if last is not None and last.at <= until and (until <= now or not (passed or jumped is not None)):
        return Moment(None, len(passed) + 1, True)
    cut = passed[-1] if passed else jumped
    return Moment(cut, len(passed), cut is not None)


def _points(snapshot: Snapshot, manifest: Manifest) -> Iterator[Point]:
    """Yield the points of a journal in order, without those that the end of the base covers."""
    base = _end_of_base(snapshot, manifest)
    if base is not None:
        yield base
    stepped, number = 0 if base is None else base.stepped, -1
    for part in manifest.increments:
        for block in PartReader(snapshot.directory, snapshot, part, is_base=False, is_last=True).whole_lines():
            for match in POINT.finditer(block):
                number += 1
                stepped = stepped if match[2] is None else int(match[2])
                point = Point(number, int(match[1]), stepped)
                if base is None or point.at - point.stepped > base.at - base.stepped:
                    yield point


def _end_of_base(snapshot: Snapshot, manifest: Manifest) -> Point | None:
    """Return the end of the base; None if there is no base, or if it is damaged."""
    base, disk = manifest.base, snapshot
    if base is None:
        return None
    path = snapshot.directory / base.name
    with contextlib.suppress(ValueError):
        start = decode_line(disk.read_range(path, 0, START_LIMIT_BYTES).partition(b"\n")[0])
        end = decode_line(last_line(disk, path, disk.size(path)))
        return Point(-1, end.at, start.stepped or 0)
    return None
