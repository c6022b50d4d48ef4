"""Hypothesis strategies for what clients send to a memcached. The extra `testing-hypothesis` installs what they need.

All are functions that return a strategy. Keys and values are bytes, times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from memcache_kv.commands.arithmetic import LARGEST_NUMBER
from memcache_kv.store.entry import KEY_LIMIT_BYTES
from memcache_kv.testing.plain_cache import LAST_RELATIVE_TTL

LARGEST_CLIENT_FLAGS = 0xFFFF_FFFF
PROTOCOL_WORDS = (b"END", b"STORED", b"VALUE k 0 1", b"ERROR", b"get k", b"\r\n", b"\n", b"\0", b"\x80", b"\x81")
"""What a client or server that looks for line ends inside of a value would fall for."""
VALUE_LENGTHS = (100, 1023, 1024, 2048, 4096, 16384, 65535, 65536, 70_000)
"""Lengths around those of common buffers."""
STORAGE_COMMANDS = ("set", "add", "replace", "append", "prepend", "cas")
COUNTING_COMMANDS = ("incr", "decr")
RETRIEVAL_COMMANDS = ("get", "gets")
TOUCHING_COMMANDS = ("gat", "gats")
TEXT_COMMANDS = (
    *STORAGE_COMMANDS,
    *COUNTING_COMMANDS,
    *RETRIEVAL_COMMANDS,
    *TOUCHING_COMMANDS,
    "touch",
    "delete",
    "flush_all",
)


def keys(*, ascii_only: bool = False) -> SearchStrategy[bytes]:
    """Make keys that the text protocol and every client accept: 1 to 250 bytes, no white space or control characters.

    ascii_only: leave out keys with letters beyond ASCII, which are in UTF-8.
    """
    printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
    ascii_keys = st.one_of(printable.map(str.encode), _long_keys())
    if ascii_only:
        return ascii_keys
    letters = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
    return st.one_of(ascii_keys, letters.map(str.encode))


def _long_keys() -> SearchStrategy[bytes]:
    """Make keys of the last lengths that are allowed; they differ in their last byte only."""
    ends = st.sampled_from([b"a", b"b", b"Z"])
    return st.builds(lambda length, end: b"k" * (length - 1) + end, st.integers(240, KEY_LIMIT_BYTES), ends)


def byte_keys() -> SearchStrategy[bytes]:
    """Make keys of any bytes that the protocol's description allows, in no encoding; many clients refuse them."""
    allowed = [byte for byte in range(0x21, 0x100) if byte != 0x7F]
    return st.lists(st.sampled_from(allowed), min_size=1, max_size=KEY_LIMIT_BYTES).map(bytes)


def invalid_keys(*, binary: bool = False, empty: bool = True) -> SearchStrategy[bytes]:
    """Make keys that a client has to refuse, or else ask the server in vain: empty, too long, with white space.

    binary: leave out those with white space, which the binary protocol allows. empty: whether to make the empty key,
    which some clients take for one that is missing.
    """
    wrong = [st.integers(KEY_LIMIT_BYTES + 1, 2 * KEY_LIMIT_BYTES).map(lambda length: b"k" * length)]
    if empty:
        wrong.append(st.just(b""))
    if not binary:
        part, space = keys(ascii_only=True), st.sampled_from([b" ", b"\r\n", b"\n", b" \r\nget ", b"\r\nflush_all\r\n"])
        wrong.append(
            st.tuples(part, space, part).map(b"".join).filter(lambda key: len(key) <= KEY_LIMIT_BYTES),
        )
    return st.one_of(wrong)


def values(longest: int = VALUE_LENGTHS[-1]) -> SearchStrategy[bytes]:
    """Make values: empty ones, short ones, pieces of the protocol, numbers, and long ones around lengths of buffers.

    longest: in bytes.
    """
    pieces = st.lists(st.sampled_from(PROTOCOL_WORDS), max_size=4).map(b"".join)
    lengths = [length for length in VALUE_LENGTHS if length <= longest]
    kinds = [st.just(b""), st.binary(max_size=40), pieces, counters()]
    if lengths:
        pattern = st.binary(min_size=1, max_size=4)
        length = st.builds(int.__sub__, st.sampled_from(lengths), st.integers(0, 2))
        kinds.append(st.builds(RepeatedBytes.of, pattern, length))
    return st.one_of(kinds).filter(lambda value: len(value) <= longest)


class RepeatedBytes(bytes):
    """A long value made of a short one, which reports show as such."""

    @classmethod
    def of(cls, pattern: bytes, length: int) -> RepeatedBytes:
        """Repeat a pattern until the value has this length."""
        made = cls((pattern * (length // len(pattern) + 1))[:length])
        made._pattern = pattern
        return made

    _pattern = b""

    def __repr__(self) -> str:
        return f"RepeatedBytes.of({self._pattern!r}, {len(self)})"


def flags(largest: int = LARGEST_CLIENT_FLAGS) -> SearchStrategy[int]:
    """Make client flags: the edges of 8, 16 and 32 bits, and others.

    largest: what the client can send; some have 16 bits.
    """
    edges = [
        flag for flag in (0, 1, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0x8000_0000, LARGEST_CLIENT_FLAGS) if flag <= largest
    ]
    return st.one_of(st.sampled_from([edge for edge in edges if edge <= largest]), st.integers(0, largest))


def ttls(now: float | None = None, *, negative: bool = True, shortest: int = 1) -> SearchStrategy[int]:
    """Make expiry times as commands take them: none, relative ones up to 30 days, in the past, unix times.

    now: the server's unix time; without it there are no unix times.
    negative: whether to make negative ones, with which an item expires at once; some clients refuse them.
    shortest: the shortest relative ttl in seconds. Also the least distance of a unix time in the future.
    """
    edges = st.sampled_from([LAST_RELATIVE_TTL - 1, LAST_RELATIVE_TTL])
    kinds: list[SearchStrategy[int]] = [st.just(0), st.integers(shortest, shortest + 10), edges]
    if negative:
        kinds.append(st.sampled_from([-1, -100]))
    if now is not None:
        away = st.integers(max(10, shortest), max(10, shortest) + 1000)
        kinds += [away.map(lambda seconds: int(now) + seconds), away.map(lambda seconds: int(now) - seconds)]
    return st.one_of(kinds)


def counters() -> SearchStrategy[bytes]:
    """Make values that `incr` and `decr` take: decimal numbers of up to 64 bits, some padded as `decr` leaves them."""
    edges = [0, 1, 9, 10, 99, 100, 2**32 - 1, 2**32, 2**63, LARGEST_NUMBER - 1, LARGEST_NUMBER]
    numbers = st.one_of(st.sampled_from(edges), st.integers(0, LARGEST_NUMBER))
    return st.builds(lambda number, padding: b"%d" % number + b" " * padding, numbers, st.integers(0, 1)).filter(
        lambda value: len(value) <= len(str(LARGEST_NUMBER))
    )


def deltas(largest: int = LARGEST_NUMBER) -> SearchStrategy[int]:
    """Make amounts for `incr` and `decr`.

    largest: what the client can send; some have 31 bits.
    """
    edges = [delta for delta in (0, 1, 2, 9, 10, 2**31 - 1, 2**32, 2**63, LARGEST_NUMBER) if delta <= largest]
    return st.one_of(st.sampled_from(edges), st.integers(0, largest))


@dataclass(frozen=True)
class ClientCommand:
    """A command of the classic text protocol as data. What a command has no use for stays as it is by default."""

    name: str
    keys: tuple[bytes, ...] = ()
    value: bytes = b""
    flags: int = 0
    ttl: int = 0
    """For `flush_all`: its delay."""
    delta: int = 1
    cas: int = 0
    noreply: bool = False

    @property
    def wire(self) -> bytes:
        """The bytes that a client sends."""
        words = [self.name.encode(), *self._words()]
        if self.noreply:
            words.append(b"noreply")
        data = self.value + b"\r\n" if self.name in STORAGE_COMMANDS else b""
        return b" ".join(words) + b"\r\n" + data

    def _words(self) -> list[bytes]:
        """Spell what follows the name."""
        if self.name in STORAGE_COMMANDS:
            numbers = [self.flags, self.ttl, len(self.value), *([self.cas] if self.name == "cas" else [])]
            return [*self.keys, *(b"%d" % number for number in numbers)]
        if self.name in TOUCHING_COMMANDS:
            return [b"%d" % self.ttl, *self.keys]
        if self.name in COUNTING_COMMANDS:
            return [*self.keys, b"%d" % self.delta]
        if self.name == "touch":
            return [*self.keys, b"%d" % self.ttl]
        return [b"%d" % self.ttl] if self.name == "flush_all" and self.ttl else list(self.keys)


def commands(
    key: SearchStrategy[bytes] | None = None,
    value: SearchStrategy[bytes] | None = None,
    *,
    names: tuple[str, ...] = TEXT_COMMANDS,
    now: float | None = None,
    shortest_ttl: int = 1,
) -> SearchStrategy[ClientCommand]:
    """Make commands of the text protocol as data; `ClientCommand.wire` spells one.

    key, value: what to use; by default `keys()`, and `values()` of up to 100 bytes. A few keys make commands meet one
    another. names: the commands to make. now, shortest_ttl: as for `ttls`. `flush_all` is made without a delay.
    """
    one = keys() if key is None else key
    data = values(100) if value is None else value
    ttl = ttls(now, shortest=shortest_ttl)
    return st.sampled_from(names).flatmap(lambda name: _command(name, one, data, ttl))


def _command(
    name: str, key: SearchStrategy[bytes], value: SearchStrategy[bytes], ttl: SearchStrategy[int]
) -> SearchStrategy[ClientCommand]:
    """Make commands of one name."""
    retrieves = name in (*RETRIEVAL_COMMANDS, *TOUCHING_COMMANDS)
    fields: dict[str, SearchStrategy[Any]] = {}
    if name != "flush_all":
        fields["keys"] = st.lists(key, min_size=1, max_size=5 if retrieves else 1).map(tuple)
    if name in STORAGE_COMMANDS:
        fields |= {"value": value, "flags": flags()}
    if name in (*STORAGE_COMMANDS, *TOUCHING_COMMANDS, "touch"):
        fields["ttl"] = ttl
    if name in COUNTING_COMMANDS:
        fields["delta"] = deltas()
    if name == "cas":
        fields["cas"] = st.integers(1, 20)
    if not retrieves:
        fields["noreply"] = st.booleans()
    return st.builds(ClientCommand, st.just(name), **fields)
