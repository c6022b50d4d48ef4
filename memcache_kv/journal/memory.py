"""How much memory a journal takes at most, beside the items."""

from __future__ import annotations

from typing import NamedTuple

from memcache_kv.config.settings import Fsync
from memcache_kv.journal.appender import ENCODE_SLICE_BYTES, LINES_AT_ONCE_BYTES, UNSYNCED_LIMITS
from memcache_kv.journal.compaction import COMPILED_SLICE_BYTES
from memcache_kv.journal.writer import queue_limit_bytes

LINE_PART = 4 / 3
"""How much longer a line is than its value: base64 needs that. (A value of control characters alone takes more.)"""
COPIES = 2
"""A line is in memory by itself, and in the piece that is written."""


class JournalMemory(NamedTuple):
    """The most that each part of a journal takes, in bytes."""

    queue: int
    """Records that wait to be written. Beyond this, clients are made to wait."""
    pieces: int
    """Lines that are being written, by the journal's thread and by a rewrite."""
    unsynced: int
    """Lines that are written and not synced, which are kept in case the fsync fails."""


def most_memory(items_bytes: int, item_bytes: int, arriving_bytes: int, fsync: Fsync) -> JournalMemory:
    """Return the most memory that a server's journal takes.

    items_bytes: the limit of all items; item_bytes: that of one; arriving_bytes: what clients may still write when they
    are made to wait, which comes on top of a full queue.
    """
    limit, line = queue_limit_bytes(items_bytes), int(item_bytes * LINE_PART)
    written = LINES_AT_ONCE_BYTES + ENCODE_SLICE_BYTES + line
    rewritten = COMPILED_SLICE_BYTES + line  # slices are smaller without the compiled modules
    unsynced = UNSYNCED_LIMITS * limit + int((limit + arriving_bytes) * LINE_PART)
    return JournalMemory(limit, COPIES * written + rewritten, 0 if fsync is Fsync.NEVER else unsynced)
