r"""The classic text protocol: split the input into lines and data blocks (memcached's doc/protocol.txt).

`fast_path.py` carries out requests in their common form, `classic.py` all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from sys import getsizeof
from typing import TYPE_CHECKING

from memcache_kv.clock import monotonic
from memcache_kv.commands.retrieve import Finder, fetch
from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Watcher
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.replies import BAD_FORMAT, KEY_LIMIT_BYTES, OUT_OF_MEMORY
from memcache_kv.protocol.session import POINTER_BYTES, READ_BYTES, TURN_BYTES
from memcache_kv.protocol.text import classic, multiget
from memcache_kv.protocol.text.fast_path import FAST_COMMANDS, FastPath
from memcache_kv.protocol.text.long_get import key_batches, split_long_get
from memcache_kv.stats.counters import Counters
from memcache_kv.store.entry import LINE_FEED, Entry, cas_of, wire_bytes_of

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import RetrievalCount

JOINED_BYTES = 64 * 1024
"""Replies with more bytes of values than this are sent separately: joining them would take longer."""
LINE_LIMIT_BYTES = 2048
"""A command line that is longer than this and has no end closes the connection, as in memcached."""
MULTIGET_LIMIT_BYTES = 2 << 20
"""The limit for `get` and `gets`, which may name many keys: 8,000 of the longest. memcached has no limit."""
MOST_SPACES = 100
"""Such a line may begin with this many spaces, as in memcached."""
ENDLESS_BYTES = 1 << 62
"""More than any client sends: all input of a connection that watches is discarded."""


LONGEST_WORD_BYTES = 24
"""So much of a line is logged of a slow request: the command, and the first words of one about the server."""
ERROR_BEGINNINGS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")
KEYLESS_WORDS = (b"stats", b"lru_crawler")
"""The commands whose second word is no key."""


class TextProtocol(FastPath):
    """The text protocol of one connection.

    Pass input to `receive`; send and clear the replies in `out`. After each call check `paused` (there is more to do
    without new input: send, serve other connections, then call `resume`) and `closing` (send, then close). Never raises
    for anything a client sends.
    """

    __slots__ = (
        "noreply", "_keys", "_find", "_with_cas", "_count",
    )  # fmt: skip

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self.noreply = False
        """Whether the current request asked for no reply."""
        self._keys: Iterator[bytes] = iter(())
        """The keys of the current get that have no reply yet."""
        self._find: Finder = self.store.get
        self._with_cas = False
        self._count: RetrievalCount = Counters.count_gets

    def receive(self, data: bytes) -> bool:
        """Carry out the complete requests in the input, and keep the rest; see `Session.receive`."""
        if self._held or self._mid_block or self.observers.active:
            return self.observers.observe(partial(self._receive_general, data))
        self.turn_bytes = 0
        position, done = self._run_fast(data, 0, self._requests_per_turn)
        if position == len(data):
            return self.turn_bytes <= JOINED_BYTES
        self._run(data, position, done)
        return False

    def _receive_general(self, data: bytes) -> bool:
        """Handle input that continues an incomplete request, or while requests are observed."""
        if self._held:
            data = self._continue_line(data)
            if not data:
                return False
        if self._mid_block:
            position = self._read_block(data, 0)
            if position == len(data):
                return False
            data = data[position:]
        self.turn_bytes = 0
        position, done = (0, 0) if self.observers.takes_lines else self._run_fast(data, 0, self._requests_per_turn)
        if position == len(data):
            return self.turn_bytes <= JOINED_BYTES
        self._run(data, position, done)
        return False

    def _continue_line(self, data: bytes) -> bytes:
        """Append what arrived to the line that is not whole. Returns all that is held once the line's end is there.

        Only what arrived is searched for it, so that a long line that comes in small pieces is searched once.
        """
        held = self._held if isinstance(self._held, bytearray) else bytearray(self._held)
        held += data
        self._held, self.want = held, READ_BYTES
        if b"\n" not in data:
            self._limit_line(held)
            return b""
        self._held = b""
        return bytes(held)

    def _limit_line(self, line: bytes | bytearray) -> None:
        """End the connection if this line, of which the end is not there, is too long."""
        if len(line) > LINE_LIMIT_BYTES:
            start = bytes(line[: MOST_SPACES + len(b"gets ")]).lstrip(b" ")
            self.closing = not start.startswith((b"get ", b"gets ")) or len(line) > MULTIGET_LIMIT_BYTES

    def _run(self, data: bytes, position: int = 0, done: int = 0) -> None:
        """Carry out requests until the input or the turn is used up.

        After one request on the general path, the fast path is tried again. done: how many requests of this turn were
        carried out already.
        """
        left = self._requests_per_turn - done
        self._start_turn()
        while left > 0:
            if self.turn_bytes > TURN_BYTES:
                self.paused = position < len(data)
                break
            line_end = data.find(b"\n", position)
            if line_end < 0:
                break
            start, position = position, self._slow(data, position, line_end)
            left -= 1
            if self.turn_bytes > TURN_BYTES:
                self.paused = True
            if self.closing:
                break
            if self.paused or monotonic() > self._turn_ends_at:
                self._command = command_word(data[start : start + LONGEST_WORD_BYTES])
                self._is_time_up(self._command)
                self.paused = self._more is not None or position < len(data)
                break
            if left > 0 and not self.observers.takes_lines and data[position : position + 3] in FAST_COMMANDS:
                position, done = self._run_fast(data, position, left)
                left -= done
        if position < len(data) and not self.closing:
            self._keep(data[position:] if position else data)

    def _slow(self, data: bytes, position: int, end: int) -> int:
        """Carry out the request whose line ends at `end`, with as much of its data block as has arrived.

        Returns the position after it.
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
        """Carry out one command line; `length_bytes` includes its line end."""
        self.noreply = False
        self.observers.request(self.fd, line)
        if length_bytes < 4:
            self.reply(BAD_FORMAT)
        elif length_bytes > READ_BYTES and (long_get := split_long_get(line)) is not None:
            self.answer_chunks(self._long_get(*long_get))
        else:
            classic.dispatch(self, line)

    def _long_get(self, command: bytes, line: bytes, keys_at: int) -> Iterator[bytes]:
        """Check the keys of a long line, a few at a time, and begin to answer them once all are checked."""
        has_keys, self._list_bytes = False, len(line)
        for batch in key_batches(line, keys_at):
            if max(map(len, batch), default=0) > KEY_LIMIT_BYTES:
                self.reply(BAD_FORMAT)
                return
            has_keys = has_keys or bool(batch)
            yield b""
        if not has_keys:
            self.reply(BAD_FORMAT)
            return
        find = self.store.gets if command == b"gets" else self.store.get
        self.answer_get(chain.from_iterable(key_batches(line, keys_at)), find, command == b"gets", Counters.count_gets)

    def _keep(self, rest: bytes) -> None:
        """Keep an incomplete line, or the input that is left for the next turn."""
        if self.paused or LINE_FEED in rest:
            self._held = rest
            self.paused = True
            self.counters.conn_yields += 1
            return
        self._held = bytearray(rest)
        self._limit_line(rest)

    @property
    def configuration(self) -> bytes | None:
        """The cluster's configuration as the wire bytes of an item; None if there is none."""
        cluster = self.context.cluster
        return None if cluster is None else cluster.present

    # watch

    def watch(self, watcher: Watcher) -> None:
        """Send the watcher's lines whenever `resume` is called, and discard all further input."""
        self.watcher = watcher
        self._more = self._send_lines
        self.swallow(ENDLESS_BYTES)

    def _send_lines(self) -> None:
        if self.watcher is not None:
            self.out += self.watcher.take()

    # Replies

    def _refuse_block(self) -> None:
        """Reply that the data block does not end with a line end."""
        self.reply(b"CLIENT_ERROR bad data chunk")

    def _answer_refused(self) -> None:
        self.reply(OUT_OF_MEMORY)

    def _refusal_of(self, reply: bytes) -> bytes | None:
        if not reply:
            return b""
        return OUT_OF_MEMORY + b"\r\n" if reply.find(b"\n") == len(reply) - 1 else None

    def reply(self, line: bytes) -> None:
        """Reply with one line, given without its line end, unless the request asked for no reply."""
        if self.noreply:
            self.counters.hidden_errors += line.startswith(ERROR_BEGINNINGS)
            self.observers.reply(self.fd, b"NOREPLY " + line)
            return
        self.observers.reply(self.fd, line)
        self.out += (line, b"\r\n")

    def send(self, line: bytes, rest: bytes) -> None:
        """Reply with a line and a data block, given with its line end; large values end the turn."""
        self.observers.reply(self.fd, line)
        self.turn_bytes += len(rest)
        if self.turn_bytes > TURN_BYTES:
            self.paused = True
        self.out += (line, b"\r\n", rest)

    def answer_get(self, keys: Iterable[bytes], find: Finder, with_cas: bool, count: RetrievalCount) -> None:
        """Begin the reply to a command that retrieves these keys.

        find: returns a key's entry, or None; with_cas: whether the reply includes CAS ids; count: counts hits and
        misses.
        """
        self._keys = iter(keys)
        if isinstance(keys, list) and len(keys) > multiget.KEYS_PER_TURN:
            self._list_bytes = POINTER_BYTES * len(keys) + sum(map(getsizeof, keys))
        self._find = find
        self._with_cas = with_cas
        self._count = count
        self.answer_keys()

    def answer_keys(self) -> None:
        """Reply to as many keys of the current get as fit into the turn, with END after the last."""
        keys = list(islice(self._keys, multiget.KEYS_PER_TURN))
        answered = self._answer_batch(keys)
        if answered < len(keys):
            self._keys = chain(keys[answered:], self._keys)
        elif len(keys) < multiget.KEYS_PER_TURN:
            self._more = None
            self._end_get()
            return
        self.paused = True
        self._more = self.answer_keys

    def _end_get(self) -> None:
        """Reply with the line after the last value of a get."""
        self.observers.reply(self.fd, b"END")
        self.out.append(b"END\r\n")

    def _answer_batch(self, keys: list[bytes]) -> int:
        """Reply to these keys, together if possible; return how many were done."""
        is_fast = self._find == self.store.get and not self.observers.takes_lines
        reply = multiget.answer_keys(self, keys) if is_fast else None
        if reply is None:
            return self._answer_singly(keys)
        self.out += [reply] if reply else []
        self.turn_bytes += len(reply)
        return len(keys)

    def _answer_singly(self, keys: list[bytes]) -> int:
        """Reply to these keys one by one until the turn is used up; return how many were done."""
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
        """Append one VALUE to the replies, with its CAS id if the command asks for it."""
        wire_bytes = wire_bytes_of(entry)
        self.turn_bytes += len(wire_bytes)
        if self._with_cas:
            line_end = wire_bytes.index(b"\r")
            self.out += (b"VALUE ", key, wire_bytes[:line_end], b" %d" % cas_of(entry), wire_bytes[line_end:])
        else:
            self.out += (b"VALUE ", key, wire_bytes)


def command_word(line: bytes) -> str:
    """Return the name of a line's command for the log, with what a command about the server is to do, and no key."""
    words = line.split(b"\n", 1)[0].split()
    shown = words[:2] if words[:1] and words[0] in KEYLESS_WORDS else words[:1]
    return b" ".join(shown).decode("utf-8", "backslashreplace")
