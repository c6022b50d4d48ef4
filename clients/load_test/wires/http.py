"""HTTP/1.1: PUT and GET of /v1/kv/{key}, with the value as the body."""

from __future__ import annotations

import re

from clients.load_test.wires.wire import INCOMPLETE, BadReply, Outcome

LONGEST_HEAD = 16384
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)

WITHOUT_BODY = (b"204", b"304")
KEY_CHARACTERS = re.compile(rb"[A-Za-z0-9._~-]+").fullmatch
WORDS_SHOWN = 200


class HttpWire:
    """HTTP with raw bodies; see `Wire`."""

    longest_key = 250
    longest_value = 1 << 30

    def __init__(self, ttl: int, host: str) -> None:
        """Store values for ttl seconds; 0 is for ever. host: the value of the field Host."""
        head = f" HTTP/1.1\r\nHost: {host}\r\n".encode()
        self._get_end = head + b"\r\n"
        query = b"?ttl=%d" % ttl if ttl else b""
        self._put_end = query + head + b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"

    def put(self, key: bytes, value: bytes) -> bytes:
        """Return a PUT."""
        return b"PUT /v1/kv/" + quoted(key) + self._put_end % len(value) + value

    def get(self, key: bytes) -> bytes:
        """Return a GET."""
        return b"GET /v1/kv/" + quoted(key) + self._get_end

    def reply(self, data: bytes, position: int, is_get: bool) -> tuple[int, Outcome]:
        """Find the end of a body of known length; see `Wire.reply`."""
        head_end = data.find(b"\r\n\r\n", position)
        if head_end < 0 and len(data) - position <= LONGEST_HEAD:
            return INCOMPLETE
        if head_end < 0 or not data.startswith(b"HTTP/1.", position):
            raise BadReply(f"no HTTP: {data[position : position + 40]!r}")
        status = data[position + 9 : position + 12]
        end = head_end + 4
        if status not in WITHOUT_BODY:
            length = LENGTH.search(data, position, head_end + 2)
            if length is None:
                raise BadReply(f"status {status.decode()} without a Content-Length")
            end += int(length[1])
        if end > len(data):
            return INCOMPLETE
        return end, outcome_of(status, is_get)

    def words_of(self, reply: bytes) -> str:
        """Return the status line and the beginning of the body."""
        head, _, body = reply.partition(b"\r\n\r\n")
        status_line = head.partition(b"\r\n")[0].decode("latin-1")
        return f"{status_line} {body[:WORDS_SHOWN].decode('utf-8', 'backslashreplace')}".strip()


def outcome_of(status: bytes, is_get: bool) -> Outcome:
    """Return what a status says about its request."""
    if status.startswith(b"2"):
        return Outcome.HIT if is_get else Outcome.STORED
    return Outcome.MISS if is_get and status == b"404" else Outcome.ERROR


def quoted(key: bytes) -> bytes:
    """Return a key as a segment of a path."""
    if KEY_CHARACTERS(key):
        return key
    return b"".join(b"%c" % byte if KEY_CHARACTERS(b"%c" % byte) else b"%%%02X" % byte for byte in key)
