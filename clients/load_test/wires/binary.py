"""memcached's binary protocol: SET and GET packets."""

from __future__ import annotations

import struct

from clients.load_test.wires.wire import INCOMPLETE, BadReply, Outcome

HEADER = struct.Struct(">BBHBBHIIQ")
REPLY_HEADER = struct.Struct(">xxxxxxHI")
"""Of a reply's header: the status and the length of the body."""
REQUEST_MAGIC, REPLY_MAGIC = 0x80, 0x81
GET, SET = 0x00, 0x01
OK, NOT_FOUND = 0, 1
SET_EXTRAS_BYTES = 8


class BinaryWire:
    """The binary protocol; see `Wire`."""

    longest_key = 250
    longest_value = 1 << 30

    def __init__(self, ttl: int) -> None:
        """Store values for ttl seconds; 0 is for ever."""
        self._extras = struct.pack(">II", 0, ttl)

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return a SET packet."""
        body_bytes = SET_EXTRAS_BYTES + len(key) + len(value)
        header = HEADER.pack(REQUEST_MAGIC, SET, len(key), SET_EXTRAS_BYTES, 0, 0, body_bytes, 0, 0)
        return header + self._extras + key + value

    def get(self, key: bytes) -> bytes:
        """Return a GET packet."""
        return HEADER.pack(REQUEST_MAGIC, GET, len(key), 0, 0, 0, len(key), 0, 0) + key

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Find the end of a packet; see `Wire.reply`."""
        if len(data) - position < HEADER.size:
            return INCOMPLETE
        if data[position] != REPLY_MAGIC:
            raise BadReply(f"no packet of the binary protocol: {data[position : position + 40]!r}")
        status, body_bytes = REPLY_HEADER.unpack_from(data, position)
        end = position + HEADER.size + body_bytes
        if end > len(data):
            return INCOMPLETE
        if status == OK:
            return end, Outcome.HIT if is_get else Outcome.STORED
        return end, Outcome.MISS if is_get and status == NOT_FOUND else Outcome.ERROR

    def words_of(self, reply: bytes) -> str:
        """Return the status and the message behind the header."""
        status, _ = REPLY_HEADER.unpack_from(reply)
        return f"status 0x{status:02x} {reply[HEADER.size :].decode('utf-8', 'backslashreplace')}".strip()
