"""How long the requests of a measured turn take, see `memcache_kv/stats/latency.py`. Other turns do nothing for it."""

cdef struct Measured:
    # What is known of the requests of one member of a wave.
    bint is_on  # whether they are carried out, and their replies are not sent yet
    double began
    Py_ssize_t tally[FAMILIES]


cdef int count_families(Table table, Py_ssize_t* tally) except -1:
    """Count the requests that were carried out here so far, by their families."""
    cdef Counts* counts = &table.counts
    tally[GETS] = table.carried_out[GETS] + counts.hits + counts.misses
    tally[STORES] = table.carried_out[STORES] + counts.sets
    tally[DELETES] = table.carried_out[DELETES]
    tally[ARITHMETIC] = (
        table.carried_out[ARITHMETIC]
        + counts.incr_hits + counts.incr_misses + counts.decr_hits + counts.decr_misses
    )
    tally[TOUCHES] = table.carried_out[TOUCHES]
    tally[OTHERS] = 0
    return 0


cdef int begin_measuring(Table table, Measured* measured) except -1:
    """Begin to measure the requests of a member."""
    count_families(table, measured.tally)
    measured.is_on, measured.began = False, monotonic_seconds()
    return 0


cdef int end_requests(Table table, Measured* measured) except -1:
    """Count the requests of a member, which are carried out as far as that is done here."""
    cdef Py_ssize_t tally[FAMILIES]
    cdef int family
    count_families(table, tally)
    for family in range(FAMILIES):
        measured.tally[family] = tally[family] - measured.tally[family]
    measured.is_on = True
    return 0


cdef list tally_of(Measured* measured):
    """Return the numbers of requests by their families."""
    cdef int family
    return [measured.tally[family] for family in range(FAMILIES)]
