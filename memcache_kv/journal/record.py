r"""One record of the journal: a line of JSON that states its own length and checksum.

``{"crc":"079ddfc5","len":44,"op":"set","key":"greeting","value":"hello"}\n``

`len` counts, and `crc` (CRC-32) covers, the bytes from the `"` before `op` to the closing brace. That is the *body*.
The checksum continues that of the record before it in the file, so a line that is missing, repeated or out of place
does not fit. A key or value that is not valid UTF-8 is in base64, as `key64` or `value64`. See
docs/reference/journal_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate, compress, repeat
from typing import Annotated, Literal, NamedTuple, TypeAlias, cast
from zlib import crc32

import msgspec

from memcache_kv.store.entry import (
    JOURNALED,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SPACE,
    STALE,
    WITH_CAS,
    WON,
    Entry,
    cas_of,
    deadline_of,
    flags_of,
    make_entry,
    moved,
    state_of,
    value_of,
    wire_bytes_of,
)

FORMAT_VERSION = 3
"""Format 1 had one file, no manifest, and no `time` and `end` records. In format 2 each checksum stood for itself. Both
can still be read."""
CHAINED_VERSION = 3
"""The first format in which each checksum continues the one before it in the file."""
UNCHAINED = -1
"""Takes the place of the checksum before a line in a file of an older format."""

LAST_CAS = (1 << 64) - 1
Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Op: TypeAlias = Literal["start", "set", "delete", "touch", "cas", "mark", "flush", "time", "end"]


class Room(NamedTuple):
    """How much room a server has for items: the bytes of -m, and the number of --max-items. 0 is no limit."""

    limit_bytes: int = 0
    max_items: int = 0

    def holds(self, other: Room) -> bool:
        """Tell whether all items that fit into `other` fit into this room."""
        return all(mine == 0 or 0 < theirs <= mine for mine, theirs in zip(self, other, strict=True))

    def joined(self, other: Room) -> Room:
        """Return the smallest room for all items that fit into either of the two."""
        return Room(*(max(pair) if all(pair) else 0 for pair in zip(self, other, strict=True)))


UNLIMITED = Room()


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """One record. Its meaning depends on `op`; a line leaves out fields that have their default."""

    op: Op
    key: str | None = None
    key64: bytes | None = None
    flags: int = 0
    exp: Natural = 0
    """The unix time of expiry; 0 for never."""
    cas: Natural = 0
    """set, cas, mark: the item's CAS id, if it has one. start: the id before the first one of this run."""
    at: int = 0
    """flush: the unix time at which it takes effect; 0 for at once. start: when the file was started. time: the
    earliest time of the records that follow. end: the time whose state the base holds."""
    version: int = 0
    """start: the writer's FORMAT_VERSION."""
    value: str | None = None
    value64: bytes | None = None
    stale: bool = False
    """set, mark: the value was invalidated but is still served."""
    won: bool = False
    """set, mark: a client has been asked to store the key anew."""
    count: int = 0
    """end: the number of records before it in the base."""
    limit: int = 0
    items: int = 0
    """start: the `Room` that the journal's live items need."""

    stepped: int | None = None
    """start, time: the sum of all steps of the wall clock since the journal was started, in seconds. If it differs from
    the sum before, all expiry times up to here move by the difference. None: unchanged."""
    after: int = 0
    """start: the length of the previous increment, if this one may exist before a manifest names it."""
    id: str = ""
    """start: the journal to which the file belongs."""
    follows: str = ""
    """start: the checksum of the last record of the file before, in the first record of an increment or of a base."""
    synced: Natural = 0
    """time: the file was on disk up to this offset when the record was written; 0: nothing new is known."""
    serial: Natural = 0
    """start, time: the serial of a manifest that was on disk when the record was written; 0: nothing new is known."""

    @property
    def room(self) -> Room:
        """The room that a start record gives."""
        return Room(self.limit, self.items)

    def key_bytes(self) -> bytes:
        """Return the key as bytes."""
        return self.key.encode() if self.key is not None else self.key64 or b""

    @property
    def state(self) -> int:
        """The bits STALE and WON, as an item has them."""
        return STALE * self.stale | WON * self.won

    def value_bytes(self) -> bytes:
        """Return the value as bytes."""
        return self.value.encode() if self.value is not None else self.value64 or b""


_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decode = msgspec.json.Decoder(Record).decode

LINE_HEAD = b'{"crc":"'
"""The first bytes of every line."""
_HEAD = b'{"crc":"%08x","len":%d,'
_FRAME = _HEAD + b"%b\n"
CRC_DIGITS = 8
_CRC_AT = len(LINE_HEAD)
_LEN_AT = len('{"crc":"00000000","len":')

SNIFFED_BYTES = 24
"""How many bytes are checked for invalid UTF-8 before all of them are decoded."""
_find_invalid_utf8 = re.compile(rb"[\x00-\x7f][\x80-\xbf]|[\xc0\xc1\xf5-\xff]|[\xc2-\xf4][\x00-\x7f\xc2-\xf4]").search
"""Find bytes that occur in no UTF-8 text: a continuation byte without a first one, an invalid byte, or a first byte
without a continuation."""


def line_of(record: Record) -> bytes:
    """Return a record as the line that would be the first of a file, with its checksum and line feed."""
    return framed(_encode(record)[1:])


def framed(body: bytes) -> bytes:
    """Return the line that would be the first of a file; `body` is the JSON object without its first brace."""
    return _FRAME % (crc32(body), len(body), body)


def rechained_lines(data: bytes, chain: int) -> tuple[bytes, int]:
    """Return lines with the checksums that they have behind a record with the checksum `chain`, and the last of these.

    Raises ValueError if `data` is anything but complete lines.
    """
    return _chained(_bodies_of(data), chain)


def _chained(bodies: list[bytes], chain: int) -> tuple[bytes, int]:
    """Frame bodies in order, so that each checksum continues the one before."""
    checksums = [*accumulate(bodies, lambda before, body: crc32(body, before), initial=chain)]
    fields: list[int | bytes] = [0] * (3 * len(bodies))
    fields[0::3], fields[1::3], fields[2::3] = checksums[1:], [*map(len, bodies)], bodies
    return _FRAME * len(bodies) % tuple(fields), checksums[-1]


def _bodies_of(data: bytes) -> list[bytes]:
    """Take complete lines apart. Their checksums are not checked. Raises ValueError."""
    if not data:
        return []
    if not data.endswith(b"\n"):
        raise ValueError("a line is not complete")
    return [bytes(_body_of(line)) for line in data[:-1].split(b"\n")]


def stated_crc(line: bytes) -> int:
    """Return the checksum that a line states, by its first bytes. Raises ValueError if it states none."""
    digits = line[_CRC_AT : _CRC_AT + CRC_DIGITS]
    if not line.startswith(LINE_HEAD) or len(digits) < CRC_DIGITS:
        raise ValueError("not a record of a journal")
    return int(digits, 16)


def stated_bytes(head: bytes | bytearray) -> int:
    """Return how long the line is that begins like this, with its line feed; 0 if it does not state that."""
    comma = head.find(b",", _LEN_AT, _LEN_AT + 12)
    digits = head[_LEN_AT : max(comma, 0)]
    return comma + 1 + int(digits) + 1 if head.startswith(LINE_HEAD) and digits.isdigit() else 0


def last_crc(data: bytes | bytearray) -> int:
    """Return the checksum that the last of some complete lines states. Raises ValueError if it states none."""
    start = data.rfind(b"\n", 0, -1) + 1
    return stated_crc(bytes(data[start : start + _LEN_AT]))


class StoredEntry(msgspec.Struct, omit_defaults=True, tag_field="op", tag="set", gc=False):
    """The fields of a `set` record of an entry that is neither stale nor won. It is faster to create than a Record."""

    key: str | None = None
    key64: bytes | None = None
    flags: int = 0
    exp: int = 0
    cas: int = 0
    value: str | None = None
    value64: bytes | None = None


ENCODED = b"\n"
"""Stands in a queue in place of a key, before a line, or several, that are encoded already. No entry of type bytes has
such a key."""
MIN_BATCH_LINES = 12
"""Fewer lines than this are faster to encode one by one."""
_NO_FLAGS = b"0"[0]
"""The byte after an entry's first space if the client's flags are 0."""


def queue_lines(queue: list[Entry], wall_ahead: int = 0, chain: int = 0) -> tuple[bytes, int]:
    """Return queued keys and entries as the lines of `set` records, and the checksum of the last line.

    queue: keys and entries in turn, or ENCODED and lines, which get new checksums. wall_ahead: how many seconds the
    wall clock, by which expiry times are written, is ahead of the clock of the entries. chain: the checksum of the
    record before; 0 at the beginning of a file.
    """
    keys, entries = cast(list[bytes], queue[0::2]), queue[1::2]
    are_small = [key != ENCODED and entry.__class__ is bytes for key, entry in zip(keys, entries, strict=True)]
    small = cast(list[bytes], [*compress(entries, are_small)])
    made = _set_bodies([*compress(keys, are_small)], small, wall_ahead)
    if len(small) == len(entries):
        return _chained(made, chain)
    bodies: list[bytes] = []
    left = iter(made)
    for key, entry, is_small in zip(keys, entries, are_small, strict=True):
        if is_small:
            bodies.append(next(left))
        else:
            bodies += _other_bodies(key, entry, wall_ahead)
    return _chained(bodies, chain)


def _other_bodies(key: bytes, entry: Entry, wall_ahead: int) -> list[bytes]:
    """Return the bodies of lines that are encoded already, or that of an Item."""
    encoded = entry if key == ENCODED and isinstance(entry, bytes) else entry_line(key, entry, wall_ahead)
    return _bodies_of(encoded)


def _set_bodies(keys: list[bytes], entries: list[bytes], wall_ahead: int) -> list[bytes]:
    """Return the bodies of the `set` records of these keys and entries, which must be of type bytes.

    The result is the same as with `entry_line` for each of them, but faster for many.
    """
    if len(entries) < MIN_BATCH_LINES:
        return _bodies_of(b"".join(map(entry_line, keys, entries, repeat(wall_ahead))))
    flags: Iterable[int] = repeat(0)
    deadlines = ids = flags
    others = [entry for entry in entries if entry[-1] != PLAIN or entry[2] != SPACE or entry[1] != _NO_FLAGS]
    if others:
        flags = [0 if entry[2] == SPACE and entry[1] == _NO_FLAGS else flags_of(entry) for entry in entries]
        deadlines = [0 if entry[-1] == PLAIN else deadline_of(entry) for entry in entries]
        if wall_ahead:
            deadlines = [moved(deadline, wall_ahead) for deadline in deadlines]
        ids = [cas_of(entry) if entry[-1] == WITH_CAS else 0 for entry in entries]
        values = [value_of(wire_bytes_of(entry)) for entry in entries]
    else:
        values = [entry[entry.find(b"\n") + 1 : -2] for entry in entries]
    sets = map(StoredEntry, *_texts(keys), flags, deadlines, ids, *_texts(values))
    return _encoder.encode_lines(list(sets))[1:-1].split(b"\n{")


def entry_line(key: bytes, entry: Entry, wall_ahead: int = 0) -> bytes:
    """Return the `set` record of any entry as a line."""
    wire_bytes = wire_bytes_of(entry)
    deadline = moved(deadline_of(entry), wall_ahead)
    state = state_of(entry) & JOURNALED
    return set_line(key, flags_of(wire_bytes), deadline, cas_of(entry), value_of(wire_bytes), state)


def _texts(pieces: list[bytes]) -> tuple[Iterable[str | None], Iterable[bytes | None]]:
    """Decode the pieces that are text.

    Returns the texts, with None in place of other pieces, and the other pieces, with None in place of texts.
    """
    try:
        return [*map(bytes.decode, pieces)], repeat(None)
    except UnicodeDecodeError:
        pass
    seen = SNIFFED_BYTES  # `_text`, inlined
    texts = [None if not one.isascii() and _find_invalid_utf8(one, 0, seen) else _decoded(one) for one in pieces]
    return texts, [piece if text is None else None for text, piece in zip(texts, pieces, strict=True)]


def set_line(key: bytes, flags: int, exp: int, cas: int, value: bytes, state: int = 0) -> bytes:
    """Return a `set` record as a line. For many entries, `queue_lines` is faster.

    exp: unix time of expiry by the wall clock, or 0. cas: 0 for none. state: the bits STALE and WON.
    """
    key_text, value_text = _text(key), _text(value)
    key64, value64 = key if key_text is None else None, value if value_text is None else None
    record = Record("set", key_text, key64, flags, exp, cas, 0, 0, value_text, value64)
    if state:
        _put_state(record, state)
    return line_of(record)


def _text(data: bytes) -> str | None:
    """Decode text; return None for other data. Most binary data is recognized without raising an exception."""
    return None if not data.isascii() and _find_invalid_utf8(data, 0, SNIFFED_BYTES) else _decoded(data)


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def mark_record(exp: int, cas: int, state: int) -> Record:
    """Return a `mark` record without its key.

    exp: unix time of expiry, or 0. cas: 0 for none. state: the bits STALE and WON.
    """
    record = Record("mark", exp=exp, cas=cas)
    _put_state(record, state)
    return record


def _put_state(record: Record, state: int) -> None:
    record.stale = bool(state & STALE)
    record.won = bool(state & WON)


def put_key(record: Record, key: bytes) -> Record:
    """Set a record's key, as text or as base64, and return the record."""
    record.key = _text(key)
    if record.key is None:
        record.key64 = key
    return record


def check_line(line: bytes, before: int = 0) -> int:
    """Check that a line, without its line feed, has the length and the checksum that it states. Return the checksum.

    before: the checksum of the record before; 0 at the beginning of a file; UNCHAINED in a file of an older format.
    Raises ValueError, which says what is wrong.
    """
    body = _body_of(line)
    checksum = crc32(body, max(0, before))
    if line[_CRC_AT : _CRC_AT + CRC_DIGITS] != b"%08x" % checksum:
        raise ValueError(_why_unfit(line, body, before))
    return checksum


def _why_unfit(line: bytes, body: memoryview, before: int) -> str:
    """Say why a checksum is wrong: the record may be whole, and fit another place only."""
    if before > 0 and line[_CRC_AT : _CRC_AT + CRC_DIGITS] == b"%08x" % crc32(body):
        return "the record is the first of a file, and this is not the beginning of one"
    return "the record's checksum does not fit its content" + " behind the record before it" * (before > 0)


def _body_of(line: bytes) -> memoryview:
    """Return a line's body. Raises ValueError if it is not as long as the line states."""
    if not line.startswith(LINE_HEAD) or line[_CRC_AT + CRC_DIGITS : _LEN_AT] != b'","len":':
        raise ValueError("not a record of a journal")
    comma = line.find(b",", _LEN_AT, _LEN_AT + 12)
    body = memoryview(line)[comma + 1 :]
    if comma < 0 or line[_LEN_AT:comma] != b"%d" % len(body):
        raise ValueError(f"the record is {len(body)} bytes long, not as many as it says")
    return body


def parse_line(line: bytes, before: int = 0) -> Record:
    """Check and decode a line, without its line feed.

    before: as for `check_line`. Raises ValueError, which says what is wrong, if the length, the checksum or the content
    is invalid.
    """
    check_line(line, before)
    return decode_line(line)


def decode_line(line: bytes) -> Record:
    """Decode a line that was checked already. Raises ValueError if it is not a known record."""
    try:
        record = _decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the record has an unknown form: {error}") from None
    if record.cas > LAST_CAS:
        raise ValueError(f"the record has an unknown form: there is no CAS id {record.cas}")
    return record


_LINE = re.compile(
    rb'(?:(\{"crc":"........","len":\d++,)("op":"set","key":"([!#-[\]-~\x80-\xff]++)",'
    rb'(?:"flags":(0|[1-9]\d*+),)?+(?:"exp":(0|[1-9]\d*+),)?+"value":"([ !#-[\]-~\x80-\xff]{0,%d}+)"\})'
    rb"|([^\n]*+))\n" % (PLAIN_LIMIT_BYTES // 2)
)
"""A line: either the parts of a `set` of text without escapes, or the whole line, which must be decoded as JSON."""


def decode_lines(block: bytes | bytearray, before: int) -> tuple[list[bytes], list[bytes | None]]:
    """Check lines, and return keys and their entries. For another record: the line without its line feed, and None.

    block: complete lines. before: the checksum of the record before them; UNCHAINED in a file of an older format. The
    entries are those of `set` records of text without JSON escapes: the most common ones, which are read without
    decoding the JSON. Every entry returned is of type bytes. Raises ValueError if a line is damaged.
    """
    if not _is_text(block):
        lines = bytes(block[:-1]).split(b"\n")
        for line in lines:
            before = _next_before(check_line(line, before), before)
        return lines, [None] * len(lines)
    keys: list[bytes] = []
    entries: list[bytes | None] = []
    for head, body, key, flags, exp, value, other in _LINE.findall(block):
        entry: Entry | None = None
        if head:
            checksum = crc32(body, before if before > 0 else 0)
            if head != _HEAD % (checksum, len(body)):
                raise ValueError
            wire_bytes = b" %b %d\r\n%b\r\n" % (flags or b"0", len(value), value)
            entry = make_entry(key, wire_bytes, int(exp)) if exp else wire_bytes
        else:
            checksum = check_line(other, before)
        if before != UNCHAINED:
            before = checksum
        if isinstance(entry, bytes):
            keys.append(key)
            entries.append(entry)
        else:
            keys.append(other or head + body)
            entries.append(None)
    return keys, entries


def _next_before(checksum: int, before: int) -> int:
    """Return what the next line's checksum continues."""
    return UNCHAINED if before == UNCHAINED else checksum


def _is_text(block: bytes | bytearray) -> bool:
    """Tell whether a block is valid UTF-8, which `_LINE` takes for granted."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
