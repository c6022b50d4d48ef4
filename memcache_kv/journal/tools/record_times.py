"""The times in a journal: the second to which each record belongs, and the earliest state that can be restored."""

from __future__ import annotations

from memcache_kv.journal.record import Record

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
