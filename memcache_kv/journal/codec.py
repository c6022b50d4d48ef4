"""What reads and writes a journal's lines: the compiled functions, or the Python ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from memcache_kv.compiled import ACCELERATED
from memcache_kv.journal.record import decode_lines, queue_lines, rechained_lines
from memcache_kv.store.entry import Entry, deadline_of

if TYPE_CHECKING:
    from memcache_kv.store.restoring import LeftOut
    from memcache_kv.store.shard import Shard


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


Lines: TypeAlias = tuple[list[bytes], list[Entry | None]]
"""Keys and their entries; for other records than common `set` records, the line and None."""


class Parsed(Protocol):
    """The records of a block, which were checked."""

    def __len__(self) -> int:
        """Return how many there are."""

    def lines(self, start: int, end: int, now: int, is_apart: bool = False) -> Lines:
        """Return some of them.

        now: the present unix time. is_apart: whether their memory is to be given back by the page, as far as possible.
        """

    def restore(
        self,
        shards: list[Shard],
        expired: list[dict[bytes, Entry]],
        start: int,
        end: int,
        now: int,
        last_cas: int,
        left_out: LeftOut | None = None,
    ) -> tuple[int, int, int]:
        """Put records into the tables of shards: those from `start` on, up to one that is not simple to restore.

        The shards must be those of a store that no other thread uses. expired: entries that have expired, in as many
        tables, whose keys are left to the caller. now: the present unix time. last_cas: the highest CAS id so far.
        left_out: the keys that were left out of the store, if any were.

        Returns where it stopped, where the records end that the caller must restore now, and the highest CAS id.
        """


class ParsedLines:
    """Lines that the Python code has checked and parsed. It restores none of them itself."""

    def __init__(self, block: bytes | bytearray, before: int) -> None:
        self._keys, self._entries = decode_lines(block, before)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self._keys)

    def lines(self, start: int, end: int, now: int, is_apart: bool = False) -> Lines:
        """Return keys and entries of records."""
        return self._keys[start:end], [*self._entries[start:end]]

    def restore(
        self,
        shards: list[Shard],
        expired: list[dict[bytes, Entry]],
        start: int,
        end: int,
        now: int,
        last_cas: int,
        left_out: LeftOut | None = None,
    ) -> tuple[int, int, int]:
        """Leave all to the caller."""
        return start, end, last_cas


BLOCKS_AHEAD = 2 if ACCELERATED else 0
"""How many blocks a second thread checks and parses ahead. Only the compiled decoder does that without the GIL."""

if ACCELERATED:
    from memcache_kv.compiled import journal_decoder, journal_encoder
    from memcache_kv.compiled.journal_decoder import leave_out as leave_out
    from memcache_kv.compiled.journal_encoder import rechained as rechained
    from memcache_kv.compiled.journal_encoder import take_live as take_live

    def parse_block(block: bytes | bytearray, before: int) -> Parsed:
        """Check and parse complete lines. before: as for `decode_lines`. Raises ValueError if one is damaged."""
        return journal_decoder.parse_block(block, before)

    def encode_queue(queue: list[Entry], wall_ahead: int = 0, chain: int = 0) -> tuple[bytes, int]:
        """Return queued keys and entries as lines, and the checksum of the last one, as `queue_lines` does."""
        found = journal_encoder.encode_queue(queue, wall_ahead, chain)
        return queue_lines(queue, wall_ahead, chain) if found is None else found

else:
    from memcache_kv.store.restoring import leave_out as leave_out

    encode_queue, take_live = queue_lines, take_live_items
    rechained = rechained_lines

    def parse_block(block: bytes | bytearray, before: int) -> Parsed:
        """Check and parse complete lines. before: as for `decode_lines`. Raises ValueError if one is damaged."""
        return ParsedLines(block, before)
