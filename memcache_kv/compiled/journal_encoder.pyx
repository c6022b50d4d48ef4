# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Encode the journal's queue, most of the time without the interpreter, and take the items of a base from the store.

The result is the same, byte by byte, as that of `queue_lines` in memcache_kv/journal/record.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, strlen

from memcache_kv.compiled.crc32 cimport Tables, crc32, fill_tables
from memcache_kv.compiled.entry cimport EXPIRING, EXPIRING_BYTES, LINE_END_BYTES, PLAIN, STALE, WITH_CAS, WITH_CAS_BYTES, WON
from memcache_kv.compiled.json_text cimport (
    NOT_TEXT, base64_size, digits_of, read_number, text_size, write_base64, write_hex, write_number, write_text,
)

cdef enum:
    ENCODED = 10  # the only byte of what stands in place of a key before a line that is encoded already
    LONGEST_FLAGS = 10
    SMALL_BYTES = 4096  # fewer bytes are encoded sooner than other threads can be let in

cdef enum:
    TOGETHER = 16  # items whose memory is fetched at the same time

cdef extern from *:
    """
    static inline int cut_list(PyObject *list, Py_ssize_t size) {
        return PyList_SetSlice(list, size, PY_SSIZE_T_MAX, NULL);
    }
    """
    PyObject* PyList_GET_ITEM(object each, Py_ssize_t index)  # borrowed, unlike that of Cython
    int cut_list(list each, Py_ssize_t size) except -1
    void prefetch "__builtin_prefetch" (const void* place)

cdef Tables CRC_TABLES
fill_tables(&CRC_TABLES)

cdef struct Piece:
    const unsigned char* data
    Py_ssize_t size
    Py_ssize_t json_size  # as a JSON string, without the quotes
    bint is_text  # otherwise it is written in base64

cdef struct Line:
    Piece key
    Piece value  # at first the whole entry
    uint64_t flags
    int64_t exp
    uint64_t cas
    int state
    bint is_item  # the entry has its metadata beside the wire bytes
    bint is_encoded  # the value is the line, or several
    Py_ssize_t body_size  # the length that the line states


def encode_queue(list queue, int64_t wall_ahead, uint32_t chain):
    """Return queued keys and entries as lines and the last one's checksum; None if an entry has an unknown form.

    queue: keys and entries in turn, or b"\\n" and lines; other threads must not change it meanwhile. wall_ahead, chain:
    as for `queue_lines`.
    """
    cdef Py_ssize_t count = len(queue) // 2, total = 0
    cdef unsigned char* out
    cdef bint is_done
    cdef Line* lines = <Line*>malloc(count * sizeof(Line) + 1)
    if lines is NULL:
        raise MemoryError
    try:
        if not _describe(queue, lines, count, &total):
            return None
        if total < SMALL_BYTES:
            return _encode_small(lines, count, wall_ahead, chain)
        with nogil:
            total = _measure_all(lines, count, wall_ahead)
        if total < 0:
            return None
        encoded = PyBytes_FromStringAndSize(NULL, total)
        out = <unsigned char*>PyBytes_AS_STRING(encoded)
        with nogil:
            is_done = _write_all(out, lines, count, &chain)
        return (encoded, chain) if is_done else None
    finally:
        free(lines)


cdef _encode_small(Line* lines, Py_ssize_t count, int64_t wall_ahead, uint32_t chain):
    """Do the same without letting other threads in."""
    cdef Py_ssize_t total = _measure_all(lines, count, wall_ahead)
    if total < 0:
        return None
    encoded = PyBytes_FromStringAndSize(NULL, total)
    if not _write_all(<unsigned char*>PyBytes_AS_STRING(encoded), lines, count, &chain):
        return None
    return encoded, chain


def rechained(bytes data, uint32_t chain):
    """Return lines with new checksums and the last of these, as `rechained_lines` does. Raises ValueError as it does."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const unsigned char* old = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef bint is_done
    copy = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(copy)
    with nogil:
        memcpy(out, old, size)
        is_done = _rechain(out, size, &chain)
    if not is_done:
        raise ValueError("not complete lines of a journal")
    return copy, chain


cdef bint _rechain(unsigned char* line, Py_ssize_t size, uint32_t* chain) noexcept nogil:
    """Replace the checksums of lines, which they need not fit. Returns false for anything but complete lines."""
    cdef Py_ssize_t head = strlen(b'{"crc":"00000000","len":'), left
    cdef uint64_t length
    cdef unsigned char* body
    while size:
        if size <= head or memcmp(line, b'{"crc":"', strlen(b'{"crc":"')) != 0:
            return False
        if memcmp(line + head - strlen(b'","len":'), b'","len":', strlen(b'","len":')) != 0:
            return False
        body = line + head
        body += read_number(body, size - head, &length) + 1
        left = size - (body - line)
        if body == line + head + 1 or left <= 0 or length >= <uint64_t>left:
            return False
        if (body - 1)[0] != b"," or body[length] != b"\n":
            return False
        chain[0] = crc32(&CRC_TABLES, body, length, chain[0])
        write_hex(line + strlen(b'{"crc":"'), chain[0])
        size = left - length - 1
        line = body + length + 1
    return True


cdef bint _describe(list queue, Line* lines, Py_ssize_t count, Py_ssize_t* total) except -1:
    """Store where the bytes of keys and entries are, and add up their lengths. Returns false for what is no entry."""
    cdef Py_ssize_t index
    cdef Line* line
    for index in range(count):
        line = lines + index
        key, entry = queue[2 * index], queue[2 * index + 1]
        line.is_item = type(entry) is not bytes
        line.exp = line.cas = line.state = 0
        if line.is_item:
            if not 0 <= entry.deadline >> 62 == 0 or entry.cas >> 64:
                return False
            line.exp, line.cas, line.state = entry.deadline, entry.cas, entry.state
            entry = entry.wire_bytes  # stays where it is, as nobody replaces the wire bytes of an Item
        if type(key) is not bytes or type(entry) is not bytes:
            return False
        line.key.data, line.key.size = <unsigned char*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
        line.value.data, line.value.size = <unsigned char*>PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry)
        total[0] += line.key.size + line.value.size
    return True


# Items of a base


def take_live(dict table, list keys, int64_t now, Py_ssize_t most_items, Py_ssize_t most_bytes):
    """Take keys from the end of a list, and return the live ones and their entries in turn, as `take_live` in Python does.

    The table's lock must be held. The memory of several items is fetched at once, because that takes the most time.
    """
    cdef list found = []
    cdef PyObject* entries[TOGETHER]
    cdef Py_ssize_t left = PyList_GET_SIZE(keys), last = max(left - most_items, 0), size = 0
    cdef int index, count
    while left > last and size <= most_bytes:
        count = _look_up(table, keys, left, min(left - last, TOGETHER), entries)
        for index in range(count):
            left -= 1
            if entries[index] is NULL:
                continue
            key, entry = keys[left], <object>entries[index]
            if not 0 < _deadline_of(entry) <= now:
                found.append(key)
                found.append(entry)
                size += PyBytes_GET_SIZE(key) + len(entry)
                if size > most_bytes:
                    break
    cut_list(keys, left)
    return found


cdef int _look_up(dict table, list keys, Py_ssize_t end, int count, PyObject** entries) except -1:
    """Find the entries of the `count` keys before `end`, the last key's first; NULL for those that are gone."""
    cdef int index
    for index in range(count):
        prefetch(PyList_GET_ITEM(keys, end - 1 - index))
    for index in range(count):
        entries[index] = PyDict_GetItemWithError(table, <object>PyList_GET_ITEM(keys, end - 1 - index))
        prefetch(entries[index])
    for index in range(count):
        if entries[index] is not NULL and PyBytes_CheckExact(<object>entries[index]):
            prefetch(PyBytes_AS_STRING(<object>entries[index]) + PyBytes_GET_SIZE(<object>entries[index]) - 1)
    return count


cdef int64_t _deadline_of(object entry) except? -1:
    """Return when an entry expires; 0 for never."""
    cdef const unsigned char* end
    if not PyBytes_CheckExact(entry):
        return entry.deadline
    end = <const unsigned char*>PyBytes_AS_STRING(entry) + PyBytes_GET_SIZE(entry)
    return 0 if (end - 1)[0] == PLAIN else _big_endian(end - EXPIRING_BYTES, 4)


# How long a line is


cdef Py_ssize_t _measure_all(Line* lines, Py_ssize_t count, int64_t wall_ahead) noexcept nogil:
    """Return the length of all lines; -1 if an entry has an unknown form."""
    cdef Py_ssize_t index, total = 0
    for index in range(count):
        if not _measure(lines + index, wall_ahead):
            return -1
        total += _line_size(lines + index)
    return total


cdef bint _measure(Line* line, int64_t wall_ahead) noexcept nogil:
    """Take an entry apart, and compute the length of its line. Returns false if it has an unknown form."""
    line.is_encoded = line.key.size == 1 and line.key.data[0] == ENCODED and not line.is_item
    if line.is_encoded:
        return True
    if not _split(line):
        return False
    if line.exp:
        line.exp = max(1, line.exp + wall_ahead)
    _measure_piece(&line.key)
    _measure_piece(&line.value)
    line.body_size = strlen(b'"op":"set","key":"","value":""}') + line.key.json_size + line.value.json_size
    line.body_size += (not line.key.is_text) * strlen(b"64") + (not line.value.is_text) * strlen(b"64")
    line.body_size += _field_size(b'"flags":,', line.flags) + _field_size(b'"exp":,', line.exp)
    line.body_size += _field_size(b'"cas":,', line.cas)
    line.body_size += (line.state & STALE != 0) * strlen(b',"stale":true')
    line.body_size += (line.state & WON != 0) * strlen(b',"won":true')
    return True


cdef bint _split(Line* line) noexcept nogil:
    """Store an entry's flags, value and metadata. Returns false if it has an unknown form."""
    cdef const unsigned char* data = line.value.data
    cdef Py_ssize_t size = line.value.size
    cdef const unsigned char* end = <const unsigned char*>memchr(data, b"\n", size)
    cdef unsigned char kind
    if end is NULL or data[0] != b" ":
        return False
    kind = data[size - 1]
    if kind == PLAIN:
        size -= LINE_END_BYTES
    elif line.is_item:
        return False
    elif kind == EXPIRING:
        line.exp = _big_endian(data + size - EXPIRING_BYTES, 4)
        size -= EXPIRING_BYTES
    elif kind == WITH_CAS:
        line.cas = _big_endian(data + size - WITH_CAS_BYTES, 8)
        line.exp = _big_endian(data + size - EXPIRING_BYTES, 4)
        size -= WITH_CAS_BYTES
    else:
        return False
    line.value.data, line.value.size = end + 1, size - (end + 1 - data)
    return line.value.size >= 0 and _read_flags(data + 1, &line.flags)


cdef bint _read_flags(const unsigned char* data, uint64_t* flags) noexcept nogil:
    """Read the number up to the next space, which the line end follows. Returns false if it is no number."""
    cdef int index
    flags[0] = 0
    for index in range(LONGEST_FLAGS + 1):
        if data[index] == b" ":
            return index > 0
        if not b"0" <= data[index] <= b"9":
            break
        flags[0] = flags[0] * 10 + data[index] - <unsigned char>b"0"
    return False


cdef uint64_t _big_endian(const unsigned char* data, int size) noexcept nogil:
    cdef uint64_t number = 0
    cdef int index
    for index in range(size):
        number = number << 8 | data[index]
    return number


cdef void _measure_piece(Piece* piece) noexcept nogil:
    piece.json_size = text_size(piece.data, piece.size)
    piece.is_text = piece.json_size != NOT_TEXT
    if not piece.is_text:
        piece.json_size = base64_size(piece.size)


cdef inline Py_ssize_t _field_size(const char* name, uint64_t number) noexcept nogil:
    """Return the length of a field, which is left out if the number is 0."""
    return <Py_ssize_t>strlen(name) + digits_of(number) if number else 0


cdef Py_ssize_t _line_size(const Line* line) noexcept nogil:
    if line.is_encoded:
        return line.value.size
    return <Py_ssize_t>strlen(b'{"crc":"00000000","len":,\n') + digits_of(line.body_size) + line.body_size


# Writing it


cdef bint _write_all(unsigned char* out, const Line* lines, Py_ssize_t count, uint32_t* chain) noexcept nogil:
    """Write all lines. `chain` becomes the checksum of the last one. Returns false if an encoded line is no line."""
    cdef Py_ssize_t index, size
    for index in range(count):
        if lines[index].is_encoded:
            size = lines[index].value.size
            memcpy(out, lines[index].value.data, size)
            if not _rechain(out, size, chain):
                return False
            out += size
        else:
            out = _write_line(out, lines + index, chain)
    return True


cdef unsigned char* _write_line(unsigned char* out, const Line* line, uint32_t* chain) noexcept nogil:
    """Write a line. Returns where it ends, as all functions below do."""
    cdef unsigned char* crc
    cdef unsigned char* body
    out = crc = _write(out, b'{"crc":"')
    out = _write(out + 8, b'","len":')
    out = body = _write(write_number(out, line.body_size), b",")
    out = _write_piece(_write(out, b'"op":"set","key'), &line.key)
    out = _write_field(out, b',"flags":', line.flags)
    out = _write_field(out, b',"exp":', line.exp)
    out = _write_field(out, b',"cas":', line.cas)
    out = _write_piece(_write(out, b',"value'), &line.value)
    if line.state & STALE:
        out = _write(out, b',"stale":true')
    if line.state & WON:
        out = _write(out, b',"won":true')
    out = _write(out, b"}")
    chain[0] = crc32(&CRC_TABLES, body, out - body, chain[0])
    write_hex(crc, chain[0])
    return _write(out, b"\n")


cdef inline unsigned char* _write(unsigned char* out, const char* text) noexcept nogil:
    memcpy(out, text, strlen(text))
    return out + strlen(text)


cdef unsigned char* _write_piece(unsigned char* out, const Piece* piece) noexcept nogil:
    """Write the rest of a field's name, and its key or value."""
    if piece.is_text:
        out = write_text(_write(out, b'":"'), piece.data, piece.size, piece.json_size)
    else:
        out = write_base64(_write(out, b'64":"'), piece.data, piece.size)
    return _write(out, b'"')


cdef inline unsigned char* _write_field(unsigned char* out, const char* name, uint64_t number) noexcept nogil:
    return write_number(_write(out, name), number) if number else out
