"""The encoder and the decoder in use: the compiled ones, or the Python ones."""

from __future__ import annotations

from memcache_kv.compiled import ACCELERATED
from memcache_kv.journal.record import decode_lines, queue_lines
from memcache_kv.store.entry import Entry

if ACCELERATED:
    from memcache_kv.compiled import journal_encoder
    from memcache_kv.compiled.journal_decoder import decode_block as decode_block

    def encode_queue(queue: list[Entry], wall_ahead: int = 0) -> bytes:
        """Return queued keys and entries as lines, as `queue_lines` does."""
        lines = journal_encoder.encode_queue(queue, wall_ahead)
        return queue_lines(queue, wall_ahead) if lines is None else lines

else:
    encode_queue, decode_block = queue_lines, decode_lines
