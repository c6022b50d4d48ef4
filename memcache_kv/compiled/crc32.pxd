"""CRC-32 as in zlib, eight bytes at a time, without the interpreter."""

from libc.stdint cimport uint32_t

cdef enum:
    POLYNOMIAL = 0xEDB88320

ctypedef uint32_t[8][256] Tables
"""Tables[n][byte] is the checksum of this byte followed by n zeros, without the inversions."""


cdef inline void fill_tables(Tables tables) noexcept nogil:
    """Compute the tables."""
    cdef uint32_t value
    cdef int byte, n, _
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        tables[0][byte] = value
    for byte in range(256):
        for n in range(1, 8):
            value = tables[n - 1][byte]
            tables[n][byte] = (value >> 8) ^ tables[0][value & 0xFF]


cdef inline uint32_t crc32(const Tables tables, const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return the checksum of `size` bytes. Works on machines of either byte order."""
    cdef uint32_t value = 0xFFFFFFFFU
    cdef const unsigned char* end = data + size
    while end - data >= 8:
        value ^= data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24
        value = (
            tables[7][value & 0xFF] ^ tables[6][value >> 8 & 0xFF] ^ tables[5][value >> 16 & 0xFF]
            ^ tables[4][value >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^ tables[0][data[7]]
        )
        data += 8
    while data < end:
        value = (value >> 8) ^ tables[0][(value ^ data[0]) & 0xFF]
        data += 1
    return value ^ 0xFFFFFFFFU
