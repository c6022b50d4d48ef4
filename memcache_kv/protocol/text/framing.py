r"""The classic text protocol: lines and data blocks in, replies out (memcached's doc/protocol.txt).

`TextProtocol` frames the stream; `fast_path.py` carries out requests in their common form, `classic.py` all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from memcache_kv.commands.retrieve import Finder, fetch
from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.replies import BAD_FORMAT, OUT_OF_MEMORY
from memcache_kv.protocol.session import LARGEST_READ_BYTES, READ_BYTES, TURN_BYTES
from memcache_kv.protocol.text import classic, multiget
from memcache_kv.protocol.text.fast_path import FAST_COMMANDS, FastPath
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import LINE_FEED, Entry, cas_of, wire_bytes_of

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import RetrievalCount

JOINED_BYTES = 64 * 1024
"""Replies with values of more bytes are not small: to copy them together takes longer than to send each by itself."""
LINE_LIMIT_BYTES = 2048
"""A command line without its end after this many bytes ends the connection, as in memcached."""
MULTIGET_LIMIT_BYTES = 2 << 20
"""But `get` and `gets` may name many keys: memcached sets no bound; ours is 8,000 keys of the longest kind."""
ENDLESS_BYTES = 1 << 62
"""More than any client sends: what comes from one that watches is passed over."""


class TextProtocol(FastPath):
    """One connection's stream of requests.

    Feed bytes to `receive`; replies gather in `out`, for the caller to send and clear. After each call look at
    `paused` (there is more to do without new input: send, let others have their turn, call `resume`) and
    `closing` (send, then close). Never raises for anything a client sends.
    """

    __slots__ = (
        "noreply", "_keys", "_find", "_with_cas", "_count",
    )  # fmt: skip

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self.noreply = False
        """Whether the present request asked for silence."""
        self._keys: Iterator[bytes] = iter(())
        """Keys of a get that is not yet answered in full."""
        self._find: Finder = self.store.get
        self._with_cas = False
        self._count: RetrievalCount = Counters.count_gets

    def receive(self, data: bytes) -> bool:
        """Take what arrived, carry out the requests that are whole, and keep the rest."""
        if self._held or self._mid_block or self.observers.active:
            return self.observers.observe(partial(self._receive_general, data))
        self.turn_bytes = 0
        position, done = self._run_fast(data, 0)
        if position == len(data):
            return self.turn_bytes <= JOINED_BYTES
        self._run(data, position, done)
        return False

    def _receive_general(self, data: bytes) -> bool:
        """Take what continues a request that is not whole yet, or what is observed."""
        if self._held:
            data = self._held + data
            self._held = b""
            self.want = READ_BYTES
        if self._mid_block:
            position = self._read_block(data, 0)
            if position == len(data):
                return False
            data = data[position:]
        self.turn_bytes = 0
        position, done = (0, 0) if self.observers.takes_lines else self._run_fast(data, 0)
        if position == len(data):
            return self.turn_bytes <= JOINED_BYTES
        self._run(data, position, done)
        return False

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        """Carry out requests until the input or the turn is used up: one in the general way, then those that follow
        it in their common form, and so on.

        done: how many of this turn were carried out already.
        """
        left = self._requests_per_turn - done
        while left > 0 and not self.closing:
            line_end = data.find(b"\n", position)
            if line_end < 0:
                break
            position = self._slow(data, position, line_end)
            left -= 1
            if self.turn_bytes > TURN_BYTES:
                self.paused = True
            if self.paused:
                break
            if (
                left >= self._lines_at_once
                and not self.observers.takes_lines
                and data[position : position + 3] in FAST_COMMANDS
            ):
                position, done = self._run_fast(data, position)
                left -= done
        if position < len(data) and not self.closing:
            self._keep(data[position:] if position else data)

    def _slow(self, data: bytes, position: int, end: int) -> int:
        """Carry out the request whose line ends at `end`, with as much of its data block as is there.

        Returns the position behind it.
        """
        stop = end - 1 if end > position and data[end - 1] == 13 else end
        try:
            self._line(data[position:stop], end - position + 1)
        except WritesRejected:
            self.reject_write()
        if self._mid_block:
            return self._read_block(data, end + 1)
        return end + 1

    def _line(self, line: bytes, length_bytes: int) -> None:
        """Carry out one command line, whose length is counted with its end."""
        self.noreply = False
        self.observers.request(self.fd, line)
        if length_bytes < 4:
            self.reply(BAD_FORMAT)
        else:
            classic.dispatch(self, line)

    def _keep(self, rest: bytes) -> None:
        """Hold input back: a line that is not whole yet, or what the turn had no more room for."""
        self._held = rest
        if self.paused or LINE_FEED in rest:
            self.paused = True
            self.counters.conn_yields += 1
            return
        if len(rest) > LINE_LIMIT_BYTES:
            self.closing = not rest.lstrip(b" ").startswith((b"get ", b"gets ")) or len(rest) > MULTIGET_LIMIT_BYTES
            self.want = max(READ_BYTES, min(len(rest), LARGEST_READ_BYTES))

    # For those who watch

    def watch(self, watcher: Watcher) -> None:
        """Send what this gathers whenever `resume` is called, and pass over all further input."""
        self.watcher = watcher
        self._more = self._send_lines
        self.swallow(ENDLESS_BYTES)

    def _send_lines(self) -> None:
        if self.watcher is not None:
            self.out += self.watcher.take()

    # Replies

    def _refuse_block(self) -> None:
        """Answer that a data block does not end with its line end."""
        self.reply(b"CLIENT_ERROR bad data chunk")

    def _answer_refused(self) -> None:
        self.reply(OUT_OF_MEMORY)

    def _refusal_of(self, reply: bytes) -> bytes | None:
        if not reply:
            return b""
        return OUT_OF_MEMORY + b"\r\n" if reply.find(b"\n") == len(reply) - 1 else None

    def reply(self, line: bytes) -> None:
        """Answer with one line, unless the request asked for silence."""
        if self.noreply:
            self.observers.reply(self.fd, b"NOREPLY " + line)
            return
        self.observers.reply(self.fd, line)
        self.out += (line, b"\r\n")

    def send(self, line: bytes, rest: bytes) -> None:
        """Answer with a line and what follows it; large values end the turn."""
        self.observers.reply(self.fd, line)
        self.turn_bytes += len(rest)
        if self.turn_bytes > TURN_BYTES:
            self.paused = True
        self.out += (line, b"\r\n", rest)

    def answer_get(self, keys: list[bytes], find: Finder, with_cas: bool, count: RetrievalCount) -> None:
        """Begin to answer a command that retrieves these keys.

        find: returns a key's entry, with its CAS id where `with_cas`; count: counts hits and misses.
        """
        self._keys = iter(keys)
        self._find = find
        self._with_cas = with_cas
        self._count = count
        self.answer_keys()

    def answer_keys(self) -> None:
        """Answer as many keys of the present get as the turn has room for, and END after the last."""
        keys = list(islice(self._keys, multiget.KEYS_PER_TURN))
        is_fast = self._find == self.store.get and not self.observers.takes_lines
        reply = multiget.answer_keys(self, keys) if is_fast else None
        if reply is None:
            answered = self._answer_singly(keys)
        else:
            answered = len(keys)
            self.out += [reply] if reply else []
        if answered < len(keys):
            self._keys = chain(keys[answered:], self._keys)
        elif len(keys) < multiget.KEYS_PER_TURN:
            self._more = None
            self.observers.reply(self.fd, b"END")
            self.out.append(b"END\r\n")
            return
        self.paused = True
        self._more = self.answer_keys

    def _answer_singly(self, keys: list[bytes]) -> int:
        """Answer a part of a command that retrieves, key by key; return how many."""
        find, observers, hits, misses = self._find, self.observers, 0, 0
        for key in keys:
            entry = fetch(self, key, find)
            if entry is None:
                misses += 1
                continue
            hits += 1
            observers.reply(self.fd, b"sending key " + key)
            self._send_value(key, entry)
            if self.turn_bytes > TURN_BYTES:
                break
        self._count(self.counters, hits, misses)
        return hits + misses

    def _send_value(self, key: bytes, entry: Entry) -> None:
        """Append one VALUE, with its CAS id where the command asks for it."""
        wire_bytes = wire_bytes_of(entry)
        self.turn_bytes += len(wire_bytes)
        if self._with_cas:
            line_end = wire_bytes.index(b"\r")
            self.out += (b"VALUE ", key, wire_bytes[:line_end], b" %d" % cas_of(entry), wire_bytes[line_end:])
        else:
            self.out += (b"VALUE ", key, wire_bytes)
