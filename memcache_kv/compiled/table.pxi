"""The store's table, as the compiled requests use it: look a key up, store an entry, note a read.

Under the GIL no other thread runs while no Python code does: calls of C functions, and attributes that are no properties,
do not give it up. So what other threads may change is read once after Python code has run (`refresh`), and no lock need
be taken: it is enough that nobody holds it. Whatever is not simple is left to the Python store.
"""

cdef enum:  # from memcache_kv/store/entry.py
    KEY_LIMIT_BYTES = 250
    RELATIVE_LIMIT_SECONDS = 60 * 60 * 24 * 30
    LONG_PAST = 1

cdef enum:  # the marks of keys that were read, from memcache_kv/store/s3fifo.py
    PLACE_SHIFT = 6
    SIGN_SHIFT = 40
    TURNS = 3
    PRINT_SHIFT = 40

cdef enum:
    SMALL_ITEM_BYTES = 512  # an item with the longest key and a value of some digits is smaller, in memcached too
    COPIED_BYTES = 64 * 1024  # larger values are sent from where they are, by the Python protocols
    REPLIES_AT_ONCE = 64 * 1024  # a wave that has more of them sends them, and goes on
    OUT_BYTES = (1 << 20) + 256 * (PLAIN_LIMIT_BYTES + 300) + COPIED_BYTES + REPLIES_AT_ONCE
    # a turn's replies and the last of them, after those to other connections of the wave
    TURN_BYTES = 1 << 20

cdef double TURN_SECONDS = 0.002
cdef Py_ssize_t ENTRY_COST = ENTRY_COST_BYTES
cdef Py_ssize_t ITEM_COST = ITEM_COST_BYTES
cdef Py_ssize_t QUEUED_OVERHEAD_BYTES = 64  # from memcache_kv/journal/record_queue.py

cdef enum:  # the families of commands, in the order of FAMILIES in memcache_kv/stats/latency.py
    GETS
    STORES
    DELETES
    ARITHMETIC
    TOUCHES
    OTHERS
    FAMILIES

cdef struct Shard:
    PyObject** table
    PyObject* is_locked  # the method `locked` of its lock
    PyObject** used_bytes
    PyObject** check_at_bytes
    PyObject** expiring
    PyObject** total_items
    PyObject** flushed
    PyObject** marks
    PyObject** is_ordered
    PyObject** ghosts
    PyObject** small
    PyObject** main

cdef struct Counts:
    Py_ssize_t hits
    Py_ssize_t misses
    Py_ssize_t sets
    Py_ssize_t incr_hits
    Py_ssize_t incr_misses
    Py_ssize_t decr_hits
    Py_ssize_t decr_misses
    Py_ssize_t bytes_read
    Py_ssize_t bytes_written
    Py_ssize_t requests
    Py_ssize_t lookups  # that watchers would see

cdef Py_ssize_t ITEM_WIRE_BYTES = offset_of(Item, "wire_bytes")
cdef Py_ssize_t ITEM_DEADLINE = offset_of(Item, "deadline")
cdef Py_ssize_t ITEM_CAS = offset_of(Item, "cas")
cdef Py_ssize_t ITEM_STATE = offset_of(Item, "state")
cdef Py_ssize_t ITEM_ACCESSED = offset_of(Item, "accessed")


cdef struct Found:
    # What an entry holds, as far as replies need it.
    const char* wire  # flags, length and value, without the last line end
    Py_ssize_t size
    uint32_t deadline
    uint64_t cas  # 0 if it has none
    int state  # stale or won


cdef class Table:
    """A store, its counters and its journal, and the replies to the present requests.

    One thread uses it. Call `refresh` whenever the interpreter may have run other threads, and `settle` before it may.
    """

    cdef object store, counters, observers, journal, cas_ids
    cdef Shard* shards
    cdef Py_ssize_t mask, largest_bytes
    cdef char* out
    cdef Py_ssize_t size, room  # the replies' length; the length beyond which no other request is carried out
    cdef Counts counts
    cdef Py_ssize_t carried_out[FAMILIES]  # how many requests of each family were, as far as `counts` was settled
    cdef object now_object
    cdef int64_t now, started
    cdef bint is_time_up
    cdef double left_at  # when the store was first called in this connection's turn; 0 before
    cdef bint counts_small  # whether a number of a few digits is never kept in chunks
    cdef bint is_usable  # whether requests may be carried out here at all
    cdef bint may_store  # whether the journal takes records
    cdef bint has_flushed, marks_reads, journal_is_free
    cdef bint is_observed, counts_prefixes
    cdef bytes delimiter  # of prefixes
    cdef list looked_up, missed, stored  # the prefixes of the present requests' keys
    cdef list _queued  # for the journal: keys and entries in turn
    cdef Py_ssize_t _queued_bytes

    def __cinit__(self):
        self.shards, self.out = NULL, NULL

    def __init__(self, store, counters, observers, journal):
        self.store, self.counters, self.observers = store, counters, observers
        self.journal = journal
        self.mask, self.largest_bytes = store.mask, store.largest_bytes
        self.counts_small = max(store.sizes.chunks) >= SMALL_ITEM_BYTES
        self._queued = []
        self.delimiter = observers.prefixes.delimiter
        self.looked_up, self.missed, self.stored = [], [], []
        self.out = <char*>malloc(OUT_BYTES)
        self.shards = <Shard*>calloc(self.mask + 1, sizeof(Shard))
        if self.out is NULL or self.shards is NULL:
            raise MemoryError
        for number, shard in enumerate(store.shards):
            self._find_slots(&self.shards[<Py_ssize_t>number], shard)
        self.refresh()

    def __dealloc__(self):
        cdef Py_ssize_t number
        if self.shards is not NULL:
            for number in range(self.mask + 1):
                Py_XDECREF(self.shards[number].is_locked)
        free(self.shards)
        free(self.out)

    cdef int _find_slots(self, Shard* places, object shard) except -1:
        """Find the attributes of a shard. It lives as long as the store."""
        is_locked = shard.lock.locked
        Py_INCREF(is_locked)
        places.is_locked = <PyObject*>is_locked
        places.table = slot_named(shard, "table")
        places.used_bytes = slot_named(shard, "used_bytes")
        places.check_at_bytes = slot_named(shard, "check_at_bytes")
        places.expiring = slot_named(shard, "expiring")
        places.total_items = slot_named(shard, "total_items")
        places.flushed = slot_named(shard, "flushed")
        places.marks = slot_named(shard.order, "marks")
        places.is_ordered = slot_named(shard.order, "is_kept")
        places.ghosts = slot_named(shard.order, "ghosts")
        places.small, places.main = slot_named(shard.order, "small"), slot_named(shard.order, "main")
        return 0

    # Between the interpreter's threads and this one

    cdef int refresh(self) except -1:
        """Read what other threads may have changed."""
        store, clock = self.store, self.store.clock
        self.now_object = clock.now
        self.now, self.started = self.now_object, clock.started
        observers = self.observers
        self.is_observed = observers.active
        self.counts_prefixes = self.is_observed and observers.prefixes.counting
        self.is_usable = not observers.takes_lines and store.log is self.journal
        self.cas_ids = store.cas_ids if store.gives_cas else None
        self.has_flushed, self.marks_reads = store.has_flushed, store.records_access
        self.may_store = self.journal is None or not self.journal.refuses
        self.journal_is_free = self.journal is None or not (
            self.journal.unstamped_second or self.journal.queue_lock.locked()
        )
        return 0

    cdef int settle(self) except -1:
        """Hand the counts to the counters, and the records to the journal."""
        cdef Counts counts = self.counts
        if self._queued_bytes > 0:
            self._queue()
        memset(&self.counts, 0, sizeof(Counts))
        counters = self.counters
        if counts.bytes_read:
            counters.bytes_read += counts.bytes_read
        if counts.bytes_written:
            counters.bytes_written += counts.bytes_written
        self.carried_out[GETS] += counts.hits + counts.misses
        self.carried_out[STORES] += counts.sets
        if counts.hits or counts.misses:
            counters.count_gets(counts.hits, counts.misses)
        if counts.sets:
            counters.cmd_set += counts.sets
        if counts.incr_hits or counts.incr_misses or counts.decr_hits or counts.decr_misses:
            counters.incr_hits += counts.incr_hits
            counters.incr_misses += counts.incr_misses
            counters.decr_hits += counts.decr_hits
            counters.decr_misses += counts.decr_misses
            self.carried_out[ARITHMETIC] += (
                counts.incr_hits + counts.incr_misses + counts.decr_hits + counts.decr_misses
            )
        if self.is_observed and counts.requests:
            report(self, &counts)
        return 0

    cdef int _queue(self) except -1:
        """Queue the records, as `Journal.put` does.

        No statement here may run Python code: another thread could queue a later record of the same key before.
        """
        journal = self.journal
        PyList_SetSlice(journal.queue, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, self._queued)
        journal.queued_bytes += self._queued_bytes
        journal.position += PyList_GET_SIZE(self._queued) // 2
        journal.positions[get_ident()] = journal.position
        clear_list(self._queued)
        self._queued_bytes = 0
        return 0

    cdef int begin(self, Py_ssize_t room) except -1:
        """Begin a connection's turn, whose replies may have so many bytes before the last."""
        self.room, self.is_time_up, self.left_at = self.size + room, False, 0
        if PyList_GET_SIZE(self.looked_up) + PyList_GET_SIZE(self.stored) > PREFIXES_AT_ONCE:
            self.settle()
            self.refresh()
        return 0

    cdef inline bint may_go_on(self) noexcept:
        """Tell whether another request may be carried out here."""
        return self.is_usable and not self.is_time_up and self.size <= self.room

    cdef int leave(self) except -1:
        """Let the store carry out a part of a request, which takes longer and may run other threads."""
        if self.left_at == 0:
            self.left_at = monotonic_seconds()
        return self.settle()

    cdef int come_back(self) except -1:
        """Continue after that. The connection's turn ends if its time is used up."""
        self.is_time_up = monotonic_seconds() - self.left_at > TURN_SECONDS
        return self.refresh()

    # Reading

    cdef inline Shard* shard_of(self, object key) except NULL:
        return &self.shards[PyObject_Hash(key) & self.mask]

    cdef inline PyObject* find(self, object key) except? NULL:
        """Return a key's entry, expired or not; NULL if it has none."""
        return PyDict_GetItemWithError(<object>self.shard_of(key).table[0], key)

    cdef inline void mark(self, object key) except *:
        """Note that a key was read, as `S3Fifo.mark` does."""
        cdef Py_hash_t number = PyObject_Hash(key)
        marks = <object>self.shards[number & self.mask].marks[0]
        PyByteArray_AS_STRING(marks)[number >> PLACE_SHIFT & PyByteArray_GET_SIZE(marks) - 1] = (
            <char>(number >> SIGN_SHIFT & 0xFF | TURNS)
        )

    cdef inline bint describe(self, PyObject* entry, Found* found) except -1:
        """Say what a live entry holds. Return False if it has expired, or if the Python protocols must handle it."""
        cdef const char* end
        found.deadline, found.cas, found.state = 0, 0, 0
        if PyBytes_CheckExact(<object>entry):
            found.wire, found.size = PyBytes_AS_STRING(<object>entry), PyBytes_GET_SIZE(<object>entry)
            end = found.wire + found.size - 1
            if end[0] == PLAIN:
                found.size -= LINE_END_BYTES
                return True
            found.deadline = read32(end - 4)
            if end[0] == WITH_CAS:
                found.cas = read64(end - 12)
            found.size -= WITH_CAS_BYTES if end[0] == WITH_CAS else EXPIRING_BYTES
            return not 0 < found.deadline <= self.now
        return self._describe_item(entry, found)

    cdef bint _describe_item(self, PyObject* entry, Found* found) except -1:
        """Say what a live Item holds, and record that it was read. Tracked ones are left to the Python protocols."""
        cdef int64_t deadline = PyLong_AsSsize_t(<object>slot(entry, ITEM_DEADLINE)[0])
        cdef int state = <object>slot(entry, ITEM_STATE)[0]
        if state & TRACKED:
            return False
        wire_bytes = <object>slot(entry, ITEM_WIRE_BYTES)[0]
        found.wire, found.size = PyBytes_AS_STRING(wire_bytes), PyBytes_GET_SIZE(wire_bytes) - LINE_END_BYTES
        if found.size > COPIED_BYTES or 0 < deadline <= self.now or deadline > UINT32_MAX:
            return False
        found.deadline, found.cas, found.state = deadline, <object>slot(entry, ITEM_CAS)[0], state & (STALE | WON)
        if <object>slot(entry, ITEM_ACCESSED)[0] is not self.now_object:
            set_slot(slot(entry, ITEM_ACCESSED), self.now_object)
        if not state & FETCHED:
            set_slot(slot(entry, ITEM_STATE), state | FETCHED)
        return True

    cdef inline bint has_cas(self, PyObject* entry) except -1:
        """Tell whether an entry has a CAS id."""
        if PyBytes_CheckExact(<object>entry):
            return PyBytes_AS_STRING(<object>entry)[PyBytes_GET_SIZE(<object>entry) - 1] == WITH_CAS
        return <object>slot(entry, ITEM_CAS)[0] != 0

    cdef object give_cas(self, object key):
        """Have the store give a key's entry a CAS id, and return it; None if the Python protocol must do it."""
        if self.cas_ids is None:
            return None
        self.leave()
        entry = self.store.gets(key)
        self.come_back()
        return entry

    # Storing

    cdef bint put(self, object key, object entry, bint is_new) except -1:
        """Set a value, as `ItemStore.put` does. Return False if the journal rejects it.

        is_new: whether the value counts as a stored item. Otherwise it depends on the old one, and False is returned too
        if another thread may change that.
        """
        cdef Shard* shard = self.shard_of(key)
        cdef PyObject* old
        cdef Py_ssize_t size = size_of(<PyObject*>entry), old_size
        cdef int64_t old_deadline
        if not self.journal_is_free or <object>PyObject_CallNoArgs(<object>shard.is_locked) is not False:
            return is_new and self.put_by_store(key, entry)  # a new number depends on the old one, which may change
        table = <object>shard.table[0]
        old = PyDict_GetItemWithError(table, key)
        if old is NULL:
            if PyDict_Size(<object>shard.flushed[0]):
                return self.put_by_store(key, entry)
            if <object>shard.is_ordered[0] is True:
                self._order(shard, key)
            add_to_slot(shard.used_bytes, PyBytes_GET_SIZE(key) + size + ENTRY_COST)
        else:
            old_deadline = deadline_of(old)
            if 0 < old_deadline <= self.now or is_tracked(old):
                return self.put_by_store(key, entry)
            old_size = size_of(old)
            if old_size != size:
                add_to_slot(shard.used_bytes, size - old_size)
            if old_deadline:
                add_to_slot(shard.expiring, -1)
            if self.marks_reads:
                self.mark(key)
        if deadline_of(<PyObject*>entry):
            add_to_slot(shard.expiring, 1)
        PyDict_SetItem(table, key, entry)
        if is_new:
            add_to_slot(shard.total_items, 1)
        if self.journal is not None:
            self._queued.append(key)
            self._queued.append(entry)
            self._queued_bytes += PyBytes_GET_SIZE(key) + size + QUEUED_OVERHEAD_BYTES
        if PyLong_AsSsize_t(<object>shard.used_bytes[0]) > PyLong_AsSsize_t(<object>shard.check_at_bytes[0]):
            self.leave()
            self.store.make_room(key)
            self.come_back()
        return True

    cdef int _order(self, Shard* shard, object key) except -1:
        """Give a new key its place in the eviction order, as `S3Fifo.add` does."""
        cdef Py_buffer ghosts
        cdef uint16_t* ghost
        cdef Py_hash_t number = PyObject_Hash(key)
        cdef uint16_t sign = <uint16_t>(number >> PRINT_SHIFT & 0xFFFF | 1)
        PyObject_GetBuffer(<object>shard.ghosts[0], &ghosts, PyBUF_WRITABLE)
        ghost = <uint16_t*>ghosts.buf + (number >> PLACE_SHIFT & ghosts.len // <Py_ssize_t>sizeof(uint16_t) - 1)
        queue = <object>shard.main[0] if ghost[0] == sign else <object>shard.small[0]
        if ghost[0] == sign:
            ghost[0] = 0
        PyBuffer_Release(&ghosts)
        queue.append(key)
        return 0

    cdef bint put_by_store(self, object key, object entry) except -1:
        """Have the store set a value. Return False if the journal rejects it."""
        self.leave()
        try:
            self.store.put(key, entry)
        except WritesRejected:
            return False
        finally:
            self.come_back()
        return True

    cdef object new_item(self, object wire_bytes, int64_t deadline):
        """Return the Item of a large value, without running Python code.

        Its allocation could start the garbage collector, which may run other threads, so it is off meanwhile.
        """
        cdef int was_on = PyGC_Disable()
        item = PyType_GenericAlloc(Item, 0)
        if was_on:
            PyGC_Enable()
        set_slot(slot(<PyObject*>item, ITEM_WIRE_BYTES), wire_bytes)
        set_slot(slot(<PyObject*>item, ITEM_DEADLINE), deadline)
        set_slot(slot(<PyObject*>item, ITEM_CAS), 0)
        set_slot(slot(<PyObject*>item, ITEM_ACCESSED), self.now_object)
        set_slot(slot(<PyObject*>item, ITEM_STATE), 0)
        return item

    cdef bint delete(self, object key, bint* was_there) except -1:
        """Have the store remove a key, and count it. Return False if the journal rejects that."""
        if not self.may_store:
            return False
        self.leave()
        try:
            was_there[0] = self.store.delete(key) is not None
        except WritesRejected:
            return False
        finally:
            self.come_back()
        self.carried_out[DELETES] += 1
        if was_there[0]:
            self.counters.delete_hits += 1
        else:
            self.counters.delete_misses += 1
        return True

    cdef bint touch(self, object key, int64_t deadline, bint* was_there) except -1:
        """Have the store give a key another deadline, and count it. Return False if the journal rejects that."""
        if not self.may_store:
            return False
        self.leave()
        try:
            was_there[0] = self.store.touch(key, deadline) is not None
        except WritesRejected:
            return False
        finally:
            self.come_back()
        self.carried_out[TOUCHES] += 1
        self.counters.count_touches(was_there[0], not was_there[0])
        return True

    # Replies

    cdef inline void reply_number(self, uint64_t number) noexcept:
        self.size += write_number(self.out + self.size, number)

    cdef inline void reply(self, const char* text, Py_ssize_t size) noexcept:
        memcpy(self.out + self.size, text, size)
        self.size += size


cdef inline uint32_t read32(const char* data) noexcept:
    """Return four bytes in network order as a number."""
    cdef const unsigned char* each = <const unsigned char*>data
    return <uint32_t>each[0] << 24 | <uint32_t>each[1] << 16 | <uint32_t>each[2] << 8 | each[3]


cdef inline void write32(char* data, uint32_t number) noexcept:
    data[0], data[1] = <char>(number >> 24), <char>(number >> 16)
    data[2], data[3] = <char>(number >> 8), <char>number


cdef inline uint64_t read64(const char* data) noexcept:
    return <uint64_t>read32(data) << 32 | read32(data + 4)


cdef inline void write64(char* data, uint64_t number) noexcept:
    write32(data, <uint32_t>(number >> 32))
    write32(data + 4, <uint32_t>number)


cdef inline Py_ssize_t write_number(char* place, uint64_t number) noexcept:
    """Write a decimal number; return its length."""
    cdef char digits[20]
    cdef Py_ssize_t size = 0
    while True:
        size += 1
        digits[20 - size] = <char>(ZERO + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(place, digits + 20 - size, size)
    return size


cdef inline int64_t deadline_of(PyObject* entry) except -1:
    """Return an entry's expiry time; 0 if it never expires."""
    cdef const char* end
    if not PyBytes_CheckExact(<object>entry):
        return PyLong_AsSsize_t(<object>slot(entry, ITEM_DEADLINE)[0])
    end = PyBytes_AS_STRING(<object>entry) + PyBytes_GET_SIZE(<object>entry)
    return 0 if (end - 1)[0] == PLAIN else read32(end - EXPIRING_BYTES)


cdef inline Py_ssize_t size_of(PyObject* entry) noexcept:
    """Return what `len` of an entry does."""
    if PyBytes_CheckExact(<object>entry):
        return PyBytes_GET_SIZE(<object>entry)
    return PyBytes_GET_SIZE(<object>slot(entry, ITEM_WIRE_BYTES)[0]) + ITEM_COST


cdef inline bint is_tracked(PyObject* entry) except -1:
    """Tell whether a value that replaces this entry must be tracked, too."""
    return not PyBytes_CheckExact(<object>entry) and PyLong_AsSsize_t(<object>slot(entry, ITEM_STATE)[0]) & TRACKED


cdef object small_entry(const char* words, Py_ssize_t words_size, const char* value, Py_ssize_t size, uint32_t deadline):
    """Return the entry of a value without a CAS id. words: what stands before the value."""
    cdef Py_ssize_t end_size = EXPIRING_BYTES if deadline else LINE_END_BYTES
    entry = PyBytes_FromStringAndSize(NULL, words_size + size + end_size)
    cdef char* place = PyBytes_AS_STRING(entry)
    memcpy(place, words, words_size)
    if size:
        memcpy(place + words_size, value, size)
    place += words_size + size
    if deadline:
        write32(place, deadline)
        place[4] = EXPIRING
    else:
        memcpy(place, b"\r\n", LINE_END_BYTES)
    return entry


cdef inline int64_t deadline_from(int64_t exptime, int64_t now, int64_t started) noexcept:
    """Return the deadline for an exptime that is not negative, as `absolute_deadline` does."""
    if exptime == 0:
        return 0
    if exptime <= RELATIVE_LIMIT_SECONDS:
        return now + exptime
    return exptime if exptime > started else LONG_PAST
