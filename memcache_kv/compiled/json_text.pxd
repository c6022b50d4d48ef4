"""Texts and numbers of JSON, without the interpreter: written as the journal has them, and read back."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Sixteen bytes that the compiler compares at once. A mask has all bits of a byte set, or none. */
    typedef signed char sixteen __attribute__((vector_size(16)));

    /* Return which bytes are not ASCII text without escapes. As signed numbers, other bytes than ASCII are below it. */
    static inline sixteen special_in(const unsigned char *data) {
        sixteen text;
        memcpy(&text, data, sizeof text);
        return (text < 0x20) | (text == '"') | (text == '\\\\');
    }

    static inline int is_any(sixteen mask) {
        uint64_t halves[2];
        memcpy(halves, &mask, sizeof mask);
        return (halves[0] | halves[1]) != 0;
    }

    static inline Py_ssize_t plain_in_blocks(const unsigned char *data, Py_ssize_t size) {
        Py_ssize_t at = 0;
        while (size - at >= 64 && !is_any(special_in(data + at) | special_in(data + at + 16)
                                          | special_in(data + at + 32) | special_in(data + at + 48)))
            at += 64;
        while (size - at >= 16 && !is_any(special_in(data + at)))
            at += 16;
        return at;
    }
    """
    Py_ssize_t plain_in_blocks(const unsigned char* data, Py_ssize_t size) noexcept nogil

cdef enum:
    NOT_TEXT = -1
    UNKNOWN = -2  # a form that the journal's writer does not use
    WORD = 8


cdef inline uint64_t _eight(unsigned char byte) noexcept nogil:
    """Return a word of eight such bytes."""
    return 0x0101010101010101ULL * byte


cdef inline Py_ssize_t plain_size(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return the length of ASCII text at the beginning that needs no escapes, or up to seven bytes less."""
    cdef uint64_t word = 0, quotes, backslashes, special
    cdef Py_ssize_t at = plain_in_blocks(data, size)
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


cdef inline int digits_of(uint64_t number) noexcept nogil:
    """Return how many digits a number has."""
    cdef int count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef inline unsigned char* write_number(unsigned char* out, uint64_t number) noexcept nogil:
    """Write a number."""
    cdef int count = digits_of(number), index
    for index in range(count - 1, -1, -1):
        out[index] = <unsigned char>b"0" + number % 10
        number //= 10
    return out + count


cdef inline void write_hex(unsigned char* out, uint32_t number) noexcept nogil:
    """Write eight hexadecimal digits."""
    cdef int index
    for index in range(7, -1, -1):
        out[index] = b"0123456789abcdef"[number & 0xF]
        number >>= 4


# Reading


cdef inline int read_number(const unsigned char* data, Py_ssize_t size, uint64_t* number) noexcept nogil:
    """Read a positive number. Returns how many digits it has; 0 if it begins with 0 or has more than 19."""
    cdef int count = 0
    number[0] = 0
    while count < size and b"0" <= data[count] <= b"9":
        if count == 19:
            return 0
        number[0] = number[0] * 10 + data[count] - <unsigned char>b"0"
        count += 1
    return count if number[0] and data[0] != b"0" else 0


cdef inline int _hex_digit(unsigned char byte) noexcept nogil:
    if b"0" <= byte <= b"9":
        return byte - <unsigned char>b"0"
    return byte - <unsigned char>b"a" + 10 if b"a" <= byte <= b"f" else UNKNOWN


cdef inline int _unescaped(const unsigned char* data, Py_ssize_t size, int* length) noexcept nogil:
    """Return the character of an escape, and how long that is; UNKNOWN if the writer does not use this escape."""
    cdef unsigned char kind = data[1] if size > 1 else 0
    cdef int code
    length[0] = 2
    if kind == b'"' or kind == b"\\":
        return kind
    for code in range(8, 14):
        if kind == b"btn.fr"[code - 8] and kind != b".":
            return code
    length[0] = 6
    if kind != b"u" or size < 6 or data[2] != b"0" or data[3] != b"0" or not b"0" <= data[4] <= b"1":
        return UNKNOWN
    code = _hex_digit(data[5])
    return UNKNOWN if code == UNKNOWN else (data[4] - <unsigned char>b"0") * 16 + code


cdef inline Py_ssize_t read_text(const unsigned char* data, Py_ssize_t size, Py_ssize_t* text_bytes) noexcept nogil:
    """Return where the text of a JSON string ends, at its quote, and the text's length without escapes; or UNKNOWN."""
    cdef Py_ssize_t at = 0, plain, stop
    cdef int length
    text_bytes[0] = 0
    while at < size:
        plain = plain_size(data + at, size - at)
        at += plain
        text_bytes[0] += plain
        stop = min(at + WORD, size)
        while at < stop:
            if data[at] == b'"':
                return at
            length = 1
            if data[at] == b"\\":
                if _unescaped(data + at, size - at, &length) == UNKNOWN:
                    return UNKNOWN
                text_bytes[0] += 1
            else:
                if data[at] >= 0x80:
                    length = character_size(data + at, size - at)
                if not length or data[at] < 0x20:
                    return UNKNOWN
                text_bytes[0] += length
            at += length
    return UNKNOWN


cdef inline unsigned char* unescape(unsigned char* out, const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Write the text that `read_text` has found in this part of a JSON string."""
    cdef const unsigned char* end = data + size
    cdef const unsigned char* escape
    cdef int length = 0
    while True:
        escape = <const unsigned char*>memchr(data, b"\\", end - data)
        size = (end if escape is NULL else escape) - data
        memcpy(out, data, size)
        out += size
        if escape is NULL:
            return out
        out[0] = _unescaped(escape, end - escape, &length)
        out += 1
        data = escape + length


cdef inline int _base64_digit(unsigned char byte) noexcept nogil:
    if b"A" <= byte <= b"Z":
        return byte - <unsigned char>b"A"
    if b"a" <= byte <= b"z":
        return byte - <unsigned char>b"a" + 26
    if b"0" <= byte <= b"9":
        return byte - <unsigned char>b"0" + 52
    return 62 if byte == b"+" else 63 if byte == b"/" else UNKNOWN


cdef inline Py_ssize_t read_base64(const unsigned char* data, Py_ssize_t size, Py_ssize_t* data_bytes) noexcept nogil:
    """Return where base64 in a JSON string ends, at its quote, and how many bytes it stands for; or UNKNOWN."""
    cdef Py_ssize_t at = 0, padding = 0
    while at < size and _base64_digit(data[at]) != UNKNOWN:
        at += 1
    while at < size and data[at] == b"=" and padding < 2:
        at += 1
        padding += 1
    if at == size or data[at] != b'"' or at % 4:
        return UNKNOWN
    if padding and _base64_digit(data[at - padding - 1]) & (0xF if padding == 2 else 0x3):
        return UNKNOWN  # bits that stand for nothing
    data_bytes[0] = at // 4 * 3 - padding
    return at


cdef inline void decode_base64(unsigned char* out, const unsigned char* data, Py_ssize_t data_bytes) noexcept nogil:
    """Write the bytes that `read_base64` has found."""
    cdef unsigned char* end = out + data_bytes
    cdef int first, second, third
    while out < end:
        first, second, third = _base64_digit(data[0]), _base64_digit(data[1]), _base64_digit(data[2])
        out[0] = first << 2 | second >> 4
        if end - out > 1:
            out[1] = second << 4 | third >> 2
        if end - out > 2:
            out[2] = third << 6 | _base64_digit(data[3])
        data += 4
        out += 3
