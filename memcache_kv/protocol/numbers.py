"""Numbers on a command line, read as memcached reads them; None where it says they are none."""

from __future__ import annotations

import re

from memcache_kv.store.entry import unsigned_number

LONGEST_64 = 22
"""More characters than this are no number of 64 bits to memcached, be they zeros."""
LONGEST_32 = 11
_SIGNED = re.compile(rb"-?[0-9]*")
_LONG = re.compile(rb"[\t\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,20}+)(?:[\t\v\f\r\0].*)?", re.DOTALL)
"""As strtol reads it in memcached: of any length, and white space, or a zero byte, ends it."""


def unsigned64(token: bytes) -> int | None:
    """Read a CAS id or a delta."""
    if not token.isdigit() or len(token) > LONGEST_64:
        return None
    number = int(token)
    return number if number < 1 << 64 else None


def unsigned32(token: bytes) -> int | None:
    """Read a level or a size in megabytes."""
    if not token.isdigit() or len(token) > LONGEST_32:
        return None
    number = int(token)
    return number if number < 1 << 32 else None


def signed32(token: bytes) -> int | None:
    """Read a length, or the exptime of touch and gat. A lone minus is 0, as in memcached."""
    if len(token) > LONGEST_32 or not _SIGNED.fullmatch(token):
        return None
    number = int(token) if token not in (b"", b"-") else 0
    return number if -(1 << 31) <= number < 1 << 31 else None


def stored_exptime(token: bytes) -> int | None:
    """Read the exptime of a storage command: a 64-bit number of which the low 32 bits count, signed."""
    match = _LONG.fullmatch(token)
    if match is None:
        return None
    number = int(match[1] + (match[2] or b"0"))
    if not -(1 << 63) <= number < 1 << 63:
        return None
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def stored_flags(token: bytes) -> int | None:
    """Read client flags: a number of 64 bits, of which the low 32 count, as in memcached."""
    match = _LONG.fullmatch(token)
    number = None if match is None else unsigned_number(match[1], match[2])
    return None if number is None else number & 0xFFFFFFFF
