"""Putting the items of a journal back into a store, within the store's limits."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from memcache_kv.store.entry import ENTRY_COST_BYTES, PLAIN, Entry
from memcache_kv.store.limits import Limits
from memcache_kv.store.shard import Shard

IsNeeded = Callable[[bytes], bool]
"""Tells whether a later record needs the item of a key."""

SLACK_PART: Final = 64
"""The limits may be exceeded by this part of them before items are left out. So few walks over the items are needed.
And a base that was written while items were deleted may hold a few more than there were at any time."""
PRINTS_PART: Final = 128
"""The part of the limit that the prints of left out keys take."""
MIN_PRINTS: Final = 1 << 16
MOST_PRINTS: Final = 1 << 22
LEFT_OUT_SHIFT: Final = 40
"""The position in the hash of the 15 bits that identify a left out key."""


def needed_by_none(key: bytes) -> bool:
    """Tell that no later record needs the item of this key."""
    return False


class LeftOut:
    """The number of keys that were left out and not stored or removed since.

    A print of each is kept, at a place that the key's hash gives. If two keys share a place, the later one takes it;
    then the number may become a little too large.

    limit_bytes: the memory limit, a part of which the prints may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        wanted = min(max(limit_bytes // PRINTS_PART // 2, MIN_PRINTS), MOST_PRINTS)
        self.count = 0
        self._prints = array("H", bytes(2 << wanted.bit_length() - 1))

    def add(self, key: bytes) -> None:
        """Count a key."""
        number = hash(key)
        self._prints[number % len(self._prints)] = number >> LEFT_OUT_SHIFT & 0xFFFF | 1
        self.count += 1

    def discard(self, key: bytes) -> None:
        """Count a key no more, if it is counted."""
        number, prints = hash(key), self._prints
        place = number % len(prints)
        if prints[place] == number >> LEFT_OUT_SHIFT & 0xFFFF | 1:
            prints[place] = 0
            self.count -= 1


class Restoring:
    """Restore the items of a journal, by one thread before the server runs. Nothing is logged.

    The limits are held meanwhile (`hold`), as they were while the journal was written: what never exceeded them then
    does not now. Items that must go are chosen by the eviction order, and those that a later record needs are left out
    last. That holds even if eviction is disabled, and does not count as evictions.
    """

    def __init__(self, shards: list[Shard], limits: Limits, follow_pressure: Callable[[], None]) -> None:
        self._shards = shards
        self._mask = len(shards) - 1
        self._limits = limits
        self._follow_pressure = follow_pressure
        self._left_out: LeftOut | None = None
        """None until the first item is left out."""

    @property
    def no_room(self) -> int:
        """The number of items that there was no room for, and that were not stored or removed since."""
        return self._left_out.count if self._left_out is not None else 0

    def put(self, key: bytes, entry: Entry) -> None:
        """Restore an entry that has not expired."""
        shard = self._shards[hash(key) & self._mask]
        table = shard.table
        if self._left_out is None and entry.__class__ is bytes and entry[-1] == PLAIN and key not in table:
            table[key] = entry  # the common case, a faster `put_locked`: nothing to count here
            shard.used_bytes += len(key) + len(entry) + ENTRY_COST_BYTES
            return
        was_there = shard.put_locked(key, entry)
        if self._left_out is not None:
            if was_there:
                shard.order.mark(key)
            else:
                self._left_out.discard(key)

    def remove(self, key: bytes) -> None:
        """Restore that a key has no value."""
        if self._shards[hash(key) & self._mask].remove_locked(key) is None and self._left_out is not None:
            self._left_out.discard(key)

    def flushed(self) -> None:
        """Forget the items that were left out before a flush."""
        if self._left_out is not None:
            self._left_out = LeftOut(self._limits.limit_bytes)

    def hold(self, is_needed: IsNeeded = needed_by_none, other_bytes: int = 0, other_items: int = 0) -> None:
        """Leave items out if the limits are exceeded by more than a slack.

        other_bytes, other_items: what is kept elsewhere and counts too.
        """
        room, most = self._limits.room_bytes, self._limits.max_items
        if self._limits.used_bytes + other_bytes > room + room // SLACK_PART:
            self._free_bytes(room - other_bytes, is_needed)
        if most and self._limits.items + other_items > most + most // SLACK_PART:
            self._free_items(most - other_items, is_needed)

    def finish(self) -> None:
        """Apply the limits to what was restored, and let the store keep them from now on."""
        if self._limits.used_bytes > self._limits.room_bytes:
            self._free_bytes(self._limits.target_bytes, needed_by_none)
        if self._limits.max_items:
            self._free_items(self._limits.max_items, needed_by_none)
        for shard in self._shards:
            shard.second_chances = 0
        self._limits.begin(self._left_out is not None)
        self._follow_pressure()

    def _free_bytes(self, target_bytes: int, is_needed: IsNeeded) -> None:
        """Leave items out, first of the fullest shards, until no more bytes are used."""
        fair = max(0, target_bytes) // len(self._shards)
        for each in (is_needed, needed_by_none):
            givers = list(self._shards)
            while givers and (excess := self._limits.used_bytes - target_bytes) > 0:
                fullest = max(givers, key=lambda shard: shard.used_bytes)
                if not self._leave_out(fullest, min(excess, max(1, fullest.used_bytes - fair)), each):
                    givers.remove(fullest)

    def _free_items(self, most: int, is_needed: IsNeeded) -> None:
        """Leave items out, first of the longest shards, until there are no more."""
        fair = max(0, most) // len(self._shards)
        for each in (is_needed, needed_by_none):
            givers = list(self._shards)
            while givers and (excess := self._limits.items - most) > 0:
                longest = max(givers, key=lambda shard: len(shard.table))
                if not self._leave_out(longest, 0, each, min(excess, max(1, len(longest.table) - fair))):
                    givers.remove(longest)

    def _leave_out(self, shard: Shard, wanted_bytes: int, is_needed: IsNeeded, wanted_items: int = 0) -> int:
        """Leave out items of a shard until so many bytes and items are gone. Returns the number of items."""
        if self._left_out is None:
            self._left_out = LeftOut(self._limits.limit_bytes)
        target, count = shard.used_bytes - wanted_bytes, 0
        for key in shard.victims(self._limits.now, is_needed):
            self._left_out.add(key)
            count += 1
            if shard.used_bytes <= target and count >= wanted_items:
                break
        return count
