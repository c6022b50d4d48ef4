# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Encode the journal's queue, most of the time without the interpreter.

The result is the same, byte by byte, as that of `queue_lines` in memcache_kv/journal/record.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, strlen

from memcache_kv.compiled.crc32 cimport Tables, crc32, fill_tables
from memcache_kv.compiled.json_text cimport NOT_TEXT, base64_size, text_size, write_base64, write_text

cdef enum:  # the layout of entries, from memcache_kv/store/entry.py
    PLAIN = 10
    EXPIRING = 0
    WITH_CAS = 1
    LINE_END_BYTES = 2
    EXPIRING_BYTES = 5
    WITH_CAS_BYTES = 13
    STALE = 2
    WON = 4

cdef enum:
    ENCODED = 10  # the only byte of what stands in place of a key before a line that is encoded already
    LONGEST_FLAGS = 10
    SMALL_BYTES = 4096  # fewer bytes are encoded sooner than other threads can be let in

cdef Tables CRC_TABLES
fill_tables(CRC_TABLES)

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
    bint is_encoded  # the value is the line
    Py_ssize_t body_size  # the length that the line states


def encode_queue(list queue, int64_t wall_ahead):
    """Return queued keys and entries as lines; None if an entry has an unknown form.

    queue: keys and entries in turn, or b"\\n" and a line. wall_ahead: as for `queue_lines`. Other threads must not change
    the list meanwhile.
    """
    cdef Py_ssize_t count = len(queue) // 2, total = 0
    cdef unsigned char* out = NULL
    cdef Line* lines = <Line*>malloc(count * sizeof(Line) + 1)
    if lines is NULL:
        raise MemoryError
    try:
        if not _describe(queue, lines, count, &total):
            return None
        if total < SMALL_BYTES:
            out = _encode(lines, count, wall_ahead, &total)
        else:
            with nogil:
                out = _encode(lines, count, wall_ahead, &total)
        if out is NULL:
            return None
        return PyBytes_FromStringAndSize(<char*>out, total)
    finally:
        free(lines)
        free(out)


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


cdef unsigned char* _encode(Line* lines, Py_ssize_t count, int64_t wall_ahead, Py_ssize_t* total) noexcept nogil:
    """Return the lines in memory that the caller frees; NULL if that is not possible."""
    cdef unsigned char* out
    cdef unsigned char* end
    cdef Py_ssize_t index
    total[0] = 0
    for index in range(count):
        if not _measure(lines + index, wall_ahead):
            return NULL
        total[0] += _line_size(lines + index)
    out = end = <unsigned char*>malloc(total[0] + 1)
    if out is not NULL:
        for index in range(count):
            end = _write_line(end, lines + index)
    return out


# How long a line is


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


cdef int _digits(uint64_t number) noexcept nogil:
    cdef int count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef inline Py_ssize_t _field_size(const char* name, uint64_t number) noexcept nogil:
    """Return the length of a field, which is left out if the number is 0."""
    return <Py_ssize_t>strlen(name) + _digits(number) if number else 0


cdef Py_ssize_t _line_size(const Line* line) noexcept nogil:
    if line.is_encoded:
        return line.value.size
    return <Py_ssize_t>strlen(b'{"crc":"00000000","len":,\n') + _digits(line.body_size) + line.body_size


# Writing it


cdef unsigned char* _write_line(unsigned char* out, const Line* line) noexcept nogil:
    """Write a line. Returns where it ends, as all functions below do."""
    cdef unsigned char* crc
    cdef unsigned char* body
    if line.is_encoded:
        memcpy(out, line.value.data, line.value.size)
        return out + line.value.size
    out = crc = _write(out, b'{"crc":"')
    out = _write(out + 8, b'","len":')
    out = body = _write(_write_number(out, line.body_size), b",")
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
    _write_hex(crc, crc32(CRC_TABLES, body, out - body))
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
    return _write_number(_write(out, name), number) if number else out


cdef unsigned char* _write_number(unsigned char* out, uint64_t number) noexcept nogil:
    cdef int count = _digits(number), index
    for index in range(count - 1, -1, -1):
        out[index] = <unsigned char>b"0" + number % 10
        number //= 10
    return out + count


cdef void _write_hex(unsigned char* out, uint32_t number) noexcept nogil:
    cdef int index
    for index in range(7, -1, -1):
        out[index] = b"0123456789abcdef"[number & 0xF]
        number >>= 4
