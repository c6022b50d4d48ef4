"""In which order a shard's items make room: those first that nobody would miss."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

from memcache_kv.store.entry import Entry, deadline_of

SMALL_PART: Final = 0.1
"""Of all items, that are in the small queue. More would let those in main leave sooner for what is asked for once."""
CHANCES_PER_EVICTION: Final = 8
"""How many items that were read may be passed over to find one to evict, so that no write waits for a long scan."""
MARKS_PER_ITEM: Final = 4
"""At least, and at most twice as many. Of two keys that share one, it tells of the one read last."""
GHOSTS_PER_MARK: Final = 1 / 8
"""So that there are about as many as half to all of the items. More of them remember what comes so rarely that it only
takes the room in main from what is asked for often."""
MIN_MARKS: Final = 1 << 12
PLACE_SHIFT: Final = 6
"""The hash's lowest bits chose the shard (of 64 at most), and are the same for all keys here."""
SIGN_SHIFT: Final = 40
"""Where in the hash there are the 7 bits by which a mark says whose it is; its lowest bit tells it from none."""
PRINT_SHIFT: Final = 40
"""And where the 15 bits of a ghost."""
SLACK: Final = 64
"""So many places of deleted keys may be in the queues, beyond as many as there are items."""


class S3Fifo:
    """S3-FIFO: two queues of keys, a mark for those that were read, and ghosts of those that left unread.

    A new key goes to the small queue. At its end it leaves if it was not read meanwhile, and is then remembered by
    its ghost; otherwise, or when it comes back while its ghost is there, it goes to main. There a key that was read
    since it was last looked at gets another round. So what is asked for once, as in a scan, passes through a tenth of
    the items and pushes out none of the others.

    A key that is deleted leaves its place in a queue behind, which is passed over. Stored anew, it has two places, and
    whichever comes up first is taken for its own: it then leaves as soon as if it had been overwritten instead, or
    moves to the end of main. `tidy` bounds such places.

    `marks` may be written by any thread without a lock; all else needs the shard's. Nothing is kept until `start`.
    """

    __slots__ = ("marks", "small", "main", "is_kept", "second_chances", "_ghosts")

    def __init__(self) -> None:
        self.second_chances = 0
        """How often one was passed over by an eviction because it had been read."""
        self.stop()

    def stop(self) -> None:
        """Forget all: memory is not scarce."""
        self.is_kept = False
        """Whether each key of the table has its place in a queue."""
        self.marks = bytearray(1)
        """What was read, each key in the place that its hash says: a set of keys would take five times the memory."""
        self._ghosts = array("H", (0,))
        self.small: deque[bytes] = deque()
        self.main: deque[bytes] = deque()

    def start(self, table: dict[bytes, Entry]) -> None:
        """Begin with the keys there are, in the dict's order: that of arrival.

        They all are in the small queue, as nobody has noted yet which of them are read.
        """
        self.stop()
        self.fit(2 * len(table))
        self.small.extend(table)
        self.is_kept = True

    def fit(self, count: int) -> None:
        """Have enough marks and ghosts for so many keys; they keep what they say, for twice as many keys each."""
        while len(self.marks) < max(MIN_MARKS, count * MARKS_PER_ITEM):
            self.marks = max(self.marks * 2, bytearray(MIN_MARKS), key=len)
            ghosts = int(len(self.marks) * GHOSTS_PER_MARK)
            self._ghosts = self._ghosts * 2 if len(self._ghosts) * 2 == ghosts else array("H", bytes(2 * ghosts))

    def mark(self, key: bytes) -> None:
        """Note that a key was read."""
        marks = self.marks  # this one, as another thread may put a longer one in its place
        number = hash(key)
        marks[number >> PLACE_SHIFT & len(marks) - 1] = number >> SIGN_SHIFT & 0xFF | 1

    def is_marked(self, key: bytes) -> bool:
        """Tell whether a key was read since it came, or was last looked at."""
        number, marks = hash(key), self.marks
        return marks[number >> PLACE_SHIFT & len(marks) - 1] == number >> SIGN_SHIFT & 0xFF | 1

    def unmark(self, key: bytes) -> None:
        """Have a key be one that nobody has read."""
        if self.is_marked(key):
            self.marks[hash(key) >> PLACE_SHIFT & len(self.marks) - 1] = 0

    def add(self, key: bytes) -> None:
        """Give a place to a key that was not in the table."""
        number, ghosts = hash(key), self._ghosts
        place = number >> PLACE_SHIFT & len(ghosts) - 1
        if ghosts[place] == number >> PRINT_SHIFT & 0xFFFF | 1:
            ghosts[place] = 0
            self.main.append(key)
        else:
            self.small.append(key)

    def next_victim(self, table: dict[bytes, Entry], now: int, spare: bytes) -> bytes | None:
        """Take the key that is to leave the table out of its queue; None where there is none but `spare`.

        An expired one gets no second chance.
        """
        if len(table) <= (spare in table):
            return None
        small, main, marks, chances = self.small, self.main, self.marks, CHANCES_PER_EVICTION
        small_limit, last_mark = len(table) * SMALL_PART, len(marks) - 1
        while True:
            is_small = len(small) > small_limit or not main
            key = small.popleft() if is_small else main.popleft()
            if key == spare:
                main.append(key)
            elif key in table:
                number = hash(key)
                place = number >> PLACE_SHIFT & last_mark
                if marks[place] != number >> SIGN_SHIFT & 0xFF | 1 or not chances or 0 < deadline_of(table[key]) <= now:
                    break
                marks[place] = 0
                chances -= 1
                self.second_chances += 1
                main.append(key)
        if is_small:
            self._leave_ghost(key)
        return key

    def _leave_ghost(self, key: bytes) -> None:
        """Remember a key, in place of whichever has the same place: so each is forgotten after a while."""
        number, ghosts = hash(key), self._ghosts
        ghosts[number >> PLACE_SHIFT & len(ghosts) - 1] = number >> PRINT_SHIFT & 0xFFFF | 1

    def tidy(self, table: dict[bytes, Entry]) -> None:
        """Sweep out what is left of deleted keys, once it is more than there are items: that is rarely due."""
        if len(self.small) + len(self.main) <= 2 * len(table) + SLACK:
            return
        main = [key for key in dict.fromkeys(self.main) if key in table]
        in_main = set(main)
        small = [key for key in dict.fromkeys(self.small) if key in table and key not in in_main]
        self.main, self.small = deque(main), deque(small)
