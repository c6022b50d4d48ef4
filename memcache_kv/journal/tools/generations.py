"""The generations of a journal's files: how far back each of them reaches, and which of them holds a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from memcache_kv.journal.disk import last_line
from memcache_kv.journal.manifest import START_LIMIT_BYTES, Generation, Manifest
from memcache_kv.journal.reading import PartReader
from memcache_kv.journal.record import decode_line
from memcache_kv.journal.tools.record_times import Moment, RecordTimes, find_moment
from memcache_kv.journal.tools.snapshot import Snapshot

_TIMED = re.compile(rb'^\{"crc":"[0-9a-f]{8}","len":[0-9]++,"op":"(?:start|time|flush)".*$', re.MULTILINE)


class Reach(NamedTuple):
    """A generation of files, and the earliest unix time that it can be restored to; 0 if it can't be read."""

    made_at: int
    files: Generation
    source: Manifest
    """This generation and all that came after it, as a journal."""


def reaches(snapshot: Snapshot) -> list[Reach]:
    """Return all generations, the oldest first; the last is the journal that a server reads. Raises OSError."""
    manifest = snapshot.manifest
    found = [(kept, manifest.since(number)) for number, kept in enumerate(manifest.kept)]
    found.append((Generation(manifest.base, manifest.increments), manifest))
    return [Reach(_made_at(snapshot, files), files, source) for files, source in found]


def reach_for(snapshot: Snapshot, until: int, now: int) -> tuple[Reach, Moment]:
    """Return the last generation that can be restored to a time, and where; if there is none, the oldest one.

    until, now: unix times; `now` is the present. Generations that can't be read are passed over. Raises OSError.
    """
    usable = [reach for reach in reaches(snapshot) if reach.made_at] or reaches(snapshot)[-1:]
    for reach in reversed(usable):
        if any(part.name in snapshot.missing for part in reach.source.parts):
            return reach, Moment(None, 0, True)  # `read_blocks` reports it
        moment = find_moment(snapshot, reach.source, until, now)
        if moment.is_reached:
            return reach, moment
    return usable[0], moment


def _made_at(snapshot: Snapshot, files: Generation) -> int:
    """Return when a generation's base was complete, or its first file begun."""
    first = files.parts[0]
    path = snapshot.directory / first.name
    if any(part.name in snapshot.missing for part in files.parts):
        return 0
    if files.base is not None:
        line = last_line(snapshot, path, first.bytes or snapshot.size(path))
    else:
        line = snapshot.read_range(path, 0, START_LIMIT_BYTES).partition(b"\n")[0]
    try:
        return decode_line(line).at
    except ValueError:
        return 0


def flushes(snapshot: Snapshot, files: Generation) -> Iterator[int]:
    """Yield the times of the flushes in a kept generation, without checking its lines. Raises OSError."""
    times = RecordTimes()
    for part in files.increments:
        if part.name in snapshot.missing:
            continue
        for block in PartReader(snapshot.directory, snapshot, part, is_base=False, is_last=False).whole_lines():
            for match in _TIMED.finditer(block):
                try:
                    record = decode_line(match[0])
                except ValueError:  # damage, which `verify` reports
                    continue
                times.follow(record)
                if record.op == "flush" and not record.at:
                    yield times.last
