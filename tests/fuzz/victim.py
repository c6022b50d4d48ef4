"""A protocol that is fed anything, and what must hold of it after every piece."""

from collections.abc import Iterable
from pathlib import Path

from memcache_kv.auth.users import Users
from memcache_kv.config.settings import Settings
from memcache_kv.protocol import TextProtocol
from memcache_kv.protocol.session import LARGEST_READ_BYTES, TURN_BYTES
from memcache_kv.protocol.text.framing import MULTIGET_LIMIT_BYTES
from memcache_kv.protocol.text.login import GuardedTextProtocol
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.credentials import AtOnce

ITEM_LIMIT_BYTES = 1 << 16
HELD_LIMIT_BYTES = MULTIGET_LIMIT_BYTES + LARGEST_READ_BYTES
TURN_LIMIT_BYTES = TURN_BYTES + 1000 * 4096
"""A turn's replies: 1 MiB of large values, and as many small ones as there are requests in a turn."""
MARK = b"mg mark_of_the_end k\r\n"
ANSWER = b"EN kmark_of_the_end\r\n"
PATIENCE_BYTES = 200_000
"""A data block of which more is outstanding is not waited for."""


def surroundings() -> Surroundings:
    """Small limits, so that bytes reach them."""
    return Surroundings(Settings(max_item_size=ITEM_LIMIT_BYTES, memory_limit=8 << 20))


class Victim:
    """A conversation that checks itself."""

    def __init__(self, around: Surroundings, users: Path | None = None) -> None:
        self.conversation = Conversation(around)
        if users is not None:
            self.conversation.protocol = GuardedTextProtocol(around.context, 30, AtOnce(Users(users)))
        self.protocol: TextProtocol = self.conversation.protocol

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Feed it, and check what has to hold after each piece."""
        for piece in pieces:
            if piece:
                self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        protocol, was_closing = self.protocol, self.protocol.closing
        expects_block = protocol.block_bytes_left > 0
        first = len(self.conversation.turns)
        reply = self.conversation.feed(piece)
        assert not (was_closing and reply), "a reply after the end"
        assert b"\n" in piece or expects_block or not reply, f"{reply!r} without a request"
        assert not reply or reply.endswith(b"\n"), f"half a reply: {reply[-50:]!r}"
        assert all(len(turn) <= TURN_LIMIT_BYTES for turn in self.conversation.turns[first:]), "a turn too long"
        assert 0 < protocol.want <= LARGEST_READ_BYTES
        assert protocol.held_bytes <= HELD_LIMIT_BYTES, "too much is held"
        assert self.conversation.around.store.used_bytes <= self.conversation.around.store.limit_bytes * 1.1
        self.conversation.turns.clear()

    @property
    def has_another_purpose(self) -> bool:
        """Whether the connection serves no requests any more: it is closing, or watches."""
        return self.protocol.closing or self.protocol.watcher is not None

    def still_serves(self) -> None:
        """End whatever is open, and see it answer; or it has closed."""
        for _ in range(3):
            outstanding = self.protocol.block_bytes_left
            if outstanding > PATIENCE_BYTES or self.has_another_purpose:
                return
            self.feed([b"\n" * outstanding + b"\r\n\r\n"] if outstanding else [b"foo\r\n"])
        if not self.has_another_purpose and getattr(self.protocol, "logged_in", True):
            answer = self.conversation.feed(MARK)
            assert answer == ANSWER, f"no answer any more, but {answer[:200]!r}"
