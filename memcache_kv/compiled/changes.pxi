"""Changes to existing items: `delete`, `touch`, `incr`, `decr`, `md` and `ma` with common arguments.

As in `text.pxi`, False is returned for a request that the Python protocol must carry out.
"""

cdef enum:
    LONGEST_NUMBER = 19  # longer ones may not fit into 64 bits

cdef enum Outcome:
    LEFT  # to the Python protocol
    MISSED
    CHANGED


cdef bint take_words(const char** place, const char* end, const char** word, bint* is_quiet) noexcept:
    """Find a line's key, one more word if `word` is not NULL, and an optional noreply.

    place: the key, which ends there afterwards. Returns False for any other form.
    """
    cdef const char* stop = <const char*>memchr(place[0], SPACE, end - place[0])
    cdef Py_ssize_t key_size = (end if stop is NULL else stop) - place[0]
    place[0] += key_size
    if not 0 < key_size <= KEY_LIMIT_BYTES or (word is not NULL and stop is NULL):
        return False
    if stop is NULL and key_size == 7 and memcmp(end - 7, b"noreply", 7) == 0:  # the key asks for no reply
        return False
    if word is not NULL:
        word[0] = stop
        stop = <const char*>memchr(stop + 1, SPACE, end - stop - 1)
    is_quiet[0] = stop is not NULL
    return stop is NULL or is_noreply(stop, end)


cdef inline bint is_noreply(const char* place, const char* end) noexcept:
    """Tell whether the rest of a line, from a space on, is noreply."""
    return end - place == 8 and memcmp(place, b" noreply", 8) == 0


cdef bint text_delete(Table table, const char* key, const char* end) except -1:
    """delete <key> [noreply]; key: the rest of the line."""
    cdef const char* stop = key
    cdef bint is_quiet, was_there
    if not take_words(&stop, end, NULL, &is_quiet):
        return False
    if not table.delete(PyBytes_FromStringAndSize(key, stop - key), &was_there):
        return False
    if not is_quiet and was_there:
        table.reply(b"DELETED\r\n", 9)
    elif not is_quiet:
        table.reply(b"NOT_FOUND\r\n", 11)
    return True


cdef bint text_touch(Table table, const char* key, const char* end) except -1:
    """touch <key> <exptime> [noreply]; key: the rest of the line."""
    cdef const char* stop = key
    cdef const char* word
    cdef int64_t exptime
    cdef bint is_quiet, was_there
    if not take_words(&stop, end, &word, &is_quiet):
        return False
    exptime = read_number(&word, end)
    if exptime < 0:
        return False
    exptime = deadline_from(exptime, table.now, table.started)
    if not table.touch(PyBytes_FromStringAndSize(key, stop - key), exptime, &was_there):
        return False
    if not is_quiet and was_there:
        table.reply(b"TOUCHED\r\n", 9)
    elif not is_quiet:
        table.reply(b"NOT_FOUND\r\n", 11)
    return True


cdef bint text_count(Table table, const char* key, const char* end, bint is_up) except -1:
    """incr <key> <amount> [noreply], decr <key> <amount> [noreply]; key: the rest of the line."""
    cdef const char* stop = key
    cdef const char* word
    cdef int64_t amount
    cdef uint64_t number
    cdef Outcome outcome
    cdef bint is_quiet
    if not take_words(&stop, end, &word, &is_quiet):
        return False
    amount = read_number(&word, end)
    if amount < 0:
        return False
    outcome = change_number(table, PyBytes_FromStringAndSize(key, stop - key), is_up, amount, &number)
    if outcome == CHANGED and not is_quiet:
        table.reply_number(number)
        table.reply(b"\r\n", 2)
    elif outcome == MISSED and not is_quiet:
        table.reply(b"NOT_FOUND\r\n", 11)
    return outcome != LEFT


cdef bint meta_delete(Table table, const char* key, const char* end) except -1:
    """md <key> <flags>*; key: the rest of the line."""
    cdef Flags flags
    cdef bint was_there
    cdef const char* stop = <const char*>memchr(key, SPACE, end - key)
    if stop is NULL:
        stop = end
    if not 0 < stop - key <= KEY_LIMIT_BYTES or not read_flags(stop, end, b"kq", &flags):
        return False
    if not table.delete(PyBytes_FromStringAndSize(key, stop - key), &was_there):
        return False
    if not was_there or not flags.letters & letter_bit(b"q"):
        table.reply(b"HD" if was_there else b"NF", 2)
        reply_identity(table, &flags, key, stop - key)
    return True


cdef bint meta_count(Table table, const char* key, const char* end) except -1:
    """ma <key> <flags>*; key: the rest of the line."""
    cdef Flags flags
    cdef Outcome outcome
    cdef uint64_t number
    cdef char digits[20]
    cdef Py_ssize_t size
    cdef const char* stop = <const char*>memchr(key, SPACE, end - key)
    if stop is NULL:
        stop = end
    if not 0 < stop - key <= KEY_LIMIT_BYTES or not read_flags(stop, end, b"kqv", &flags):
        return False
    outcome = change_number(table, PyBytes_FromStringAndSize(key, stop - key), True, 1, &number)
    if outcome == MISSED:
        table.reply(b"NF", 2)
        reply_identity(table, &flags, key, stop - key)
    elif outcome == CHANGED and not flags.letters & letter_bit(b"q"):
        size = write_number(digits, number)
        if flags.letters & letter_bit(b"v"):
            table.reply(b"VA ", 3)
            table.reply_number(size)
        else:
            table.reply(b"HD", 2)
        reply_identity(table, &flags, key, stop - key)
        if flags.letters & letter_bit(b"v"):
            table.reply(digits, size)
            table.reply(b"\r\n", 2)
    return outcome != LEFT


cdef Outcome change_number(Table table, object key, bint is_up, uint64_t amount, uint64_t* number) except *:
    """Increment or decrement the number that is stored for a key, if it consists of digits alone, and return it.

    A sum wraps at 2^64, a difference stops at 0. A shorter number is padded with spaces to the old length.
    """
    cdef Found found
    cdef PyObject* entry
    cdef const char* value
    cdef char wire[64]
    cdef char digits[20]
    cdef Py_ssize_t length, size, head_size, position
    cdef uint64_t old = 0
    if not table.may_store or not table.counts_small:
        return LEFT
    entry = table.find(key)
    if entry is NULL:
        if not table.has_flushed and is_up:
            table.counts.incr_misses += 1
        elif not table.has_flushed:
            table.counts.decr_misses += 1
        return LEFT if table.has_flushed else MISSED
    if not PyBytes_CheckExact(<object>entry) or not table.describe(entry, &found) or found.cas:
        return LEFT
    value = <const char*>memchr(found.wire, LINE_FEED, found.size) + 1
    length = found.wire + found.size - value
    if not 0 < length <= LONGEST_NUMBER:
        return LEFT
    for position in range(length):
        if not ZERO <= value[position] <= NINE:
            return LEFT
        old = 10 * old + value[position] - ZERO
    if amount == 0:  # what is stored may not change then
        return LEFT
    number[0] = old + amount if is_up else old - amount if old > amount else 0
    if number[0] == old:
        return LEFT
    size = write_number(digits, number[0])
    head_size = write_words(wire, flags_of(found.wire), max(size, length))
    memset(wire + head_size, SPACE, max(size, length))
    memcpy(wire + head_size, digits, size)
    size = head_size + max(size, length)
    if not table.put(key, small_entry(wire, size, NULL, 0, found.deadline), False):
        return LEFT
    if is_up:
        table.counts.incr_hits += 1
    else:
        table.counts.decr_hits += 1
    return CHANGED
