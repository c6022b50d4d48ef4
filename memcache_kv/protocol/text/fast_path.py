r"""The short ways of the text protocol: gets of one key and sets of a small value, one alone or many at once.

Whatever is not in its usual form is left to `text.py`, which would answer all of it in the same way, only slower: a get
takes 0.5 microseconds here and 4 there, a set 1.4 and 7.5. They are quick because what costs is one step of the
interpreter, not one byte: `split` and `join` take many requests in one, and a look-up tells several things at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.meta.fast_path import NO_BLOCK, run_meta
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.protocol.text.multiget import answer_lone_multiget
from memcache_kv.store.entry import (
    EXPIRING,
    EXPIRING_BYTES,
    LAST_DEADLINE,
    LINE_FEED,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SPACE,
    Entry,
    absolute_deadline,
    expiring_end,
    is_plain_key,
    make_entry,
    wire_bytes_of,
)

LINES = 128
"""How many lines are taken apart at once: where something else follows, no more was taken apart in vain."""
LARGEST_JOINED_BYTES = 64 * 1024
"""A larger value is sent from where it is: to copy it first would hold up the others."""
ENDS_KEPT = 256
"""How many exptimes are known by what they make of an entry's end."""
DIGITS = 9
"""A number of no more is in range."""
LONGEST_TAIL_BYTES = len(b"255 999999999 4096 noreply")
"""More than this behind a set's key is unusual, and not kept."""
LONGEST_GET_BYTES = 300
"""A first request longer than this has several keys, and is not looked up as if it were one."""

# A length or flags are read by looking them up: one look-up checks that it is a canonical number in range and converts
# it, in 30 ns where isdigit, int and comparisons take 130.
LENGTHS = {b"%d" % n: n for n in range(PLAIN_LIMIT_BYTES - 20)}
FLAG_HEADS = {b"%d" % n: b" %d " % n for n in range(256)}


class SetForm(NamedTuple):
    """What a set says of its small value.

    head: how the entry begins, up to the value; value_bytes: the value's length; ttl: its exptime, nothing for 0;
    is_silent: with noreply.
    """

    head: bytes
    value_bytes: int
    ttl: bytes
    is_silent: bool


NO_FORM = SetForm(b"", -1, b"", False)
"""Fits no value."""


class FastPath(Session):
    """What a text connection does with requests in their usual form."""

    __slots__ = ("_tail", "_form")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._tail, self._form = b"", NO_FORM
        """The last words behind a set's key, and what they say."""

    def _answer_lone(self, data: bytes) -> bytes:
        """Carry out input that is one request in its usual form; return the reply, or nothing where it is not.

        A bare entry's key has neither space nor line feed, so that a hit proves that there is one request.
        """
        if self._held or self._mid_block or self._observers.active:
            return b""
        head = data[:4]
        if head == b"get ":
            if len(data) > LONGEST_GET_BYTES:
                return answer_lone_multiget(self, data)
            key, store = data[4:-2], self.store
            entry = store.tables[hash(key) & store.mask].get(key)
            if data[-2:] != b"\r\n":
                return b""
            if entry.__class__ is not bytes or entry[-1] != PLAIN:
                return answer_lone_multiget(self, data) if SPACE in key else self._answer_lone_other(key, entry)
            if store.records_access:
                store.record_access(key, entry)
            counters = self.counters
            counters.cmd_get += 1
            counters.get_hits += 1
            return b"".join((b"VALUE ", key, entry, b"END\r\n"))
        if head == b"set " and data[-2:] == b"\r\n":
            if len(data) > PLAIN_LIMIT_BYTES:
                return self._set_large(data)
            line, _, block = data.partition(b"\r\n")
            words = line.split(b" ", 2)
            if len(words) == 3:
                _, key, tail = words
                head, value_bytes, ttl, is_silent = self._form if tail == self._tail else self.form_of(tail)
                # The block is as long as the line says, so that there is no second request.
                if value_bytes + 2 == len(block) and not is_silent and self.put_small(key, head, ttl, block[:-2]):
                    self.counters.cmd_set += 1
                    return b"STORED\r\n"
        return b""

    def _answer_lone_other(self, key: bytes, entry: Entry | None) -> bytes:
        """Answer a lone get of what is missing, expires, has a CAS id, or is large."""
        store, counters = self.store, self.counters
        expired = expiring_end(store.clock.now)
        if entry.__class__ is bytes and entry[-1] == EXPIRING and entry[-EXPIRING_BYTES:] > expired:
            if store.records_access:
                store.record_access(key, entry)
            counters.cmd_get += 1
            counters.get_hits += 1
            return b"".join((b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n"))
        if entry is not None and len(entry) > LARGEST_JOINED_BYTES:
            return b""
        return b"".join(self._general_reply(key))

    def _set_large(self, data: bytes) -> bytes:
        """Carry out a lone set of a value that is too long to be copied three times."""
        line_end = data.find(b"\r\n")
        words = data[:line_end].split(b" ")
        value_bytes = len(data) - line_end - 4
        # A length with zeros before it is not what the reply to a get tells.
        if len(words) != 5 or words[4] != b"%d" % value_bytes or not words[3].isdigit() or len(words[3]) > DIGITS:
            return b""
        _, key, flags, exptime, length = words
        head, store = FLAG_HEADS.get(flags), self.store
        if head is None or not store.evicts or not 0 < len(key) <= KEY_LIMIT_BYTES:
            return b""
        if LINE_FEED in key or store.exceeds_limit(len(key), value_bytes, int(flags)):
            return b""
        wire_bytes = b"".join((head, length, memoryview(data)[line_end:]))
        try:
            store.put(key, make_entry(key, wire_bytes, store.deadline(int(exptime)), accessed=store.clock.now))
        except WritesRejected:
            return b""
        self.counters.cmd_set += 1
        return b"STORED\r\n"

    def _run_fast(self, data: bytes, position: int, end: int) -> tuple[int, int]:
        """Carry out the usual requests with which a part of the input begins.

        end: where its last line end is. Returns the position behind them, and how many they were.
        """
        lines, stop = self._take_lines(data, position, end)
        done, was_meta = 0, None
        while lines and (is_meta := lines[0].startswith(b"m")) is not was_meta:
            following = iter(lines)
            count, left = (run_meta if is_meta else run_classic)(self, following)
            lines = [each for each in (*left, *following) if each is not NO_BLOCK]
            done, was_meta = done + count, is_meta
        return stop - sum(map(len, lines)) - 2 * len(lines), done

    def _take_lines(self, data: bytes, position: int, end: int) -> tuple[list[bytes], int]:
        """Return the next lines up to the last line end, and the position behind them."""
        if self._begins_large(data, position):
            return [], position
        lines = data[position:end].split(b"\r\n", LINES)
        return lines, end + 2 if len(lines) <= LINES else end - len(lines.pop())

    def count_fast(self, hits: int, sets: int) -> None:
        """Count gets that hit, and sets."""
        self.counters.cmd_get += hits
        self.counters.get_hits += hits
        self.counters.cmd_set += sets

    def form_now(self, tail: bytes) -> tuple[bytes, int, bytes, tuple[bytes, ...]]:
        """Return how the entries of sets in this form begin, how long their values are, how they end, and the answer.

        A length that no value has where such sets are not usual.
        """
        head, value_bytes, ttl, is_silent = self.form_of(tail)
        end = self._end_of(ttl)
        return head, value_bytes if end and self._takes_small_sets else -1, end, () if is_silent else (b"STORED\r\n",)

    def _begins_large(self, data: bytes, position: int) -> bool:
        """Tell whether there is a set of a large value: to look for lines in that would take long."""
        if len(data) - position < PLAIN_LIMIT_BYTES or data[position : position + 4] != b"set ":
            return False
        words = data[position : data.find(b"\r\n", position)].split(b" ", 2)
        return len(words) < 3 or self.form_of(words[2]) is NO_FORM

    def answer_get_as_general(self, key: bytes) -> bool:
        """Answer one of many gets in the general way; False where the turn has no more room, or it is none."""
        reply = self._general_reply(key) if self.turn_bytes <= TURN_BYTES else ()
        self.out += reply
        self.turn_bytes += sum(map(len, reply))
        return bool(reply)

    def _general_reply(self, key: bytes) -> tuple[bytes, ...]:
        """Return the pieces of the reply to a get of whatever is kept; none where it is not a get of one key."""
        if not is_plain_key(key) or not 0 < len(key) <= KEY_LIMIT_BYTES:
            return ()
        entry, counters = self.store.get(key), self.counters
        counters.cmd_get += 1
        if entry is None:
            counters.get_misses += 1
            return (b"END\r\n",)
        counters.get_hits += 1
        return b"VALUE ", key, wire_bytes_of(entry), b"END\r\n"

    def form_of(self, tail: bytes) -> SetForm:
        """Return what the words behind a set's key say: mostly the same as the last time, which is told at once."""
        if tail != self._tail:
            if len(tail) > LONGEST_TAIL_BYTES:
                return NO_FORM
            self._tail, self._form = tail, _read_form(tail)
        return self._form

    def put_small(self, key: bytes, head: bytes, ttl: bytes, block: bytes) -> bool:
        """Store a value that is as long as its form says; False where the general way must."""
        if not key or len(key) > KEY_LIMIT_BYTES or LINE_FEED in key or not self._takes_small_sets:
            return False
        end = self._end_of(ttl)
        if not end:
            return False
        try:
            self.store.put(key, b"".join((head, block, end)))
        except WritesRejected:  # the general way finds it too, and answers
            return False
        return True

    def _end_of(self, ttl: bytes) -> bytes:
        """Return what ends an entry with this exptime; nothing where that is none in its usual form."""
        return _entry_end(ttl, self.store.clock.now, self.store.clock.started) if ttl else b"\r\n"


def _read_form(tail: bytes) -> SetForm:
    """Read flags, exptime, length and perhaps noreply."""
    words = tail.split(b" ")
    if len(words) < 3 or words[3:] not in ([], [b"noreply"]):
        return NO_FORM
    head, value_bytes = FLAG_HEADS.get(words[0]), LENGTHS.get(words[2])
    if head is None or value_bytes is None or not words[1]:
        return NO_FORM
    return SetForm(head + words[2] + b"\r\n", value_bytes, b"" if words[1] == b"0" else words[1], len(words) == 4)


@lru_cache(ENDS_KEPT)
def _entry_end(exptime: bytes, now: int, started: int) -> bytes:
    """Return what ends a small entry with this exptime; nothing where it is none in its usual form.

    Items stored in the same second mostly have the same exptimes: a look-up takes a third of the time.
    """
    if not exptime.isdigit() or len(exptime) > DIGITS:
        return b""
    deadline = absolute_deadline(int(exptime), now, started)
    return expiring_end(deadline) if 0 < deadline <= LAST_DEADLINE else b""


def run_classic(protocol: FastPath, lines: Iterator[bytes]) -> tuple[int, list[bytes]]:
    """Carry out gets of one key and sets of small values; return how many, and the lines of one that is none, if any.

    What is done for each is written out here: two calls less for a set are a tenth of its 1.2 microseconds.
    """
    out, store = protocol.out, protocol.store
    tables, mask, records_access, put = store.tables, store.mask, store.records_access, store.put
    expired = expiring_end(store.clock.now)
    hits = sets = others = 0
    tail = NO_BLOCK
    for line in lines:
        command, _, key = line.partition(b" ")
        if command == b"get":
            entry = tables[hash(key) & mask].get(key)
            if entry.__class__ is bytes and entry[-1] == PLAIN:
                if records_access:
                    store.record_access(key, entry)
                out += (b"VALUE ", key, entry, b"END\r\n")
                hits += 1
            elif entry.__class__ is bytes and entry[-1] == EXPIRING and entry[-EXPIRING_BYTES:] > expired:
                if records_access:
                    store.record_access(key, entry)
                out += (b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n")
                hits += 1
            elif protocol.answer_get_as_general(key):
                others += 1
            else:
                block = NO_BLOCK
                break
        elif command == b"set":
            key, _, words = key.partition(b" ")
            if words != tail:
                tail = words
                head, value_bytes, value_end, reply = protocol.form_now(tail)
            block = next(lines, NO_BLOCK)
            if len(block) != value_bytes or not 0 < len(key) <= KEY_LIMIT_BYTES or LINE_FEED in key:
                break
            try:
                put(key, b"".join((head, block, value_end)))
            except WritesRejected:  # the general way finds it too, and answers
                break
            out += reply
            sets += 1
        else:
            block = NO_BLOCK
            break
    else:
        line = block = NO_BLOCK
    protocol.count_fast(hits, sets)
    return hits + sets + others, [line, block]
