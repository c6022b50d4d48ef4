"""Keys in paths, percent-encoded, and the numbers of a query."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote_from_bytes, unquote_to_bytes

from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.store.entry import KEY_LIMIT_BYTES

PATH_SAFE = "/:@!$&'()*+,;=-._~"
"""What need not be percent-encoded in a path, besides letters and digits."""
LONGEST_TTL = (1 << 31) - 1
NUMBER_DIGITS = 20


def key_in(encoded: bytes) -> bytes:
    """Return the key that a part of a path names. Raises HttpProblem if it is no key."""
    key = unquote_to_bytes(encoded) if b"%" in encoded else encoded
    if not 0 < len(key) <= KEY_LIMIT_BYTES:
        raise HttpProblem(400, f"The key has {len(key)} bytes; allowed: 1 to {KEY_LIMIT_BYTES}.")
    return key


def encoded_key(key: bytes) -> str:
    """Return a key as in a path."""
    return quote_from_bytes(key, PATH_SAFE)


def number_of(parameters: Mapping[str, str], name: str, lowest: int, highest: int, default: int) -> int:
    """Return a number among the parameters of a query. Raises HttpProblem if it is none, or out of range."""
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS and lowest <= int(text) <= highest):
        raise HttpProblem(400, f"{name} must be a number from {lowest} to {highest}, not {text[:NUMBER_DIGITS]!r}.")
    return int(text)


def check_names(parameters: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Raise HttpProblem if a query has a parameter that means nothing."""
    for name in parameters:
        if name not in allowed:
            raise HttpProblem(400, f"{name[:40]!r} is not a parameter; allowed: {', '.join(allowed) or 'none'}.")
