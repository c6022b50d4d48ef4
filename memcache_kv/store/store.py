"""The table of all items: its shards, their locks, and the operations of the commands on a key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.errors import WritesRejected
from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    FETCHED,
    JOURNALED,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    STALE,
    TRACKED,
    WON,
    Entry,
    Item,
    absolute_deadline,
    cas_of,
    deadline_of,
    flags_of,
    have_same_value,
    joined,
    length_of,
    make_entry,
    state_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.limits import Limits, choose_shards
from memcache_kv.store.restoring import LeaveOut, Restoring, leave_out
from memcache_kv.store.s3fifo import PLACE_SHIFT, SIGN_SHIFT, TURNS
from memcache_kv.store.shard import Evicted, Shard
from memcache_kv.store.sizes import CAS_BYTES, DEFAULT_SIZES, SizeClasses, size_classes
from memcache_kv.store.time import Time
from memcache_kv.store.writes import Mode, Outcome, Write, WriteLog

ITEM_HEADER_BYTES = 59
"""What memcached adds to key and data when it compares an item with -I: header, CAS id, two terminators."""


class ItemStore:
    """All items, in shards chosen by the key's hash. Any thread may call any method.

    A read takes no lock. A write takes the lock of the key's shard, so that the writes to one key happen in one order,
    and records itself in `log` while it holds the lock. While the log can't record, writes change nothing and raise
    WritesRejected. Evictions take the shards' locks one at a time, after the write. `flush` and a step of the wall
    clock take all of them, in order. No method blocks on anything else.

    limit_bytes: the memory for all items. item_limit_bytes: the largest size of one item. max_items: the largest number
    of items, 0 for no limit. evicts: whether old items are evicted for new ones, which are rejected otherwise. shards:
    their number, 0 to choose it. gives_cas: whether items get CAS ids; otherwise all have id 0 and none can be
    compared.
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
        self.largest_bytes = item_limit_bytes - ITEM_HEADER_BYTES + (0 if gives_cas else CAS_BYTES)
        """The largest sum of the lengths of key and value, and of the flags if they are not 0."""
        self.sizes = sizes
        self.shards = [Shard(sizes) for _ in range(count)]
        self.mask = count - 1
        self.tables = [shard.table for shard in self.shards]
        self.records_access = False
        """Whether memory is so scarce that every read must call `record_access`. A read of an Item always must."""
        self.flush_at = 0
        """The unix time of a flush that waits; 0 if none does."""
        self._wall_ahead = 0
        """How many seconds the wall clock is ahead, as far as the log knows."""
        self.has_flushed = False
        """Whether any shard may still know keys that a flush removed."""
        self.cas_ids = itertools.count(1)
        self._limits = Limits(self.shards, clock, limit_bytes, max_items, evicts)
        self._garbage = self._limits.garbage
        self.backlog = self._limits.backlog
        self.has_grown = self._limits.has_grown
        """Set when there is something to free in the background (`free_some`)."""

    @property
    def takes_small_sets(self) -> bool:
        """Whether `put` may store any small value: nothing but eviction may then be needed for it."""
        return self.evicts and self.item_limit_bytes > 2 * PLAIN_LIMIT_BYTES

    # Reading

    def get(self, key: bytes) -> Entry | None:
        """Return the live entry of a key, or None. Records the read."""
        entry = self.tables[hash(key) & self.mask].get(key)
        if entry is None:
            return self._missed(key) if self.has_flushed else None
        if entry.__class__ is not bytes or entry[-1] != PLAIN:
            if 0 < deadline_of(entry) <= self.clock.now:
                shard = self._shard(key)
                with shard.lock:
                    return shard.live_locked(key, self.clock.now)
            if self.records_access or entry.__class__ is not bytes:
                self.record_access(key, entry)
        elif self.records_access:
            self.record_access(key, entry)
        return entry

    def kept_many(self, keys: list[bytes]) -> list[Entry | None]:
        """Return these keys' entries, expired ones included; None for missing keys.

        The read of a plain entry is recorded. For any other entry, call `get`.
        """
        tables, mask = self.tables, self.mask
        entries = [tables[hash(key) & mask].get(key) for key in keys]
        if self.records_access:
            for key, entry in zip(keys, entries, strict=True):
                if entry.__class__ is bytes and entry[-1] == PLAIN:
                    self.record_access(key, entry)
        return entries

    def _missed(self, key: bytes) -> Entry | None:
        """Look up a missing key again, so that it is counted if a flush removed it."""
        shard = self._shard(key)
        with shard.lock:
            return shard.live_locked(key, self.clock.now)

    def gets(self, key: bytes) -> Entry | None:
        """Return the live entry of a key with its CAS id, which is given at the first request.

        Every write gets another id, even if the bytes are the same (protocol.txt, "gets").
        """
        entry = self.get(key)
        return entry if entry is None or cas_of(entry) else self.get_with_cas(key)

    def get_with_cas(self, key: bytes) -> Entry | None:
        """Return the same as `gets`, without recording a read."""
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
        """Return a key's entry, be it expired, or None. Records no read."""
        return self.tables[hash(key) & self.mask].get(key)

    def was_flushed(self, key: bytes) -> bool:
        """Tell whether the last flush removed this key, and no command has looked for it since."""
        return self.has_flushed and key in self._shard(key).flushed

    def peek(self, key: bytes) -> Entry | None:
        """Return the live entry of a key, or None, without recording a read."""
        entry = self.tables[hash(key) & self.mask].get(key)
        return None if entry is None or 0 < deadline_of(entry) <= self.clock.now else entry

    def get_tracked(self, key: bytes) -> Entry | None:
        """Return the live entry of a key with its CAS id, and track it from now on, without recording a read."""
        shard = self._shard(key)
        with shard.lock:
            entry = shard.live_locked(key, self.clock.now)
            if entry is None:
                return None
            cas, state = cas_of(entry), self.tracked_state(key, entry)
            if not cas and self.gives_cas:
                cas = self._assign_cas_locked(key)
            if (cas, state) != (cas_of(entry), state_of(entry)):
                entry = self.renewed(key, wire_bytes_of(entry), deadline_of(entry), cas, state, entry)
                shard.put_locked(key, entry)
        self._check_room(shard, key)
        return entry

    def tracked_state(self, key: bytes, entry: Entry) -> int:
        """Return the state that an entry has when it is tracked."""
        return state_of(entry) | TRACKED | FETCHED * self.was_read(key, entry)

    def was_read(self, key: bytes, entry: Entry) -> bool:
        """Tell whether a read of this entry of the key is known: from an Item's state, or from the key's read mark."""
        if isinstance(entry, Item):
            return bool(entry.state & FETCHED)
        return self._shard(key).order.is_marked(key)

    def accessed_at(self, entry: Entry) -> int:
        """Return the unix time of an entry's last access; the server's start if it is not known."""
        return entry.accessed if isinstance(entry, Item) else self.clock.started

    def size_of(self, key: bytes, entry: Entry) -> int:
        """Return the memory that a key and its entry take, by the accounting of `entry.py`."""
        return len(key) + len(entry) + ENTRY_COST_BYTES

    def class_of(self, key: bytes, entry: Entry) -> int:
        """Return the number of an item's size class."""
        return self.sizes.class_of_item(key, wire_bytes_of(entry))

    def record_access(self, key: bytes, entry: Entry) -> None:
        """Record that this entry of the key was read."""
        if self.records_access:
            number = hash(key)
            marks = self.shards[number & self.mask].order.marks
            marks[number >> PLACE_SHIFT & len(marks) - 1] = number >> SIGN_SHIFT & 0xFF | TURNS  # `mark`
        if isinstance(entry, Item):
            entry.accessed = self.clock.now
            entry.state |= FETCHED

    def _with_cas(self, key: bytes, entry: Entry, cas: int) -> Entry:
        if isinstance(entry, Item):
            return Item(entry.wire_bytes, entry.deadline, cas, entry.accessed, entry.state)
        return self._entry(key, wire_bytes_of(entry), deadline_of(entry), cas)

    def _entry(self, key: bytes, wire_bytes: bytes, deadline: int, cas: int = 0, state: int = 0) -> Entry:
        """Return the entry of a value that is stored now."""
        return make_entry(key, wire_bytes, deadline, cas, self.clock.now, state)

    # Changing

    def put(self, key: bytes, entry: Entry) -> None:
        """Set a value: a shorter `store` with Mode.SET.

        The caller must ensure that the entry has the right kind for its contents (`make_entry`), that it is not too
        large (`takes_small_sets`, `exceeds_limit`), and that `evicts` is true. Raises WritesRejected.
        """
        shard, log = self.shards[hash(key) & self.mask], self.log
        if log is not None and log.refuses:
            raise WritesRejected
        lock = shard.lock
        lock.acquire()  # faster than `with`
        try:
            table = shard.table
            old = table.get(key)
            is_alike = old.__class__ is bytes and entry.__class__ is bytes and len(old) == len(entry)
            if is_alike and old[-1] == entry[-1] == PLAIN:  # type: ignore[index]
                table[key] = entry  # a faster `put_locked`: nothing to count here
            else:
                if old is not None and 0 < deadline_of(old) <= self.clock.now:
                    old = shard.live_locked(key, self.clock.now, reclaims=True)
                if old.__class__ is Item and old.state & TRACKED:
                    entry = Item(wire_bytes_of(entry), deadline_of(entry), cas_of(entry), self.clock.now, TRACKED)
                shard.put_locked(key, entry)
            if old is not None and self.records_access:
                shard.order.mark(key)
            shard.total_items += 1
            if log is not None:
                log.put(key, entry)
        finally:
            lock.release()
        if shard.used_bytes > shard.check_at_bytes:
            self.make_room(key)

    def store(self, mode: Mode, key: bytes, wire_bytes: bytes, deadline: int = 0, cas: int = 0) -> Outcome:
        """Carry out a storage command of the text protocol.

        wire_bytes: flags and value as `pack` returns them. deadline: unix time or 0. cas: the id that Mode.CAS
        compares. Returns STORED, NOT_STORED, EXISTS or NOT_FOUND as the protocol has them, or NO_MEMORY if there is no
        room and eviction is disabled. Raises WritesRejected.
        """
        return self.write(Write(mode, key, wire_bytes, deadline, cas))[0]

    def write(self, write: Write) -> tuple[Outcome, Entry | None]:
        """Carry out a storage command; return its outcome as `store` does, and the new entry if it is STORED."""
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
            if not self.evicts and self._limits.is_full(len(key) + len(wire_bytes), is_new=old is None):
                if write.mode is Mode.SET:
                    self._remove_locked(shard, key)
                shard.count_no_memory_locked(key, wire_bytes)
                return Outcome.NO_MEMORY, None
            cas = write.new_cas or (self.next_cas() if write.needs_cas else 0)
            if old is not None:
                state |= state_of(old) & TRACKED
            entry = self._entry(key, wire_bytes, deadline, cas if self.gives_cas else 0, state)
            self._put_locked(shard, key, entry)
            shard.total_items += 1
        self._check_room(shard, key)
        return Outcome.STORED, entry

    def _is_older(self, write: Write, key: bytes, old: Entry) -> bool:
        """Tell whether a write's CAS id is of an earlier value. A value without an id gets one now."""
        return self.gives_cas and 0 < write.cas < (cas_of(old) or self._assign_cas_locked(key))

    def update(self, key: bytes, decide: Callable[[Entry | None], Entry | None], forgets: bool = False) -> bool:
        """Replace a key's live entry by another that depends on it, atomically.

        decide: called with the entry or None under the key's lock. Returns the same object to keep it, another one to
        store, or None to remove the key. It may call only `next_cas`, `deadline` and `renewed` of the store.
        forgets: whether a key that stays missing is removed from the log too (`_remove_locked`). Returns False, and
        stores nothing, if there is no room and eviction is disabled. Raises WritesRejected.
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
            if old is None and not self.evicts and self._limits.is_full(len(key) + len(new), is_new=True):
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
        """Return a new CAS id; 0 if the store gives none."""
        return next(self.cas_ids) if self.gives_cas else 0

    def has_cas(self, entry: Entry, cas: int | None) -> bool:
        """Tell whether an entry has this CAS id. Where none are given all have 0; otherwise none has 0."""
        return cas == cas_of(entry) and (bool(cas) or not self.gives_cas)

    def renewed(
        self, key: bytes, wire_bytes: bytes, deadline: int, cas: int, state: int, old: Entry | None = None
    ) -> Entry:
        """Return an entry for `update`. If it has the same value as `old`, pass that: its access metadata are kept."""
        if isinstance(old, Item):
            return Item(wire_bytes, deadline, cas, old.accessed, state)
        accessed = self.clock.now if old is None else self.accessed_at(old)
        return make_entry(key, wire_bytes, deadline, cas, accessed, state)

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
        """Join the old value and the new one; the old flags are kept (protocol.txt, "append")."""
        before = wire_bytes_of(old)
        first, second = (before, wire_bytes) if mode is Mode.APPEND else (wire_bytes, before)
        return joined(first, second, flags_of(before))

    def _put_locked(self, shard: Shard, key: bytes, entry: Entry) -> None:
        if shard.put_locked(key, entry) and self.records_access:
            shard.order.mark(key)
        if self.log is not None:
            wire_bytes = wire_bytes_of(entry)
            state = state_of(entry) & JOURNALED
            self.log.stored(key, flags_of(wire_bytes), deadline_of(entry), cas_of(entry), value_of(wire_bytes), state)

    def _mark_locked(self, shard: Shard, key: bytes, old: Entry, new: Entry) -> None:
        """Store the same value with another deadline, CAS id or state."""
        shard.put_locked(key, new)
        before = (deadline_of(old), cas_of(old), state_of(old) & JOURNALED)
        after = (deadline_of(new), cas_of(new), state_of(new) & JOURNALED)
        if self.log is not None and before != after:
            self.log.marked(key, *after)

    def _remove_locked(self, shard: Shard, key: bytes) -> None:
        """Remove a key for good.

        After any eviction even a missing key is logged: its last value may be in the log, and must not come back.
        """
        if (shard.remove_locked(key) is not None or self._limits.has_evicted) and self.log is not None:
            self.log.deleted(key)

    def touch(self, key: bytes, deadline: int, with_cas: bool = False) -> Entry | None:
        """Give a live item a new deadline, unix time or 0. Returns the entry, or None if there is none.

        with_cas: whether the entry must have a CAS id; it gets one now if it has none. Raises WritesRejected.
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
            state = old.state | FETCHED if isinstance(old, Item) else 0
            entry = self._entry(key, wire_bytes_of(old), deadline, cas, state)
            shard.put_locked(key, entry)
            if self.records_access:
                shard.order.mark(key)
            if self.log is not None:
                self.log.touched(key, deadline)
        self._check_room(shard, key)
        return entry

    def _assign_cas_locked(self, key: bytes) -> int:
        """Give the key's present value a CAS id."""
        cas = next(self.cas_ids)
        if self.log is not None:
            self.log.cas_assigned(key, cas)
        return cas

    def delete(self, key: bytes) -> Entry | None:
        """Remove a key. Returns its live entry, or None. Raises WritesRejected."""
        shard = self._shard_to_change(key)
        with shard.lock:
            old = shard.live_locked(key, self.clock.now)
            self._remove_locked(shard, key)
            return old

    def flush(self, at: int = 0) -> None:
        """Remove all items, now (0) or at a unix time; a later call replaces a waiting one. Raises WritesRejected."""
        if self.log is not None and self.log.refuses:
            raise WritesRejected
        self._flush(at)

    def _flush(self, at: int = 0, is_due: bool = False) -> None:
        """Flush as `flush` does; with is_due, only if the waiting flush is still due under the locks."""
        with ExitStack() as stack:
            for shard in self.shards:
                stack.enter_context(shard.lock)
            if is_due and not 0 < self.flush_at <= self.clock.now:
                return  # another thread has carried it out or replaced it
            self.flush_at = at if at > self.clock.now else 0
            if not self.flush_at:
                self.has_flushed = True
                for number, shard in enumerate(self.shards):
                    self._garbage.add(shard.used_bytes, *shard.clear_locked())
                    self.tables[number] = shard.table
                self.backlog.set()
            if self.log is not None:
                self.log.flushed(self.flush_at)

    def _all_locked(self) -> ExitStack:
        """Take the locks of all shards, in order, until this context ends."""
        with ExitStack() as stack:
            for shard in self.shards:
                stack.enter_context(shard.lock)
            return stack.pop_all()

    def forget_flushed(self) -> None:
        """Forget the keys that the last flush removed: from now on they count as missing, not as flushed.

        The flag is reset first, because a flush that runs meanwhile sets it again.
        """
        if not self.has_flushed:
            return
        self.has_flushed = False
        for shard in self.shards:
            self._garbage.add(0, shard.forget_flushed())
        self.backlog.set()

    def new_second(self) -> None:
        """Carry out what is due in a new second: a flush that waits. Called by the thread that advanced the clock."""
        if self.records_access:
            for shard in self.shards:
                with shard.lock:
                    shard.order.mark_time(self.clock.now)
        if self.log is not None:
            if self.clock.wall_ahead != self._wall_ahead:
                self._follow_wall(self.log)
            self.log.new_second(self.clock.now)
        if 0 < self.flush_at <= self.clock.now:
            self._flush(is_due=True)

    def _follow_wall(self, log: WriteLog) -> None:
        """Report a step of the wall clock to the log, while no write is in progress."""
        with self._all_locked():
            self._wall_ahead = self.clock.wall_ahead
            log.follow_wall(self.clock.now, self._wall_ahead)

    # Recovery

    def restoring(self, leave_out: LeaveOut = leave_out) -> Restoring:
        """Return what puts a journal's items into this store, before any other thread uses it.

        leave_out: how items of a shard are left out.
        """
        return Restoring(self.shards, self._limits, self._follow_pressure, leave_out)

    def start_cas_at(self, first: int) -> None:
        """Let the next CAS id be `first`, which is above all ids given before a restart."""
        self.cas_ids = itertools.count(first)

    # Limits

    def is_too_large(self, key: bytes, wire_bytes: bytes) -> bool:
        """Tell whether an item exceeds the limit for one item (-I)."""
        return self.exceeds_limit(len(key), length_of(wire_bytes), flags_of(wire_bytes))

    def exceeds_limit(self, key_bytes: int, value_bytes: int, flags: int) -> bool:
        """Tell the same from the lengths. As in memcached, the item's header is included."""
        return key_bytes + value_bytes + (4 if flags else 0) > self.largest_bytes

    @property
    def limit_bytes(self) -> int:
        """The memory for all items."""
        return self._limits.limit_bytes

    @property
    def reserved_bytes(self) -> int:
        """The part of the limit that `reserve` keeps free."""
        return self._limits.reserved_bytes

    def set_limit(self, limit_bytes: int) -> None:
        """Change the memory limit. If it is exceeded, items are evicted from now on, a few at a time."""
        self._limits.set_limit(limit_bytes)

    def reserve(self, reserved_bytes: int) -> None:
        """Keep this many bytes of the limit free, for memory that the allocator can't give back."""
        self._limits.reserve(reserved_bytes)

    def watch_evictions(self, tell: Evicted | None) -> None:
        """Call `tell` for each eviction from now on; None ends that."""
        self._limits.watch_evictions(tell)

    def evict(self, key: bytes) -> bool:
        """Evict an item, though there is room for it; return whether there was one. For tests of other programs."""
        return self._shard(key).evict_key(key, self.clock.now)

    def free_some(self) -> bool:
        """Do a slice of what waits to be freed or evicted. Returns whether there is more."""
        has_more = self._limits.free_some()
        self._follow_pressure()
        return has_more

    @property
    def used_bytes(self) -> int:
        """The memory that all items take, by the accounting of `entry.py`."""
        return self._limits.used_bytes

    @property
    def table_bytes(self) -> int:
        """The memory that the tables take without their items."""
        return sum(table.__sizeof__() for table in self.tables)

    @property
    def real_bytes(self) -> int:
        """The memory that items and tables take, with the tables' true size in place of the accounted slots.

        What a flush removed counts until it is freed, and so does what a replay keeps outside the tables.
        """
        limits = self._limits
        return limits.used_bytes + self._garbage.bytes + limits.table_excess_bytes + limits.kept_apart_bytes

    @property
    def real_item_bytes(self) -> int:
        """The same without the expired entries that a replay keeps."""
        return self.real_bytes - self._limits.expired_bytes

    @property
    def coming_bytes(self) -> int:
        """What the tables will need soon beyond that, while a journal is read of which items are left out."""
        return self._limits.coming_bytes

    def __len__(self) -> int:
        """Count the items, including expired ones that are not removed yet."""
        return sum(map(len, self.tables))

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all live items. Each shard is copied first."""
        for table in self.tables:
            for key, entry in list(table.items()):
                if not 0 < deadline_of(entry) <= self.clock.now:
                    yield key, entry

    def _shard(self, key: bytes) -> Shard:
        return self.shards[hash(key) & self.mask]

    def _shard_to_change(self, key: bytes) -> Shard:
        """Return the shard of a key before a write. Raises WritesRejected."""
        if self.log is not None and self.log.refuses:
            raise WritesRejected
        return self.shards[hash(key) & self.mask]

    def _check_room(self, shard: Shard, key: bytes) -> None:
        """Evict items if this shard has grown enough for a check of the limits."""
        if shard.used_bytes > shard.check_at_bytes:
            self.make_room(key)

    def make_room(self, key: bytes) -> None:
        """Evict what the limits demand, but never `key`, which needs the room."""
        self._limits.hold(key)
        self._follow_pressure()

    def _follow_pressure(self) -> None:
        self.records_access = self._limits.under_pressure

    def deadline(self, exptime: int) -> int:
        """Return the deadline, by this store's clock, for the exptime that a client sent."""
        return absolute_deadline(exptime, self.clock.now, self.clock.started)


def item_store(settings: Settings, clock: Time) -> ItemStore:
    """Return an empty store with the limits that the settings give."""
    return ItemStore(
        clock,
        limit_bytes=settings.memory_limit,
        item_limit_bytes=settings.max_item_size,
        max_items=settings.max_items,
        evicts=not settings.disable_evictions,
        gives_cas=not settings.disable_cas,
        shards=settings.shards,
        sizes=size_classes(settings),
    )


__all__ = ["ItemStore", "item_store"]
