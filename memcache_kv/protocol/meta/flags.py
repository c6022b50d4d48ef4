"""The flags behind a meta command, read as memcached reads them (protocol.txt, "Meta Commands")."""

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
    """The flags can't be used; its argument is the line that says so."""


class Flags:
    """What a meta command asks for.

    tokens: the flags as they came, for the reply has theirs in the same order. Times are the client's exptimes.
    """

    __slots__ = (
        "tokens", "letters", "key", "ttl", "vivify_ttl", "recache_ttl", "client_flags", "cas", "new_cas", "mode",
        "initial", "delta",
    )  # fmt: skip

    def __init__(self, key: bytes, tokens: list[bytes]) -> None:
        self.key = key
        """The key as the store has it."""
        self.tokens = tokens
        self.letters = {token[0] for token in tokens}
        self.ttl: int | None = None
        self.vivify_ttl: int | None = None
        self.recache_ttl: int | None = None
        self.client_flags = 0
        self.cas: int | None = None
        self.new_cas = 0
        """0: it is left to the store."""
        self.mode = b""
        self.initial = 0
        self.delta = 1

    def has(self, letter: bytes) -> bool:
        """Tell whether this flag was given."""
        return letter[0] in self.letters

    @property
    def quiet(self) -> bool:
        """Whether the usual outcome is to be kept silent."""
        return _QUIET in self.letters

    def echo(self) -> bytes:
        """Return the key as the client wrote it, with the flag that says how."""
        if _BASE64 in self.letters:
            return b" k" + base64.b64encode(self.key) + b" b"
        return b" k" + self.key

    def identity(self) -> bytes:
        """Return what a reply without an item has: opaque and key, in the order asked for. Raises BadFlags."""
        parts = []
        for token in self.tokens:
            if token[0] == _OPAQUE:
                parts.append(opaque(token))
            elif token[0] == _KEY:
                parts.append(self.echo())
        return b"".join(parts)


_QUIET, _BASE64, _OPAQUE, _KEY = b"qbOk"


def opaque(token: bytes) -> bytes:
    """Return an opaque flag as replies have it. Raises BadFlags where it is too long."""
    if len(token) > OPAQUE_LIMIT_BYTES:
        raise BadFlags(LONG_OPAQUE)
    return b" " + token


def look_like_flags(tokens: list[bytes]) -> bool:
    """Tell whether these words begin as flags may: memcached looks at that before anything else in a meta command."""
    return all(64 < token[0] < 123 or 48 <= token[0] <= 57 for token in tokens)


def read_flags(key: bytes, tokens: list[bytes], words: int) -> Flags:
    """Read the flags of a command line that has this many words. Raises BadFlags.

    A number that can't be read is not reported before the rest has been looked at, as in memcached: what is reported
    is the last fault of that kind, or the first flag that is unknown or came before.
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
"""Takes one flag into the rest; returns the error where it can't, which may be one without words of its own."""


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
    """Decode base64 as memcached does: other characters are passed over, and what follows the padding too.

    Returns nothing where it is not a whole number of groups.
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
"""Flags that take nothing, or what only a reply or a proxy has a use for."""

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
