r"""One record of the journal: a line of JSON that says of itself how long it is and what its checksum is.

``{"crc":"079ddfc5","len":44,"op":"set","key":"greeting","value":"hello"}\n``

`len` counts, and `crc` (CRC-32) covers, the bytes from the `"` before `op` to the closing brace. A key or value that is
not valid UTF-8 stands in base64 under `key64` or `value64`. See docs/reference/journal_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import repeat
from typing import Annotated, Literal, NamedTuple, TypeAlias
from zlib import crc32

import msgspec

from memcache_kv.store.entry import (
    PLAIN,
    SPACE,
    STALE,
    WITH_CAS,
    WON,
    cas_of,
    deadline_of,
    flags_of,
    moved,
    value_of,
    wire_bytes_of,
)

FORMAT_VERSION = 2
"""Format 1 had one file, no manifest, and neither `time` nor `end`; it is read too."""

LAST_CAS = (1 << 64) - 1
Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Op: TypeAlias = Literal["start", "set", "delete", "touch", "cas", "mark", "flush", "time", "end"]


class Room(NamedTuple):
    """How much room a server has for a journal's items: the bytes of -m, and --max-items. 0 is no limit."""

    limit_bytes: int = 0
    max_items: int = 0

    def holds(self, other: Room) -> bool:
        """Tell whether all that finds room there finds it here."""
        return all(mine == 0 or 0 < theirs <= mine for mine, theirs in zip(self, other, strict=True))

    def joined(self, other: Room) -> Room:
        """Return the least room that holds all that finds room in either."""
        return Room(*(max(pair) if all(pair) else 0 for pair in zip(self, other, strict=True)))


UNLIMITED = Room()


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """What one line says. Which fields matter depends on `op`; the others are left out of the line."""

    op: Op
    key: str | None = None
    key64: bytes | None = None
    flags: int = 0
    exp: Natural = 0
    """Unix time of expiry; 0 is never."""
    cas: Natural = 0
    """set, cas, mark: the item's CAS id, where it has one; start: the id before the first of this run."""
    at: int = 0
    """flush: the unix time at which it takes effect, 0 for at once; start: when the file was begun; time: from when on
    what follows was done; end: when the base was complete, which is the moment that it shows."""
    version: int = 0
    """start: FORMAT_VERSION of the writer."""
    value: str | None = None
    value64: bytes | None = None
    stale: bool = False
    """set, mark: the value was invalidated, and is still served."""
    won: bool = False
    """set, mark: somebody was told to store the key anew."""
    count: int = 0
    """end: how many records stand before it, in a base."""
    limit: int = 0
    items: int = 0
    """start: the `Room` that is needed for what lives of the journal."""

    stepped: int | None = None
    """start, time: by how many seconds the wall clock was stepped in all since the journal was begun. Where that is not
    what was said before, all expiry times up to here are to be moved by the difference. None: as before."""
    after: int = 0
    """start: how long the increment before this one is, where this one may be there before a manifest names it."""

    @property
    def room(self) -> Room:
        """Return the room that a start tells of."""
        return Room(self.limit, self.items)

    def key_bytes(self) -> bytes:
        """Return the key as the protocol has it."""
        return self.key.encode() if self.key is not None else self.key64 or b""

    @property
    def state(self) -> int:
        """Return STALE and WON as an item has them."""
        return STALE * self.stale | WON * self.won

    def value_bytes(self) -> bytes:
        """Return the value as the protocol has it."""
        return self.value.encode() if self.value is not None else self.value64 or b""


_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decode = msgspec.json.Decoder(Record).decode

LINE_HEAD = b'{"crc":"'
"""What every line begins with."""
_CRC_AT = len(LINE_HEAD)
_LEN_AT = len('{"crc":"00000000","len":')

SNIFFED_BYTES = 24
"""How much of what may be text is looked at before it is decoded."""
_find_invalid_utf8 = re.compile(rb"[\x00-\x7f][\x80-\xbf]|[\xc0\xc1\xf5-\xff]|[\xc2-\xf4][\x00-\x7f\xc2-\xf4]").search
"""Finds what is in no UTF-8: a continuation behind no beginning, a byte of none, a beginning without continuation."""


def line_of(record: Record) -> bytes:
    """Make the line of a record, with its checksum and its line feed."""
    return framed(_encode(record)[1:])


def framed(body: bytes) -> bytes:
    """Make a line of what stands behind the first brace, with its checksum and its line feed."""
    return b'{"crc":"%08x","len":%d,%b\n' % (crc32(body), len(body), body)


class StoredEntry(msgspec.Struct, omit_defaults=True, tag_field="op", tag="set", gc=False):
    """What a Record says that is a `set` of an entry without a state; made in half the time."""

    key: str | None = None
    key64: bytes | None = None
    flags: int = 0
    exp: int = 0
    cas: int = 0
    value: str | None = None
    value64: bytes | None = None


MIN_BATCH_LINES = 12
"""Fewer lines than this are made faster one by one."""
_SET = b'"op":"set",'
"""What the body of a `set` begins with."""
_SET_CRC = crc32(_SET)
_NO_FLAGS = b"0"[0]
"""What an entry has between its first space and its second where the client's flags are 0."""


def set_lines(keys: list[bytes], entries: list[bytes], wall_ahead: int = 0) -> bytes:
    """Make the lines of `set`s of entries that are bytes: what `set_line` makes of each, of many in half the time.

    wall_ahead: how far ahead the wall clock is, by which expiry times are written, of the clock of the entries.
    """
    if len(entries) < MIN_BATCH_LINES:
        return b"".join(map(_entry_line, keys, entries, repeat(wall_ahead)))
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
    return _framed_sets(_encoder.encode_lines(list(sets)))


def _entry_line(key: bytes, entry: bytes, wall_ahead: int) -> bytes:
    deadline = moved(deadline_of(entry), wall_ahead)
    return set_line(key, flags_of(entry), deadline, cas_of(entry), value_of(wire_bytes_of(entry)))


def _texts(pieces: list[bytes]) -> tuple[Iterable[str | None], Iterable[bytes | None]]:
    """Decode what is text. Return it, with None for the others; and those, with None for what is text."""
    try:
        return [*map(bytes.decode, pieces)], repeat(None)
    except UnicodeDecodeError:
        pass
    seen = SNIFFED_BYTES  # `_text`, less a call
    texts = [None if not one.isascii() and _find_invalid_utf8(one, 0, seen) else _decoded(one) for one in pieces]
    return texts, [piece if text is None else None for text, piece in zip(texts, pieces, strict=True)]


def _framed_sets(objects: bytes) -> bytes:
    """Make of the JSON objects of `set`s, which stand in a line each, what `framed` makes of each."""
    rests = objects[len(b"{" + _SET) : -1].split(b"\n{" + _SET)
    fields: list[int | bytes] = [0] * (3 * len(rests))
    fields[0::3] = map(crc32, rests, repeat(_SET_CRC))
    fields[1::3] = [len(_SET) + length for length in map(len, rests)]
    fields[2::3] = rests
    return b'{"crc":"%08x","len":%d,"op":"set",%b\n' * len(rests) % tuple(fields)


def set_line(key: bytes, flags: int, exp: int, cas: int, value: bytes, state: int = 0) -> bytes:
    """Make the line of one `set`; of many entries that are bytes `set_lines` does it in half the time."""
    key_text, value_text = _text(key), _text(value)
    key64, value64 = key if key_text is None else None, value if value_text is None else None
    record = Record("set", key_text, key64, flags, exp, cas, 0, 0, value_text, value64)
    if state:
        _put_state(record, state)
    return line_of(record)


def _text(data: bytes) -> str | None:
    """Decode what is text; None for what is not: most of that shows it soon, in half an exception's time."""
    return None if not data.isascii() and _find_invalid_utf8(data, 0, SNIFFED_BYTES) else _decoded(data)


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def mark_record(exp: int, cas: int, state: int) -> Record:
    """Make the record of a `mark`, but for its key."""
    record = Record("mark", exp=exp, cas=cas)
    _put_state(record, state)
    return record


def _put_state(record: Record, state: int) -> None:
    record.stale = bool(state & STALE)
    record.won = bool(state & WON)


def put_key(record: Record, key: bytes) -> Record:
    """Write the key into a record, as text where it is text."""
    record.key = _text(key)
    if record.key is None:
        record.key64 = key
    return record


def check_line(line: bytes) -> None:
    """See that a line (without its line feed) is as long as it says, and has the checksum that it says.

    Raises ValueError, saying what is wrong.
    """
    if not line.startswith(LINE_HEAD) or line[_CRC_AT + 8 : _LEN_AT] != b'","len":':
        raise ValueError("not a record of a journal")
    comma = line.find(b",", _LEN_AT, _LEN_AT + 12)
    body = memoryview(line)[comma + 1 :]
    if comma < 0 or line[_LEN_AT:comma] != b"%d" % len(body):
        raise ValueError(f"the record is {len(body)} bytes long, not as many as it says")
    if line[_CRC_AT : _CRC_AT + 8] != b"%08x" % crc32(body):
        raise ValueError("the record's checksum does not fit its content")


def parse_line(line: bytes) -> Record:
    """Read a line (without its line feed) back.

    Raises ValueError, saying what is wrong, where length, checksum or content do not fit.
    """
    check_line(line)
    return decode_line(line)


def decode_line(line: bytes) -> Record:
    """Read a line back that was checked already. Raises ValueError where it is no record that is known."""
    try:
        record = _decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the record has an unknown form: {error}") from None
    if record.cas > LAST_CAS:
        raise ValueError(f"the record has an unknown form: there is no CAS id {record.cas}")
    return record
