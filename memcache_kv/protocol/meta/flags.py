"""Parse the flags of a meta command as memcached does (protocol.txt, "Meta Commands")."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeAlias

from memcache_kv.protocol.numbers import signed32, unsigned32, unsigned64
from memcache_kv.protocol.replies import BAD_FORMAT, KEY_LIMIT_BYTES

META_WORDS_LIMIT = 20
OPAQUE_LIMIT_BYTES = 32

BAD_NUMBER = b"CLIENT_ERROR bad token in command line format"
LONG_OPAQUE = b"CLIENT_ERROR opaque token too long"
BAD_KEY = b"CLIENT_ERROR error decoding key"


class BadFlags(Exception):
    """The flags are invalid. The argument is the error line for the client."""


class Flags:
    """The parsed flags of a meta command.

    key: the key; tokens: the flags as the client sent them, as the reply has the same order. Times are the client's
    exptimes.
    """

    __slots__ = (
        "tokens", "letters", "key", "ttl", "vivify_ttl", "recache_ttl", "client_flags", "cas", "new_cas", "mode",
        "initial", "delta",
    )  # fmt: skip

    def __init__(self, key: bytes, tokens: list[bytes]) -> None:
        self.key = key
        """The key, decoded if it was sent in base64."""
        self.tokens = tokens
        self.letters = {token[0] for token in tokens}
        self.ttl: int | None = None
        self.vivify_ttl: int | None = None
        self.recache_ttl: int | None = None
        self.client_flags = 0
        self.cas: int | None = None
        self.new_cas = 0
        """The CAS id that the client chose; 0 lets the store choose it."""
        self.mode = b""
        self.initial = 0
        self.delta = 1

    def has(self, letter: bytes) -> bool:
        """Return whether this flag was given."""
        return letter[0] in self.letters

    @property
    def quiet(self) -> bool:
        """Whether the most common result gets no reply (the flag q)."""
        return _QUIET in self.letters

    def echo(self) -> bytes:
        """Return the key's field for the reply, in base64 if the client sent the key so."""
        if _BASE64 in self.letters:
            return b" k" + base64.b64encode(self.key) + b" b"
        return b" k" + self.key

    def identity(self) -> bytes:
        """Return the fields of a reply without an item: opaque and key, in the client's order. Raises BadFlags."""
        parts = []
        for token in self.tokens:
            if token[0] == _OPAQUE:
                parts.append(opaque(token))
            elif token[0] == _KEY:
                parts.append(self.echo())
        return b"".join(parts)


_QUIET, _BASE64, _OPAQUE, _KEY = b"qbOk"


def opaque(token: bytes) -> bytes:
    """Return the reply's field for an opaque. Raises BadFlags if it is too long."""
    if len(token) > OPAQUE_LIMIT_BYTES:
        raise BadFlags(LONG_OPAQUE)
    return b" " + token


def look_like_flags(tokens: list[bytes]) -> bool:
    """Return whether every word begins with a letter or digit that a flag may have. memcached checks this first."""
    return all(64 < token[0] < 123 or 48 <= token[0] <= 57 for token in tokens)


def read_flags(key: bytes, tokens: list[bytes], words: int) -> Flags:
    """Parse the flags of a meta command. Raises BadFlags.

    key: the key as sent; tokens: the flags; words: how many words the whole line has. As in memcached, an unknown or
    duplicate flag is reported before an invalid number, and of several invalid numbers the last is reported.
    """
    if len(key) > KEY_LIMIT_BYTES:
        raise BadFlags(BAD_FORMAT)
    if words > META_WORDS_LIMIT:
        raise BadFlags(b"CLIENT_ERROR options flags are too long")
    flags = Flags(key, tokens)
    if len(flags.letters) == len(tokens) and flags.letters <= _BARE:
        return flags
    fault, is_faulty = b"", False
    seen = set()
    for token in tokens:
        letter = token[0]
        if letter >= 127 or letter in seen:
            raise BadFlags(b"CLIENT_ERROR duplicate flag")
        seen.add(letter)
        if letter in _READERS:
            error = _READERS[letter](flags, token)
            is_faulty = is_faulty or error is not None
            fault = error or fault
        elif letter not in _BARE:
            raise BadFlags(b"CLIENT_ERROR invalid flag")
    if is_faulty:
        raise BadFlags(fault or BAD_FORMAT)
    return flags


Reader: TypeAlias = Callable[[Flags, bytes], bytes | None]
"""Parses one flag into a `Flags`. Returns None, or an error: its text, or b"" for the general error text."""


def _number(field: str, read: Callable[[bytes], int | None], error: bytes) -> Reader:
    def take(flags: Flags, token: bytes) -> bytes | None:
        number = read(token[1:]) if len(token) > 1 else None
        if number is None:
            return error
        setattr(flags, field, number)
        return None

    return take


def _take_mode(flags: Flags, token: bytes) -> None:
    flags.mode = token[1:2] or b" "


def _decode_key(flags: Flags, token: bytes) -> bytes | None:
    key = decoded(flags.key)
    if not key:
        return BAD_KEY
    flags.key = key
    return None


def decoded(text: bytes) -> bytes:
    """Decode base64 as memcached does: it ignores other characters and everything after the padding.

    Returns b"" if the length is invalid.
    """
    clean = bytes(byte for byte in text if byte in _BASE64_ALPHABET)
    first = clean.find(b"=")
    group = clean[first - first % 4 : first - first % 4 + 4] if first >= 0 else b""
    if len(clean) % 4 or group.count(b"=") > 2:
        return b""
    if group:
        clean = clean[: first - first % 4] + group.replace(b"=", b"A")
    return base64.b64decode(clean)[: len(clean) // 4 * 3 - group.count(b"=")]


_BASE64_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_BARE = frozenset(b"OPLkstcfvhluqxI")
"""Flags without an argument, or whose argument is only used in the reply or by a proxy."""

_READERS: dict[int, Reader] = {
    ord("b"): _decode_key,
    ord("N"): _number("vivify_ttl", signed32, BAD_NUMBER),
    ord("T"): _number("ttl", signed32, BAD_NUMBER),
    ord("R"): _number("recache_ttl", signed32, BAD_NUMBER),
    ord("F"): _number("client_flags", unsigned32, b""),
    ord("C"): _number("cas", unsigned64, BAD_NUMBER),
    ord("E"): _number("new_cas", unsigned64, BAD_NUMBER),
    ord("M"): _take_mode,
    ord("J"): _number("initial", unsigned64, b"CLIENT_ERROR invalid numeric initial value"),
    ord("D"): _number("delta", unsigned64, b"CLIENT_ERROR invalid numeric delta value"),
}
