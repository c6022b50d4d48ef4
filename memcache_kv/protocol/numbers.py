"""Numbers on a command line, read as memcached reads them; None where it says they are none."""

from __future__ import annotations

import re

_SIGNED = re.compile(rb"-?[0-9]{0,11}")
_LONG = re.compile(rb"[\t\v\f\r]*([+-]?[0-9]{1,20})(?:[\t\v\f\r\0].*)?", re.DOTALL)
"""As strtol reads it in memcached: white space, or a zero byte, ends it."""


def unsigned64(token: bytes) -> int | None:
    """Read a CAS id or a delta."""
    if not token.isdigit() or len(token) > 20:
        return None
    number = int(token)
    return number if number < 1 << 64 else None


def unsigned32(token: bytes) -> int | None:
    """Read a level or a size in megabytes."""
    number = unsigned64(token)
    return number if number is not None and number < 1 << 32 else None


def signed32(token: bytes) -> int | None:
    """Read a length, or the exptime of touch and gat. A lone minus is 0, as in memcached."""
    if not _SIGNED.fullmatch(token):
        return None
    number = int(token) if token not in (b"", b"-") else 0
    return number if -(1 << 31) <= number < 1 << 31 else None


def stored_exptime(token: bytes) -> int | None:
    """Read the exptime of a storage command: a 64-bit number of which the low 32 bits count, signed."""
    match = _LONG.fullmatch(token)
    if match is None or not -(1 << 63) <= int(match[1]) < 1 << 63:
        return None
    low = int(match[1]) & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def stored_flags(token: bytes) -> int | None:
    """Read client flags: no minus; of a longer number the low 32 bits count, as in memcached."""
    match = _LONG.fullmatch(token)
    if match is None or abs(int(match[1])) >= 1 << 64:
        return None
    number = int(match[1]) & 0xFFFFFFFFFFFFFFFF
    return None if b"-" in token and number >> 63 else number & 0xFFFFFFFF
