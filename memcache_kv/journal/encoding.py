"""The encoder in use: the compiled one, and the Python one for what it does not know or where it is not compiled."""

from __future__ import annotations

from memcache_kv.compiled import ACCELERATED
from memcache_kv.journal.record import queue_lines
from memcache_kv.store.entry import Entry

if ACCELERATED:
    from memcache_kv.compiled import journal_encoder

    def encode_queue(queue: list[Entry], wall_ahead: int = 0) -> bytes:
        """Return queued keys and entries as lines, as `queue_lines` does."""
        lines = journal_encoder.encode_queue(queue, wall_ahead)
        return queue_lines(queue, wall_ahead) if lines is None else lines

else:
    encode_queue = queue_lines
