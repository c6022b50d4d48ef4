"""Parse numbers on a command line as memcached does. Each function returns None for an invalid number."""

from __future__ import annotations

import re

from memcache_kv.store.entry import unsigned_number

LONGEST_64 = 22
"""memcached rejects a 64-bit number with more characters than this, leading zeros included."""
LONGEST_32 = 11
"""The same limit for a 32-bit number."""
_SIGNED = re.compile(rb"-?[0-9]*")
_LONG = re.compile(rb"[\t\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,20}+)(?:[\t\v\f\r\0].*)?", re.DOTALL)
"""A number of any length as memcached's strtol reads it: white space or a zero byte ends it."""


def unsigned64(token: bytes) -> int | None:
    """Parse an unsigned 64-bit number: a CAS id or a delta."""
    if not token.isdigit() or len(token) > LONGEST_64:
        return None
    number = int(token)
    return number if number < 1 << 64 else None


def unsigned32(token: bytes) -> int | None:
    """Parse an unsigned 32-bit number: a level or a size in megabytes."""
    if not token.isdigit() or len(token) > LONGEST_32:
        return None
    number = int(token)
    return number if number < 1 << 32 else None


def signed32(token: bytes) -> int | None:
    """Parse a signed 32-bit number: a length, or the exptime of touch and gat. "-" alone is 0, as in memcached."""
    if len(token) > LONGEST_32 or not _SIGNED.fullmatch(token):
        return None
    number = int(token) if token not in (b"", b"-") else 0
    return number if -(1 << 31) <= number < 1 << 31 else None


def stored_exptime(token: bytes) -> int | None:
    """Parse the exptime of a storage command: the low 32 bits, signed, of a 64-bit number."""
    match = _LONG.fullmatch(token)
    if match is None:
        return None
    number = int(match[1] + (match[2] or b"0"))
    if not -(1 << 63) <= number < 1 << 63:
        return None
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def stored_flags(token: bytes) -> int | None:
    """Parse client flags: the low 32 bits of a 64-bit number, as in memcached."""
    match = _LONG.fullmatch(token)
    number = None if match is None else unsigned_number(match[1], match[2])
    return None if number is None else number & 0xFFFFFFFF
