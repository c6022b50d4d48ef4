"""What observers learn of the requests that are carried out here: how many there were, and the prefixes of their keys.

Lines about single requests are never made here: while there is time for them, the Python protocols carry out everything.
"""

cdef enum:
    PREFIXES_AT_ONCE = 4096  # more are reported before the next connection is served


cdef int add_prefix(list prefixes, bytes delimiter, const char* key, Py_ssize_t size) except -1:
    """Append the part of a key before the delimiter, if the key contains it."""
    cdef const char* end = <const char*>memmem(key, size, PyBytes_AS_STRING(delimiter), PyBytes_GET_SIZE(delimiter))
    if end is not NULL:
        prefixes.append(PyBytes_FromStringAndSize(key, end - key))
    return 0


cdef int note_lookup(Table table, const char* key, Py_ssize_t size, bint is_found) except -1:
    """Note the prefix of a key that was looked up."""
    add_prefix(table.looked_up, table.delimiter, key, size)
    if not is_found:
        add_prefix(table.missed, table.delimiter, key, size)
    return 0


cdef int report(Table table, Counts* counts) except -1:
    """Hand what was noted to the observers."""
    table.observers.pass_over(counts.lookups, counts.sets, counts.requests)
    if table.looked_up or table.stored:
        prefixes = table.observers.prefixes
        prefixes.count(table.looked_up, table.missed, table.stored)
        table.looked_up, table.missed, table.stored = [], [], []
    return 0
