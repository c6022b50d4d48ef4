"""Interfaces through which commands reply to a connection.

Commands use these instead of the protocol classes, which import the commands. `Responder` serves commands of any
protocol, `LineResponder` classic and meta commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from memcache_kv.commands.caller import Caller

if TYPE_CHECKING:
    from memcache_kv.store.store import ItemStore


class Responder(Caller, Protocol):
    """A connection, as a command of any protocol sees it."""

    closing: bool
    """Whether to close the connection once the replies are sent."""
    close_reason: str
    """Why the connection is closed, in the words of `watch connevents`."""

    @property
    def out(self) -> list[bytes]:
        """The replies that are not sent yet."""

    def answer_chunks(self, chunks: Iterator[bytes]) -> None:
        """Send these chunks as the reply, one per turn."""

    def expect_block(self, flags: int, length: int, store: Callable[[bytes], None]) -> None:
        """Read a data block of `length` bytes next, and call `store` with its wire bytes."""

    def swallow(self, length: int) -> None:
        """Discard the data block of `length` bytes that comes next."""


class LineResponder(Responder, Protocol):
    """A connection, as a command that replies in lines sees it."""

    noreply: bool
    """Whether the current request asked for no reply."""

    def reply(self, line: bytes) -> None:
        """Reply with one line, given without its line end, unless the request asked for no reply."""

    def send(self, line: bytes, rest: bytes) -> None:
        """Reply with a line, given without its line end, and a data block, given with its line end."""


class FormReader(Protocol):
    """A connection, as the fast path of the meta commands sees it."""

    out: list[bytes]
    """The replies that are not sent yet."""

    @property
    def store(self) -> ItemStore:
        """The store that holds the items."""

    def form_now(self, words: bytes) -> tuple[bytes, int, bytes, tuple[bytes, ...]]:
        """Parse the words after a set's key; see `SetForm` for the result."""
