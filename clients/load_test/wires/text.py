"""memcached's classic text protocol: `set` and `get`."""

from __future__ import annotations

from clients.load_test.wires.wire import INCOMPLETE, BadReply, Outcome

BEHIND_VALUE = len(b"\r\nEND\r\n")
LONGEST_LINE = 2048


class TextWire:
    """The classic text protocol; see `Wire`."""

    longest_key = 250
    longest_value = 1 << 30

    def __init__(self, ttl: int) -> None:
        """Store values for ttl seconds; 0 is for ever."""
        self._ttl = ttl

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return a set."""
        return b"set %b 0 %d %d\r\n%b\r\n" % (key, self._ttl, len(value), value)

    def get(self, key: bytes) -> bytes:
        """Return a get of one key."""
        return b"get " + key + b"\r\n"

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Find the end of a line, or of a value and its END; see `Wire.reply`."""
        end = data.find(b"\r\n", position)
        if end < 0:
            return incomplete_line(data, position)
        if data.startswith(b"VALUE ", position):
            end += 2 + size_in(data, data.rfind(b" ", position, end) + 1, end) + BEHIND_VALUE
            return (end, Outcome.HIT) if end <= len(data) else INCOMPLETE
        if data.startswith(b"STORED", position) and not is_get:
            return end + 2, Outcome.STORED
        if data.startswith(b"END", position) and is_get:
            return end + 2, Outcome.MISS
        return end + 2, Outcome.ERROR

    def words_of(self, reply: bytes) -> str:
        """Return the line."""
        return reply.decode("utf-8", "backslashreplace").strip()


def incomplete_line(data: bytes, position: int) -> tuple[int, Outcome]:
    """Return INCOMPLETE; raise BadReply where so much has arrived that this is no line."""
    if len(data) - position > LONGEST_LINE:
        raise BadReply(f"{len(data) - position} bytes without a line end")
    return INCOMPLETE


def size_in(data: bytes, start: int, end: int) -> int:
    """Read the size of a value; raise BadReply if there is no number."""
    digits = data[start:end]
    if not digits.isdigit():
        raise BadReply(f"no size of a value: {digits!r}")
    return int(digits)
