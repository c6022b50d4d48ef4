"""What reads and writes a journal's lines: the compiled functions, or the Python ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from memcache_kv.compiled import ACCELERATED
from memcache_kv.journal.record import decode_lines, queue_lines, rechained_lines
from memcache_kv.store.entry import Entry, deadline_of


def take_live_items(
    table: dict[bytes, Entry], keys: list[bytes], now: int, most_items: int, most_bytes: int
) -> list[Entry]:
    """Take keys from the end of a list, and return the live ones and their entries in turn.

    The table's lock must be held. most_items: how many keys are taken; fewer if they and their entries are longer than
    `most_bytes` together. The last one may make them longer.
    """
    found: list[Entry] = []
    taken = size = 0
    for key in keys[: -most_items - 1 : -1]:
        taken += 1
        entry = table.get(key)
        if entry is not None and not 0 < deadline_of(entry) <= now:
            found += (key, entry)
            size += len(key) + len(entry)
            if size > most_bytes:
                break
    del keys[len(keys) - taken :]
    return found


Lines: TypeAlias = tuple[list[bytes], list[bytes | None]]
"""Keys and their entries; for other records than common `set` records, the line and None."""
BLOCKS_AHEAD = 2 if ACCELERATED else 0
"""How many blocks a second thread checks and parses ahead. Only the compiled decoder does that without the GIL."""

if ACCELERATED:
    from memcache_kv.compiled import journal_decoder, journal_encoder
    from memcache_kv.compiled.journal_encoder import rechained as rechained
    from memcache_kv.compiled.journal_encoder import take_live as take_live

    def parse_block(block: bytes, before: int) -> Callable[[], Lines]:
        """Check a block, and return a function that returns what `decode_lines` does."""
        return journal_decoder.parse_block(block, before).decoded

    def encode_queue(queue: list[Entry], wall_ahead: int = 0, chain: int = 0) -> tuple[bytes, int]:
        """Return queued keys and entries as lines, and the checksum of the last one, as `queue_lines` does."""
        found = journal_encoder.encode_queue(queue, wall_ahead, chain)
        return queue_lines(queue, wall_ahead, chain) if found is None else found

else:
    encode_queue, take_live = queue_lines, take_live_items
    rechained = rechained_lines

    def parse_block(block: bytes, before: int) -> Callable[[], Lines]:
        """Check a block, and return a function that returns what `decode_lines` does."""
        found = decode_lines(block, before)
        return lambda: found
