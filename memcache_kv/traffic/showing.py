"""Requests and replies as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator

from memcache_kv.protocol.binary.frames import HEAD_BYTES, REPLY, REPLY_MAGIC, REQUEST_MAGIC, Opcode, Status
from memcache_kv.traffic.replaying import Deviation

LONGEST_SHOWN = 100
"""How many characters of a line are shown."""
MOST_LINES = 12
"""How many lines of a request or a reply are shown."""
_LABELS = ("asked", "recorded", "replayed")
_LABEL_WIDTH = max(map(len, _LABELS)) + 1


def described(data: bytes) -> list[str]:
    """Return the lines that show a request or a reply: those of the text protocol, or one for each packet."""
    if not data:
        return ["(nothing)"]
    is_binary = data[0] in (REQUEST_MAGIC, REPLY_MAGIC)
    lines = list(_packet_lines(data)) if is_binary else [_escaped(line) for line in data.splitlines()]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"({len(lines) - MOST_LINES + 1} more lines)"]
    return lines


def _escaped(data: bytes) -> str:
    """Return bytes as text, with escapes for what is not printable, and only the beginning of what is long."""
    text = data[:LONGEST_SHOWN].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(data) <= LONGEST_SHOWN else f"{shown} … ({len(data):,} bytes)"


def _packet_lines(data: bytes) -> Iterator[str]:
    position = 0
    while len(data) - position >= HEAD_BYTES:
        magic, opcode, key_bytes, extras_bytes, status, body_bytes, opaque, cas = REPLY.unpack_from(data, position)
        extras_at = position + HEAD_BYTES
        key_at = extras_at + extras_bytes
        position = extras_at + int(body_bytes)
        words = [_name(Opcode, opcode), _name(Status, status) if magic == REPLY_MAGIC else "", f"opaque={opaque}"]
        words.append(f"cas={cas}" if cas else "")
        words.append(f"extras={data[extras_at:key_at].hex()}" if extras_bytes else "")
        words.append(f"key={_escaped(data[key_at : key_at + key_bytes])}" if key_bytes else "")
        value = data[key_at + key_bytes : position]
        words.append(f"value={_escaped(value)}" if value else "")
        yield " ".join(filter(None, words))
    if position < len(data):
        yield _escaped(data[position:])


def _name(names: type[Opcode] | type[Status], number: int) -> str:
    known = {member.value: member.name for member in names}
    return known.get(number, f"0x{number:02x}")


def deviation_lines(deviation: Deviation, number: int) -> Iterator[str]:
    """Yield the lines that show a difference. number: the how manieth it is."""
    call = deviation.call
    yield f"difference {number}: connection {call.connection}, {call.at:.3f} s, line {call.line} of the recording"
    replayed = described(deviation.other) if deviation.other or not deviation.trouble else []
    if deviation.trouble:
        replayed.append(f"({deviation.trouble})")
    for label, lines in zip(_LABELS, (described(call.request.data), described(call.reply), replayed), strict=True):
        yield from (
            f"  {label + ':' if not at else '':{_LABEL_WIDTH}} {line}".rstrip() for at, line in enumerate(lines)
        )
