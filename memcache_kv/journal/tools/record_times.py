"""What a journal says of times: which second its records belong to, and how far it can be rewound."""

from __future__ import annotations

from memcache_kv.journal.record import Record

TIMED_VERSION = 2
"""The first version of the format that has `time` records."""


class RecordTimes:
    """Follows the time that records tell of."""

    def __init__(self) -> None:
        self.first = 0
        self.last = 0
        self.rewind = 0
        """The earliest moment of which the journal shows how everything was."""
        self.is_timed = True
        """Whether the run that has written the present records has noted when."""

    def follow(self, record: Record) -> None:
        """Take note of a record of a time."""
        if record.op == "start":
            self.is_timed = record.version >= TIMED_VERSION
        if record.op not in ("start", "time", "end") or not record.at:
            return
        self.first = self.first or record.at
        self.last = record.at
        if record.op == "end" or not self.rewind:
            self.rewind = record.at
