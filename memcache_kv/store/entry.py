r"""What is kept for a key.

The value is kept *ready*: the bytes that follow the key in a reply, `` <flags> <length>\r\n<data>\r\n``. A get
appends them as they are, which is a tenth of a microsecond cheaper than formatting them each time.

An entry of the table is one of these:

- the ready bytes alone (small value, no expiry, nobody asked for its CAS id);
- *marked* bytes: in place of the last line end the rare facts, and behind them a byte that says which: deadline and
  EXPIRING, or deadline, CAS id and NAMED. A plain entry's last byte is the line feed, so that one look tells;
- an `Item`, for large values, odd keys, and once it is noted of each item when it was last read.

An object would take 112 bytes more per item than bytes do, and the collector would walk over all of them; marked bytes
take 3 more, or 11. One assignment replaces any, so a reader without a lock sees a whole old entry or a whole new one.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TypeAlias

KEY_LIMIT_BYTES = 250
"""The longest key, as in memcached."""

PLAIN_LIMIT_BYTES = 4096
"""A ready value longer than this is always an Item: the fast path then knows that what it sends is small."""

SLOT_BYTES = 77
"""What an entry takes of the table, about: a dict whose keys come and go is given room for two to four times as many
when it is full, so it is 58 to 117."""

ENTRY_COST_BYTES = 95 + SLOT_BYTES
"""Memory of an entry beyond its key and ready bytes: two bytes headers with their rounding (82), its place in the order
of eviction (8), its mark and its ghost (5), the table's slot. An estimate, held to resident sizes by tests."""

ITEM_COST_BYTES = 112
"""What an Item takes beyond its ready bytes: the object with its collector header, and its integers."""

RELATIVE_LIMIT_SECONDS = 60 * 60 * 24 * 30
"""An exptime up to this is relative, beyond it a unix time (protocol.txt, "Expiration times")."""

LONG_PAST = 1
"""The deadline of what has expired before it was stored."""


SPACE, LINE_FEED = b" \n"
"""As numbers: to look for one in a bytes object takes 15 ns, for a bytes object of one 150."""
PLAIN, EXPIRING, WITH_CAS = b"\n\0\1"
"""The last byte of an entry that is bytes tells what it holds."""
_EXPIRING_END = Struct("!IB")
_WITH_CAS_END = Struct("!QIB")
EXPIRING_BYTES, WITH_CAS_BYTES = _EXPIRING_END.size, _WITH_CAS_END.size
LAST_DEADLINE = (1 << 32) - 1
"""Later ones need an Item."""

FETCHED = 1
"""Somebody has read it since it was stored."""
STALE = 2
"""It was invalidated: whoever reads it is told so, and one of them to store it anew (protocol.txt, "Stale items")."""
WON = 4
"""Somebody has been told to store it anew."""


class Item:
    """A ready value with its rare facts.

    Never changed once it is in the table: replaced. But for `accessed` and the FETCHED bit of `state`, which any reader
    may set.
    """

    __slots__ = ("wire_bytes", "deadline", "cas", "accessed", "state")

    def __init__(self, wire_bytes: bytes, deadline: int = 0, cas: int = 0, accessed: int = 0, state: int = 0) -> None:
        self.wire_bytes = wire_bytes
        self.deadline = deadline
        """Unix time at which it expires; 0 is never."""
        self.cas = cas
        """Its CAS id; 0 while nobody has asked for one."""
        self.accessed = accessed
        """Unix time of the store or, where the store keeps such facts, of the last read."""
        self.state = state
        """Which of FETCHED, STALE and WON it is."""

    def __len__(self) -> int:
        """Count its bytes as `len` does for a plain entry, the object's own among them."""
        return len(self.wire_bytes) + ITEM_COST_BYTES


Entry: TypeAlias = bytes | Item


def pack(flags: int, value: bytes) -> bytes:
    """Make the ready bytes of a value."""
    return b" %d %d\r\n%b\r\n" % (flags, len(value), value)


def make_entry(key: bytes, wire_bytes: bytes, deadline: int, cas: int = 0, accessed: int = 0, state: int = 0) -> Entry:
    """Make the smallest entry that can hold this; `accessed` alone is not worth an Item."""
    if state or len(wire_bytes) > PLAIN_LIMIT_BYTES or deadline > LAST_DEADLINE or not is_plain_key(key):
        return Item(wire_bytes, deadline, cas, accessed, state)
    if cas:
        return wire_bytes[:-2] + _WITH_CAS_END.pack(cas, deadline, WITH_CAS)
    return wire_bytes[:-2] + expiring_end(deadline) if deadline else wire_bytes


def expiring_end(deadline: int) -> bytes:
    """Make what an entry with a deadline alone has in place of the last line end. Ends are ordered as deadlines are."""
    return _EXPIRING_END.pack(deadline, EXPIRING)


def is_plain_key(key: bytes) -> bool:
    """Tell whether a text command line can name this key: no space and no line feed in it."""
    return SPACE not in key and LINE_FEED not in key


def is_text_key(key: bytes) -> bool:
    """Tell whether this is a key that a text command line can name, by its length too."""
    return 0 < len(key) <= KEY_LIMIT_BYTES and SPACE not in key and LINE_FEED not in key


def wire_bytes_of(entry: Entry) -> bytes:
    """Return the ready bytes of any kind of entry."""
    if isinstance(entry, Item):
        return entry.wire_bytes
    kind = entry[-1]
    if kind == EXPIRING:
        return entry[:-EXPIRING_BYTES] + b"\r\n"
    return entry[:-WITH_CAS_BYTES] + b"\r\n" if kind == WITH_CAS else entry


def deadline_of(entry: Entry) -> int:
    """Return the unix time at which it expires; 0 is never."""
    if isinstance(entry, Item):
        return entry.deadline
    return int.from_bytes(entry[-5:-1], "big") if entry[-1] <= WITH_CAS else 0


def state_of(entry: Entry) -> int:
    """Return which of FETCHED, STALE and WON it is."""
    return entry.state if isinstance(entry, Item) else 0


def cas_of(entry: Entry) -> int:
    """Return its CAS id; 0 while nobody has asked for one."""
    if isinstance(entry, Item):
        return entry.cas
    return int.from_bytes(entry[-WITH_CAS_BYTES:-5], "big") if entry[-1] == WITH_CAS else 0


def have_same_value(one: Entry, other: Entry) -> bool:
    """Tell whether they differ in their rare facts at most."""
    return wire_bytes_of(one) == wire_bytes_of(other)


def flags_of(wire_bytes: bytes) -> int:
    """Return the client flags."""
    return int(wire_bytes[1 : wire_bytes.index(b" ", 1)])


def value_of(wire_bytes: bytes) -> bytes:
    """Return the data block without its line end."""
    return wire_bytes[wire_bytes.index(b"\n") + 1 : -2]


def parts_with_cas(entry: bytes) -> tuple[bytes, int, bytes]:
    """Return the CAS id, as 8 bytes in network order, the flags and the value of an entry of the kind WITH_CAS."""
    flags = 0 if entry[:3] == b" 0 " else flags_of(entry)
    return entry[-WITH_CAS_BYTES:-5], flags, entry[entry.index(b"\n") + 1 : -WITH_CAS_BYTES]


def after_flags(wire_bytes: bytes) -> bytes:
    """Return the length and the data block with their line ends, which is what a meta command replies."""
    return wire_bytes.split(b" ", 2)[2]


def length_of(wire_bytes: bytes) -> int:
    """Return the length of the data block."""
    return len(wire_bytes) - wire_bytes.index(b"\n") - 3


def absolute_deadline(exptime: int, now: int, started: int) -> int:
    """Turn a client's exptime into the unix time at which the item expires.

    0 stays 0 (never); a negative one, and a unix time before the server's start, is long past
    (protocol.txt, "Expiration times"; memcached's `realtime`).
    """
    if exptime == 0:
        return 0
    if exptime < 0:
        return LONG_PAST
    if exptime <= RELATIVE_LIMIT_SECONDS:
        return now + exptime
    return exptime if exptime > started else LONG_PAST


def moved(deadline: int, seconds: int) -> int:
    """Return a deadline by a clock that is so many seconds ahead; never stays never, and long past long past."""
    return deadline and max(LONG_PAST, deadline + seconds)


_NUMBER = re.compile(rb"[ \t\n\v\f\r]*+([+-]?)(?=[0-9])0*+([0-9]{0,20}+)(?:[ \t\n\v\f\r\0]|$)")


def number_in(value: bytes) -> int | None:
    """Read the decimal number that incr and decr see in a value; None where it is not one of 64 bits.

    White space before it and anything after a white space are passed over, as strtoull does in memcached.
    """
    match = _NUMBER.match(value)
    return None if match is None else unsigned_number(match[1], match[2])


def unsigned_number(sign: bytes, digits: bytes) -> int | None:
    """Make an unsigned number of 64 bits of a sign, or none, and of digits; None where it is out of range.

    A minus wraps it as strtoull does, and memcached takes what is then below 2^63: -0 is 0, and 1 - 2^64 is 1.
    """
    number = int(digits or 0)
    if number >> 64:
        return None
    if sign != b"-":
        return number
    wrapped = -number & 0xFFFFFFFFFFFFFFFF
    return None if wrapped >> 63 else wrapped
