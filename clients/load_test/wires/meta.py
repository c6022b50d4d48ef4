"""memcached's meta protocol: `ms` and `mg`."""

from __future__ import annotations

from clients.load_test.wires.text import incomplete_line, size_in
from clients.load_test.wires.wire import INCOMPLETE, Outcome


class MetaWire:
    """The meta protocol; see `Wire`."""

    longest_key = 250
    longest_value = 1 << 30

    def __init__(self, ttl: int) -> None:
        """Store values for ttl seconds; 0 is for ever."""
        self._flags = b" T%d" % ttl if ttl else b""

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return an ms."""
        return b"ms %b %d%b\r\n%b\r\n" % (key, len(value), self._flags, value)

    def get(self, key: bytes) -> bytes:
        """Return an mg that asks for the value alone."""
        return b"mg " + key + b" v\r\n"

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Find the end of a line, or of a value; see `Wire.reply`."""
        end = data.find(b"\r\n", position)
        if end < 0:
            return incomplete_line(data, position)
        if data.startswith(b"VA ", position):
            behind_size = data.find(b" ", position + 3, end)
            end += 2 + size_in(data, position + 3, end if behind_size < 0 else behind_size) + 2
            return (end, Outcome.HIT) if end <= len(data) else INCOMPLETE
        if data.startswith(b"HD", position) and not is_get:
            return end + 2, Outcome.STORED
        if data.startswith(b"EN\r", position) and is_get:
            return end + 2, Outcome.MISS
        return end + 2, Outcome.ERROR

    def words_of(self, reply: bytes) -> str:
        """Return the line."""
        return reply.decode("utf-8", "backslashreplace").strip()
