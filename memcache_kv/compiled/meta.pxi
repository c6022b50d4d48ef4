"""The meta commands `mg` and `ms` with common flags; `changes.pxi` has `md` and `ma`.

As in `text.pxi`, False or 0 is returned for a request that the Python protocol must carry out.
"""

cdef enum:
    OPAQUE_LIMIT_BYTES = 32
    FLAGS_AT_ONCE = 9

cdef struct Flags:
    # The flags of a request, in its order.
    int count
    const char* tokens[FLAGS_AT_ONCE]
    Py_ssize_t sizes[FLAGS_AT_ONCE]
    uint64_t letters  # a bit for each letter that is given


cdef inline uint64_t letter_bit(char letter) noexcept:
    return <uint64_t>1 << (letter & 63)


cdef bint read_flags(const char* place, const char* end, const char* bare, Flags* flags) noexcept:
    """Parse the flags from the space at `place` to the line's end; return False if they are not in their common form.

    bare: the letters that are known and take no argument; O, F and T do.
    """
    cdef const char* stop
    cdef Py_ssize_t size
    flags.count, flags.letters = 0, 0
    while place < end:
        place += 1
        stop = <const char*>memchr(place, SPACE, end - place)
        if stop is NULL:
            stop = end
        size = stop - place
        if size == 0 or flags.count == FLAGS_AT_ONCE or not 65 <= place[0] <= 122:
            return False
        if flags.letters & letter_bit(place[0]):
            return False
        if place[0] == b"O":
            if size > OPAQUE_LIMIT_BYTES:
                return False
        elif strchr(bare, place[0]) is NULL or (size > 1) != (place[0] == b"F" or place[0] == b"T"):
            return False
        flags.letters |= letter_bit(place[0])
        flags.tokens[flags.count], flags.sizes[flags.count] = place, size
        flags.count += 1
        place = stop
    return True


cdef inline void reply_identity(Table table, Flags* flags, const char* key, Py_ssize_t size) noexcept:
    """Append the opaque and the key, as far as they are asked for, and the line's end."""
    cdef int number
    for number in range(flags.count):
        if flags.tokens[number][0] == b"O":
            table.reply(b" ", 1)
            table.reply(flags.tokens[number], flags.sizes[number])
        elif flags.tokens[number][0] == b"k":
            table.reply(b" k", 2)
            table.reply(key, size)
    table.reply(b"\r\n", 2)


cdef bint meta_get(Table table, const char* key, const char* end) except -1:
    """mg <key> <flags>*; key: the rest of the line."""
    cdef Found found
    cdef Flags flags
    cdef PyObject* entry
    cdef const char* stop = <const char*>memchr(key, SPACE, end - key)
    if stop is NULL:
        stop = end
    if not 0 < stop - key <= KEY_LIMIT_BYTES or not read_flags(stop, end, b"vfkstcq", &flags):
        return False
    name = PyBytes_FromStringAndSize(key, stop - key)
    entry = table.find(name)
    if entry is NULL:
        if table.has_flushed:
            return False
        if table.counts_prefixes:
            note_lookup(table, key, stop - key, False)
        if not flags.letters & letter_bit(b"q"):
            table.reply(b"EN", 2)
            reply_identity(table, &flags, key, stop - key)
        table.counts.misses += 1
        table.counts.lookups += 1
        return True
    if not table.describe(entry, &found) or found.state:
        return False
    if found.cas == 0 and flags.letters & letter_bit(b"c"):
        return False
    if table.marks_reads:
        table.mark(name)
    reply_fields(table, &flags, &found, key, stop - key)
    table.counts.hits += 1
    table.counts.lookups += 1
    if table.counts_prefixes:
        note_lookup(table, key, stop - key, True)
    return True


cdef void reply_fields(Table table, Flags* flags, Found* found, const char* key, Py_ssize_t key_size) noexcept:
    """Reply with the fields of an item, and its value if that is asked for."""
    cdef const char* length = <const char*>memchr(found.wire + 1, SPACE, found.size) # the space before it
    cdef const char* line_end = <const char*>memchr(length, RETURN, found.size)
    cdef bint has_value = flags.letters & letter_bit(b"v") != 0
    cdef int number
    cdef char letter
    if has_value:
        table.reply(b"VA", 2)
        table.reply(length, line_end - length)
    else:
        table.reply(b"HD", 2)
    for number in range(flags.count):
        letter = flags.tokens[number][0]
        if letter == b"O":
            table.reply(b" ", 1)
            table.reply(flags.tokens[number], flags.sizes[number])
        elif letter == b"k":
            table.reply(b" k", 2)
            table.reply(key, key_size)
        elif letter == b"f":
            table.reply(b" f", 2)
            table.reply(found.wire + 1, length - found.wire - 1)
        elif letter == b"s":
            table.reply(b" s", 2)
            table.reply(length + 1, line_end - length - 1)
        elif letter == b"c":
            table.reply(b" c", 2)
            table.reply_number(found.cas)
        elif letter == b"t" and found.deadline == 0:
            table.reply(b" t-1", 4)
        elif letter == b"t":
            table.reply(b" t", 2)
            table.reply_number(found.deadline - table.now)
    if has_value:
        table.reply(line_end, found.wire + found.size - line_end)
    table.reply(b"\r\n", 2)


cdef Py_ssize_t meta_set(Table table, const char* key, const char* end, const char* block, const char* stop) except -1:
    """ms <key> <length> <flags>*; the arguments and the result are those of `text_set`."""
    cdef Flags flags
    cdef const char* word = <const char*>memchr(key, SPACE, end - key)
    cdef const char* length_word
    cdef const char* client_flags = b"0"
    cdef Py_ssize_t flags_size = 1, length_size, key_size
    cdef int64_t length, exptime = 0
    cdef int number
    if word is NULL or not 0 < word - key <= KEY_LIMIT_BYTES:
        return 0
    key_size, length_word = word - key, word + 1
    length = read_number(&word, end)
    length_size = word - length_word
    if length < 0 or not read_flags(word, end, b"FTkq", &flags) or not is_block(block, stop, length):
        return 0
    for number in range(flags.count):
        word = flags.tokens[number]
        if word[0] == b"T":
            exptime = read_number(&word, word + flags.sizes[number])
        elif word[0] == b"F":
            client_flags, flags_size = word + 1, flags.sizes[number] - 1
            if read_number(&word, word + flags.sizes[number]) < 0:
                return 0
    if exptime < 0:
        return 0
    name = PyBytes_FromStringAndSize(key, key_size)
    exptime = deadline_from(exptime, table.now, table.started)
    if not store_value(table, name, client_flags, flags_size, length_word, length_size, block, length, exptime):
        return 0
    if not flags.letters & letter_bit(b"q"):
        table.reply(b"HD", 2)
        reply_identity(table, &flags, key, key_size)
    return length + LINE_END_BYTES
