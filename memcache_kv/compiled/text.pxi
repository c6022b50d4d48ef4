"""The requests of the text protocol that are carried out here: `get` of one or many keys, and `set`.

Each function returns False, without having done anything, if the request is not in its common form; the Python protocol
then carries it out.
"""

cdef enum:
    LINE_FEED = 10
    RETURN = 13
    SPACE = 32
    ZERO = 48
    NINE = 57
    CLUSTER_KEY_BYTES = 25
    KEYS_AT_ONCE = 256  # a get of more keys is carried out in parts, by the Python protocol


cdef Py_ssize_t run_text(
    Table table, const char* data, Py_ssize_t size, Py_ssize_t most, bint may_write, Py_ssize_t* done
) except -1:
    """Carry out requests, up to the first that is not in its common form or incomplete, and at most so many.

    Returns the position after them; adds their number to `done`.
    """
    cdef Py_ssize_t position = 0, after, block_size
    cdef const char* line
    cdef const char* feed
    cdef const char* end
    while position < size and done[0] < most and table.may_go_on():
        line = data + position
        feed = <const char*>memchr(line, LINE_FEED, size - position)
        if feed is NULL:
            break
        end = feed - 1 if feed > line and (feed - 1)[0] == RETURN else feed
        after = feed + 1 - data
        block_size = text_request(table, line, end, feed + 1, data + size, may_write)
        if block_size < 0:
            break
        position = after + block_size
        done[0] += 1
        table.counts.requests += 1
    return position


cdef Py_ssize_t text_request(
    Table table, const char* line, const char* end, const char* block, const char* stop, bint may_write
) except -2:
    """Carry out a request. Return the length of its data block; -1 if it is not carried out here."""
    cdef Py_ssize_t size = end - line, block_size = 0
    cdef bint is_done = False
    if size > 4 and line[size - 1] == SPACE:  # mc-crusher ends its lines with one
        end, size = end - 1, size - 1
    if size < 4:
        is_done = size == 2 and block - line == 4 and memcmp(line, b"mn", 2) == 0  # shorter lines are errors
        if is_done:
            table.reply(b"MN\r\n", 4)
    elif memcmp(line, b"get ", 4) == 0:
        is_done = not is_cluster_key(line + 4, size - 4) and text_get(table, line + 4, end, False)
    elif memcmp(line, b"mg ", 3) == 0:
        is_done = meta_get(table, line + 3, end)
    elif size > 5 and memcmp(line, b"gets ", 5) == 0:
        is_done = text_get(table, line + 5, end, True)
    elif not may_write:
        return -1
    elif memcmp(line, b"set ", 4) == 0:
        block_size = text_set(table, line + 4, end, block, stop)
        is_done = block_size > 0
    elif memcmp(line, b"ms ", 3) == 0:
        block_size = meta_set(table, line + 3, end, block, stop)
        is_done = block_size > 0
    else:
        is_done = text_change(table, line, end)
    return block_size if is_done else -1


cdef bint text_change(Table table, const char* line, const char* end) except -1:
    """Carry out a request that changes an item and has no data block."""
    cdef Py_ssize_t size = end - line
    if table.is_observed:
        return False
    if memcmp(line, b"md ", 3) == 0:
        return meta_delete(table, line + 3, end)
    if memcmp(line, b"ma ", 3) == 0:
        return meta_count(table, line + 3, end)
    if size > 7 and memcmp(line, b"delete ", 7) == 0:
        return text_delete(table, line + 7, end)
    if size > 6 and memcmp(line, b"touch ", 6) == 0:
        return text_touch(table, line + 6, end)
    if size > 5 and (memcmp(line, b"incr ", 5) == 0 or memcmp(line, b"decr ", 5) == 0):
        return text_count(table, line + 5, end, line[0] == b"i")
    return False


cdef bint text_get(Table table, const char* key, const char* end, bint with_cas) except -1:
    """get <key>* and gets <key>*; key: the rest of the line."""
    cdef Py_ssize_t before = table.size, hits = 0, misses = 0
    cdef Py_ssize_t looked_up = PyList_GET_SIZE(table.looked_up), missed = PyList_GET_SIZE(table.missed)
    cdef const char* stop
    cdef bint found
    if not are_keys(key, end):  # reading an item notes that, giving it a CAS id is a change: none of it for an error
        return False
    if with_cas and table.counts_prefixes:  # what was counted could not be taken back
        return False
    while True:
        stop = <const char*>memchr(key, SPACE, end - key)
        if stop is NULL:
            stop = end
        if hits + misses == KEYS_AT_ONCE:
            break
        found = False
        if not answer_key(table, key, stop - key, with_cas, &found):
            break
        hits += found
        misses += not found
        if table.counts_prefixes:
            note_lookup(table, key, stop - key, found)
        if stop == end:
            table.reply(b"END\r\n", 5)
            table.counts.hits += hits
            table.counts.misses += misses
            table.counts.lookups += hits + misses
            return True
        key = stop + 1
    table.size = before
    if table.counts_prefixes:
        del table.looked_up[looked_up:], table.missed[missed:]
    return False


cdef inline bint is_cluster_key(const char* key, Py_ssize_t size) noexcept:
    """Tell whether this is the key that may stand for the cluster's configuration; the Python protocol knows that."""
    return size == CLUSTER_KEY_BYTES and memcmp(key, b"AmazonElastiCache:cluster", CLUSTER_KEY_BYTES) == 0


cdef bint are_keys(const char* key, const char* end) noexcept:
    """Tell whether all words are valid keys."""
    cdef const char* stop
    while True:
        stop = <const char*>memchr(key, SPACE, end - key)
        if stop is NULL:
            return 0 < end - key <= KEY_LIMIT_BYTES
        if not 0 < stop - key <= KEY_LIMIT_BYTES:
            return False
        key = stop + 1


cdef bint answer_key(Table table, const char* key, Py_ssize_t size, bint with_cas, bint* is_found) except -1:
    """Append a key's VALUE, if it has one, to the replies. Return False if the Python protocol must handle the key."""
    cdef Found found
    cdef PyObject* entry
    cdef const char* line_end
    name = PyBytes_FromStringAndSize(key, size)
    entry = table.find(name)
    if entry is NULL:
        return not table.has_flushed
    if with_cas and not table.has_cas(entry):
        given = table.give_cas(name)
        entry = <PyObject*>given
        if given is None:
            return False
    if not table.describe(entry, &found) or table.size > OUT_BYTES - COPIED_BYTES - 2 * KEY_LIMIT_BYTES:
        return False
    if table.marks_reads:
        table.mark(name)
    is_found[0] = True
    table.reply(b"VALUE ", 6)
    table.reply(key, size)
    if with_cas:
        line_end = <const char*>memchr(found.wire, RETURN, found.size)
        table.reply(found.wire, line_end - found.wire)
        table.reply(b" ", 1)
        table.reply_number(found.cas)
        found.size -= line_end - found.wire
        found.wire = line_end
    table.reply(found.wire, found.size)
    table.reply(b"\r\n", 2)
    return True


cdef Py_ssize_t text_set(
    Table table, const char* key, const char* end, const char* block, const char* stop
) except -1:
    """set <key> <flags> <exptime> <length> [noreply]; key: the rest of the line; stop: the end of all input.

    Returns how many bytes the data block takes, with its line end; 0 for a request that is not carried out here.
    """
    cdef const char* word = <const char*>memchr(key, SPACE, end - key)
    cdef const char* flags
    cdef const char* length_word
    cdef int64_t exptime, length, deadline
    cdef Py_ssize_t key_size, flags_size, length_size
    cdef bint is_quiet
    if word is NULL or not 0 < word - key <= KEY_LIMIT_BYTES:
        return 0
    key_size = word - key
    flags = word + 1
    if read_number(&word, end) < 0 or word == end:
        return 0
    flags_size = word - flags
    exptime = read_number(&word, end)
    length_word = word + 1
    if exptime < 0 or word == end:
        return 0
    length = read_number(&word, end)
    length_size = word - length_word
    is_quiet = word != end
    if length < 0 or (is_quiet and not is_noreply(word, end)):
        return 0
    if not is_block(block, stop, length):
        return 0
    deadline = deadline_from(exptime, table.now, table.started)
    name = PyBytes_FromStringAndSize(key, key_size)
    if not store_value(table, name, flags, flags_size, length_word, length_size, block, length, deadline):
        return 0
    if not is_quiet:
        table.reply(b"STORED\r\n", 8)
    return length + LINE_END_BYTES


cdef bint store_value(
    Table table, object key, const char* flags, Py_ssize_t flags_size, const char* length_word, Py_ssize_t length_size,
    const char* block, Py_ssize_t length, int64_t deadline,
) except -1:
    """Store a value. flags, length_word: the words of the request, which become a part of the entry."""
    cdef char words[64]
    cdef Py_ssize_t size = flags_size + length_size + 4
    if not table.may_store or 0 < deadline <= table.now:  # the Python protocol counts what has already expired
        return False
    words[0] = SPACE
    memcpy(words + 1, flags, flags_size)
    words[flags_size + 1] = SPACE
    memcpy(words + flags_size + 2, length_word, length_size)
    memcpy(words + size - LINE_END_BYTES, b"\r\n", LINE_END_BYTES)
    if size + length + LINE_END_BYTES <= PLAIN_LIMIT_BYTES:
        is_stored = table.put(key, small_entry(words, size, block, length, deadline), True)
    elif PyBytes_GET_SIZE(key) + length + (FLAGS_BYTES if flags[0] != ZERO else 0) > table.largest_bytes:
        return False
    else:
        is_stored = table.put(key, table.new_item(small_entry(words, size, block, length, 0), deadline), True)
    table.counts.sets += is_stored
    if is_stored and table.counts_prefixes:
        add_prefix(table.stored, table.delimiter, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    return is_stored


cdef inline bint is_block(const char* block, const char* stop, Py_ssize_t length) noexcept:
    """Tell whether a whole data block of this length is there, with its line end."""
    return stop - block >= length + LINE_END_BYTES and block[length] == RETURN and block[length + 1] == LINE_FEED


cdef inline int64_t read_number(const char** place, const char* end) noexcept:
    """Read a number of at most nine digits, without zeros before it, after the space at `place`; -1 if it is not one.

    Moves `place` to the space or the end after it.
    """
    cdef const char* digit = place[0] + 1
    cdef const char* start = digit
    cdef int64_t number = 0
    while digit < end and ZERO <= digit[0] <= NINE and digit - start < 10:
        number = 10 * number + digit[0] - ZERO
        digit += 1
    if digit == start or digit - start > 9 or (start[0] == ZERO and digit - start > 1):
        return -1
    if digit < end and digit[0] != SPACE:
        return -1
    place[0] = digit
    return number
