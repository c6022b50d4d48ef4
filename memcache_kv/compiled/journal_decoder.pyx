# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Check and decode lines of the journal, the greater part of the work without the interpreter.

Decodes the `set` records of small items in the form in which the journal's writer writes them. The content of all other
records is left to memcache_kv/journal/record.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, strlen

from memcache_kv.compiled.crc32 cimport Tables, crc32, fill_tables
from memcache_kv.compiled.entry cimport (
    EXPIRING, EXPIRING_BYTES, LAST_DEADLINE, LINE_END_BYTES, PLAIN_LIMIT_BYTES, WITH_CAS, WITH_CAS_BYTES,
)
from memcache_kv.compiled.json_text cimport (
    UNKNOWN, decode_base64, digits_of, read_base64, read_number, read_text, unescape, write_hex, write_number,
)

cdef enum:
    LAST_FLAGS = 0xFFFFFFFF
    UNCHAINED = -1
    DAMAGED = -1

cdef Tables CRC_TABLES
fill_tables(CRC_TABLES)

cdef struct Place:  # a position in a line
    const unsigned char* at
    const unsigned char* end

cdef struct JsonPiece:
    const unsigned char* data
    Py_ssize_t json_size
    Py_ssize_t size  # of what it stands for
    bint is_text  # otherwise it is base64

cdef struct SetRecord:
    const unsigned char* line
    Py_ssize_t line_size
    bint is_known
    JsonPiece key
    JsonPiece value
    uint64_t flags
    uint64_t exp
    uint64_t cas


def decode_block(bytes block, int64_t before):
    """Check lines, and return keys and their entries. For another record: the line without its line feed, and None.

    block: complete lines. before: as for `decode_lines`. Every entry returned is of type bytes. Raises ValueError if a
    line is damaged.
    """
    return parse_block(block, before).decoded()


def parse_block(bytes block, int64_t before):
    """Check and parse lines, without the GIL. Raises ValueError if one is damaged."""
    cdef ParsedBlock parsed = ParsedBlock.__new__(ParsedBlock)
    cdef Place rest
    rest.at = <const unsigned char*>PyBytes_AS_STRING(block)
    rest.end = rest.at + PyBytes_GET_SIZE(block)
    parsed._block = block
    with nogil:
        parsed._count = _count_lines(rest)
        parsed._records = <SetRecord*>malloc(parsed._count * sizeof(SetRecord))
        if parsed._records is not NULL:
            parsed._count = _parse_some(&rest, parsed._records, parsed._count, &before)
    if parsed._records is NULL and parsed._count:
        raise MemoryError
    if parsed._count == DAMAGED:
        raise ValueError
    return parsed


cdef class ParsedBlock:
    """Lines that were checked and parsed."""

    cdef bytes _block  # where the records point to
    cdef SetRecord* _records
    cdef Py_ssize_t _count

    def __dealloc__(self):
        free(self._records)

    def decoded(self):
        """Return keys and their entries, as `decode_block` does."""
        cdef Py_ssize_t index
        cdef list keys = [], entries = []
        for index in range(self._count):
            _add(keys, entries, self._records + index)
        return keys, entries


cdef Py_ssize_t _count_lines(Place rest) noexcept nogil:
    cdef Py_ssize_t count = 0
    while rest.at < rest.end:
        rest.at = <const unsigned char*>memchr(rest.at, b"\n", rest.end - rest.at)
        count += 1
        if rest.at is NULL:
            break
        rest.at += 1
    return count


cdef Py_ssize_t _parse_some(Place* rest, SetRecord* records, Py_ssize_t most, int64_t* before) noexcept nogil:
    """Check and parse lines as long as there is room for records. Returns how many; DAMAGED if one is damaged.

    before: the checksum of the line before; becomes that of the last line, unless it is UNCHAINED.
    """
    cdef const unsigned char* feed
    cdef Place place
    cdef uint32_t checksum
    cdef Py_ssize_t count = 0
    while rest.at < rest.end and count < most:
        feed = <const unsigned char*>memchr(rest.at, b"\n", rest.end - rest.at)
        if feed is NULL:
            feed = rest.end
        records[count].line, records[count].line_size = rest.at, feed - rest.at
        place.at, place.end = rest.at, feed
        checksum = 0 if before[0] == UNCHAINED else <uint32_t>before[0]
        if not _is_whole(&place, &checksum):
            return DAMAGED
        if before[0] != UNCHAINED:
            before[0] = checksum
        records[count].is_known = _parse(records + count, place)
        rest.at = feed + 1
        count += 1
    return count


# Parsing a line: each function moves the place behind what it has read, and returns whether that was there


cdef bint _parse(SetRecord* record, Place place) noexcept nogil:
    """Find the parts of a line's body. Returns false for any other kind or form of record."""
    record.flags = record.exp = record.cas = 0
    if not _skip(&place, b'"op":"set","key'):
        return False
    if not _read_piece(&place, &record.key) or record.key.json_size != record.key.size or not record.key.is_text:
        return False
    if memchr(record.key.data, b" ", record.key.size) is not NULL:
        return False  # such a key needs an Item
    if not _skip(&place, b","):
        return False
    if not _read_field(&place, b'"flags":', &record.flags) or record.flags > LAST_FLAGS:
        return False
    if not _read_field(&place, b'"exp":', &record.exp) or record.exp > LAST_DEADLINE:
        return False
    if not _read_field(&place, b'"cas":', &record.cas) or not _skip(&place, b'"value'):
        return False
    if not _read_piece(&place, &record.value) or not _skip(&place, b"}") or place.at != place.end:
        return False
    return _wire_size(record) <= PLAIN_LIMIT_BYTES


cdef bint _is_whole(Place* place, uint32_t* checksum) noexcept nogil:
    """Check the length and checksum that a line states, in the form in which it has to state them.

    checksum: that of the line before; becomes that of this line.
    """
    cdef const unsigned char* stated
    cdef unsigned char[8] computed
    cdef uint64_t size
    if not _skip(place, b'{"crc":"') or place.end - place.at < 8:
        return False
    stated = place.at
    place.at += 8
    if not _skip(place, b'","len":') or not _read_number(place, &size) or not _skip(place, b","):
        return False
    if size != <uint64_t>(place.end - place.at):
        return False
    write_hex(computed, crc32(CRC_TABLES, place.at, place.end - place.at, checksum[0]))
    checksum[0] = _read_hex(stated)  # not the computed one, so that the next line does not have to wait for it
    return memcmp(stated, computed, 8) == 0


cdef inline uint32_t _read_hex(const unsigned char* digits) noexcept nogil:
    """Return the number with these eight digits."""
    cdef uint32_t number = 0
    cdef int index
    for index in range(8):
        number = number << 4 | ((digits[index] & 0xF) + 9 * (digits[index] >> 6))
    return number


cdef inline bint _skip(Place* place, const char* text) noexcept nogil:
    cdef Py_ssize_t size = strlen(text)
    if place.end - place.at < size or memcmp(place.at, text, size) != 0:
        return False
    place.at += size
    return True


cdef inline bint _read_number(Place* place, uint64_t* number) noexcept nogil:
    cdef int digits = read_number(place.at, place.end - place.at, number)
    place.at += digits
    return digits > 0


cdef inline bint _read_field(Place* place, const char* name, uint64_t* number) noexcept nogil:
    """Read a number with its name and the comma behind it. If the field is left out, the number stays as it is."""
    return not _skip(place, name) or (_read_number(place, number) and _skip(place, b","))


cdef bint _read_piece(Place* place, JsonPiece* piece) noexcept nogil:
    """Read the end of a field's name and a string with its quotes."""
    piece.is_text = not _skip(place, b"64")
    if not _skip(place, b'":"'):
        return False
    piece.data = place.at
    if piece.is_text:
        piece.json_size = read_text(place.at, place.end - place.at, &piece.size)
    else:
        piece.json_size = read_base64(place.at, place.end - place.at, &piece.size)
    if piece.json_size == UNKNOWN:
        return False
    place.at += piece.json_size + 1
    return True


# Making the entry


cdef Py_ssize_t _wire_size(const SetRecord* record) noexcept nogil:
    cdef Py_ssize_t head = digits_of(record.flags) + digits_of(record.value.size) + <Py_ssize_t>strlen(b"  \r\n")
    return head + record.value.size + LINE_END_BYTES


cdef int _add(list keys, list entries, const SetRecord* record) except -1:
    """Append a record's key and entry, or the line and None."""
    if record.is_known:
        keys.append(PyBytes_FromStringAndSize(<char*>record.key.data, record.key.size))
        entries.append(_entry(record))
    else:
        keys.append(PyBytes_FromStringAndSize(<char*>record.line, record.line_size))
        entries.append(None)
    return 0


cdef bytes _entry(const SetRecord* record):
    """Return the entry, as `make_entry` would."""
    cdef Py_ssize_t size = _wire_size(record)
    cdef unsigned char* out
    if record.cas:
        size += WITH_CAS_BYTES - LINE_END_BYTES
    elif record.exp:
        size += EXPIRING_BYTES - LINE_END_BYTES
    entry = PyBytes_FromStringAndSize(NULL, size)
    out = <unsigned char*>PyBytes_AS_STRING(entry)
    out[0] = b" "
    out = write_number(out + 1, record.flags)
    out[0] = b" "
    out = write_number(out + 1, record.value.size)
    memcpy(out, b"\r\n", 2)
    _write_value(out + 2, &record.value)
    _write_end(out + 2 + record.value.size, record)
    return entry


cdef void _write_value(unsigned char* out, const JsonPiece* value) noexcept:
    if not value.is_text:
        decode_base64(out, value.data, value.size)
    elif value.size == value.json_size:
        memcpy(out, value.data, value.size)
    else:
        unescape(out, value.data, value.json_size)


cdef void _write_end(unsigned char* out, const SetRecord* record) noexcept:
    """Write the line end, or the metadata in its place."""
    if record.cas:
        out = _write_big_endian(out, record.cas, 8)
    if record.cas or record.exp:
        _write_big_endian(out, record.exp, 4)[0] = WITH_CAS if record.cas else EXPIRING
    else:
        memcpy(out, b"\r\n", LINE_END_BYTES)


cdef unsigned char* _write_big_endian(unsigned char* out, uint64_t number, int size) noexcept:
    cdef int index
    for index in range(size):
        out[index] = number >> 8 * (size - 1 - index) & 0xFF
    return out + size
