r"""The store's entries: what the table holds for a key.

A value is stored as its *wire bytes*, the bytes that follow the key in a reply: `` <flags> <length>\r\n<data>\r\n``.
A get appends them as they are, which is faster than formatting a reply each time.

An entry is one of these:

- plain: the wire bytes alone, for a small value without expiry time and CAS id;
- *marked* bytes: metadata replaces the last line end, and the last byte says which: CAS id, deadline and WITH_CAS, or
  deadline and EXPIRING. The last byte of a plain entry is the line feed, so one byte tells the three forms apart;
- an `Item`, for large values, for keys that a text command can't contain, and for tracked items (`TRACKED`).

An `Item` takes 112 bytes more than bytes do, and the garbage collector would have to visit it; marked bytes take 3 or
11 more. An entry is replaced by one assignment, so a reader without a lock sees the old entry or the new one.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TypeAlias

KEY_LIMIT_BYTES = 250
"""The longest key, as in memcached."""
LONGEST_KEY_BYTES = 256
"""The longest key of any protocol: the line protocol's."""

PLAIN_LIMIT_BYTES = 4096
"""Longer wire bytes are always held by an Item, so that replies from bytes are always small."""

SLOT_BYTES = 77
"""The approximate memory of a table slot. It varies from 58 to 117, as a full dict grows to two to four times its
size."""

ENTRY_COST_BYTES = 95 + SLOT_BYTES
"""The memory of an entry besides its key and wire bytes: the headers of two bytes objects with rounding (82), its place
in the eviction queue (8), its read mark and ghost (5), the table slot. Tests compare this estimate with resident
sizes."""

ITEM_COST_BYTES = 112
"""The memory of an Item besides its wire bytes: the object with its garbage collector header, and its integers."""

RELATIVE_LIMIT_SECONDS = 60 * 60 * 24 * 30
"""An exptime up to this is relative to now, a larger one is a unix time (protocol.txt, "Expiration times")."""

LONG_PAST = 1
"""The deadline of an item that has already expired when it is stored."""


SPACE, LINE_FEED = b" \n"
"""As numbers: `in` finds an int in a bytes object faster than a bytes object of length one."""
PLAIN, EXPIRING, WITH_CAS = b"\n\0\1"
"""The last byte of an entry that is bytes: it says which metadata the entry has."""
_EXPIRING_END = Struct("!IB")
_WITH_CAS_END = Struct("!QIB")
EXPIRING_BYTES, WITH_CAS_BYTES = _EXPIRING_END.size, _WITH_CAS_END.size
LAST_DEADLINE = (1 << 32) - 1
"""A later deadline needs an Item."""

FETCHED = 1
"""State bit: the item was read since it was stored."""
STALE = 2
"""State bit: the item was invalidated. Readers learn that it is stale, and one of them wins: it is asked to store a
fresh value (protocol.txt, "Stale items")."""
WON = 4
"""State bit: a client has won."""
TRACKED = 8
"""State bit: a client has asked when the item was last read, or whether it was. A value that replaces it is tracked
too."""
JOURNALED = STALE | WON
"""The state bits that the journal has."""


class Item:
    """Wire bytes with metadata.

    An Item in the table is never changed, only replaced. The exceptions are `accessed` and the FETCHED bit of `state`,
    which any reader may set without a lock.
    """

    __slots__ = ("wire_bytes", "deadline", "cas", "accessed", "state")

    def __init__(self, wire_bytes: bytes, deadline: int = 0, cas: int = 0, accessed: int = 0, state: int = 0) -> None:
        self.wire_bytes = wire_bytes
        self.deadline = deadline
        """Unix time at which the item expires; 0 is never."""
        self.cas = cas
        """The CAS id; 0 until a client asks for one."""
        self.accessed = accessed
        """Unix time at which the item was last read, or stored if it was never read."""
        self.state = state
        """The bits FETCHED, STALE, WON and TRACKED."""

    def __len__(self) -> int:
        """Return the item's size in bytes, the object included, so that `len` works for any entry."""
        return len(self.wire_bytes) + ITEM_COST_BYTES


Entry: TypeAlias = bytes | Item


def pack(flags: int, value: bytes) -> bytes:
    """Return the wire bytes of a value with these client flags."""
    return b" %d %d\r\n%b\r\n" % (flags, len(value), value)


def make_entry(key: bytes, wire_bytes: bytes, deadline: int, cas: int = 0, accessed: int = 0, state: int = 0) -> Entry:
    """Return the smallest entry that can hold a value and its metadata.

    deadline, accessed: unix times, 0 for none; state: bits. `accessed` is dropped unless an Item is needed anyway.
    """
    if state or len(wire_bytes) > PLAIN_LIMIT_BYTES or deadline > LAST_DEADLINE or not is_plain_key(key):
        return Item(wire_bytes, deadline, cas, accessed, state)
    if cas:
        return wire_bytes[:-2] + _WITH_CAS_END.pack(cas, deadline, WITH_CAS)
    return wire_bytes[:-2] + expiring_end(deadline) if deadline else wire_bytes


def expiring_end(deadline: int) -> bytes:
    """Return the bytes that replace the last line end of an EXPIRING entry. They compare as their deadlines do."""
    return _EXPIRING_END.pack(deadline, EXPIRING)


def is_plain_key(key: bytes) -> bool:
    """Return whether a text command can contain this key: it has no space and no line feed."""
    return SPACE not in key and LINE_FEED not in key


def is_text_key(key: bytes) -> bool:
    """Return whether this is a valid key for a text command, its length included."""
    return 0 < len(key) <= KEY_LIMIT_BYTES and SPACE not in key and LINE_FEED not in key


def wire_bytes_of(entry: Entry) -> bytes:
    """Return the wire bytes of any entry."""
    if isinstance(entry, Item):
        return entry.wire_bytes
    kind = entry[-1]
    if kind == EXPIRING:
        return entry[:-EXPIRING_BYTES] + b"\r\n"
    return entry[:-WITH_CAS_BYTES] + b"\r\n" if kind == WITH_CAS else entry


def deadline_of(entry: Entry) -> int:
    """Return the unix time at which the entry expires; 0 is never."""
    if isinstance(entry, Item):
        return entry.deadline
    return int.from_bytes(entry[-5:-1], "big") if entry[-1] <= WITH_CAS else 0


def state_of(entry: Entry) -> int:
    """Return the entry's state: the bits FETCHED, STALE, WON and TRACKED."""
    return entry.state if isinstance(entry, Item) else 0


def cas_of(entry: Entry) -> int:
    """Return the entry's CAS id; 0 until a client asks for one."""
    if isinstance(entry, Item):
        return entry.cas
    return int.from_bytes(entry[-WITH_CAS_BYTES:-5], "big") if entry[-1] == WITH_CAS else 0


def have_same_value(one: Entry, other: Entry) -> bool:
    """Return whether two entries have the same client flags and value."""
    return wire_bytes_of(one) == wire_bytes_of(other)


def flags_of(wire_bytes: bytes) -> int:
    """Return the client flags in an entry's wire bytes."""
    return int(wire_bytes[1 : wire_bytes.index(b" ", 1)])


def value_of(wire_bytes: bytes) -> bytes:
    """Return the value in an entry's wire bytes."""
    return wire_bytes[wire_bytes.index(b"\n") + 1 : -2]


def parts_with_cas(entry: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the CAS id (8 bytes) and the flags (4 bytes), both in network order, and the value of a WITH_CAS entry."""
    flags = bytes(4) if entry[:3] == b" 0 " else flags_of(entry).to_bytes(4, "big")
    return entry[-WITH_CAS_BYTES:-5], flags, entry[entry.index(b"\n") + 1 : -WITH_CAS_BYTES]


def after_flags(wire_bytes: bytes) -> bytes:
    """Return the length and the data block with their line ends, as in the reply to a meta command."""
    return wire_bytes.split(b" ", 2)[2]


def length_of(wire_bytes: bytes) -> int:
    """Return the value's length in bytes."""
    return len(wire_bytes) - wire_bytes.index(b"\n") - 3


def absolute_deadline(exptime: int, now: int, started: int) -> int:
    """Return the unix time at which an item with this exptime expires; 0 is never.

    now, started: unix times of now and of the server's start. A negative exptime, and a unix time that is not after the
    server's start, give LONG_PAST (protocol.txt, "Expiration times"; memcached's `realtime`).
    """
    if exptime == 0:
        return 0
    if exptime < 0:
        return LONG_PAST
    if exptime <= RELATIVE_LIMIT_SECONDS:
        return now + exptime
    return exptime if exptime > started else LONG_PAST


def joined(first: bytes, second: bytes, flags: int) -> bytes:
    """Return the wire bytes of two values in a row, with these client flags. Copies each value once."""
    parts = [memoryview(each)[each.index(b"\n") + 1 : -2] for each in (first, second)]
    return b"".join((b" %d %d\r\n" % (flags, len(parts[0]) + len(parts[1])), *parts, b"\r\n"))


def moved(deadline: int, seconds: int) -> int:
    """Return a deadline moved by this many seconds, at least LONG_PAST. 0 (never) stays 0."""
    return deadline and max(LONG_PAST, deadline + seconds)


_NUMBER = re.compile(rb"[ \t\n\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,20}+)(?:[ \t\n\v\f\r\0]|$)")


def number_in(value: bytes, start: int = 0) -> int | None:
    """Parse the number that incr and decr see in a value from `start`; None if it is not an unsigned 64-bit number.

    White space before the number and anything after white space are ignored, as by memcached's strtoull.
    """
    match = _NUMBER.match(value, start)
    return None if match is None else unsigned_number(match[1], match[2])


def unsigned_number(sign: bytes, digits: bytes) -> int | None:
    """Return the unsigned 64-bit number with this sign (b"", b"+" or b"-") and digits; None if it is out of range.

    A minus wraps the number as strtoull does, and memcached accepts a result below 2^63: -0 is 0, and 1 - 2^64 is 1.
    """
    number = int(digits or 0)
    if number >> 64:
        return None
    if sign != b"-":
        return number
    wrapped = -number & 0xFFFFFFFFFFFFFFFF
    return None if wrapped >> 63 else wrapped
