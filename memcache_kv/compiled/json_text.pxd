"""Keys and values as JSON: which bytes are text, and how text and other bytes are written."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    NOT_TEXT = -1
    WORD = 8


cdef inline uint64_t _eight(unsigned char byte) noexcept nogil:
    """Return a word of eight such bytes."""
    return 0x0101010101010101ULL * byte


cdef inline Py_ssize_t plain_size(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return the length of ASCII text at the beginning that needs no escapes, or up to seven bytes less."""
    cdef uint64_t word = 0, quotes, backslashes, special
    cdef Py_ssize_t at = 0
    while at + WORD <= size:
        memcpy(&word, data + at, WORD)
        quotes = word ^ _eight(b'"')
        backslashes = word ^ _eight(b"\\")
        special = (word - _eight(0x20)) & ~word  # its top bits: bytes below 0x20, and perhaps one after such a byte
        special |= (quotes - _eight(1)) & ~quotes
        special |= (backslashes - _eight(1)) & ~backslashes
        if (special | word) & _eight(0x80):
            break
        at += WORD
    return at


cdef inline bint _is_continuation(unsigned char byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef inline int character_size(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return the length of the UTF-8 character of several bytes at the beginning; 0 if it is invalid, as Python sees it."""
    cdef unsigned char first = data[0], second = data[1] if size > 1 else 0
    if first < 0xC2 or not _is_continuation(second):
        return 0
    if first < 0xE0:
        return 2
    if size < 3 or not _is_continuation(data[2]):
        return 0
    if first < 0xF0:  # neither too long a form nor a surrogate
        return 0 if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) else 3
    if size < 4 or not _is_continuation(data[3]) or first > 0xF4:
        return 0
    return 0 if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F) else 4


cdef inline int _escaped_size(unsigned char byte) noexcept nogil:
    """Return how many bytes an ASCII character takes in a JSON string."""
    if byte >= 0x20:
        return 2 if byte == b'"' or byte == b"\\" else 1
    return 2 if 8 <= byte <= 13 and byte != 11 else 6


cdef inline Py_ssize_t text_size(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return how many bytes UTF-8 text takes in a JSON string, without its quotes; NOT_TEXT for other bytes."""
    cdef Py_ssize_t at = 0, total = 0, plain, stop
    cdef int length
    while at < size:
        plain = plain_size(data + at, size - at)
        at += plain
        total += plain
        stop = min(at + WORD, size)
        while at < stop:
            if data[at] < 0x80:
                total += _escaped_size(data[at])
                at += 1
                continue
            length = character_size(data + at, size - at)
            if not length:
                return NOT_TEXT
            total += length
            at += length
    return total


cdef inline unsigned char* _write_character(unsigned char* out, unsigned char byte) noexcept nogil:
    """Write one byte of UTF-8 text, with its escape. Returns where it ends, as the functions below do."""
    cdef int size = 1 if byte >= 0x80 else _escaped_size(byte)
    if size == 1:
        out[0] = byte
    elif size == 2:
        out[0] = b"\\"
        out[1] = byte if byte >= 0x20 else b"btn.fr"[byte - 8]
    else:
        memcpy(out, b"\\u00", 4)
        out[4] = b"0123456789abcdef"[byte >> 4]
        out[5] = b"0123456789abcdef"[byte & 0xF]
    return out + size


cdef inline unsigned char* write_text(
    unsigned char* out, const unsigned char* data, Py_ssize_t size, Py_ssize_t json_size
) noexcept nogil:
    """Write UTF-8 text of this `text_size`."""
    cdef Py_ssize_t at = 0, plain, stop
    if json_size == size:
        memcpy(out, data, size)
        return out + size
    while at < size:
        plain = plain_size(data + at, size - at)
        memcpy(out, data + at, plain)
        out += plain
        at += plain
        stop = min(at + WORD, size)
        while at < stop:
            out = _write_character(out, data[at])
            at += 1
    return out


cdef inline Py_ssize_t base64_size(Py_ssize_t size) noexcept nogil:
    """Return how many bytes these take in base64."""
    return (size + 2) // 3 * 4


cdef inline unsigned char* write_base64(unsigned char* out, const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Write bytes in base64."""
    cdef const char* digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef unsigned char second, third
    cdef Py_ssize_t at
    for at in range(0, size, 3):
        second = data[at + 1] if at + 1 < size else 0
        third = data[at + 2] if at + 2 < size else 0
        out[0] = digits[data[at] >> 2]
        out[1] = digits[(data[at] & 0x03) << 4 | second >> 4]
        out[2] = digits[(second & 0x0F) << 2 | third >> 6] if at + 1 < size else b"="
        out[3] = digits[third & 0x3F] if at + 2 < size else b"="
        out += 4
    return out
