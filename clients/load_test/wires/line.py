"""The line protocol: one line for each request and each reply."""

from __future__ import annotations

from clients.load_test.wires.wire import INCOMPLETE, Outcome

MISS = b"ERROR key not found"


class LineWire:
    """The line protocol; see `Wire`."""

    longest_key = 256
    longest_value = 256

    def __init__(self, ttl: int) -> None:
        """Store values for ttl seconds; 0 is for ever."""
        self._end = b" %d\n" % ttl if ttl else b"\n"

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return a PUT."""
        return b"PUT " + key + b" " + value + self._end

    def get(self, key: bytes) -> bytes:
        """Return a GET."""
        return b"GET " + key + b"\n"

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Find the end of a line; see `Wire.reply`."""
        end = data.find(b"\n", position) + 1
        if not end:
            return INCOMPLETE
        if data.startswith(b"OK", position):
            return end, Outcome.HIT if is_get else Outcome.STORED
        if is_get and data.startswith(MISS, position):
            return end, Outcome.MISS
        return end, Outcome.ERROR

    def words_of(self, reply: bytes) -> str:
        """Return the line."""
        return reply.decode("utf-8", "backslashreplace").strip()
