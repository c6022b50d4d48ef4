"""CRC-32 as in zlib, sixteen bytes at a time, without the interpreter."""

from libc.stdint cimport uint32_t

cdef enum:
    POLYNOMIAL = 0xEDB88320

ctypedef uint32_t[16][256] Tables
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
        for n in range(1, 16):
            value = tables[n - 1][byte]
            tables[n][byte] = (value >> 8) ^ tables[0][value & 0xFF]


cdef inline uint32_t crc32(
    const Tables tables, const unsigned char* data, Py_ssize_t size, uint32_t before
) noexcept nogil:
    """Return the checksum of the bytes with the checksum `before` and of these `size` bytes behind them.

    Works on machines of either byte order.
    """
    cdef uint32_t value = before ^ 0xFFFFFFFFU, rest
    cdef const unsigned char* end = data + size
    while end - data >= 16:
        value ^= data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24
        rest = (
            tables[11][data[4]] ^ tables[10][data[5]] ^ tables[9][data[6]] ^ tables[8][data[7]]
            ^ tables[7][data[8]] ^ tables[6][data[9]] ^ tables[5][data[10]] ^ tables[4][data[11]]
            ^ tables[3][data[12]] ^ tables[2][data[13]] ^ tables[1][data[14]] ^ tables[0][data[15]]
        )  # does not depend on the bytes before, so it need not wait for them
        value = (
            tables[15][value & 0xFF] ^ tables[14][value >> 8 & 0xFF] ^ tables[13][value >> 16 & 0xFF]
            ^ tables[12][value >> 24] ^ rest
        )
        data += 16
    while data < end:
        value = (value >> 8) ^ tables[0][(value ^ data[0]) & 0xFF]
        data += 1
    return value ^ 0xFFFFFFFFU
