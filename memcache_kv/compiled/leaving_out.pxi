"""Choose what is left out of a store for lack of room, as memcache_kv/store/restoring.py and s3fifo.py do.

Only one thread uses the store meanwhile.
"""

cdef enum:  # from memcache_kv/store/restoring.py
    LEFT_OUT_SHIFT = 32
    CHECKS_AGAIN_AFTER_PART = 4

cdef enum:  # from memcache_kv/store/s3fifo.py
    CHANCES_PER_EVICTION = 8
    TURNS = 3
    PLACE_SHIFT = 6
    SIGN_SHIFT = 40
    SIGN_MASK = 0xFC
    PRINT_SHIFT = 40
    SLACK = 64

cdef double SMALL_PART = 0.1
cdef Py_ssize_t ORDER_MARKS = offset_of(S3Fifo, "marks")
cdef Py_ssize_t ORDER_GHOSTS = offset_of(S3Fifo, "ghosts")
cdef Py_ssize_t ORDER_SMALL = offset_of(S3Fifo, "small")
cdef Py_ssize_t ORDER_MAIN = offset_of(S3Fifo, "main")
cdef Py_ssize_t ORDER_IS_KEPT = offset_of(S3Fifo, "is_kept")

cdef struct Order:  # a shard's, as long as it gets no other marks and ghosts
    PyObject* itself
    bint is_kept
    unsigned char* marks
    Py_ssize_t last_mark
    uint16_t* ghosts
    Py_ssize_t last_ghost

cdef struct Prints:  # of the keys that were left out
    uint32_t* prints  # NULL if none were
    Py_ssize_t last
    Py_ssize_t count

cdef struct Later:  # a `LaterTouches` that has read the files
    const uint16_t* positions  # NULL for another function, or if it has not
    Py_ssize_t mask
    Py_ssize_t at

cdef struct Victim:  # the last one, also of an earlier call
    bint is_small  # it was in the small queue
    bint is_marked
    Py_ssize_t small_taken
    Py_ssize_t main_taken
    Py_ssize_t second_chances


cdef int look_at_order(Order* order, PyObject* itself) except -1:
    """Find out where a shard's order is."""
    cdef Py_buffer ghosts
    marks = <object>slot(itself, ORDER_MARKS)[0]
    PyObject_GetBuffer(<object>slot(itself, ORDER_GHOSTS)[0], &ghosts, PyBUF_SIMPLE)
    order.ghosts, order.last_ghost = <uint16_t*>ghosts.buf, ghosts.len // <Py_ssize_t>sizeof(uint16_t) - 1
    PyBuffer_Release(&ghosts)
    order.itself, order.is_kept = itself, <object>slot(itself, ORDER_IS_KEPT)[0] is True
    order.marks, order.last_mark = <unsigned char*>PyByteArray_AS_STRING(marks), PyByteArray_GET_SIZE(marks) - 1
    return 0


cdef inline object _queue(const Order* order, Py_ssize_t place):
    return <object>slot(order.itself, place)[0]


cdef int add_to_order(const Order* order, bytes key) except -1:
    """Add a key that was not in the table, as `S3Fifo.add` does."""
    cdef Py_hash_t number = PyObject_Hash(key)
    cdef uint16_t* ghost = order.ghosts + (number >> PLACE_SHIFT & order.last_ghost)
    if ghost[0] == <uint16_t>(number >> PRINT_SHIFT & 0xFFFF | 1):
        ghost[0] = 0
        _queue(order, ORDER_MAIN).append(key)
    else:
        _queue(order, ORDER_SMALL).append(key)
    return 0


cdef int mark_key(const Order* order, bytes key) except -1:
    """Record that a key was read, as `S3Fifo.mark` does."""
    cdef Py_hash_t number = PyObject_Hash(key)
    order.marks[number >> PLACE_SHIFT & order.last_mark] = <unsigned char>(number >> SIGN_SHIFT & 0xFF | TURNS)
    return 0


cdef inline bint _is_mark_of(int mark, Py_hash_t number) noexcept:
    return 0 < mark - <int>(number >> SIGN_SHIFT & SIGN_MASK) <= TURNS


cdef int remove_from_order(const Order* order, dict table, bytes key) except -1:
    """Remove the mark of a key that was removed, and tidy the order, as `Shard.remove_locked` does."""
    cdef Py_hash_t number = PyObject_Hash(key)
    cdef unsigned char* mark = order.marks + (number >> PLACE_SHIFT & order.last_mark)
    if _is_mark_of(mark[0], number):
        mark[0] = 0
    if len(_queue(order, ORDER_SMALL)) + len(_queue(order, ORDER_MAIN)) > 2 * PyDict_Size(table) + SLACK:
        (<object>order.itself).tidy(table)
    return 0


cdef int look_at_prints(Prints* found, object left_out) except -1:
    """Find out where the prints of left out keys are. left_out: a `LeftOut`, or None."""
    cdef Py_buffer prints
    found.prints, found.last, found.count = NULL, 0, 0
    if left_out is not None:
        PyObject_GetBuffer(left_out.prints, &prints, PyBUF_SIMPLE)
        found.prints, found.last = <uint32_t*>prints.buf, prints.len // <Py_ssize_t>sizeof(uint32_t) - 1
        PyBuffer_Release(&prints)
    return 0


cdef int add_print(Prints* left_out, bytes key) except -1:
    """Count a key, as `LeftOut.add` does."""
    cdef Py_hash_t number = PyObject_Hash(key)
    left_out.prints[number & left_out.last] = <uint32_t>(number >> LEFT_OUT_SHIFT) | 1
    left_out.count += 1
    return 0


cdef int remove_print(Prints* left_out, bytes key) except -1:
    """Count a key no more, if it is counted, as `LeftOut.discard` does."""
    cdef Py_hash_t number = PyObject_Hash(key)
    cdef uint32_t* place = left_out.prints + (number & left_out.last)
    if place[0] == <uint32_t>(number >> LEFT_OUT_SHIFT) | 1:
        place[0] = 0
        left_out.count -= 1
    return 0


cdef int _look_at_later(Later* later, object is_needed) except -1:
    """Find out where the positions of later touches are."""
    cdef Py_buffer view
    positions = getattr(is_needed, "positions", None)
    later.positions = NULL
    if positions is not None:
        PyObject_GetBuffer(positions, &view, PyBUF_SIMPLE)
        later.positions, later.mask, later.at = <const uint16_t*>view.buf, is_needed.mask, is_needed.at
        PyBuffer_Release(&view)
    return 0


cdef inline bint _is_needed(const Later* later, object is_needed, object key) except -1:
    """Tell whether a later record needs the item of a key."""
    if later.positions is not NULL:
        return later.positions[PyObject_Hash(key) & later.mask] > later.at
    return is_needed(key)


cdef object _take_needed(object keys, dict table):
    """Remove the key that came first, as `Needed.take` does."""
    while len(keys):
        key = keys.popleft()
        if PyDict_Contains(table, key):
            return key
    return None


cdef object _next_victim(Order* order, Victim* victim, dict table, int64_t now):
    """Return the key to leave out, which is removed from its queue; None if there is none (`S3Fifo.next_victim`)."""
    cdef PyObject* entry
    cdef Py_hash_t number
    cdef unsigned char* mark
    cdef Py_ssize_t small_taken = 0, main_taken = 0
    cdef int chances = CHANCES_PER_EVICTION
    cdef bint is_small, is_marked
    cdef double small_limit = <double>PyDict_Size(table) * SMALL_PART
    small, main = _queue(order, ORDER_SMALL), _queue(order, ORDER_MAIN)
    if PyDict_Size(table) == 0:
        return None
    while True:
        is_small = len(small) > small_limit or len(main) == 0
        queue = small if is_small else main
        if len(queue) == 0:  # nothing but places of removed keys was left
            return None
        key = queue.popleft()
        small_taken += is_small
        main_taken += not is_small
        entry = PyDict_GetItemWithError(table, key)
        if entry is NULL:
            continue
        number = PyObject_Hash(key)
        mark = order.marks + (number >> PLACE_SHIFT & order.last_mark)
        is_marked = _is_mark_of(mark[0], number)
        if not is_marked or not chances or 0 < _deadline_of(entry) <= now:
            break
        mark[0] = 0 if is_small else mark[0] - 1
        chances -= 1
        victim.second_chances += 1
        main.append(key)
    victim.small_taken += small_taken
    victim.main_taken += main_taken
    victim.is_small, victim.is_marked = is_small, is_marked
    if is_marked:
        mark[0] = 0
    if is_small:
        order.ghosts[number >> PLACE_SHIFT & order.last_ghost] = <uint16_t>(number >> PRINT_SHIFT & 0xFFFF | 1)
    return key


cdef int _take(PyObject* shard, dict table, bytes key) except -1:
    """Remove a key that is in the table, as `Shard.leave_out` does."""
    cdef PyObject* entry = PyDict_GetItemWithError(table, key)
    add_to_slot(slot(shard, SHARD_USED_BYTES), -(PyBytes_GET_SIZE(key) + len(<object>entry) + ENTRY_COST))
    if _deadline_of(entry):
        add_to_slot(slot(shard, SHARD_EXPIRING), -1)
    PyDict_DelItem(table, key)
    return 0


def leave_out(
    shard, needed, left_out, is_needed, Py_ssize_t wanted_bytes, Py_ssize_t wanted_items, int64_t now
):
    """Leave out items of a shard, as the Python function of this name does."""
    cdef Order order
    cdef Prints prints
    cdef Victim victim
    cdef Py_ssize_t count
    cdef dict table = shard.table
    if not shard.order_evictions(True):
        shard.order.fit(len(table))
    look_at_order(&order, <PyObject*>shard.order)
    look_at_prints(&prints, left_out)
    memset(&victim, 0, sizeof(Victim))
    victim.is_small, victim.is_marked = not shard.order.was_promoted, shard.order.was_marked
    try:
        _leave_out_some(&order, &prints, &victim, shard, table, needed, is_needed, wanted_bytes, wanted_items, now)
    finally:
        count = prints.count
        left_out.count += count
        shard.order.count_taken(
            victim.small_taken, victim.main_taken, victim.second_chances, victim.is_small, victim.is_marked
        )
    shard.fit_table()
    return count


cdef int _leave_out_some(
    Order* order, Prints* left_out, Victim* victim, object shard, dict table, object needed, object is_needed,
    Py_ssize_t wanted_bytes, Py_ssize_t wanted_items, int64_t now,
) except -1:
    """Leave items out until so many bytes and items are gone, or none is left."""
    cdef PyObject** used = slot(<PyObject*>shard, SHARD_USED_BYTES)
    cdef Py_ssize_t target = PyLong_AsSsize_t(<object>used[0]) - wanted_bytes, since_check = needed.left_out
    cdef Later later
    _look_at_later(&later, is_needed)
    keys = needed.keys
    while PyLong_AsSsize_t(<object>used[0]) > target or left_out.count < wanted_items:
        key = _next_victim(order, victim, table, now)
        if key is None and is_needed is None:
            key = _take_needed(keys, table)
        if key is None:
            break
        if is_needed is not None and _is_needed(&later, is_needed, key):
            keys.append(key)
            continue
        _take(<PyObject*>shard, table, key)
        add_print(left_out, key)
        since_check += 1
        if since_check * CHECKS_AGAIN_AFTER_PART > PyDict_Size(table):
            needed.put_back(shard)
            since_check = 0
    needed.left_out = since_check
    return 0
