"""The table of all items: which shard, which lock, what a command does to a key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from memcache_kv.config.memcached_options import MIB
from memcache_kv.errors import WritesRejected
from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    FETCHED,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SLOT_BYTES,
    STALE,
    WITH_CAS,
    WON,
    Entry,
    Item,
    absolute_deadline,
    cas_of,
    deadline_of,
    flags_of,
    have_same_value,
    make_entry,
    number_in,
    pack,
    state_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.s3fifo import PLACE_SHIFT, SIGN_SHIFT
from memcache_kv.store.shard import Evicted, Shard
from memcache_kv.store.sizes import CAS_BYTES, DEFAULT_SIZES, SizeClasses
from memcache_kv.store.time import Time
from memcache_kv.store.writes import Mode, Outcome, Write, WriteLog

MAX_SHARDS = 64
LARGEST_ITEMS_PER_SHARD = 8
"""A shard's part of the memory holds at least this many items of the largest size, so that one big item in it
does not push out all the others."""
ITEMS_PER_SHARD = 128
"""With a limit on the number of items, a shard gets at least this many: fewer, and its eviction order says little."""
CHECKS = 64
"""The sum over all shards is taken when one has grown by this part of its share. All together may grow by as much in
between, so that much of the limit is left free."""
LARGEST_NUMBER = (1 << 64) - 1
"""Counting past it begins with 0 again."""
ITEM_HEADER_BYTES = 59
"""What memcached adds to key and data when it compares an item with -I: header, CAS id, two ends."""


def choose_shards(limit_bytes: int, item_limit_bytes: int, max_items: int) -> int:
    """Choose the number of shards, a power of two, for these limits; 0 items is no limit."""
    shards = min(MAX_SHARDS, limit_bytes // (LARGEST_ITEMS_PER_SHARD * item_limit_bytes))
    if max_items:
        shards = min(shards, max_items // ITEMS_PER_SHARD)
    return 1 << max(0, shards.bit_length() - 1)


class Store:
    """All items, in shards picked by the key's hash; every method may be called from any thread.

    A read takes no lock. A change takes the one lock of the key's shard, so that what happens to one key happens in
    one order, and tells `log` of it while it holds it; it raises ChangesRefused, and does nothing, while the log
    refuses. Making room takes shards' locks one at a time, after the change; `flush` alone takes them all, in order.
    Nothing here blocks but on those locks.

    limit_bytes: what all items may take in memory; max_items: how many there may be, 0 for no limit;
    evicts: whether old items make room for new ones (False: the new one is refused);
    gives_cas: whether items get CAS ids (False: all have 0, and none can be compared); sizes: their size classes.
    """

    def __init__(
        self,
        clock: Time,
        limit_bytes: int = 64 * MIB,
        item_limit_bytes: int = MIB,
        max_items: int = 0,
        evicts: bool = True,
        shards: int = 0,
        log: WriteLog | None = None,
        gives_cas: bool = True,
        sizes: SizeClasses = DEFAULT_SIZES,
    ) -> None:
        count = shards or choose_shards(limit_bytes, item_limit_bytes, max_items)
        self.clock = clock
        self.log = log
        self.item_limit_bytes = item_limit_bytes
        self.max_items = max_items
        self.evicts = evicts
        self.gives_cas = gives_cas
        self._largest_bytes = item_limit_bytes - ITEM_HEADER_BYTES + (0 if gives_cas else CAS_BYTES)
        """What key and value may have together, and the flags where they are not 0."""
        self.sizes = sizes
        self.shards = [Shard(sizes) for _ in range(count)]
        self.mask = count - 1
        self.tables = [shard.table for shard in self.shards]
        self.under_pressure = False
        """Whether memory is scarce enough that reads note which keys they hit."""
        self.keeps_access_metadata = False
        """Whether it is noted of each item when it was last read (`keep_access_metadata`)."""
        self.access_metadata_since = clock.now
        self.records_access = False
        """Whether a read calls `note`: for either reason."""
        self.flush_at = 0
        """Unix time at which all is to be forgotten; 0 when no flush is waiting."""
        self._wall_ahead = 0
        """How far ahead the wall clock is, as the log knows it."""
        self._has_evicted = False
        self._has_flushed = False
        """Whether any shard still knows keys that a flush took."""
        self._tells_evictions = False
        self._cas_ids = itertools.count(1)
        self.limit_bytes = 0
        self.reserved_bytes = 0
        """The part of the limit that is taken by holes between items, and that they therefore leave free."""
        self._target_bytes = 0
        self._check_every_bytes = 0
        self.set_limit(limit_bytes)

    @property
    def takes_small_sets(self) -> bool:
        """Whether any small value may be stored by `put`: nothing but making room could stand in its way."""
        return self.evicts and self.item_limit_bytes > 2 * PLAIN_LIMIT_BYTES

    # Reading

    def get(self, key: bytes) -> Entry | None:
        """Return the live entry of a key, or None."""
        entry = self.tables[hash(key) & self.mask].get(key)
        if entry is None:
            return self._missed(key) if self._has_flushed else None
        if (entry.__class__ is not bytes or entry[-1] != PLAIN) and 0 < deadline_of(entry) <= self.clock.now:
            shard = self._shard(key)
            with shard.lock:
                return shard.live_locked(key, self.clock.now)
        if self.records_access:
            self.record_access(key, entry)
        return entry

    def kept_many(self, keys: list[bytes]) -> list[Entry | None]:
        """Return what is kept for each of these keys. A bare entry was noted as read; of any other ask `get`."""
        tables, mask = self.tables, self.mask
        entries = [tables[hash(key) & mask].get(key) for key in keys]
        if self.records_access:
            for key, entry in zip(keys, entries, strict=True):
                if entry.__class__ is bytes and entry[-1] == PLAIN:
                    self.record_access(key, entry)
        return entries

    def _missed(self, key: bytes) -> Entry | None:
        """Look again for a key that may have been flushed, so that it is counted."""
        shard = self._shard(key)
        with shard.lock:
            return shard.live_locked(key, self.clock.now)

    def gets(self, key: bytes) -> Entry | None:
        """Return the live entry of a key with its CAS id; the id is made when first asked for.

        An id stays with the value: any change, even to the same bytes, has another (protocol.txt, "gets").
        """
        entry = self.get(key)
        return entry if entry is None or cas_of(entry) else self.get_with_cas(key)

    def get_with_cas(self, key: bytes) -> Entry | None:
        """Return what `gets` does, and note nothing: nobody is said to have read it."""
        shard = self._shard(key)
        with shard.lock:
            entry = shard.live_locked(key, self.clock.now)
            if entry is None or cas_of(entry) or not self.gives_cas:
                return entry
            entry = self._with_cas(key, entry, self._assign_cas_locked(key))
            shard.put_locked(key, entry)
        self._check_room(shard, key)
        return entry

    def kept(self, key: bytes) -> Entry | None:
        """Return what is kept for a key, be it expired, and note nothing."""
        return self.tables[hash(key) & self.mask].get(key)

    def was_flushed(self, key: bytes) -> bool:
        """Tell whether the last flush took this key, and nobody has looked for it since."""
        return self._has_flushed and key in self._shard(key).flushed

    def peek(self, key: bytes) -> Entry | None:
        """Return the live entry of a key as `get` does, but note nothing: nobody is said to have read it."""
        entry = self.tables[hash(key) & self.mask].get(key)
        return None if entry is None or 0 < deadline_of(entry) <= self.clock.now else entry

    def keep_access_metadata(self) -> None:
        """From now on note of each item when it was last read, and whether it ever was.

        Such an item takes an Item's memory, and its reads some more time: so it is done once somebody asks.
        """
        if not self.keeps_access_metadata:
            self.access_metadata_since = self.clock.now
            self.keeps_access_metadata = self.records_access = True

    def accessed_at(self, entry: Entry) -> int:
        """Return the unix time at which it was last read or stored.

        Of what was stored before such facts were kept, and not read since, it is when keeping them began.
        """
        return entry.accessed if isinstance(entry, Item) else self.access_metadata_since

    def size_of(self, key: bytes, entry: Entry) -> int:
        """Return what a key and its entry take in memory, by the accounting of `item.py`."""
        return len(key) + len(entry) + ENTRY_COST_BYTES

    def class_of(self, key: bytes, entry: Entry) -> int:
        """Return the number of the size class in which a key and its entry are."""
        return self.sizes.class_of_item(key, wire_bytes_of(entry))

    def record_access(self, key: bytes, entry: Entry) -> None:
        """Note that this entry of the key was read."""
        if self.under_pressure:
            number = hash(key)
            marks = self.shards[number & self.mask].order.marks
            marks[number >> PLACE_SHIFT & len(marks) - 1] = number >> SIGN_SHIFT & 0xFF | 1  # `mark`
        if not self.keeps_access_metadata:
            return
        if isinstance(entry, Item):
            entry.accessed = self.clock.now
            entry.state |= FETCHED
            return
        shard = self._shard(key)
        with shard.lock:
            if shard.table.get(key) is entry:
                item = Item(wire_bytes_of(entry), deadline_of(entry), cas_of(entry), self.clock.now, FETCHED)
                shard.put_locked(key, item)

    def _with_cas(self, key: bytes, entry: Entry, cas: int) -> Entry:
        if isinstance(entry, Item):
            return Item(entry.wire_bytes, entry.deadline, cas, entry.accessed, entry.state)
        return self._entry(key, wire_bytes_of(entry), deadline_of(entry), cas)

    def _entry(self, key: bytes, wire_bytes: bytes, deadline: int, cas: int = 0, state: int = 0) -> Entry:
        """Make the entry of a value that is stored now."""
        if self.keeps_access_metadata:
            return Item(wire_bytes, deadline, cas, self.clock.now, state)
        return make_entry(key, wire_bytes, deadline, cas, self.clock.now, state)

    # Changing

    def put(self, key: bytes, entry: Entry) -> None:
        """Set a value: `store` with Mode.SET, less what is not needed for that.

        The caller has seen to it that the entry is of the right kind for what it holds (`make_entry`), that it is not
        too large (`takes_small_sets`, `exceeds_limit`), and that `evicts` is true.
        """
        shard, log = self.shards[hash(key) & self.mask], self.log
        if log is not None and log.refuses:
            raise WritesRejected
        if self.keeps_access_metadata and not isinstance(entry, Item):
            entry = Item(wire_bytes_of(entry), deadline_of(entry), cas_of(entry), self.clock.now)
        lock, table = shard.lock, shard.table
        lock.acquire()  # `with` takes 80 ns more
        try:
            old = table.get(key)
            is_alike = old.__class__ is bytes and entry.__class__ is bytes and len(old) == len(entry)
            if is_alike and old[-1] == entry[-1] != WITH_CAS:  # type: ignore[index]
                table[key] = entry  # `put_locked` where there is nothing to count: 100 ns less
            else:
                shard.put_locked(key, entry)
            if old is not None and self.under_pressure:
                shard.order.mark(key)
            shard.total_items += 1
            if log is not None:
                log.put(key, entry)
        finally:
            lock.release()
        if shard.used_bytes > shard.check_at_bytes:
            self._make_room(key)

    def store(self, mode: Mode, key: bytes, wire_bytes: bytes, deadline: int = 0, cas: int = 0) -> Outcome:
        """Carry out a classic storage command with a ready value.

        deadline: unix time or 0; cas: the id that Mode.CAS compares. Returns STORED, NOT_STORED, EXISTS or
        NOT_FOUND as the protocol has them, or NO_MEMORY where nothing may be evicted.
        """
        return self.write(Write(mode, key, wire_bytes, deadline, cas))[0]

    def write(self, write: Write) -> tuple[Outcome, Entry | None]:
        """Carry out a storage command; return what became of it, as `store` does, and the entry where it is STORED."""
        key, wire_bytes, deadline, state = write.key, write.wire_bytes, write.deadline, 0
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now, reclaims=True)
            refusal = self._refusal(write, old)
            if refusal is Outcome.EXISTS and old is not None and write.takes_older and self._is_older(write, key, old):
                deadline, state, refusal = deadline_of(old), STALE | state_of(old) & WON, None
            if refusal is not None:
                return refusal, None
            if old is not None and write.mode.joins:
                wire_bytes, deadline = self._joined(write.mode, old, wire_bytes), deadline_of(old)
                if self.is_too_large(key, wire_bytes):
                    return Outcome.NOT_STORED, None
            if not self.evicts and self._is_full(len(key) + len(wire_bytes), is_new=old is None):
                if write.mode is Mode.SET:
                    self._remove_locked(shard, key)
                shard.count_no_memory_locked(key, wire_bytes)
                return Outcome.NO_MEMORY, None
            cas = write.new_cas or (self.next_cas() if write.needs_cas else 0)
            entry = self._entry(key, wire_bytes, deadline, cas if self.gives_cas else 0, state)
            self._put_locked(shard, key, entry)
            shard.total_items += 1
        self._check_room(shard, key)
        return Outcome.STORED, entry

    def _is_older(self, write: Write, key: bytes, old: Entry) -> bool:
        """Tell whether the id that a write compares is of an earlier value: one without an id would get a higher."""
        return self.gives_cas and 0 < write.cas < (cas_of(old) or self._assign_cas_locked(key))

    def update(self, key: bytes, decide: Callable[[Entry | None], Entry | None], forgets: bool = False) -> bool:
        """Look at a key's live entry and decide what is kept instead, with nobody in between.

        decide: told the entry or None, returns the same object to leave it, another, or None to forget the key. It is
        called with the key's lock held, so it must not call the store but for `next_cas`, `deadline`, `renewed` and
        `counted`. forgets: whether a key that is missing, and stays so, is to be missing for good (`_remove_locked`).
        Returns False, and keeps nothing, where a new item finds no memory and nothing may be evicted.
        """
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now)
            new = decide(old)
            if new is None and (old is not None or forgets):
                self._remove_locked(shard, key)
                return True
            if new is None or new is old:
                return True
            if old is None and not self.evicts and self._is_full(len(key) + len(new), is_new=True):
                shard.count_no_memory_locked(key, wire_bytes_of(new))
                return False
            if old is not None and have_same_value(new, old):
                self._mark_locked(shard, key, old, new)
            else:
                self._put_locked(shard, key, new)
                shard.total_items += old is None
        self._check_room(shard, key)
        return True

    def next_cas(self) -> int:
        """Make a CAS id that nothing has had; 0 where none are given."""
        return next(self._cas_ids) if self.gives_cas else 0

    def renewed(
        self, key: bytes, wire_bytes: bytes, deadline: int, cas: int, state: int, old: Entry | None = None
    ) -> Entry:
        """Make an entry for `update`; with `old`, of which this is the same value, it keeps when that was read."""
        if isinstance(old, Item):
            return Item(wire_bytes, deadline, cas, old.accessed, state)
        return self._entry(key, wire_bytes, deadline, cas, state)

    @staticmethod
    def _refusal(write: Write, old: Entry | None) -> Outcome | None:
        mode = write.mode
        if mode is Mode.SET:
            return None
        if mode is Mode.ADD:
            return None if old is None else Outcome.NOT_STORED
        if mode is Mode.CAS:
            if old is None:
                return Outcome.NOT_FOUND
            return None if write.cas and cas_of(old) == write.cas else Outcome.EXISTS
        if old is None:
            return None if write.makes_missing else Outcome.NOT_STORED
        return Outcome.EXISTS if mode.joins and write.cas and cas_of(old) != write.cas else None

    @staticmethod
    def _joined(mode: Mode, old: Entry, wire_bytes: bytes) -> bytes:
        """Join the old value and the new one; the old flags stay (protocol.txt, "append")."""
        before = wire_bytes_of(old)
        parts = (value_of(before), value_of(wire_bytes))
        return pack(flags_of(before), b"".join(parts if mode is Mode.APPEND else parts[::-1]))

    def _put_locked(self, shard: Shard, key: bytes, entry: Entry) -> None:
        if shard.put_locked(key, entry) and self.under_pressure:
            shard.order.mark(key)
        if self.log is not None:
            wire_bytes = wire_bytes_of(entry)
            state = state_of(entry) & ~FETCHED
            self.log.stored(key, flags_of(wire_bytes), deadline_of(entry), cas_of(entry), value_of(wire_bytes), state)

    def _mark_locked(self, shard: Shard, key: bytes, old: Entry, new: Entry) -> None:
        """Keep the same value with other rare facts."""
        shard.put_locked(key, new)
        before = (deadline_of(old), cas_of(old), state_of(old) & ~FETCHED)
        after = (deadline_of(new), cas_of(new), state_of(new) & ~FETCHED)
        if self.log is not None and before != after:
            self.log.marked(key, *after)

    def _remove_locked(self, shard: Shard, key: bytes) -> None:
        """Forget a key for good. The log is told even where the key is missing because it was evicted: its last value
        may stand in there, and must not come back."""
        if (shard.remove_locked(key) is not None or self._has_evicted) and self.log is not None:
            self.log.deleted(key)

    def delta(self, key: bytes, amount: int) -> int | Outcome:
        """Add to the number kept for a key; return the new number, NOT_FOUND or NON_NUMERIC.

        A sum wraps at 2^64, a difference stops at 0; a number that became shorter keeps its length with
        spaces behind it (protocol.txt, "incr/decr").
        """
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now)
            if old is None:
                return Outcome.NOT_FOUND
            counted = self.counted(key, old, amount)
            if isinstance(counted, Outcome):
                return counted
            number, entry = counted
            self._put_locked(shard, key, entry)
        self._check_room(shard, key)
        return number

    def counted(
        self, key: bytes, old: Entry, amount: int, cas: int = 0, needs_cas: bool = False
    ) -> tuple[int, Entry] | Outcome:
        """Add to the number that an entry holds, as `delta` does; return it with the entry that the old one becomes.

        cas: the id that the old one must have, or EXISTS is returned, 0 being no condition; needs_cas: whether the new
        one gets an id. Returns NON_NUMERIC where there is no number; nothing at all is that under any id.
        A number that is longer than before is a new value; in the old one's place, that it is stale or won stays.
        """
        before = wire_bytes_of(old)
        value = value_of(before)
        if value and cas not in (0, cas_of(old)):
            return Outcome.EXISTS
        number = number_in(value)
        if number is None:
            return Outcome.NON_NUMERIC
        number = max(0, number + amount) & LARGEST_NUMBER
        digits = b"%d" % number
        state = state_of(old) if len(digits) <= len(value) else 0
        wire_bytes = pack(flags_of(before), digits.ljust(len(value)))
        return number, self._entry(key, wire_bytes, deadline_of(old), self.next_cas() if needs_cas else 0, state)

    def touch(self, key: bytes, deadline: int, with_cas: bool = False) -> Entry | None:
        """Give a live item a new deadline; return it, or None where there is none.

        with_cas: see to it that it has its CAS id, made now if nobody asked before.
        """
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now)
            if old is None:
                if 0 < deadline <= self.clock.now:
                    self._remove_locked(shard, key)
                return None
            cas = cas_of(old)
            if with_cas and not cas and self.gives_cas:
                cas = self._assign_cas_locked(key)
            entry = self._entry(
                key, wire_bytes_of(old), deadline, cas, state_of(old) | (FETCHED if self.keeps_access_metadata else 0)
            )
            shard.put_locked(key, entry)
            if self.under_pressure:
                shard.order.mark(key)
            if self.log is not None:
                self.log.touched(key, deadline)
        self._check_room(shard, key)
        return entry

    def _assign_cas_locked(self, key: bytes) -> int:
        """Make a CAS id for the key's present value."""
        cas = next(self._cas_ids)
        if self.log is not None:
            self.log.cas_assigned(key, cas)
        return cas

    def delete(self, key: bytes) -> Entry | None:
        """Forget a key; return the live entry that was kept for it, or None."""
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now)
            self._remove_locked(shard, key)
            return old

    def flush(self, at: int = 0) -> None:
        """Forget everything, now or at a unix time; the later call replaces an earlier one that waits."""
        if self.log is not None and self.log.refuses:
            raise WritesRejected
        self._flush(at)

    def _flush(self, at: int = 0, is_due: bool = False) -> None:
        """Flush as `flush` does; is_due: only if the flush that waited is due still, which is known under the locks."""
        with ExitStack() as stack:
            for shard in self.shards:
                stack.enter_context(shard.lock)
            if is_due and not 0 < self.flush_at <= self.clock.now:
                return  # another thread has carried it out, or put another in its place
            self.flush_at = at if at > self.clock.now else 0
            if not self.flush_at:
                self._has_flushed = True
                for shard in self.shards:
                    shard.clear_locked()
            if self.log is not None:
                self.log.flushed(self.flush_at)

    def _all_locked(self) -> ExitStack:
        """Take the locks of all shards, in order, until this context ends."""
        with ExitStack() as stack:
            for shard in self.shards:
                stack.enter_context(shard.lock)
            return stack.pop_all()

    def forget_flushed(self) -> None:
        """Forget which keys the last flush took: who looks for them from now on finds them missing, not flushed.

        A flush in between says so again after this has denied it, so that what it leaves in any shard is looked for.
        """
        if not self._has_flushed:
            return
        self._has_flushed = False
        for shard in self.shards:
            with shard.lock:
                shard.flushed = set()

    def new_second(self) -> None:
        """Do what falls due as the clock advances: a flush that waited. Called by whoever ticked the clock."""
        if self.log is not None:
            if self.clock.wall_ahead != self._wall_ahead:
                self._follow_wall(self.log)
            self.log.new_second(self.clock.now)
        if 0 < self.flush_at <= self.clock.now:
            self._flush(is_due=True)

    def _follow_wall(self, log: WriteLog) -> None:
        """Tell the log of a step of the wall clock, with no change half-way to it."""
        with self._all_locked():
            self._wall_ahead = self.clock.wall_ahead
            log.follow_wall(self.clock.now, self._wall_ahead)

    # Recovery: as the changes came, but nobody is told and nothing waits
    # Recovery, by one thread before anybody is served: nobody is told, and the limits hold at the end (`fit`)

    def restore(self, key: bytes, entry: Entry | None) -> None:
        """Put back what a journal says of a key: this entry, or (None) nothing."""
        shard = self.shards[hash(key) & self.mask]
        if entry is None or 0 < deadline_of(entry) <= self.clock.now:
            shard.remove_locked(key)
        else:
            shard.put_locked(key, entry)

    def restore_live(self, key: bytes, entry: Entry) -> None:
        """Put back an entry that has not expired: `restore` in fewer steps."""
        shard = self.shards[hash(key) & self.mask]
        table = shard.table
        if entry.__class__ is bytes and entry[-1] == PLAIN and key not in table:
            table[key] = entry  # as it mostly is: `put_locked` where there is nothing to count
            shard.used_bytes += len(key) + len(entry) + ENTRY_COST_BYTES
        else:
            shard.put_locked(key, entry)

    def fit(self) -> int:
        """Hold to the limits once a whole journal was put back; return how many items that takes out.

        Those go that came first, as an eviction would choose where nobody has noted yet what is read. They do so even
        where nothing is evicted while serving, and count as no eviction.
        """
        shards, before = self.shards, len(self)
        while (excess := self.used_bytes - self._target_bytes) > 0:
            fullest = max(shards, key=lambda shard: shard.used_bytes)
            fullest.drop_oldest(min(excess, max(1, fullest.used_bytes - self._target_bytes // len(shards))), 0)
        while self.max_items and (excess := len(self) - self.max_items) > 0:
            longest = max(shards, key=lambda shard: len(shard.table))
            longest.drop_oldest(0, min(excess, max(1, len(longest.table) - self.max_items // len(shards))))
        dropped = before - len(self)
        self._has_evicted = self._has_evicted or dropped > 0
        self._make_room(b"")
        return dropped

    def start_cas_at(self, first: int) -> None:
        """Let the next CAS id be this one: above all that were given before a restart."""
        self._cas_ids = itertools.count(first)

    # Limits

    def is_too_large(self, key: bytes, wire_bytes: bytes) -> bool:
        """Tell whether an item is over the limit for one item (-I)."""
        return self.exceeds_limit(len(key), len(value_of(wire_bytes)), flags_of(wire_bytes))

    def exceeds_limit(self, key_bytes: int, value_bytes: int, flags: int) -> bool:
        """Tell the same before the value is there, by its length; memcached's item header is counted in."""
        return key_bytes + value_bytes + (4 if flags else 0) > self._largest_bytes

    def set_limit(self, limit_bytes: int) -> None:
        """Change what all items may take; what is over it goes as soon as something is stored."""
        self.limit_bytes = limit_bytes
        self.reserve(0)
        self._check_soon()

    def watch_evictions(self, tell: Evicted | None) -> None:
        """Tell of each eviction from now on, or (None) no longer.

        While somebody is told, room is made with the very write that needs it, and not some writes later.
        """
        self._tells_evictions = tell is not None
        for shard in self.shards:
            shard.on_eviction = tell
        self._check_soon()

    def _check_soon(self) -> None:
        """Look at the limits with the next write, and then as often as is needed."""
        self._check_every_bytes = 0 if self._tells_evictions else self.limit_bytes // (CHECKS * len(self.shards))
        for shard in self.shards:
            shard.check_at_bytes = 0

    def reserve(self, reserved_bytes: int) -> None:
        """Leave this much of the limit free, because the allocator needs it for what it can't give back."""
        self.reserved_bytes = reserved_bytes
        self._target_bytes = self.limit_bytes * (CHECKS - 1) // CHECKS - reserved_bytes

    @property
    def used_bytes(self) -> int:
        """What all items take, by the accounting of `item.py`."""
        return sum(shard.used_bytes for shard in self.shards)

    @property
    def table_bytes(self) -> int:
        """What the tables themselves take."""
        return sum(table.__sizeof__() for table in self.tables)

    @property
    def real_bytes(self) -> int:
        """What all items take with what the tables take by now, in place of what a slot is accounted as."""
        return self.used_bytes + self.table_bytes - len(self) * SLOT_BYTES

    def __len__(self) -> int:
        """Count the items, those expired but not yet removed among them."""
        return sum(map(len, self.tables))

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Walk over a copy of each shard's live items in turn."""
        for table in self.tables:
            for key, entry in list(table.items()):
                if not 0 < deadline_of(entry) <= self.clock.now:
                    yield key, entry

    def _shard(self, key: bytes) -> Shard:
        return self.shards[hash(key) & self.mask]

    def _shard_to_change(self, key: bytes) -> Shard:
        """Return the shard of a key that is about to be changed. Raises ChangesRefused."""
        if self.log is not None and self.log.refuses:
            raise WritesRejected
        return self.shards[hash(key) & self.mask]

    def _is_full(self, needed_bytes: int, is_new: bool) -> bool:
        if is_new and self.max_items and len(self) >= self.max_items:
            return True
        return self.used_bytes + needed_bytes > self._target_bytes

    def _check_room(self, shard: Shard, key: bytes) -> None:
        """Make room if this shard has grown enough for a look at the limits."""
        if shard.used_bytes > shard.check_at_bytes:
            self._make_room(key)

    def _make_room(self, key: bytes) -> None:
        """Evict until all limits hold; `key`, for which room is made, stays.

        Called when a shard has grown by a 64th of its part since the last time, so that the sum over all shards is
        rarely taken, no write waits for more than a fraction of a millisecond of evictions, and all shards together
        pass the limit by a 64th at most. The fullest shard gives first: keys spread evenly, so it is the one that
        holds items for longest.
        """
        used, target = self.used_bytes, self._target_bytes
        self.under_pressure = used > target // 2 or bool(self.max_items)
        self.records_access = self.under_pressure or self.keeps_access_metadata
        for shard in self.shards:
            shard.order_evictions(self.under_pressure)
        fair = target // len(self.shards)
        givers = list(self.shards) if self.evicts else []
        while used > target and givers:
            fullest = max(givers, key=lambda shard: shard.used_bytes)
            wanted = min(used - target, max(1, fullest.used_bytes - fair))
            gained = fullest.evict(wanted, self.clock.now, key)
            self._has_evicted = True
            used -= gained
            if not gained:  # it holds nothing but `key`
                givers.remove(fullest)
        while self.max_items and len(self) > self.max_items and givers:
            fullest = max(givers, key=lambda shard: len(shard.table))
            self._has_evicted = True
            if not fullest.evict(1, self.clock.now, key):
                givers.remove(fullest)
        for shard in self.shards:
            shard.check_at_bytes = 0 if self.max_items else shard.used_bytes + self._check_every_bytes

    def deadline(self, exptime: int) -> int:
        """Turn a client's exptime into a deadline by this store's clock."""
        return absolute_deadline(exptime, self.clock.now, self.clock.started)


__all__ = ["Store", "choose_shards"]
