r"""The fast path of the text protocol: gets, and sets of small values, in their common form, one or many at once.

Requests in any other form take the general path (`framing.py`, `classic.py`), which gives the same replies, but more
slowly. With the compiled modules, these carry out the same requests and more.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from memcache_kv.commands.discovery import CLUSTER_KEY
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.meta.fast_path import NO_BLOCK, answer_mg, store_ms
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.protocol.text import multiget
from memcache_kv.store.entry import (
    LAST_DEADLINE,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SPACE,
    absolute_deadline,
    expiring_end,
    is_text_key,
    make_entry,
    wire_bytes_of,
)

LINES = 128
"""How many lines are split at once. A request in another form stops the fast path, and its split lines are wasted."""
FAST_COMMANDS = frozenset((b"get", b"set", b"mg ", b"ms "))
"""The first three bytes of the requests that the fast path may carry out."""
FORMS_KEPT = 256
"""How many parsed forms of a set are cached for all connections."""
DIGITS = 9
"""A number with at most this many digits is in range."""
LONGEST_TAIL_BYTES = len(b"255 999999999 4096 noreply")
"""Longer words after a set's key are not cached, as the client controls their length."""

# Flags and lengths are parsed with one look-up, which also checks that they are canonical numbers in range.
LENGTHS = {b"%d" % n: n for n in range(PLAIN_LIMIT_BYTES - 20)}
FLAG_HEADS = {b"%d" % n: b" %d " % n for n in range(256)}


class SetForm(NamedTuple):
    """The parsed words after a set's key.

    head: the entry's bytes before the value; value_bytes: the value's length; end: the entry's bytes after the value;
    reply: the reply's pieces, none with noreply.
    """

    head: bytes
    value_bytes: int
    end: bytes
    reply: tuple[bytes, ...]


NO_FORM = SetForm(b"", -1, b"", ())
"""A form that no value fits, so that the general path carries out the request."""


class FastPath(Session):
    """The fast path of a text connection."""

    __slots__ = ("_looked_up", "_missed", "_stored")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._looked_up: list[bytes] = []
        """Keys of the present batch, while prefixes are counted: looked up one by one, not found, and stored."""
        self._missed: list[bytes] = []
        self._stored: list[bytes] = []

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Carry out requests from `position` on, up to the first that is not in its common form, and at most so many.

        Returns the position after them and their number.
        """
        requests = self.context.requests
        if requests is not None:
            return requests.run_text(self, data, position, most)
        if self.context.cluster is not None and data.find(CLUSTER_KEY, position) >= 0:
            return position, 0
        return self._run_interpreted(data, position, most)

    def _run_interpreted(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Do so without the compiled modules."""
        if len(data) - position > PLAIN_LIMIT_BYTES and self._begins_large(data, position):
            return self._store_large(data, position)
        split = (data[position:] if position else data).split(b"\r\n", min(LINES, most))
        stop = len(data) - len(split.pop())
        lines, block, gets, sets = iter(split), NO_BLOCK, 0, 0
        try:
            for line in lines:
                command, _, rest = line.partition(b" ")
                if (command == b"get" and self._answer_get(rest)) or (command == b"mg" and self._answer_mg(rest)):
                    gets += 1
                    continue
                if command != b"set" and command != b"ms":
                    break
                block = next(lines, NO_BLOCK)
                if not (self._store_set(rest, block) if command == b"set" else store_ms(self, rest, block)):
                    break
                sets, block = sets + 1, NO_BLOCK
                if self.observers.prefixes.counting:
                    self._stored.append(rest.partition(b" ")[0])
            else:
                line = NO_BLOCK
        except WritesRejected:
            pass  # the general path raises it again and replies
        self.counters.cmd_set += sets
        if self.observers.active:
            self._report(gets, sets)
        left = 0 if line is NO_BLOCK else sum(len(each) + 2 for each in (line, block, *lines) if each is not NO_BLOCK)
        return stop - left, gets + sets

    def _report(self, gets: int, sets: int) -> None:
        """Report the requests of this batch to the observers. A get of several keys reports its keys itself."""
        self.observers.pass_over(gets, sets, gets + sets)
        self.observers.fetched_together(self._looked_up, self._missed, self._stored)
        self._looked_up, self._missed, self._stored = [], [], []

    def _answer_get(self, keys: bytes) -> bool:
        """Reply to a get; keys: the words after the command. Return False, without doing anything, for another form."""
        if SPACE in keys:
            if keys.find(b" ") < len(keys) - 1:
                return self._answer_keys(keys)
            keys = keys[:-1]
        store, counters = self.store, self.counters
        entry = store.tables[hash(keys) & store.mask].get(keys)
        if entry.__class__ is bytes and entry[-1] == PLAIN:  # so the key has no line feed
            if store.records_access:
                store.record_access(keys, entry)
            self.out += (b"VALUE ", keys, entry, b"END\r\n")
            counters.get_hits += 1
        elif self.turn_bytes > TURN_BYTES or not is_text_key(keys):
            return False
        elif (live := store.get(keys)) is None:
            self.out.append(b"END\r\n")
            counters.get_misses += 1
            if self.observers.prefixes.counting:
                self._missed.append(keys)
        else:
            self.out += (b"VALUE ", keys, wire_bytes_of(live), b"END\r\n")
            self.turn_bytes += len(live)
            counters.get_hits += 1
        counters.cmd_get += 1
        if self.observers.prefixes.counting:
            self._looked_up.append(keys)
        return True

    def _answer_mg(self, rest: bytes) -> bool:
        """Reply to a mg that hits; return what `_answer_get` does."""
        if not answer_mg(self, rest):
            return False
        self.counters.cmd_get += 1
        self.counters.get_hits += 1
        if self.observers.prefixes.counting:
            self._looked_up.append(rest.partition(b" ")[0])
        return True

    def _answer_keys(self, keys: bytes) -> bool:
        """Reply to a get of several keys in one turn; return what `_answer_get` does."""
        reply = multiget.answer_line(self, keys) if self.turn_bytes <= TURN_BYTES else None
        if reply is None:
            return False
        self.out.append(reply)
        self.turn_bytes += len(reply)
        return True

    def _store_set(self, rest: bytes, block: bytes) -> bool:
        """Store a small value; rest: the words after the command. Return False, doing nothing, for another form.

        Raises WritesRejected.
        """
        key, _, words = rest.partition(b" ")
        head, value_bytes, value_end, reply = self.form_now(words)
        if len(block) != value_bytes or not is_text_key(key):
            return False
        self.store.put(key, b"".join((head, block, value_end)))
        self.out += reply
        return True

    def _begins_large(self, data: bytes, position: int) -> bool:
        """Return whether a set of a large value begins here: splitting its value into lines would take long."""
        if data[position : position + 4] != b"set ":
            return False
        words = data[position : data.find(b"\r\n", position)].split(b" ", 2)
        return len(words) < 3 or self.form_now(words[2]) is NO_FORM

    def _store_large(self, data: bytes, position: int) -> tuple[int, int]:
        """Carry out a set of a large value if all of it is there; return what `_run_fast` does."""
        line_end, store = data.find(b"\r\n", position), self.store
        words = data[position:line_end].split(b" ")
        # A length with zeros before it is not the one that the reply to a get contains.
        if len(words) != 5 or not words[4].isdigit() or words[4][:1] == b"0" or len(words[4]) > DIGITS:
            return position, 0
        _, key, flags, exptime, length = words
        head, stop = FLAG_HEADS.get(flags), line_end + 4 + int(length)
        if head is None or not exptime.isdigit() or len(exptime) > DIGITS or data[stop - 2 : stop] != b"\r\n":
            return position, 0
        deadline = store.deadline(int(exptime))
        if 0 < deadline <= store.clock.now:  # the general path counts that
            return position, 0
        if not store.evicts or not is_text_key(key) or store.exceeds_limit(len(key), int(length), int(flags)):
            return position, 0
        wire_bytes = b"".join((head, length, memoryview(data)[line_end:stop]))
        try:
            store.put(key, make_entry(key, wire_bytes, deadline, accessed=store.clock.now))
        except WritesRejected:  # the general path raises it again and replies
            return position, 0
        self.counters.cmd_set += 1
        if self.observers.active:
            self.observers.pass_over_set(key)
        self.out.append(b"STORED\r\n")
        return stop, 1

    def form_now(self, words: bytes) -> SetForm:
        """Parse the words after a set's key. A relative exptime counts from now."""
        if len(words) > LONGEST_TAIL_BYTES or not self.takes_small_sets:
            return NO_FORM
        clock = self.store.clock
        return set_form(words, clock.now, clock.started)


@lru_cache(FORMS_KEPT)
def set_form(words: bytes, now: int, started: int) -> SetForm:
    """Parse flags, exptime, length and an optional noreply; NO_FORM for any other form.

    now, started: unix times of now and of the server's start. The result is cached, as most sets within a second have
    the same words.
    """
    flags, exptime, length, *rest = (*words.split(b" "), b"", b"")
    head, value_bytes = FLAG_HEADS.get(flags), LENGTHS.get(length)
    if head is None or value_bytes is None or rest not in ([b"", b""], [b"noreply", b"", b""]):
        return NO_FORM
    end = b"\r\n" if exptime == b"0" else _entry_end(exptime, now, started)
    reply = () if rest[0] else (b"STORED\r\n",)
    return SetForm(head + length + b"\r\n", value_bytes, end, reply) if end else NO_FORM


def _entry_end(exptime: bytes, now: int, started: int) -> bytes:
    """Return the bytes that end a small entry with this exptime; b"" if the exptime is not in its common form."""
    if not exptime.isdigit() or len(exptime) > DIGITS:
        return b""
    deadline = absolute_deadline(int(exptime), now, started)
    return expiring_end(deadline) if now < deadline <= LAST_DEADLINE else b""
