"""What the protocols of a connection have in common: what they gather and count, and whom they tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memcache_kv.protocol.context import Context
from memcache_kv.store.item import Entry, deadline_of, ready_of
from memcache_kv.store.store import Mode, Outcome, Write
from memcache_kv.watching import Watcher

READ_BYTES = 16 * 1024
"""What one read of a connection asks for, as in memcached; more when a large value is on its way."""

CAS_COUNTS = {
    Outcome.STORED: "cas_hits",
    Outcome.EXISTS: "cas_badval",
    Outcome.NOT_FOUND: "cas_misses",
    Outcome.NO_MEMORY: "store_no_memory",
}


class Session:
    """One connection's side of the server, whatever the form of its requests. Not for two threads at once.

    fd: the number that stands for the connection in the log.
    """

    __slots__ = (
        "context", "store", "counters", "fd", "out", "closing", "paused", "want", "watcher", "close_reason",
        "turn_bytes", "_log", "_observation", "_held", "_more", "_chunks",
    )  # fmt: skip

    def __init__(self, context: Context, fd: int = 0) -> None:
        self.context = context
        self.store = context.store
        self.counters = context.counters
        self.fd = fd
        self.out: list[bytes] = []
        """Replies, for the caller to send and clear."""
        self.closing = False
        """Whether the connection is to be closed once they are sent."""
        self.paused = False
        """Whether there is more to do without new input."""
        self.want = READ_BYTES
        """How many bytes the next read should ask for."""
        self.watcher: Watcher | None = None
        """What it watches with; such a connection takes no more commands."""
        self.close_reason = "error"
        """Why it is to be closed, in the words of `watch connevents`."""
        self.turn_bytes = 0
        """Bytes of large values that were answered in this turn."""
        self._log = context.log
        self._observation = context.observation
        self._held = b""
        """Input that is not a whole request yet, or waits for the next turn."""
        self._more: Callable[[], None] | None = None
        """Goes on with a reply that is longer than a turn."""
        self._chunks: Iterator[bytes] = iter(())

    def _run(self, data: bytes) -> None:
        """Carry out requests until the input or the turn is used up."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go on where a turn ended."""
        data, self._held = self._held, b""
        self.paused = False
        if self._more is not None:
            self.turn_bytes = 0
            self._more()
            if self.paused:
                self._held = data
                return
        if data:
            self._run(data)

    def answer_chunks(self, chunks: Iterator[bytes]) -> None:
        """Answer with what this gives, a chunk a turn, until it has no more: for a reply that takes long to make."""
        self._chunks = chunks
        self._send_chunk()

    def _send_chunk(self) -> None:
        chunk = next(self._chunks, None)
        self.paused = chunk is not None
        self._more = None if chunk is None else self._send_chunk
        if chunk:
            self.out.append(chunk)

    def write_item(self, write: Write) -> tuple[Outcome, Entry | None]:
        """Carry out a storage command, and count it."""
        self.counters.cmd_set += 1
        if self._observation.active:
            self.note_lookup(write.key)
        outcome, entry = self.store.write(write)
        if write.mode is Mode.CAS:
            self.counters.count(CAS_COUNTS[outcome])
        elif outcome is Outcome.NO_MEMORY:
            self.counters.store_no_memory += 1
        if self._observation.active:
            self._observation.stored(self.fd, write, outcome, entry)
        return outcome, entry

    # For those who watch

    def note_lookup(self, key: bytes) -> None:
        """Tell whoever watches that a command is about to look for this key."""
        if self._observation.active:
            store = self.store
            self._observation.looked_up(self.fd, key, store.kept(key), store.was_flushed(key))

    def note_fetch(self, key: bytes, entry: Entry | None) -> None:
        """Tell whoever watches that a command wanted this key's value."""
        if self._observation.active:
            self._observation.fetched(self.fd, key, entry)

    def note_made(self, key: bytes, entry: Entry) -> None:
        """Tell whoever watches that counting made a new item, as memcached does: it looks once more, and stores."""
        if self._observation.active:
            self._observation.looked_up(self.fd, key, None, False)
            write = Write(Mode.ADD, key, ready_of(entry), deadline_of(entry))
            self._observation.stored(self.fd, write, Outcome.STORED, entry)

    def note_refusal(self, key: bytes, mode: Mode) -> None:
        """Tell whoever watches that a value was too large to be stored."""
        if self._observation.active:
            self._observation.refused(self.fd, key, mode)

    def note_delete(self, key: bytes, entry: Entry | None, command: str) -> None:
        """Tell whoever watches that a command deleted this entry of a key, or (None) found nothing to delete."""
        if self._observation.active:
            self._observation.deleted(self.fd, key, entry, command)
