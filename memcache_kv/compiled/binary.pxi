"""The requests of the binary protocol that are carried out here: get, set, delete and their relatives, and noop."""

cdef enum:
    HEAD_BYTES = 24
    FLAGS_BYTES = 4
    STORING_BYTES = 8

cdef enum:
    REQUEST_MAGIC = 0x80
    REPLY_MAGIC = 0x81
    GET = 0x00
    SET = 0x01
    DELETE = 0x04
    GETQ = 0x09
    NOOP = 0x0A
    GETK = 0x0C
    GETKQ = 0x0D
    SETQ = 0x11
    DELETEQ = 0x14
    NOT_FOUND = 1


cdef Py_ssize_t run_binary(
    Table table, const char* data, Py_ssize_t size, Py_ssize_t most, bint may_write, Py_ssize_t* done
) except -1:
    """Carry out requests, as `run_text` does."""
    cdef Py_ssize_t position = 0, body_size, key_size
    cdef const unsigned char* head
    cdef bint is_done
    while done[0] < most and table.may_go_on() and size - position >= HEAD_BYTES:
        head = <const unsigned char*>data + position
        body_size, key_size = read32(<const char*>head + 8), head[2] << 8 | head[3]
        if head[0] != REQUEST_MAGIC or body_size > size - position - HEAD_BYTES or key_size > KEY_LIMIT_BYTES:
            break
        if head[1] == GET or head[1] == GETQ or head[1] == GETK or head[1] == GETKQ:
            is_done = key_size > 0 and body_size == key_size and head[4] == 0
            is_done = is_done and binary_get(table, head, key_size)
        elif head[1] == SET or head[1] == SETQ:
            is_done = may_write and key_size > 0 and head[4] == STORING_BYTES
            is_done = is_done and binary_set(table, head, key_size, body_size - STORING_BYTES - key_size)
        elif head[1] == DELETE or head[1] == DELETEQ:
            is_done = may_write and key_size > 0 and body_size == key_size and head[4] == 0 and not table.is_observed
            is_done = is_done and binary_delete(table, head, key_size)
        elif head[1] == NOOP and body_size == 0:
            is_done = head[4] == 0 and key_size == 0
            if is_done:
                reply_head(table, head, 0, 0, 0, 0, 0)
        else:
            break
        if not is_done:
            break
        position += HEAD_BYTES + body_size
        done[0] += 1
        table.counts.requests += 1
    return position


cdef inline void reply_head(
    Table table, const unsigned char* head, int status, int extras_size, Py_ssize_t key_size, Py_ssize_t body_size,
    uint64_t cas,
) noexcept:
    """Append the header of a reply to the request with this header. body_size: extras and key included."""
    cdef char* place = table.out + table.size
    memset(place, 0, HEAD_BYTES)
    place[0], place[1] = <char>REPLY_MAGIC, <char>head[1]
    place[2], place[3] = <char>(key_size >> 8), <char>key_size
    place[4], place[7] = <char>extras_size, <char>status
    write32(place + 8, <uint32_t>body_size)
    memcpy(place + 12, head + 12, 4)  # the opaque
    write64(place + 16, cas)
    table.size += HEAD_BYTES


cdef bint binary_get(Table table, const unsigned char* head, Py_ssize_t key_size) except -1:
    """get, getk, and their quiet forms"""
    cdef Found found
    cdef const char* value
    cdef Py_ssize_t value_size, named_size = key_size if head[1] == GETK or head[1] == GETKQ else 0
    cdef const char* key = <const char*>head + HEAD_BYTES
    cdef char* flags
    name = PyBytes_FromStringAndSize(key, key_size)
    cdef PyObject* entry = table.find(name)
    if entry is NULL:
        if table.has_flushed:
            return False
        table.counts.misses += 1
        if table.counts_prefixes:
            note_lookup(table, key, key_size, False)
        if head[1] == GET:
            reply_head(table, head, NOT_FOUND, 0, 0, 9, 0)
            table.reply(b"Not found", 9)
        elif head[1] == GETK:
            reply_head(table, head, NOT_FOUND, 0, key_size, key_size, 0)
            table.reply(key, key_size)
        return True
    if not table.describe(entry, &found) or found.cas == 0:
        return False
    if table.marks_reads:
        table.mark(name)
    table.counts.hits += 1
    if table.counts_prefixes:
        note_lookup(table, key, key_size, True)
    value = <const char*>memchr(found.wire, LINE_FEED, found.size) + 1
    value_size = found.wire + found.size - value
    reply_head(table, head, 0, FLAGS_BYTES, named_size, FLAGS_BYTES + named_size + value_size, found.cas)
    write32(table.out + table.size, flags_of(found.wire))
    table.size += FLAGS_BYTES
    table.reply(key, named_size)
    table.reply(value, value_size)
    return True


cdef bint binary_set(Table table, const unsigned char* head, Py_ssize_t key_size, Py_ssize_t size) except -1:
    """set and setq of a small value, without a CAS id to compare. size: the value's length."""
    cdef const char* key = <const char*>head + HEAD_BYTES + STORING_BYTES
    cdef const char* value = key + key_size
    cdef char words[64]
    cdef char* place
    cdef Py_ssize_t words_size
    cdef uint64_t cas
    cdef uint32_t deadline
    if not 0 <= size <= PLAIN_LIMIT_BYTES or read64(<const char*>head + 16) or not table.may_store:
        return False
    if memchr(key, SPACE, key_size) is not NULL or memchr(key, LINE_FEED, key_size) is not NULL:
        return False
    words_size = write_words(words, read32(<const char*>head + HEAD_BYTES), size)
    if words_size + size + LINE_END_BYTES > PLAIN_LIMIT_BYTES or table.cas_ids is None:
        return False
    deadline = deadline_from(read32(<const char*>head + HEAD_BYTES + 4), table.now, table.started)
    if 0 < deadline <= table.now:  # the Python protocol counts that
        return False
    cas = next(table.cas_ids)
    entry = PyBytes_FromStringAndSize(NULL, words_size + size + WITH_CAS_BYTES)
    place = PyBytes_AS_STRING(entry)
    memcpy(place, words, words_size)
    memcpy(place + words_size, value, size)
    place += words_size + size
    write64(place, cas)
    write32(place + 8, deadline)
    place[12] = WITH_CAS
    if not table.put(PyBytes_FromStringAndSize(key, key_size), entry, True):
        return False
    table.counts.sets += 1
    if table.counts_prefixes:
        add_prefix(table.stored, table.delimiter, key, key_size)
    if head[1] == SET:
        reply_head(table, head, 0, 0, 0, 0, cas)
    return True


cdef bint binary_delete(Table table, const unsigned char* head, Py_ssize_t key_size) except -1:
    """delete and deleteq, without a CAS id to compare"""
    cdef bint was_there
    if read64(<const char*>head + 16):
        return False
    if not table.delete(PyBytes_FromStringAndSize(<const char*>head + HEAD_BYTES, key_size), &was_there):
        return False
    if not was_there:
        reply_head(table, head, NOT_FOUND, 0, 0, 9, 0)
        table.reply(b"Not found", 9)
    elif head[1] == DELETE:
        reply_head(table, head, 0, 0, 0, 0, 0)
    return True


cdef inline Py_ssize_t write_words(char* words, uint32_t flags, Py_ssize_t length) noexcept:
    """Write what stands before a value in its entry; return its length."""
    cdef Py_ssize_t size = 1
    words[0] = SPACE
    size += write_number(words + size, flags)
    words[size] = SPACE
    size += 1 + write_number(words + size + 1, length)
    memcpy(words + size, b"\r\n", LINE_END_BYTES)
    return size + LINE_END_BYTES


cdef inline uint32_t flags_of(const char* wire) noexcept:
    """Return the client flags in an entry."""
    cdef uint32_t flags = 0
    wire += 1
    while wire[0] != SPACE:
        flags = 10 * flags + <unsigned char>wire[0] - ZERO
        wire += 1
    return flags
