# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Check and decode lines of the journal without the interpreter, and put what they say into a store's tables.

Decodes `set` and `delete` records in the form in which the journal's writer writes them. The content of all other
records is left to memcache_kv/journal/record.py, and what is not simple to restore to memcache_kv/journal/recovery.py.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport (
    PyDict_Contains, PyDict_DelItem, PyDict_GetItemWithError, PyDict_SetDefault, PyDict_SetItem, PyDict_Size,
)
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject, PyObject_Hash
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from memcache_kv.compiled.crc32 cimport Tables, crc32, fill_tables
from memcache_kv.compiled.entry cimport (
    EXPIRING, EXPIRING_BYTES, LAST_DEADLINE, LINE_END_BYTES, PLAIN, PLAIN_LIMIT_BYTES, WITH_CAS, WITH_CAS_BYTES,
)
from memcache_kv.compiled.json_text cimport (
    UNKNOWN, decode_base64, digits_of, read_base64, read_number, read_text, unescape, write_hex, write_number,
)
from memcache_kv.compiled.slots cimport PyLong_AsSsize_t, add_to_slot, offset_of, slot

from memcache_kv.store.entry import ENTRY_COST_BYTES, Item
from memcache_kv.store.s3fifo import S3Fifo
from memcache_kv.store.shard import Shard

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>
    #include <unistd.h>

    /* Have the system give all whole pages of new memory at once. That is faster than one by one when each is touched.
       Where the system does not know of this, it refuses, and they come one by one. */
    static void populate(unsigned char *data, size_t size) {
    #ifdef MADV_POPULATE_WRITE
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t begin = ((uintptr_t)data + page - 1) & ~(page - 1), end = ((uintptr_t)data + size) & ~(page - 1);
        if (end > begin)
            (void)madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
    #endif
    }
    """
    void populate(unsigned char* data, size_t size) noexcept nogil

cdef extern from *:
    """
    static inline PyObject *steal(PyObject *object) { return object; }
    """
    bytes steal(PyObject* object)
    PyObject* PyBytes_New "PyBytes_FromStringAndSize" (const char* data, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject** made, Py_ssize_t size) except -1

cdef enum:
    SMALL_OBJECT_BYTES = 512  # longer objects than this, header included, are in malloc's memory
    MUCH_BYTES = 32 * 1024  # a copy of so much is worth letting go of the GIL
    LAST_FLAGS = 0xFFFFFFFF
    UNCHAINED = -1
    DAMAGED = -1

cdef Tables CRC_TABLES
fill_tables(&CRC_TABLES)

cdef struct Place:  # a position in a line
    const unsigned char* at
    const unsigned char* end

cdef struct JsonPiece:
    const unsigned char* data
    Py_ssize_t json_size
    Py_ssize_t size  # of what it stands for
    bint is_text  # otherwise it is base64

cdef enum Kind:
    OTHER  # only its line is known
    SET
    DELETE

cdef struct ParsedRecord:
    const unsigned char* line
    Py_ssize_t line_size
    Kind kind
    JsonPiece key
    JsonPiece value  # of SET, as all that follows
    uint64_t flags
    uint64_t exp
    uint64_t cas


def parse_block(block, int64_t before):
    """Check and parse lines, without the GIL. Raises ValueError if one is damaged.

    block: complete lines. before: as for `decode_lines`.
    """
    cdef ParsedBlock parsed = ParsedBlock.__new__(ParsedBlock)
    cdef Place rest
    PyObject_GetBuffer(block, &parsed._block, PyBUF_SIMPLE)
    rest.at = <const unsigned char*>parsed._block.buf
    rest.end = rest.at + parsed._block.len
    with nogil:
        parsed._count = _count_lines(rest)
        parsed._records = <ParsedRecord*>malloc(parsed._count * sizeof(ParsedRecord))
        if parsed._records is not NULL:
            parsed._count = _parse_some(&rest, parsed._records, parsed._count, &before)
    if parsed._records is NULL and parsed._count:
        raise MemoryError
    if parsed._count == DAMAGED:
        raise ValueError
    return parsed


cdef class ParsedBlock:
    """Lines that were checked and parsed."""

    cdef Py_buffer _block  # where the records point to; its length can't be changed meanwhile
    cdef ParsedRecord* _records
    cdef Py_ssize_t _count

    def __dealloc__(self):
        free(self._records)
        PyBuffer_Release(&self._block)

    def __len__(self):
        return self._count

    def lines(self, Py_ssize_t start, Py_ssize_t end, now, bint is_apart=False):
        """Return keys and entries of records. For any other than a `set` record: the line without its feed, and None.

        now: the present unix time. is_apart: whether they are to be apart from other small objects (`_new_bytes`).
        """
        cdef Py_ssize_t index
        cdef list keys = [], entries = []
        for index in range(max(start, 0), min(end, self._count)):
            _add(keys, entries, self._records + index, now, is_apart)
        return keys, entries

    def restore(
        self, list shards, list expired, Py_ssize_t start, Py_ssize_t end, now, last_cas, left_out=None
    ):
        """Put records into the tables of shards: those from `start` on, up to one that is not simple to restore.

        The shards must be those of a store that no other thread uses. expired: entries that have expired, in as many
        tables, whose keys are left to the caller. now: the present unix time. last_cas: the highest CAS id so far.
        left_out: the keys that were left out of the store, if any were.

        Returns where it stopped, where the records end that the caller must restore now, and the highest CAS id.
        """
        cdef Restored restored
        restored.last_cas = last_cas
        end = min(end, self._count)
        look_at_prints(&restored.left_out, left_out)
        try:
            start = _restore_some(&restored, self._records, start, end, shards, expired, now)
        finally:
            if restored.left_out.count:
                left_out.count += restored.left_out.count
        return start, _end_of_others(self._records, start, end), restored.last_cas


cdef Py_ssize_t _count_lines(Place rest) noexcept nogil:
    cdef Py_ssize_t count = 0
    while rest.at < rest.end:
        rest.at = <const unsigned char*>memchr(rest.at, b"\n", rest.end - rest.at)
        count += 1
        if rest.at is NULL:
            break
        rest.at += 1
    return count


cdef Py_ssize_t _parse_some(Place* rest, ParsedRecord* records, Py_ssize_t most, int64_t* before) noexcept nogil:
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
        records[count].kind = _parse(records + count, place)
        rest.at = feed + 1
        count += 1
    return count


# Parsing a line: each function moves the place behind what it has read, and returns whether that was there


cdef Kind _parse(ParsedRecord* record, Place place) noexcept nogil:
    """Find the parts of a line's body."""
    if not _skip(&place, b'"op":"'):
        return OTHER
    if _skip(&place, b'set","key'):
        return SET if _parse_set(record, place) else OTHER
    if _skip(&place, b'delete","key'):
        return DELETE if _read_key(&place, &record.key) and _skip(&place, b"}") and place.at == place.end else OTHER
    return OTHER


cdef bint _parse_set(ParsedRecord* record, Place place) noexcept nogil:
    """Find the parts of a `set` record from its key on. Returns false for any other form."""
    record.flags = record.exp = record.cas = 0
    if not _read_key(&place, &record.key) or not _skip(&place, b","):
        return False
    if not _read_field(&place, b'"flags":', &record.flags) or record.flags > LAST_FLAGS:
        return False
    if not _read_field(&place, b'"exp":', &record.exp) or record.exp > LAST_DEADLINE:
        return False
    if not _read_field(&place, b'"cas":', &record.cas) or not _skip(&place, b'"value'):
        return False
    return _read_piece(&place, &record.value) and _skip(&place, b"}") and place.at == place.end


cdef bint _read_key(Place* place, JsonPiece* key) noexcept nogil:
    """Read a key that is text without escapes and spaces. Entries of other keys are Items."""
    if not _read_piece(place, key) or key.json_size != key.size or not key.is_text:
        return False
    return memchr(key.data, b" ", key.size) is NULL


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
    write_hex(computed, crc32(&CRC_TABLES, place.at, place.end - place.at, checksum[0]))
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


cdef Py_ssize_t _wire_size(const ParsedRecord* record) noexcept nogil:
    cdef Py_ssize_t head = digits_of(record.flags) + digits_of(record.value.size) + <Py_ssize_t>strlen(b"  \r\n")
    return head + record.value.size + LINE_END_BYTES


cdef int _add(list keys, list entries, const ParsedRecord* record, object now, bint is_apart) except -1:
    """Append a record's key and entry, or the line and None."""
    if record.kind == SET:
        is_apart = is_apart and _wire_size(record) > SMALL_OBJECT_BYTES
        keys.append(_key(record, is_apart))
        entries.append(_entry(record, now, is_apart))
    else:
        keys.append(PyBytes_FromStringAndSize(<char*>record.line, record.line_size))
        entries.append(None)
    return 0


cdef bytes _new_bytes(Py_ssize_t size, bint is_apart):
    """Return bytes that are to be filled.

    The interpreter's allocator gives memory back a megabyte at a time, once no object is left there. So where values
    of other sizes follow, their keys would keep what the evicted ones have taken. Apart, they are in malloc's memory,
    which is given back by the page: there an object begins longer than those of the interpreter's, and is cut off.
    """
    cdef PyObject* made
    if not is_apart or size > SMALL_OBJECT_BYTES:
        return PyBytes_FromStringAndSize(NULL, size)
    made = PyBytes_New(NULL, SMALL_OBJECT_BYTES)
    _PyBytes_Resize(&made, size)
    return steal(made)


cdef inline bytes _key(const ParsedRecord* record, bint is_apart):
    cdef bytes key
    if not is_apart:
        return PyBytes_FromStringAndSize(<char*>record.key.data, record.key.size)
    key = _new_bytes(record.key.size, is_apart)
    memcpy(PyBytes_AS_STRING(key), record.key.data, record.key.size)
    return key


cdef object _entry(const ParsedRecord* record, object now, bint is_apart):
    """Return the entry, as `make_entry` would."""
    cdef Py_ssize_t size = _wire_size(record)
    if size > PLAIN_LIMIT_BYTES:
        return Item(_wire_bytes(record, size, False, is_apart), record.exp, record.cas, now)
    if record.cas:
        size += WITH_CAS_BYTES - LINE_END_BYTES
    elif record.exp:
        size += EXPIRING_BYTES - LINE_END_BYTES
    return _wire_bytes(record, size, True, is_apart)


cdef bytes _wire_bytes(const ParsedRecord* record, Py_ssize_t size, bint is_marked, bint is_apart):
    """Return the wire bytes, `size` bytes with what stands in place of the line end if they are marked."""
    cdef bytes made = _new_bytes(size, is_apart)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(made)
    out[0] = b" "
    out = write_number(out + 1, record.flags)
    out[0] = b" "
    out = write_number(out + 1, record.value.size)
    memcpy(out, b"\r\n", 2)
    _write_value(out + 2, &record.value)
    _write_end(out + 2 + record.value.size, record.exp if is_marked else 0, record.cas if is_marked else 0)
    return made


cdef void _write_value(unsigned char* out, const JsonPiece* value) noexcept:
    if not value.is_text:
        decode_base64(out, value.data, value.size)
    elif value.size == value.json_size:
        _copy(out, value.data, value.size)
    else:
        unescape(out, value.data, value.json_size)


cdef void _copy(unsigned char* out, const unsigned char* data, Py_ssize_t size) noexcept:
    """Copy into new memory. While it is much, the thread that reads and parses the next blocks can have the GIL."""
    if size < MUCH_BYTES:
        memcpy(out, data, size)
    else:
        with nogil:
            populate(out, size)
            memcpy(out, data, size)


cdef void _write_end(unsigned char* out, uint64_t exp, uint64_t cas) noexcept:
    """Write the line end, or the metadata in its place."""
    if cas:
        out = _write_big_endian(out, cas, 8)
    if cas or exp:
        _write_big_endian(out, exp, 4)[0] = WITH_CAS if cas else EXPIRING
    else:
        memcpy(out, b"\r\n", LINE_END_BYTES)


cdef unsigned char* _write_big_endian(unsigned char* out, uint64_t number, int size) noexcept:
    cdef int index
    for index in range(size):
        out[index] = number >> 8 * (size - 1 - index) & 0xFF
    return out + size


include "leaving_out.pxi"
include "restoring.pxi"
