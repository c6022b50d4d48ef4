"""The order in which a shard's items are evicted."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

from memcache_kv.store.ages import QueueAges
from memcache_kv.store.entry import Entry, deadline_of

SMALL_PART: Final = 0.1
"""The part of all items in the small queue. A larger part would evict items from main too early, in favour of items
that are read once."""
CHANCES_PER_EVICTION: Final = 8
"""How many items that were read may be skipped to find one to evict, so that no write waits for a long scan."""
TURNS: Final = 3
"""How many turns in main a read is worth. A mark's two lowest bits count them."""
MARKS_PER_ITEM: Final = 4
"""At least; at most twice as many. If two keys share a mark, it belongs to the one that was read last."""
GHOSTS_PER_MARK: Final = 1 / 8
"""There are half to one times as many ghosts as items. More would remember keys that come back too rarely to deserve a
place in main."""
ACCOUNTED_BYTES: Final = 5
"""What ENTRY_COST_BYTES has of an item's mark and ghost."""
MIN_MARKS: Final = 1 << 12
PLACE_SHIFT: Final = 6
"""The lowest bits of the hash chose one of at most 64 shards, and are the same for all keys of a shard."""
SIGN_SHIFT: Final = 40
"""The position in the hash of the byte whose 6 highest bits identify a mark's key."""
SIGN_MASK: Final = 0xFF & ~TURNS
PRINT_SHIFT: Final = 40
"""The position in the hash of the 15 bits that identify a ghost's key."""
SLACK: Final = 64
"""The queues may hold this many places of deleted keys, besides as many as there are items."""


class S3Fifo:
    """S3-FIFO: two queues of keys, marks for keys that were read, and ghosts of keys that were evicted unread.

    A new key enters the small queue. If it was not read by the time it reaches the end, it is evicted and leaves a
    ghost. If it was read, or if it is stored again while its ghost exists, it enters main. At the end of main, a key
    gets another turn, up to three times after it was read last. So keys that are read once, as in a scan, pass through
    a tenth of the items and evict none of the others.

    A deleted key leaves its place in a queue, which is skipped later. If the key is stored again, it has two places,
    and the first that is reached counts. The key is then evicted as early as if it had been overwritten, or moves to
    the end of main. `tidy` bounds the number of such places.

    Any thread may write `marks` without a lock; everything else needs the shard's lock. Nothing is tracked until
    `start`.
    """

    __slots__ = (
        "marks", "small", "main", "is_kept", "second_chances", "was_promoted", "was_marked", "ghosts", "_small_ages",
        "_main_ages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.second_chances = 0
        """How many times an eviction skipped an item because it had been read."""
        self.was_promoted = False
        """Whether the last victim was in the main queue: so it was read or overwritten once, or had come back."""
        self.was_marked = False
        """Whether the last victim was read since its last turn."""
        self.stop()

    def stop(self) -> None:
        """Forget the order; memory is not scarce any more."""
        self.is_kept = False
        """Whether every key of the table has a place in a queue."""
        self.marks = bytearray(1)
        """A mark for each key that was read, at the index that its hash gives. A set of keys would take far more
        memory."""
        self.ghosts = array("H", (0,))
        self.small: deque[bytes] = deque()
        self.main: deque[bytes] = deque()
        self._small_ages, self._main_ages = QueueAges(), QueueAges()

    def mark_time(self, now: int) -> None:
        """Record how far the queues reach at this unix time, so that the ages of later victims are known."""
        if self.is_kept:
            self._small_ages.mark(len(self.small), now)
            self._main_ages.mark(len(self.main), now)

    def victim_age(self, now: int) -> int | None:
        """Return for how many seconds the last victim was in its queue; None if that is not known.

        In the small queue that is since it was stored. In main it is since its last turn, and it was not read since.
        """
        entered_at = (self._main_ages if self.was_promoted else self._small_ages).last_taken_at()
        return None if entered_at is None else max(0, now - entered_at)

    def start(self, table: dict[bytes, Entry]) -> None:
        """Start with the keys of the table, in order of arrival, which is the dict's order.

        All of them enter the small queue, because no reads have been recorded yet.
        """
        self.stop()
        self.fit(2 * len(table))
        self.small.extend(table)
        self.is_kept = True

    def fit(self, count: int) -> None:
        """Enlarge the marks and ghosts for `count` keys. Those that are set stay set."""
        while len(self.marks) < max(MIN_MARKS, count * MARKS_PER_ITEM):
            self.marks = max(self.marks * 2, bytearray(MIN_MARKS), key=len)
            ghosts = int(len(self.marks) * GHOSTS_PER_MARK)
            self.ghosts = self.ghosts * 2 if len(self.ghosts) * 2 == ghosts else array("H", bytes(2 * ghosts))

    def excess_bytes(self, count: int) -> int:
        """Return what the marks and ghosts take beyond their least size and the accounted bytes of `count` items."""
        grown = max(0, len(self.marks) - MIN_MARKS)
        return grown + int(2 * GHOSTS_PER_MARK * grown) - ACCOUNTED_BYTES * count

    def mark(self, key: bytes) -> None:
        """Record that a key was read."""
        marks = self.marks  # this one, as another thread may put a longer one in its place
        number = hash(key)
        marks[number >> PLACE_SHIFT & len(marks) - 1] = number >> SIGN_SHIFT & 0xFF | TURNS

    def is_marked(self, key: bytes) -> bool:
        """Tell whether a key was read since it was stored, and has not used up the turns that it got for that."""
        number, marks = hash(key), self.marks
        return 0 < marks[number >> PLACE_SHIFT & len(marks) - 1] - (number >> SIGN_SHIFT & SIGN_MASK) <= TURNS

    def unmark(self, key: bytes) -> None:
        """Remove a key's mark."""
        if self.is_marked(key):
            self.marks[hash(key) >> PLACE_SHIFT & len(self.marks) - 1] = 0

    def add(self, key: bytes) -> None:
        """Add a key that was not in the table."""
        number, ghosts = hash(key), self.ghosts
        place = number >> PLACE_SHIFT & len(ghosts) - 1
        if ghosts[place] == number >> PRINT_SHIFT & 0xFFFF | 1:
            ghosts[place] = 0
            self.main.append(key)
        else:
            self.small.append(key)

    def next_victim(self, table: dict[bytes, Entry], now: int, spare: bytes) -> bytes | None:
        """Remove the key to evict from its queue, and return it; None if there is none but `spare`.

        now: unix time; an expired item gets no second chance. spare: a key that is never evicted.
        """
        if len(table) <= (spare in table):
            return None
        small, main, marks, chances = self.small, self.main, self.marks, CHANCES_PER_EVICTION
        small_limit, last_mark = len(table) * SMALL_PART, len(marks) - 1
        small_taken = main_taken = 0
        while True:
            is_small = len(small) > small_limit or not main
            if is_small:
                key = small.popleft()
                small_taken += 1
            else:
                key = main.popleft()
                main_taken += 1
            if key == spare:
                main.append(key)
            elif key in table:
                number = hash(key)
                place = number >> PLACE_SHIFT & last_mark
                mark = marks[place]
                is_marked = 0 < mark - (number >> SIGN_SHIFT & SIGN_MASK) <= TURNS
                if not is_marked or not chances or 0 < deadline_of(table[key]) <= now:
                    break
                marks[place] = 0 if is_small else mark - 1
                chances -= 1
                self.second_chances += 1
                main.append(key)
        self._small_ages.taken += small_taken
        self._main_ages.taken += main_taken
        self.was_promoted, self.was_marked = not is_small, is_marked
        if is_marked:
            marks[place] = 0
        if is_small:  # leave a ghost, in place of any other at the same index
            ghosts = self.ghosts
            ghosts[number >> PLACE_SHIFT & len(ghosts) - 1] = number >> PRINT_SHIFT & 0xFFFF | 1
        return key

    def count_taken(self, small: int, main: int, second_chances: int, was_small: bool, was_marked: bool) -> None:
        """Count what was taken from the queues by other code than `next_victim`.

        small, main: how many keys were taken from each. second_chances: how many of them were put into main again.
        was_small, was_marked: what is known about the last victim.
        """
        self._small_ages.taken += small
        self._main_ages.taken += main
        self.second_chances += second_chances
        self.was_promoted, self.was_marked = not was_small, was_marked

    def tidy(self, table: dict[bytes, Entry]) -> None:
        """Remove the places of deleted keys once there are more of them than items, which is rare."""
        if len(self.small) + len(self.main) <= 2 * len(table) + SLACK:
            return
        main = [key for key in dict.fromkeys(self.main) if key in table]
        in_main = set(main)
        small = [key for key in dict.fromkeys(self.small) if key in table and key not in in_main]
        self._main_ages.shrink(len(self.main), len(main))
        self._small_ages.shrink(len(self.small), len(small))
        self.main, self.small = deque(main), deque(small)
