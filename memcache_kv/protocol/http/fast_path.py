"""The fast path of HTTP: requests whose headers equal those of an earlier request of the connection.

A client sends the same headers with every request, except for the length of the body. Those of one request are parsed
by h11; where they are equal afterwards, only the request line and the length are parsed here. All else takes the
general path (`framing.py`), with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from memcache_kv.protocol.context import Context
from memcache_kv.protocol.http.message import HttpRequest
from memcache_kv.protocol.session import TURN_BYTES, Session

if TYPE_CHECKING:
    from memcache_kv.protocol.http.site import Site

KNOWN_LIMIT_BYTES = 2048
"""Longer headers are not remembered."""
LENGTH_NAME = b"content-length: "
BODY_LENGTH_DIGITS = 7
"""A longer body takes the general path."""
TARGET_BYTES = bytes(range(ord("!"), 127))
"""The bytes of a request's target."""
COMMON_METHODS = frozenset((b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"))
UNCOMMON_HEADERS = frozenset((b"transfer-encoding", b"expect"))
"""With these headers, a request takes the general path."""


class KnownHeaders(NamedTuple):
    """The headers of a request: the bytes before and after the digits of the body's length, and all of them parsed.

    Without a body, all bytes are in `before`.
    """

    before: bytes
    after: bytes
    has_length: bool
    headers: Mapping[bytes, bytes]

    def length_in(self, block: bytes) -> int:
        """Return the body's length if these headers are the known ones; otherwise -1."""
        before, after, has_length, _ = self
        if not has_length:
            return 0 if block == before else -1
        digits = block[len(before) : len(block) - len(after)]
        if not digits.isdigit() or len(digits) > BODY_LENGTH_DIGITS:
            return -1
        return int(digits) if block.startswith(before) and block.endswith(after) else -1


NO_HEADERS = KnownHeaders(b"", b"", False, {})


class HttpFastPath(Session):
    """The fast path of a connection that speaks HTTP."""

    __slots__ = ("_site", "_bare", "_with_body")

    def __init__(self, context: Context, fd: int, site: Site) -> None:
        super().__init__(context, fd)
        self._site = site
        self._bare, self._with_body = NO_HEADERS, NO_HEADERS
        """The headers of the last request without a body, and of the last one with a body."""

    def _learn(self, found: KnownHeaders | None) -> None:
        """Remember the headers of a request that was allowed. None: they can't be remembered."""
        if found is None:
            return
        if found.has_length:
            self._with_body = found
        else:
            self._bare = found

    def _forget_known(self) -> None:
        """Forget the headers, as the client is not logged in any more."""
        self._bare, self._with_body = NO_HEADERS, NO_HEADERS

    def _run_common(self, data: bytes, position: int, done: int) -> tuple[int, int]:
        """Carry out requests in their usual form from `position` on, up to the first that has another.

        done: how many requests of this turn were carried out. Returns the position after them, and `done` with them.
        """
        end_of_input = len(data)
        while position < end_of_input and done < self._requests_per_turn and self.turn_bytes <= TURN_BYTES:
            line_end = data.find(b"\r\n", position)
            head_end = data.find(b"\r\n\r\n", line_end)
            words = data[position:line_end].split(b" ")
            if line_end < 0 or head_end < 0 or len(words) != 3:
                break
            method, target, version = words
            if version != b"HTTP/1.1" or method not in COMMON_METHODS or target[:1] != b"/":
                break
            block = data[line_end : head_end + 4]
            known = self._bare
            length = known.length_in(block)
            if length < 0:
                known = self._with_body
                length = known.length_in(block)
            stop = head_end + 4 + length
            if length < 0 or stop > end_of_input or target.translate(None, TARGET_BYTES):
                break
            path, _, query = target.partition(b"?")
            self._answer(HttpRequest(method, path, query, known.headers, data[head_end + 4 : stop]))
            position = stop
            done += 1
            if self.paused or self.closing:
                break
        return position, done

    def _answer(self, request: HttpRequest) -> None:
        raise NotImplementedError


def known_headers(data: bytes, headers: Mapping[bytes, bytes]) -> KnownHeaders | None:
    """Return what to remember of the head at the beginning of `data`, which h11 has accepted; None for nothing.

    headers: what h11 found in it.
    """
    line_end, head_end = data.find(b"\r\n"), data.find(b"\n\r\n")
    line, block = data[:line_end], data[line_end : head_end + 3]
    if line_end < 0 or head_end < 0 or len(block) > KNOWN_LIMIT_BYTES or not _is_common(line, headers):
        return None
    if not block.endswith(b"\r\n\r\n") or b"\n\n" in block:
        return None
    lower = block.lower()
    if b"content-length" not in lower:
        return KnownHeaders(block, b"", False, headers)
    start = lower.find(b"\n" + LENGTH_NAME) + 1
    if not start or lower.count(b"content-length") != 1:
        return None
    start += len(LENGTH_NAME)
    stop = block.find(b"\r\n", start)
    return KnownHeaders(block[:start], block[stop:], True, headers) if block[start:stop].isdigit() else None


def _is_common(line: bytes, headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a request line, and what the headers say of the connection, are in the usual form."""
    is_common = line.endswith(b" HTTP/1.1") and line.partition(b" ")[2].startswith(b"/") and b"\n" not in line
    keeps_alive = headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    return is_common and keeps_alive and UNCOMMON_HEADERS.isdisjoint(headers)
