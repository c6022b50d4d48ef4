"""The requests of the line protocol that are carried out here: PUT, GET, DELETE and EXISTS with one space between words.

As in `text.pxi`, False is returned for a request that the Python protocol must carry out.
"""

cdef enum:
    WORD_LIMIT_BYTES = 256  # from memcache_kv/protocol/line/commands.py
    FIRST_IN_WORD = 33
    LAST_IN_WORD = 126


cdef Py_ssize_t run_line(
    Table table, const char* data, Py_ssize_t size, Py_ssize_t most, bint may_write, Py_ssize_t* done
) except -1:
    """Carry out requests, as `run_text` does."""
    cdef Py_ssize_t position = 0
    cdef const char* line
    cdef const char* feed
    cdef const char* end
    while position < size and done[0] < most and table.may_go_on():
        line = data + position
        feed = <const char*>memchr(line, LINE_FEED, size - position)
        if feed is NULL:
            break
        end = feed - 1 if feed > line and (feed - 1)[0] == RETURN else feed
        if not line_request(table, line, end, may_write):
            break
        table.reply(end, feed + 1 - end)  # the reply ends as the request does
        position = feed + 1 - data
        done[0] += 1
        table.counts.requests += 1
    return position


cdef bint line_request(Table table, const char* line, const char* end, bint may_write) except -1:
    """Carry out a request, and append its reply without the line's end."""
    cdef Py_ssize_t size = end - line
    if size > 4 and memcmp(line, b"GET ", 4) == 0:
        return line_get(table, line + 4, end)
    if size > 7 and memcmp(line, b"EXISTS ", 7) == 0:
        return line_exists(table, line + 7, end)
    if not may_write:
        return False
    if size > 4 and memcmp(line, b"PUT ", 4) == 0:
        return line_put(table, line + 4, end)
    return size > 7 and memcmp(line, b"DELETE ", 7) == 0 and line_delete(table, line + 7, end)


cdef inline bint is_word(const char* text, Py_ssize_t size) noexcept:
    """Tell whether this is a key or a value that the protocol can carry: printable ASCII without white space."""
    cdef uint64_t each = 0x0101010101010101, high_bits = each << 7, eight, bad = 0
    cdef Py_ssize_t position
    if not 0 < size <= WORD_LIMIT_BYTES:
        return False
    for position in range(0, size - 7, 8):
        memcpy(&eight, text + position, 8)
        # The high bit becomes set where a byte is beyond ASCII, less than the first, or DEL.
        bad |= eight | ~((eight | high_bits) - FIRST_IN_WORD * each) | (eight + each)
    for position in range(size & ~7, size):
        if not FIRST_IN_WORD <= text[position] <= LAST_IN_WORD:
            return False
    return bad & high_bits == 0


cdef bint line_get(Table table, const char* key, const char* end) except -1:
    """GET key; key: the rest of the line."""
    cdef Found found
    cdef const char* value
    cdef PyObject* entry
    if not is_word(key, end - key):
        return False
    name = PyBytes_FromStringAndSize(key, end - key)
    entry = table.find(name)
    if entry is NULL:
        if table.has_flushed:
            return False
        count_lookup(table, name, False)
        table.reply(b"ERROR key not found", 19)
        return True
    if not table.describe(entry, &found) or found.state & STALE:
        return False
    value = <const char*>memchr(found.wire, LINE_FEED, found.size) + 1
    found.size -= value - found.wire
    if not is_word(value, found.size):
        return False
    count_lookup(table, name, True)
    table.reply(b"OK ", 3)
    table.reply(value, found.size)
    return True


cdef bint line_exists(Table table, const char* key, const char* end) except -1:
    """EXISTS key; key: the rest of the line."""
    cdef Found found
    cdef PyObject* entry
    if not is_word(key, end - key):
        return False
    name = PyBytes_FromStringAndSize(key, end - key)
    entry = table.find(name)
    if entry is NULL and table.has_flushed or entry is not NULL and not table.describe(entry, &found):
        return False
    count_lookup(table, name, entry is not NULL)
    table.reply(b"OK 0" if entry is NULL else b"OK 1", 4)
    return True


cdef inline int count_lookup(Table table, bytes key, bint is_found) except -1:
    """Count a get, and mark the key as read if it was found."""
    if is_found and table.marks_reads:
        table.mark(key)
    table.counts.hits += is_found
    table.counts.misses += not is_found
    table.counts.lookups += 1
    if table.counts_prefixes:
        note_lookup(table, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), is_found)
    return 0


cdef bint line_put(Table table, const char* key, const char* end) except -1:
    """PUT key value [ttl]; key: the rest of the line. A ttl of any length counts from now."""
    cdef const char* stop = <const char*>memchr(key, SPACE, end - key)
    cdef const char* value
    cdef char digits[20]
    cdef Py_ssize_t key_size, size
    cdef int64_t ttl = 0
    if stop is NULL or not is_word(key, stop - key):
        return False
    key_size, value = stop - key, stop + 1
    stop = <const char*>memchr(value, SPACE, end - value)
    size = (end if stop is NULL else stop) - value
    if not is_word(value, size):
        return False
    if stop is not NULL:
        ttl = read_number(&stop, end)
        if ttl < 0 or stop != end:
            return False
    if ttl:
        ttl += table.now
        if ttl > UINT32_MAX:
            return False
    name = PyBytes_FromStringAndSize(key, key_size)
    if not store_value(table, name, b"0", 1, digits, write_number(digits, size), value, size, ttl):
        return False
    table.reply(b"OK stored", 9)
    return True


cdef bint line_delete(Table table, const char* key, const char* end) except -1:
    """DELETE key; key: the rest of the line."""
    cdef bint was_there
    if table.is_observed or not is_word(key, end - key):
        return False
    if not table.delete(PyBytes_FromStringAndSize(key, end - key), &was_there):
        return False
    if was_there:
        table.reply(b"OK deleted", 10)
    else:
        table.reply(b"ERROR key not found", 19)
    return True
