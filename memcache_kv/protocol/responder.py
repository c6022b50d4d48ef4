"""What a command needs of the connection that it responds to: less than the whole protocol, which knows the commands.

`Responder` is for commands of any protocol; `LineResponder` for those that answer in lines, classic and meta alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from memcache_kv.commands.caller import Caller

if TYPE_CHECKING:
    from memcache_kv.store.store import Store


class Responder(Caller, Protocol):
    """The connection as a command of any protocol sees it."""

    closing: bool
    """Whether the connection is to be closed once the replies are sent."""
    close_reason: str
    """Why, in the words of `watch connevents`."""

    @property
    def out(self) -> list[bytes]:
        """Replies that are not sent yet."""

    def answer_chunks(self, chunks: Iterator[bytes]) -> None:
        """Answer with these, a chunk a turn."""

    def expect_block(self, flags: int, length: int, store: Callable[[bytes], None]) -> None:
        """Read a data block of this length next, and call `store` with it."""

    def swallow(self, length: int) -> None:
        """Ignore the data block of this length that comes next."""


class LineResponder(Responder, Protocol):
    """The connection as a command that answers in lines sees it."""

    noreply: bool
    """Whether the present request asked for no reply."""

    def reply(self, line: bytes) -> None:
        """Answer with one line, unless the request asked for no reply."""

    def send(self, line: bytes, rest: bytes) -> None:
        """Answer with a line and what follows it."""


class FormReader(Protocol):
    """The connection as the fast path of the meta commands sees it."""

    out: list[bytes]
    """Replies that are not sent yet."""

    @property
    def store(self) -> Store:
        """The items."""

    def form_now(self, tail: bytes) -> tuple[bytes, int, bytes, tuple[bytes, ...]]:
        """Return what is known of sets by the words behind the key: start of the entry, value's length, end, reply."""
