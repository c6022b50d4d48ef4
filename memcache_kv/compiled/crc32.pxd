"""CRC-32 as in zlib, without the interpreter: by the processor's carry-less multiplication, where it has one."""

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #define FOLDED_BYTES 64

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>

    static int can_fold(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    }

    /* Move a part's remainder on by as many bits as the factors stand for, and add what is there. */
    __attribute__((target("pclmul,sse4.1")))
    static inline __m128i folded(__m128i part, __m128i factors, __m128i next) {
        __m128i low = _mm_clmulepi64_si128(part, factors, 0x00);
        __m128i high = _mm_clmulepi64_si128(part, factors, 0x11);
        return _mm_xor_si128(_mm_xor_si128(low, high), next);
    }

    /* Return the inner state behind a multiple of 16 bytes, at least FOLDED_BYTES. A polynomial's remainder does not
       change if its high bits are replaced by their product with x^n modulo the CRC's polynomial: first 512 bits at
       a time in four parts, then 128, then 64, and the rest by Barrett's reduction. All numbers are bit-reflected. */
    __attribute__((target("pclmul,sse4.1")))
    static uint32_t fold(const unsigned char *data, size_t size, uint32_t state) {
        const __m128i by_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
        const __m128i by_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        const __m128i by_64 = _mm_set_epi64x(0, 0x163cd6124);
        const __m128i polynomial = _mm_set_epi64x(0x1f7011641, 0x1db710641);
        const __m128i low_half = _mm_set_epi32(0, 0, 0, -1);
        const __m128i *in = (const __m128i *)data;
        const __m128i *end = in + size / 16;
        __m128i part[4], rest;
        int n;
        for (n = 0; n < 4; n++)
            part[n] = _mm_loadu_si128(in + n);
        part[0] = _mm_xor_si128(part[0], _mm_cvtsi32_si128((int)state));
        for (in += 4; end - in >= 4; in += 4)
            for (n = 0; n < 4; n++)
                part[n] = folded(part[n], by_512, _mm_loadu_si128(in + n));
        for (n = 1; n < 4; n++)
            part[0] = folded(part[0], by_128, part[n]);
        for (; in < end; in++)
            part[0] = folded(part[0], by_128, _mm_loadu_si128(in));
        rest = _mm_xor_si128(_mm_srli_si128(part[0], 8), _mm_clmulepi64_si128(part[0], by_128, 0x10));
        rest = _mm_xor_si128(
            _mm_srli_si128(rest, 4), _mm_clmulepi64_si128(_mm_and_si128(rest, low_half), by_64, 0x00));
        part[0] = _mm_clmulepi64_si128(_mm_and_si128(rest, low_half), polynomial, 0x10);
        part[0] = _mm_clmulepi64_si128(_mm_and_si128(part[0], low_half), polynomial, 0x00);
        return (uint32_t)_mm_extract_epi32(_mm_xor_si128(rest, part[0]), 1);
    }
    #else
    static int can_fold(void) { return 0; }
    static uint32_t fold(const unsigned char *data, size_t size, uint32_t state) {
        (void)data, (void)size;
        return state;
    }
    #endif
    """
    bint can_fold() noexcept nogil
    uint32_t fold(const unsigned char* data, size_t size, uint32_t state) noexcept nogil
    enum:
        FOLDED_BYTES

cdef enum:
    POLYNOMIAL = 0xEDB88320

cdef struct Tables:
    uint32_t[16][256] of  # of[n][byte] is the checksum of this byte followed by n zeros, without the inversions
    bint folds  # whether the processor can fold


cdef inline void fill_tables(Tables* tables) noexcept nogil:
    """Compute the tables."""
    cdef uint32_t value
    cdef int byte, n, _
    tables.folds = can_fold()
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        tables.of[0][byte] = value
    for byte in range(256):
        for n in range(1, 16):
            value = tables.of[n - 1][byte]
            tables.of[n][byte] = (value >> 8) ^ tables.of[0][value & 0xFF]


cdef inline uint32_t _four(const unsigned char* data) noexcept nogil:
    return data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24


cdef inline uint32_t crc32(const Tables* tables, const unsigned char* data, Py_ssize_t size, uint32_t before) noexcept nogil:
    """Return the checksum of the bytes with the checksum `before` and of these `size` bytes behind them.

    Works on machines of either byte order.
    """
    cdef uint32_t value = before ^ 0xFFFFFFFFU, rest
    cdef const unsigned char* end = data + size
    if tables.folds and size >= FOLDED_BYTES:
        value = fold(data, size & ~15, value)
        data += size & ~15
    while end - data >= 16:
        value ^= _four(data)
        rest = (
            tables.of[11][data[4]] ^ tables.of[10][data[5]] ^ tables.of[9][data[6]] ^ tables.of[8][data[7]]
            ^ tables.of[7][data[8]] ^ tables.of[6][data[9]] ^ tables.of[5][data[10]] ^ tables.of[4][data[11]]
            ^ tables.of[3][data[12]] ^ tables.of[2][data[13]] ^ tables.of[1][data[14]] ^ tables.of[0][data[15]]
        )  # does not depend on the bytes before, so it need not wait for them
        value = (
            tables.of[15][value & 0xFF] ^ tables.of[14][value >> 8 & 0xFF] ^ tables.of[13][value >> 16 & 0xFF]
            ^ tables.of[12][value >> 24] ^ rest
        )
        data += 16
    while end - data >= 4:
        value ^= _four(data)
        value = (
            tables.of[3][value & 0xFF] ^ tables.of[2][value >> 8 & 0xFF] ^ tables.of[1][value >> 16 & 0xFF]
            ^ tables.of[0][value >> 24]
        )
        data += 4
    while data < end:
        value = (value >> 8) ^ tables.of[0][(value ^ data[0]) & 0xFF]
        data += 1
    return value ^ 0xFFFFFFFFU
