r"""The fast path of the text protocol: gets, and sets of small values, in their common form, one or many at once.

Requests in any other form take the general path (`framing.py`, `classic.py`), which gives the same replies, but more
slowly. Each step of the interpreter costs time, and a byte costs almost nothing: so `split` and `join` handle many
requests in one step, and one look-up replaces several checks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.meta.fast_path import NO_BLOCK, answer_mg, store_ms
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.protocol.text import multiget
from memcache_kv.store.entry import (
    EXPIRING,
    EXPIRING_BYTES,
    LAST_DEADLINE,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SPACE,
    Entry,
    absolute_deadline,
    after_flags,
    expiring_end,
    is_text_key,
    make_entry,
    wire_bytes_of,
)

G, S = b"gs"
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

    __slots__ = ("_words", "_parsed_at", "_form", "_missed")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._missed: list[bytes] = []
        """Keys that the present batch did not find, while they are observed."""

    def permit(
        self, origin: Origin | None = None, user: bytes | None = None, user_class: CommandClass | None = None
    ) -> None:
        """Set which commands the client may use; see `Session.permit`."""
        super().permit(origin, user, user_class)
        self._words, self._parsed_at, self._form = b"", 0, NO_FORM
        """The last words after a set's key, the second in which they were parsed, and what they say."""

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Carry out requests from `position` on, up to the first that is not in its common form, and at most so many.

        Returns the position after them and their number.
        """
        requests = self.context.requests
        if requests is not None:
            return requests.run_text(self, data, position, most)
        return self._run_interpreted(data, position, most)

    def _run_interpreted(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Do so without the compiled modules. The most frequent cases are written out, as calls cost time."""
        if len(data) - position > PLAIN_LIMIT_BYTES and self._begins_large(data, position):
            return self._store_large(data, position)
        split = (data[position:] if position else data).split(b"\r\n", min(LINES, most))
        stop = len(data) - len(split.pop())
        out, store, lines = self.out, self.store, iter(split)
        tables, mask, block = store.tables, store.mask, NO_BLOCK
        hits = sets = others = 0
        try:
            for line in lines:
                command, _, key = line.partition(b" ")
                if command == b"get":
                    entry = tables[hash(key) & mask].get(key)
                    if entry.__class__ is bytes and entry[-1] == PLAIN:  # so the key has no space or line feed
                        if store.records_access:
                            store.record_access(key, entry)
                        out += (b"VALUE ", key, entry, b"END\r\n")
                        hits += 1
                    elif self._answer_other_get(key, entry):
                        others += 1
                    else:
                        break
                elif command == b"mg":
                    name, _, flags = key.partition(b" ")
                    entry = tables[hash(name) & mask].get(name) if flags == b"v" else None
                    if entry.__class__ is bytes and entry[-1] == PLAIN and not store.records_access:
                        out += (b"VA ", after_flags(entry))
                    elif not answer_mg(self, key):
                        break
                    hits += 1
                elif command == b"set":
                    key, _, words = key.partition(b" ")
                    is_same = words == self._words and store.clock.now == self._parsed_at
                    head, value_bytes, value_end, reply = self._form if is_same else self.form_now(words)
                    block = next(lines, NO_BLOCK)
                    if len(block) != value_bytes or not is_text_key(key):
                        break
                    store.put(key, b"".join((head, block, value_end)))
                    out += reply
                    sets, block = sets + 1, NO_BLOCK
                elif command == b"ms" and store_ms(self, key, block := next(lines, NO_BLOCK)):
                    sets, block = sets + 1, NO_BLOCK
                else:
                    break
            else:
                line = NO_BLOCK
        except WritesRejected:
            pass  # the general path raises it again and replies
        counters = self.counters
        counters.cmd_get += hits
        counters.get_hits += hits
        counters.cmd_set += sets
        if self.observers.active:
            self._report(split[: hits + others + 2 * sets], sets, others)
        left = 0 if line is NO_BLOCK else sum(len(each) + 2 for each in (line, block, *lines) if each is not NO_BLOCK)
        return stop - left, hits + sets + others

    def _report(self, lines: list[bytes], sets: int, others: int) -> None:
        """Report the requests of this batch to the observers.

        lines: whole requests; sets: how many store; others: how many may be gets of several keys, which report their
        keys themselves.
        """
        observers, missed = self.observers, self._missed
        self._missed = []
        requests = len(lines) - sets
        observers.pass_over(requests - sets, sets, requests)
        if observers.prefixes.counting:
            observers.prefixes.requested(_of_one_key(lines) if sets or others else lines, missed)

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
        if not store.evicts or not is_text_key(key) or store.exceeds_limit(len(key), int(length), int(flags)):
            return position, 0
        wire_bytes = b"".join((head, length, memoryview(data)[line_end:stop]))
        try:
            store.put(key, make_entry(key, wire_bytes, store.deadline(int(exptime)), accessed=store.clock.now))
        except WritesRejected:  # the general path raises it again and replies
            return position, 0
        self.counters.cmd_set += 1
        if self.observers.active:
            self.observers.pass_over_set(key)
        self.out.append(b"STORED\r\n")
        return stop, 1

    def _answer_other_get(self, keys: bytes, entry: Entry | None) -> bool:
        """Reply to a get of several keys, or of one key whose entry is not plain.

        keys: the words after the command; entry: the entry of the key, if there is only one. Returns False, without
        doing anything, if the request has another form or the turn is used up.
        """
        if self.turn_bytes > TURN_BYTES:
            return False
        if SPACE in keys:
            reply = multiget.answer_line(self, keys)
            if reply is None:
                return False
            self.out.append(reply)
            self.turn_bytes += len(reply)
            return True
        store, counters = self.store, self.counters
        if (
            entry.__class__ is bytes
            and entry[-1] == EXPIRING
            and entry[-EXPIRING_BYTES:] > expiring_end(store.clock.now)
        ):
            if store.records_access:
                store.record_access(keys, entry)
            self.out += (b"VALUE ", keys, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n")
            counters.get_hits += 1
        elif not is_text_key(keys):
            return False
        elif (live := store.get(keys)) is None:
            counters.get_misses += 1
            if self.observers.active:
                self._missed.append(keys)
            self.out.append(b"END\r\n")
        else:
            counters.get_hits += 1
            self.out += (b"VALUE ", keys, wire_bytes_of(live), b"END\r\n")
            self.turn_bytes += len(live)
        counters.cmd_get += 1
        return True

    def form_now(self, words: bytes) -> SetForm:
        """Parse the words after a set's key. A relative exptime counts from now."""
        if len(words) > LONGEST_TAIL_BYTES or not self.takes_small_sets:
            return NO_FORM
        clock = self.store.clock
        self._words, self._parsed_at, self._form = words, clock.now, set_form(words, clock.now, clock.started)
        return self._form


def _of_one_key(lines: list[bytes]) -> list[bytes]:
    """Return the lines of those requests of the fast path that name one key, without data blocks."""
    requests, rest = list[bytes](), iter(lines)
    for line in rest:
        if line[0] == S or line[1] == S:  # set or ms
            next(rest)  # its data block
        elif line[0] == G and line.count(b" ") > 1:
            continue
        requests.append(line)
    return requests


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
    return expiring_end(deadline) if 0 < deadline <= LAST_DEADLINE else b""
