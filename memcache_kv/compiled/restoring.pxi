"""Put parsed records into a store's tables, as `Replay` and `Restoring` do where nothing was left out.

What they do beyond that is left to them: entries that have expired or may be renewed, and other records than `set` and
`delete`. Only one thread uses the store meanwhile.
"""

cdef enum:
    CAS_RUN_BITS = 32  # from memcache_kv/journal/recovery.py

cdef Py_ssize_t SHARD_TABLE = offset_of(Shard, "table")
cdef Py_ssize_t SHARD_USED_BYTES = offset_of(Shard, "used_bytes")
cdef Py_ssize_t SHARD_EXPIRING = offset_of(Shard, "expiring")
cdef Py_ssize_t ITEM_DEADLINE = offset_of(Item, "deadline")
cdef Py_ssize_t ENTRY_COST = ENTRY_COST_BYTES

cdef struct Growth:  # of a shard
    Py_ssize_t used_bytes
    Py_ssize_t expiring

cdef struct Restored:
    Growth* shards
    Py_ssize_t mask
    uint64_t last_cas


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
    if record.kind == OTHER or (record.kind == SET and 0 < record.exp <= <uint64_t>now):
        return False
    key = _key(record, False)
    index = PyObject_Hash(key) & restored.mask
    table = <dict>PyList_GET_ITEM(expired, index)
    if PyDict_Size(table) and PyDict_Contains(table, key):
        return False
    table = <dict>slot(<PyObject*>PyList_GET_ITEM(shards, index), SHARD_TABLE)[0]
    if record.kind == DELETE:
        _remove(restored.shards + index, table, key)
        return True
    _put(restored.shards + index, table, key, _entry(record, now, False), record.exp)
    if restored.last_cas < record.cas <= restored.last_cas + (<uint64_t>1 << CAS_RUN_BITS):
        restored.last_cas = record.cas
    return True


cdef int _put(Growth* growth, dict table, bytes key, object entry, uint64_t deadline) except -1:
    """Store an entry, as `Shard.put_locked` does."""
    cdef PyObject* old = PyDict_SetDefault(table, key, entry)
    growth.used_bytes += len(entry)
    growth.expiring += deadline != 0
    if old == <PyObject*>entry:
        growth.used_bytes += PyBytes_GET_SIZE(key) + ENTRY_COST
    else:
        growth.used_bytes -= len(<object>old)
        growth.expiring -= _expires(old)
        PyDict_SetItem(table, key, entry)
    return 0


cdef int _remove(Growth* growth, dict table, bytes key) except -1:
    """Remove a key if it is there, as `Shard.remove_locked` does while no eviction order is kept."""
    cdef PyObject* old = PyDict_GetItemWithError(table, key)
    if old is not NULL:
        growth.used_bytes -= PyBytes_GET_SIZE(key) + len(<object>old) + ENTRY_COST
        growth.expiring -= _expires(old)
        PyDict_DelItem(table, key)
    return 0


cdef bint _expires(PyObject* entry) except -1:
    """Tell whether an entry has a deadline."""
    cdef const unsigned char* end
    if not PyBytes_CheckExact(<object>entry):
        return <object>slot(entry, ITEM_DEADLINE)[0] != 0
    end = <const unsigned char*>PyBytes_AS_STRING(<object>entry) + PyBytes_GET_SIZE(<object>entry) - EXPIRING_BYTES
    return end[4] <= WITH_CAS and memcmp(end, b"\0\0\0\0", 4) != 0
