"""Requests and replies of HTTP, apart from their framing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

JSON_TYPE = b"application/json"
PROBLEM_TYPE = b"application/problem+json"

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
WITHOUT_BODY = frozenset((204, 304))
"""The statuses whose replies have no body, and no length of one."""

CLOSES = b"Connection: close\r\n"

Header = tuple[bytes, bytes]


class HttpRequest(NamedTuple):
    """A whole request.

    path, query: the two parts of the target, still percent-encoded; headers: by their names in lower case, those that
    are repeated joined by commas.
    """

    method: bytes
    path: bytes
    query: bytes = b""
    headers: Mapping[bytes, bytes] = {}
    body: bytes = b""
    has_keep_alive: bool = True
    """Whether the client speaks HTTP/1.1 and does not want to close the connection."""
    is_old: bool = False
    """Whether the client speaks HTTP/1.0, which has no chunks."""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query, decoded; of a repeated one the last."""
        if not self.query:
            return {}
        return dict(parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1"))


class HttpReply(NamedTuple):
    """A reply. headers: those besides the date, the content's type and length."""

    status: int
    body: bytes = b""
    content_type: bytes = b""
    headers: tuple[Header, ...] = ()
    chunks: Iterator[bytes] | None = None
    """The body, if it is made piece by piece."""


def head_of(reply: HttpReply, date: bytes, closes: bool) -> bytes:
    """Return the status line and the headers of a reply, up to the one that gives the body's length.

    date: the date's line; closes: whether the connection is closed after the reply.
    """
    kind = b"Content-Type: %b\r\n" % reply.content_type if reply.content_type else b""
    others = b"".join([b"%b: %b\r\n" % header for header in reply.headers]) if reply.headers else b""
    return b"%b%b%b%b%b" % (STATUS_LINES[reply.status], date, kind, others, CLOSES if closes else b"")
