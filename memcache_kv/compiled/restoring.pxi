"""Put parsed records into a store's tables, as `Replay` and `Restoring` do.

What is not common is left to them: entries that have expired or may be renewed, and other records than `set` and
`delete`. Only one thread uses the store meanwhile.
"""

cdef enum:
    CAS_RUN_BITS = 32  # from memcache_kv/journal/recovery.py

cdef Py_ssize_t SHARD_TABLE = offset_of(Shard, "table")
cdef Py_ssize_t SHARD_USED_BYTES = offset_of(Shard, "used_bytes")
cdef Py_ssize_t SHARD_EXPIRING = offset_of(Shard, "expiring")
cdef Py_ssize_t SHARD_ORDER = offset_of(Shard, "order")
cdef Py_ssize_t ITEM_DEADLINE = offset_of(Item, "deadline")
cdef Py_ssize_t ENTRY_COST = ENTRY_COST_BYTES
cdef int64_t LAST_TIME = 0x7FFFFFFFFFFFFFFF

cdef struct Growth:  # of a shard
    Py_ssize_t used_bytes
    Py_ssize_t expiring
    Order order

cdef struct Restored:
    Growth* shards
    Py_ssize_t mask
    uint64_t last_cas
    Prints left_out


cdef Py_ssize_t _end_of_others(const ParsedRecord* records, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Return where the next record begins that may be simple, after one that is not."""
    while start < end:
        start += 1
        if start < end and records[start].kind != OTHER:
            break
    return start


cdef Py_ssize_t _restore_some(
    Restored* restored, const ParsedRecord* records, Py_ssize_t start, Py_ssize_t end,
    list shards, list expired, object now,
) except -1:
    """Restore records up to one that is not simple, and return where that is."""
    restored.mask = PyList_GET_SIZE(shards) - 1
    restored.shards = <Growth*>calloc(restored.mask + 1, sizeof(Growth))
    if restored.shards is NULL:
        raise MemoryError
    try:
        while start < end and _restore(restored, records + start, shards, expired, now):
            start += 1
    finally:
        _add_growth(restored, shards)
        free(restored.shards)
    return start


cdef int _add_growth(const Restored* restored, list shards) except -1:
    """Add to the sums of the shards what was restored."""
    cdef Py_ssize_t index
    cdef PyObject* shard
    for index in range(restored.mask + 1):
        shard = <PyObject*>PyList_GET_ITEM(shards, index)
        if restored.shards[index].used_bytes:
            add_to_slot(slot(shard, SHARD_USED_BYTES), restored.shards[index].used_bytes)
        if restored.shards[index].expiring:
            add_to_slot(slot(shard, SHARD_EXPIRING), restored.shards[index].expiring)
    return 0


cdef bint _restore(
    Restored* restored, const ParsedRecord* record, list shards, list expired, object now
) except -1:
    """Restore a record. Returns false, and changes nothing, if it is not simple."""
    cdef bytes key
    cdef Py_ssize_t index
    cdef dict table
    cdef PyObject* shard
    cdef Growth* growth
    cdef bint is_apart
    if record.kind == OTHER or (record.kind == SET and 0 < record.exp <= <uint64_t>now):
        return False
    is_apart = restored.left_out.prints is not NULL and record.kind == SET and _wire_size(record) > SMALL_OBJECT_BYTES
    key = _key(record, is_apart)
    index = PyObject_Hash(key) & restored.mask
    table = <dict>PyList_GET_ITEM(expired, index)
    if PyDict_Size(table) and PyDict_Contains(table, key):
        return False
    shard, growth = <PyObject*>PyList_GET_ITEM(shards, index), restored.shards + index
    table = <dict>slot(shard, SHARD_TABLE)[0]
    if restored.left_out.prints is not NULL and growth.order.itself is NULL:
        look_at_order(&growth.order, slot(shard, SHARD_ORDER)[0])
    if record.kind == DELETE:
        _remove(restored, growth, table, key)
        return True
    _put(restored, growth, table, key, _entry(record, now, is_apart), record.exp)
    if restored.last_cas < record.cas <= restored.last_cas + (<uint64_t>1 << CAS_RUN_BITS):
        restored.last_cas = record.cas
    return True


cdef int _put(Restored* restored, Growth* growth, dict table, bytes key, object entry, uint64_t deadline) except -1:
    """Store an entry, as `Restoring.put` does."""
    cdef PyObject* old = PyDict_SetDefault(table, key, entry)
    growth.used_bytes += len(entry)
    growth.expiring += deadline != 0
    if old == <PyObject*>entry:
        growth.used_bytes += PyBytes_GET_SIZE(key) + ENTRY_COST
        if restored.left_out.prints is not NULL:
            if growth.order.is_kept:
                add_to_order(&growth.order, key)
            remove_print(&restored.left_out, key)
    else:
        growth.used_bytes -= len(<object>old)
        growth.expiring -= _deadline_of(old) != 0
        PyDict_SetItem(table, key, entry)
        if restored.left_out.prints is not NULL:
            mark_key(&growth.order, key)
    return 0


cdef int _remove(Restored* restored, Growth* growth, dict table, bytes key) except -1:
    """Remove a key if it is there, as `Restoring.remove` does."""
    cdef PyObject* old = PyDict_GetItemWithError(table, key)
    if old is NULL:
        if restored.left_out.prints is not NULL:
            remove_print(&restored.left_out, key)
        return 0
    growth.used_bytes -= PyBytes_GET_SIZE(key) + len(<object>old) + ENTRY_COST
    growth.expiring -= _deadline_of(old) != 0
    PyDict_DelItem(table, key)
    if growth.order.is_kept:
        remove_from_order(&growth.order, table, key)
    return 0


cdef int64_t _deadline_of(PyObject* entry) except? -1:
    """Return when an entry expires; 0 is never, and what no 64 bits hold is LAST_TIME."""
    cdef const unsigned char* end
    cdef int64_t deadline
    cdef int overflow
    if not PyBytes_CheckExact(<object>entry):
        deadline = PyLong_AsLongLongAndOverflow(<object>slot(entry, ITEM_DEADLINE)[0], &overflow)
        return LAST_TIME if overflow else deadline
    end = <const unsigned char*>PyBytes_AS_STRING(<object>entry) + PyBytes_GET_SIZE(<object>entry) - EXPIRING_BYTES
    if end[4] > WITH_CAS:
        return 0
    return <int64_t>end[0] << 24 | end[1] << 16 | end[2] << 8 | end[3]
