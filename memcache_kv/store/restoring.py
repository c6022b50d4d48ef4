"""Putting the items of a journal back into a store, within the store's limits."""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
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
PRINTS_PART: Final = 256
"""The part of the limit that the prints of left out keys take."""
PRINT_BYTES: Final = 4
MIN_PRINTS: Final = 1 << 16
MOST_PRINTS: Final = 1 << 21
CHECKS_AGAIN_AFTER_PART: Final = 4
"""Whether the items of a shard are still needed is checked again when this part of its items was left out."""
LEFT_OUT_SHIFT: Final = 32
"""The position in the hash of the 31 bits that identify a left out key. 15 of them were too few: with 3 of 400 hash
seeds, one of 4,000 keys was taken for another, and the number was too small."""


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
        wanted = min(max(limit_bytes // PRINTS_PART // PRINT_BYTES, MIN_PRINTS), MOST_PRINTS)
        self.count = 0
        self.prints = array("I", bytes(PRINT_BYTES << wanted.bit_length() - 1))
        """The prints, 0 where there is none."""

    def add(self, key: bytes) -> None:
        """Count a key."""
        number = hash(key)
        self.prints[number % len(self.prints)] = number >> LEFT_OUT_SHIFT & 0xFFFF_FFFF | 1
        self.count += 1

    def discard(self, key: bytes) -> None:
        """Count a key no more, if it is counted."""
        number, prints = hash(key), self.prints
        place = number % len(prints)
        if prints[place] == number >> LEFT_OUT_SHIFT & 0xFFFF_FFFF | 1:
            prints[place] = 0
            self.count -= 1


class Needed:
    """The keys of a shard that a later record needs. They have no place in the eviction order meanwhile."""

    def __init__(self) -> None:
        self.keys: deque[bytes] = deque()
        self.left_out = 0
        """The number of items that were left out since these were checked."""

    def add(self, key: bytes) -> None:
        """Add a key that was taken out of the order."""
        self.keys.append(key)

    def take(self, table: dict[bytes, Entry]) -> bytes | None:
        """Remove the key that came first, and return it; None if there is none."""
        while self.keys:
            key = self.keys.popleft()
            if key in table:
                return key
        return None

    def count(self, shard: Shard) -> None:
        """Count an item that was left out. After many of them, all keys go back into the order to be checked again."""
        self.left_out += 1
        if self.left_out * CHECKS_AGAIN_AFTER_PART > len(shard.table):
            self.put_back(shard)

    def put_back(self, shard: Shard) -> None:
        """Put all keys back into the order."""
        shard.order.main.extend(self.keys)
        self.keys.clear()
        self.left_out = 0


def leave_out(
    shard: Shard,
    needed: Needed,
    left_out: LeftOut,
    is_needed: IsNeeded | None,
    wanted_bytes: int,
    wanted_items: int,
    now: int,
) -> int:
    """Leave out items of a shard until so many bytes and items are gone. Returns the number of items.

    needed: gets the keys of those that must stay; left_out: gets those of the others. is_needed: tells which ones must
    stay; None if needed ones may go too. now: the present unix time.
    """
    target, count = shard.used_bytes - wanted_bytes, 0
    while shard.used_bytes > target or count < wanted_items:
        key = shard.next_to_leave_out(now)
        if key is None and is_needed is None:
            key = needed.take(shard.table)
        if key is None:
            break
        if is_needed is not None and is_needed(key):
            needed.add(key)
            continue
        shard.leave_out(key)
        needed.count(shard)
        left_out.add(key)
        count += 1
    shard.fit_table()
    return count


LeaveOut = Callable[[Shard, Needed, LeftOut, IsNeeded | None, int, int, int], int]
"""What does the same as `leave_out`."""


class Restoring:
    """Restore the items of a journal, by one thread before the server runs. Nothing is logged.

    The limits are held meanwhile (`hold`), as they were while the journal was written: what never exceeded them then
    does not now. Items that must go are chosen by the eviction order, and those that a later record needs are left out
    last. That holds even if eviction is disabled, and does not count as evictions.
    """

    def __init__(
        self,
        shards: list[Shard],
        limits: Limits,
        follow_pressure: Callable[[], None],
        leave_out: LeaveOut = leave_out,
    ) -> None:
        self._shards = shards
        self._mask = len(shards) - 1
        self._limits = limits
        self._follow_pressure = follow_pressure
        self._leave_out_some = leave_out
        self.left_out: LeftOut | None = None
        """The keys that were left out; None until the first one is. Until then no eviction order is kept."""
        self._needed: defaultdict[Shard, Needed] = defaultdict(Needed)

    @property
    def no_room(self) -> int:
        """The number of items that there was no room for, and that were not stored or removed since."""
        return self.left_out.count if self.left_out is not None else 0

    def put(self, key: bytes, entry: Entry) -> None:
        """Restore an entry that has not expired."""
        shard = self._shards[hash(key) & self._mask]
        table = shard.table
        if self.left_out is None and entry.__class__ is bytes and entry[-1] == PLAIN and key not in table:
            table[key] = entry  # the common case, a faster `put_locked`: nothing to count here
            shard.used_bytes += len(key) + len(entry) + ENTRY_COST_BYTES
            return
        was_there = shard.put_locked(key, entry)
        if self.left_out is not None:
            if was_there:
                shard.order.mark(key)
            else:
                self.left_out.discard(key)

    def remove(self, key: bytes) -> None:
        """Restore that a key has no value."""
        if self._shards[hash(key) & self._mask].remove_locked(key) is None and self.left_out is not None:
            self.left_out.discard(key)

    def flushed(self) -> None:
        """Forget the items that were left out before a flush."""
        if self.left_out is not None:
            self.left_out = LeftOut(self._limits.limit_bytes)
            self._needed.clear()

    def hold(self, is_needed: IsNeeded = needed_by_none, other_bytes: int = 0, other_items: int = 0) -> None:
        """Leave items out if the limits are exceeded by more than a slack.

        other_bytes, other_items: the expired entries that are kept elsewhere, and count too. Once items were left out,
        tables and eviction orders that take more than the accounting assumes count as well, and each table like the
        largest: they double, all at about the same time.
        """
        room, most = self._limits.room_bytes, self._limits.max_items
        self._limits.expired_bytes = other_bytes
        if self.left_out is not None:
            other_bytes += max(0, sum(shard.order.excess_bytes(len(shard.table)) for shard in self._shards))
        self._limits.kept_apart_bytes = other_bytes
        if self.left_out is not None:
            other_bytes += self._limits.full_excess_bytes
        if self._limits.used_bytes + other_bytes > room + room // SLACK_PART:
            self._free_bytes(room - other_bytes, is_needed)
        if most and self._limits.items + other_items > most + most // SLACK_PART:
            self._free_items(most - other_items, is_needed)
        self._limits.leaves_out = self.left_out is not None

    def finish(self) -> None:
        """Apply the limits to what was restored, and let the store keep them from now on."""
        self._limits.kept_apart_bytes = self._limits.expired_bytes = 0
        self._limits.leaves_out = False
        if self._limits.used_bytes > self._limits.room_bytes:
            self._free_bytes(self._limits.target_bytes, needed_by_none)
        if self._limits.max_items:
            self._free_items(self._limits.max_items, needed_by_none)
        for shard in self._shards:
            self._needed[shard].put_back(shard)
            shard.second_chances = 0
        self._limits.begin(self.left_out is not None)
        self._follow_pressure()

    def _free_bytes(self, target_bytes: int, is_needed: IsNeeded) -> None:
        """Leave items out, first of the fullest shards, until no more bytes are used."""
        fair = max(0, target_bytes) // len(self._shards)
        for check in (is_needed, None):
            givers = list(self._shards)
            while givers and (excess := self._limits.used_bytes - target_bytes) > 0:
                fullest = max(givers, key=lambda shard: shard.used_bytes)
                if not self._leave_out(fullest, check, min(excess, max(1, fullest.used_bytes - fair)), 0):
                    givers.remove(fullest)

    def _free_items(self, most: int, is_needed: IsNeeded) -> None:
        """Leave items out, first of the longest shards, until there are no more."""
        fair = max(0, most) // len(self._shards)
        for check in (is_needed, None):
            givers = list(self._shards)
            while givers and (excess := self._limits.items - most) > 0:
                longest = max(givers, key=lambda shard: len(shard.table))
                if not self._leave_out(longest, check, 0, min(excess, max(1, len(longest.table) - fair))):
                    givers.remove(longest)

    def _leave_out(self, shard: Shard, is_needed: IsNeeded | None, wanted_bytes: int, wanted_items: int) -> int:
        """Leave out items of a shard until so many bytes and items are gone. Returns the number of items.

        is_needed: tells which ones must stay; None if needed ones may go too.
        """
        if self.left_out is None:
            self.left_out = LeftOut(self._limits.limit_bytes)
        return self._leave_out_some(
            shard, self._needed[shard], self.left_out, is_needed, wanted_bytes, wanted_items, self._limits.now
        )
