"""The layout of entries that are bytes, as memcache_kv/store/entry.py defines it."""

cdef enum:
    PLAIN = 10
    EXPIRING = 0
    WITH_CAS = 1
    LINE_END_BYTES = 2
    EXPIRING_BYTES = 5
    WITH_CAS_BYTES = 13
    PLAIN_LIMIT_BYTES = 4096
    LAST_DEADLINE = 0xFFFFFFFF
    FETCHED = 1
    STALE = 2
    WON = 4
    TRACKED = 8
