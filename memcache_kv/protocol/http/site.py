"""What the framing of HTTP and a site ask of one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from memcache_kv.auth.access import CommandClass
from memcache_kv.commands.caller import Caller
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.http.dates import DateLine
from memcache_kv.protocol.http.message import Header, HttpReply, HttpRequest


class HttpClient(Caller, Protocol):
    """A connection, as a site sees it."""

    highest_class: CommandClass
    """The highest class of commands that the client may use."""

    @property
    def context(self) -> Context:
        """The server."""

    def admits(self, command_class: CommandClass, describe: Callable[[], bytes]) -> bool:
        """Return whether the client may use a command of this class; see `Session.admits`."""

    def count_rejected_write(self) -> None:
        """Count a write that the journal rejects."""


class Site(Protocol):
    """Answers requests. The framing knows nothing of what a site serves."""

    dates: DateLine
    """The header `Date`, for all connections."""
    has_origins: bool
    """Whether pages of some other origins may use the site."""

    def origin_headers(self, request: HttpRequest) -> tuple[Header, ...]:
        """Return the headers of a reply that let such a page read it."""

    def screen(self, request: HttpRequest) -> HttpReply | None:
        """Return the reply to a request that needs no login: a refusal, or a preflight. None lets it go on."""

    def answer(self, client: HttpClient, request: HttpRequest) -> HttpReply:
        """Carry out a request. May raise HttpProblem and WritesRejected."""
