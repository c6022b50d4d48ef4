"""Tell where a reply ends, for every request of the text protocol; bytes in, a length out, no socket.

The rules follow memcached's doc/protocol.txt: VALUE and VA blocks are skipped by their byte count, so data
that happens to contain `END` ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ReplyEnd = Callable[[bytes], int | None]
"""Given what arrived so far, the reply's length in bytes, or None while it is incomplete."""

_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")
_RETRIEVAL = {b"get", b"gets", b"gat", b"gats"}
_STORAGE = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}
_META = {b"mg", b"ms", b"md", b"ma"}


@dataclass(frozen=True)
class Expectation:
    """Describe one request: the data block it needs, and how its reply ends.

    A request that may stay unanswered (noreply, meta's q) is followed by a `fence`, a request that is
    always answered: all that arrives before the fence's reply belongs to the request.
    """

    reply_end: ReplyEnd
    data_bytes: int | None = None
    fence: bytes = b""
    fence_reply: bytes = b""
    streams: bool = False


def expect(line: bytes) -> Expectation:
    """Describe the request that a typed line (without its line end) makes."""
    words = line.split()
    command = words[0] if words else b""
    data_bytes = _data_bytes(words)
    if (command in _META and b"q" in words[2:]) or words[-1:] == [b"noreply"]:
        return Expectation(_until_line(b"VERSION "), data_bytes, b"version\r\n", b"VERSION ")
    return Expectation(_reply_end(command, words), data_bytes, streams=command == b"watch")


def _reply_end(command: bytes, words: list[bytes]) -> ReplyEnd:
    if command in _RETRIEVAL:
        return _value_blocks
    if command == b"mg":
        return _meta_value
    if command == b"stats":
        return _until_any((b"END", b"RESET", b"OK"))
    if command == b"lru_crawler" and words[1:2] in ([b"metadump"], [b"mgdump"]):
        return _until_any((b"END", b"EN", b"BUSY"))
    if command == b"config":
        return _value_blocks
    return _one_line


def _data_bytes(words: list[bytes]) -> int | None:
    """Find the byte count of a storage request; None when the line takes no data block.

    A line the server would refuse for its shape takes none either: the error comes at once. `set KEY BYTES`
    is the short form without flags and expiry.
    """
    position = _count_position(words)
    if position is None or len(words) <= position or not words[position].isdigit():
        return None
    return int(words[position])


def _count_position(words: list[bytes]) -> int | None:
    if words[:1] == [b"ms"]:
        return 2
    if words[:1] == [b"set"] and len(words) == 3:
        return 2
    return 4 if words and words[0] in _STORAGE else None


def _is_error(line: bytes) -> bool:
    return line.split(b" ", 1)[0].rstrip(b":") in _ERRORS


def _line_end(received: bytes, start: int) -> int | None:
    """Give the position behind the line that begins at start; None when its end has not come yet."""
    newline = received.find(b"\n", start)
    return None if newline < 0 else newline + 1


def _one_line(received: bytes) -> int | None:
    return _line_end(received, 0)


def _until_any(endings: tuple[bytes, ...]) -> ReplyEnd:
    """End a reply of lines at the first that begins with one of these words, or at an error."""

    def reply_end(received: bytes) -> int | None:
        start = 0
        while (end := _line_end(received, start)) is not None:
            line = received[start:end].rstrip(b"\r\n")
            if line.split(b" ", 1)[0] in endings or _is_error(line):
                return end
            start = end
        return None

    return reply_end


def _until_line(prefix: bytes) -> ReplyEnd:
    """End a reply at the fence's answer; blocks before it are skipped by count, errors do not end it."""

    def reply_end(received: bytes) -> int | None:
        start = 0
        while (end := _line_end(received, start)) is not None:
            if received.startswith(prefix, start):
                return end
            start = end + _block_bytes(received[start:end])
        return None

    return reply_end


def _value_blocks(received: bytes) -> int | None:
    """End a reply of VALUE (or CONFIG) blocks at END, or at an error."""
    start = 0
    while (end := _line_end(received, start)) is not None:
        line = received[start:end].rstrip(b"\r\n")
        block = _block_bytes(line)
        if line == b"END" or _is_error(line):
            return end
        if not block and line:
            return end  # a one-line answer, such as a server's own words for a miss
        start = end + block
    return None


def _meta_value(received: bytes) -> int | None:
    """End mg's reply: one line, and behind VA its data block."""
    end = _line_end(received, 0)
    if end is None:
        return None
    end += _block_bytes(received[:end])
    return end if len(received) >= end else None


def _block_bytes(line: bytes) -> int:
    """Count the bytes of the data block (with its line end) that follows this line; 0 when none does."""
    words = line.split()
    position = {b"VALUE": 3, b"CONFIG": 3, b"VA": 1}.get(words[0] if words else b"")
    if position is None or len(words) <= position or not words[position].isdigit():
        return 0
    return int(words[position]) + 2
