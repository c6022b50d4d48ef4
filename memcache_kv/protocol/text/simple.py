"""The simple dialect of the text protocol: a set without flags and expiry time, and a reply of its own to a miss.

`set <key> <bytes>` is short for `set <key> 0 0 <bytes>`, and a get that finds nothing is answered with `Not-Exists`.
All else is the classic and the meta protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from memcache_kv.auth.access import Origin
from memcache_kv.commands.retrieve import Finder
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.dialect import Dialect
from memcache_kv.protocol.text import classic
from memcache_kv.protocol.text.framing import TextProtocol
from memcache_kv.protocol.text.login import GuardedTextProtocol
from memcache_kv.stats.counters import Counters

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials
    from memcache_kv.protocol.text.responder import RetrievalCount

MISS = b"Not-Exists"
SHORT_SET_WORDS = 3


class HitTally:
    """Counts the hits and misses of one get, and keeps the number of hits."""

    __slots__ = ("hits", "_count")

    def __init__(self, count: RetrievalCount) -> None:
        self.hits = 0
        self._count = count

    def __call__(self, counters: Counters, hits: int, misses: int) -> None:
        """Count some of its keys."""
        self.hits += hits
        self._count(counters, hits, misses)


class SimpleProtocol(TextProtocol):
    """The simple dialect of one connection; see `TextProtocol`.

    It does without the fast path, which answers a miss as memcached does.
    """

    __slots__ = ()

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        return position, 0

    def _line(self, line: bytes, length_bytes: int) -> None:
        words = [word for word in line.split(b" ") if word]
        if len(words) != SHORT_SET_WORDS or words[0] != b"set":
            super()._line(line, length_bytes)
            return
        self.noreply = False
        self.observers.request(self.fd, line)
        classic.dispatch(self, b"set %b 0 0 %b" % (words[1], words[2]))

    def answer_get(self, keys: Iterable[bytes], find: Finder, with_cas: bool, count: RetrievalCount) -> None:
        """Begin the reply to a command that retrieves these keys; see `TextProtocol.answer_get`."""
        super().answer_get(keys, find, with_cas, HitTally(count))

    def _answer_batch(self, keys: list[bytes]) -> int:
        return self._answer_singly(keys)

    def _end_get(self) -> None:
        if isinstance(self._count, HitTally) and not self._count.hits:
            self.reply(MISS)
        else:
            super()._end_get()


class GuardedSimpleProtocol(SimpleProtocol, GuardedTextProtocol):
    """The simple dialect of one connection that must log in, by a set in its classic form."""

    __slots__ = ()


def open_simple(context: Context, fd: int, users: Credentials | None, origin: Origin) -> TextProtocol:
    """Return the session of a connection to a listener of the simple dialect."""
    protocol = SimpleProtocol(context, fd) if users is None else GuardedSimpleProtocol(context, fd, users)
    protocol.permit(origin)
    return protocol


SIMPLE = Dialect("simple", open_simple, "Accepting connection")
