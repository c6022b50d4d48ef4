"""The records that wait to be written, in order, and the time at which they were made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from memcache_kv.journal.codec import encode_queue
from memcache_kv.journal.record import (
    ENCODED,
    FORMAT_VERSION,
    Record,
    Room,
    line_of,
    mark_record,
    put_key,
    set_line,
)
from memcache_kv.store.entry import Entry, moved
from memcache_kv.threads import get_ident
from memcache_kv.unpatched import threading

QUEUED_OVERHEAD_BYTES = 64
"""What a queued record counts besides its key and entry; about what its line needs besides them."""
MAX_STAMP_INTERVAL_SECONDS = 60
"""While no record is written, the time is recorded after one second, then after twice as long each time, up to this. If
the clock is set back while no server runs, the next start assumes that no more time than this is missing."""


class Batch(NamedTuple):
    """The records that were taken from the queue."""

    queue: list[Entry]
    position: int
    """The journal's position after these records are written."""
    queued_bytes: int
    """What they count in the queue."""
    began_ahead: int
    """How many seconds the wall clock was ahead before the first of them."""
    wall_ahead: int
    """The same for those that are not encoded yet."""


class RecordQueue:
    """The queue of records: the store's WriteLog, which any thread may call, and the clocks that records need.

    Its methods queue a record and return. `position` after a write is the position that the journal must reach before
    the write may be acknowledged.

    The compiled requests queue their records themselves, as `put` does, with the attributes from `queue` to
    `unstamped_second`. They hold the GIL meanwhile, after they have found that nobody holds `queue_lock`.

    Expiry times are written by the wall clock. The store's clock does not follow the wall clock's steps; `follow_wall`
    tells the queue how far the two are apart.

    last_cas, room: stored in the start records. limit_bytes: the limit of what is kept in memory.
    The other parameters are those of Journal.
    """

    def __init__(
        self,
        last_cas: int,
        room: Room,
        limit_bytes: int,
        say: Callable[[str], None],
        now: int,
        stepped: int | None,
    ) -> None:
        self.id = ""
        """The journal's id, which the start records give."""
        self.last_cas = last_cas
        self.room = room
        self.queue: list[Entry] = []
        """Keys and entries in turn, or ENCODED and lines."""
        self.queue_limit_bytes = limit_bytes
        self.queue_lock = threading.Lock()
        self.position = 0
        """The number of records queued so far."""
        self.queued_bytes = 0
        self.taken_bytes = 0
        """What the records count that were taken to be written, and that are not written yet."""
        self.positions: dict[int, int] = {}
        """For each thread, the position of its last write."""
        self.refuses = False
        """Whether the journal takes no writes, as the disk fails."""
        self._say = say
        self._wake = threading.Event()
        """Set when the journal's thread has something to do."""
        self._begin_time(now, stepped)

    def _begin_time(self, now: int, stepped: int | None) -> None:
        self.unstamped_second = 0
        """The second that has begun since the last record; 0 if none has."""
        self._stamped_second = now
        """The last second that a record gives. Both are by the store's clock."""
        self._stamp_interval_seconds = 1
        """How long after it the next one is recorded if nothing else is written."""
        self._stepped_before = stepped
        self._wall_ahead = 0
        """How many seconds the wall clock is ahead of the store's clock. The deadlines of queued entries move by
        this."""
        self.queue_ahead = 0
        """The same at the time of the first record in the queue."""
        self.rotated_ahead = 0
        """The same at the time of the last rotation."""
        self.rotated_follows = ""
        """What the increment that the last rotation began states about the file before it."""

    def start_line(self, after: int = 0, follows: str = "", ahead: int | None = None, serial: int = 0) -> bytes:
        """Return the start record of a file.

        Its time is by the wall clock as the records before it know that. A step of which a record still waits would
        otherwise look like time that has passed, or has not.

        after: the length of the previous file in bytes, if no manifest has it yet. follows: the checksum of its last
        record. ahead: how many seconds the wall clock was ahead before what follows, which the record then states; None
        if what follows is the queue, and what precedes was written before it. serial: that of the manifest on disk.
        """
        limit, items = self.room
        record = Record("start", cas=self.last_cas, version=FORMAT_VERSION, limit=limit, items=items)
        record.at = (self.unstamped_second or self._stamped_second) + (self.queue_ahead if ahead is None else ahead)
        record.stepped = None if ahead is None else self.stepped(ahead)
        record.after, record.id, record.follows, record.serial = after, self.id, follows, serial
        return line_of(record)

    def set_room(self, room: Room) -> None:
        """Record that the journal's live items need this much room."""
        if room != self.room:
            self.room = room
            with self.queue_lock:
                self._append_locked(self.start_line(ahead=self._wall_ahead))
                self.positions[get_ident()] = self.position

    def state_serial(self, serial: int) -> None:
        """Record that the manifest with this serial is on disk."""
        self._append(line_of(Record("time", serial=serial)))
        self._wake.set()

    def widen_room(self, limit_bytes: int) -> None:
        """Record that the store may now use this many bytes, so that a server with less may lack room for its items."""
        self.set_room(self.room.joined(self.room._replace(limit_bytes=limit_bytes)))

    def stepped(self, wall_ahead: int) -> int | None:
        """Return the sum of the wall clock's steps when it is `wall_ahead` seconds ahead; None if there was none."""
        return None if self._stepped_before is None else self._stepped_before + wall_ahead

    # WriteLog

    def stored(self, key: bytes, flags: int, deadline: int, cas: int, value: bytes, state: int = 0) -> None:
        """Record that this value is now stored for the key."""
        self._append(set_line(key, flags, self._by_wall(deadline), cas, value, state))

    def put(self, key: bytes, entry: Entry) -> None:
        """Record the same for an entry. It is encoded later, many at once, which is faster."""
        lock = self.queue_lock
        lock.acquire()  # faster than `with`
        try:
            if self.unstamped_second:
                self._stamp_locked()
            self.queue += (key, entry)
            self.queued_bytes += len(key) + len(entry) + QUEUED_OVERHEAD_BYTES
            self.position += 1
            self.positions[get_ident()] = self.position
        finally:
            lock.release()

    def deleted(self, key: bytes) -> None:
        """Record that the key has no value any more."""
        self._append(line_of(put_key(Record("delete"), key)))

    def touched(self, key: bytes, deadline: int) -> None:
        """Record the key's new deadline."""
        self._append(line_of(put_key(Record("touch", exp=self._by_wall(deadline)), key)))

    def cas_assigned(self, key: bytes, cas: int) -> None:
        """Record that the key's present value was given this CAS id.

        Does nothing while the disk fails, since a read may give an id: the next run's ids are all higher anyway.
        """
        if not self.refuses:
            self._append(line_of(put_key(Record("cas", cas=cas), key)))

    def marked(self, key: bytes, deadline: int, cas: int, state: int) -> None:
        """Record the deadline, CAS id and state of the key's present value."""
        self._append(line_of(put_key(mark_record(self._by_wall(deadline), cas, state), key)))

    def flushed(self, at: int) -> None:
        """Record a flush of all items, at once (0) or at a unix time."""
        self._append(line_of(Record("flush", at=self._by_wall(at))))
        self._wake.set()  # a flush that fell due has no client that waits for it

    def follow_wall(self, now: int, wall_ahead: int) -> None:
        """Record a step of the wall clock, and write later expiry times by its new time.

        Called while all keys are locked. Records in the queue belong to the time before, so they are encoded now.
        """
        with self.queue_lock:
            seconds, queue = wall_ahead - self._wall_ahead, self.queue
            if queue:
                self.queue = [ENCODED, encode_queue(queue, self._wall_ahead)[0]]
            self._stepped_before = self._stepped_before or 0
            self._wall_ahead, self.unstamped_second = wall_ahead, now
            self._stamp_locked()
        self._wake.set()
        way = "forward" if seconds > 0 else "back"
        self._say(f"the system's clock was set {way} by {abs(seconds)} s; items expire as if it had not been")

    def new_second(self, now: int) -> None:
        """Let the next record be preceded by the time: it was made at this unix time or later."""
        self.unstamped_second = now

    def stamp_second(self) -> None:
        """Record the time now, if a second has begun since the last record."""
        with self.queue_lock:
            if self.unstamped_second:
                self._stamp_locked()

    @property
    def last_write(self) -> int:
        """The position of the last record that a write queued, as opposed to one of time."""
        return max(tuple(self.positions.values()), default=0)

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that no large values should be read from clients.

        A failing disk is not waited for: writes are rejected then.
        """
        return not self.refuses and self.queued_bytes + self.taken_bytes > self.queue_limit_bytes

    def own_position(self) -> int:
        """Return the position of the calling thread's last write; 0 for none."""
        return self.positions.get(get_ident(), 0)

    # Taking them

    def take(self) -> Batch:
        """Take all records from the queue. Those taken before have been written or put back."""
        with self.queue_lock:
            queue, self.queue = self.queue, []
            size = self.taken_bytes = self.queued_bytes
            self.queued_bytes = 0
            began, self.queue_ahead = self.queue_ahead, self._wall_ahead
            return Batch(queue, self.position, size, began, self.queue_ahead)

    def put_back(self, batch: Batch) -> None:
        """Put records back that could not be written, before those that were queued since."""
        with self.queue_lock:
            self.queue[:0] = batch.queue
            self.queued_bytes += batch.queued_bytes
            self.taken_bytes = 0
            self.queue_ahead = batch.began_ahead

    def _append(self, line: bytes) -> None:
        self.put(ENCODED, line)

    def _by_wall(self, deadline: int) -> int:
        return moved(deadline, self._wall_ahead) if self._wall_ahead else deadline

    def _stamp_time(self, at_once: bool = False) -> None:
        """Record the time without a write, if that is due and the disk works."""
        with self.queue_lock:
            passed = self.unstamped_second - self._stamped_second
            if self.unstamped_second and not self.refuses and (at_once or passed >= self._stamp_interval_seconds):
                longer = min(2 * self._stamp_interval_seconds, MAX_STAMP_INTERVAL_SECONDS)
                self._stamp_locked()
                self._stamp_interval_seconds = longer

    def _stamp_locked(self) -> None:
        ahead = self._wall_ahead
        stamp = line_of(Record("time", at=self.unstamped_second + ahead, stepped=self.stepped(ahead)))
        self._stamped_second, self.unstamped_second, self._stamp_interval_seconds = self.unstamped_second, 0, 1
        self._append_locked(stamp)

    def _append_locked(self, line: bytes) -> None:
        self.queue += (ENCODED, line)
        self.queued_bytes += len(line) + QUEUED_OVERHEAD_BYTES
        self.position += 1
