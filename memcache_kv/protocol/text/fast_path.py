r"""The fast path of the text protocol: gets, and sets of small values, in their common form, one or many at once.

Whatever has another form is left to the general way (`framing.py`, `classic.py`), which answers all of it in the same
way, only slower. This is fast because a step of the interpreter costs, not a byte: `split` and `join` handle many
requests in one step, and one look-up answers several questions at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.meta.fast_path import NO_BLOCK, run_meta
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.protocol.text import multiget
from memcache_kv.store.entry import (
    EXPIRING,
    EXPIRING_BYTES,
    LAST_DEADLINE,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    SPACE,
    absolute_deadline,
    expiring_end,
    is_text_key,
    wire_bytes_of,
)

LINES = 128
"""How many lines are split off at once: where another request follows, few were split off in vain."""
FAST_COMMANDS = frozenset((b"get", b"set", b"mg ", b"ms "))
"""How the requests begin that the fast path may carry out."""
ENDS_KEPT = 256
"""For how many exptimes the end of an entry is kept."""
DIGITS = 9
"""A number with no more digits is in range."""
LONGEST_TAIL_BYTES = len(b"255 999999999 4096 noreply")
"""What follows a set's key is kept up to this length only: a client decides how long it is."""

# A length or flags are read by looking them up: one look-up checks that it is a canonical number in range, and converts
# it.
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
    """A text connection, as far as requests in their common form go."""

    __slots__ = ("_tail", "_form", "_lines_at_once")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._tail, self._form = b"", NO_FORM
        """The last words behind a set's key, and what they say."""
        self._lines_at_once = min(LINES, self._requests_per_turn)

    def _run_fast(self, data: bytes, position: int) -> tuple[int, int]:
        """Carry out the requests in their common form with which the rest of the input begins.

        Returns the position behind them, and how many they were.
        """
        if data[position : position + 3] not in FAST_COMMANDS or self._begins_large(data, position):
            return position, 0
        lines = (data[position:] if position else data).split(b"\r\n", self._lines_at_once)
        stop = len(data) - len(lines.pop())
        done, was_meta = 0, None
        while lines and (is_meta := lines[0].startswith(b"m")) is not was_meta:
            following = iter(lines)
            count, left = run_meta(self, following) if is_meta else self._run_classic(following)
            lines = [*left, *following]
            done, was_meta = done + count, is_meta
        return stop - sum(map(len, lines)) - 2 * len(lines), done

    def _begins_large(self, data: bytes, position: int) -> bool:
        """Tell whether there is a set of a large value: to look for lines in that would take long."""
        if len(data) - position < PLAIN_LIMIT_BYTES or data[position : position + 4] != b"set ":
            return False
        words = data[position : data.find(b"\r\n", position)].split(b" ", 2)
        return len(words) < 3 or self._form_of(words[2]) is NO_FORM

    def _run_classic(self, lines: Iterator[bytes]) -> tuple[int, list[bytes]]:
        """Carry out gets and sets of small values; return how many, and the lines of the first other request, if any.

        What is done for most of them is written out here, as each call costs a tenth of a request.
        """
        out, store = self.out, self.store
        tables, mask, records_access, put = store.tables, store.mask, store.records_access, store.put
        hits = sets = others = 0
        tail = block = NO_BLOCK
        expired = b""
        for line in lines:
            command, _, key = line.partition(b" ")
            if command == b"get":
                entry = tables[hash(key) & mask].get(key)
                if entry.__class__ is bytes and entry[-1] == PLAIN:  # it has a key without space and line feed
                    if records_access:
                        store.record_access(key, entry)
                    out += (b"VALUE ", key, entry, b"END\r\n")
                    hits += 1
                elif (
                    entry.__class__ is bytes
                    and entry[-1] == EXPIRING
                    and entry[-EXPIRING_BYTES:] > (expired := expired or expiring_end(store.clock.now))
                ):
                    if records_access:
                        store.record_access(key, entry)
                    out += (b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n")
                    hits += 1
                elif self._answer_other_get(key):
                    others += 1
                else:
                    break
            elif command == b"set":
                key, _, words = key.partition(b" ")
                if words != tail:
                    tail = words
                    head, value_bytes, value_end, reply = self.form_now(tail)
                block = next(lines, NO_BLOCK)
                if len(block) != value_bytes or not is_text_key(key):
                    break
                try:
                    put(key, b"".join((head, block, value_end)))
                except WritesRejected:  # the general way finds it too, and answers
                    break
                block = NO_BLOCK
                out += reply
                sets += 1
            else:
                break
        else:
            line = NO_BLOCK
        self.count_fast(hits, sets)
        return hits + sets + others, [each for each in (line, block) if each is not NO_BLOCK]

    def _answer_other_get(self, keys: bytes) -> bool:
        """Answer a get of several keys, or of one that is missing, large or has a CAS id.

        Returns False, and has done nothing, where it has another form or the turn has no room for more.
        """
        if self.turn_bytes > TURN_BYTES:
            return False
        if SPACE in keys:
            reply = multiget.answer_line(self, keys)
            if reply is None:
                return False
            self.out.append(reply)
            return True
        if not is_text_key(keys):
            return False
        entry, counters = self.store.get(keys), self.counters
        counters.cmd_get += 1
        if entry is None:
            counters.get_misses += 1
            self.out.append(b"END\r\n")
            return True
        counters.get_hits += 1
        self.out += (b"VALUE ", keys, wire_bytes_of(entry), b"END\r\n")
        self.turn_bytes += len(entry)
        return True

    def count_fast(self, hits: int, sets: int) -> None:
        """Count gets that hit, and sets."""
        counters = self.counters
        counters.cmd_get += hits
        counters.get_hits += hits
        counters.cmd_set += sets

    def form_now(self, tail: bytes) -> tuple[bytes, int, bytes, tuple[bytes, ...]]:
        """Return how the entries of sets in this form begin, how long their values are, how they end, and the reply.

        The length is one that no value has where the general way must carry out such sets.
        """
        head, value_bytes, ttl, is_silent = self._form_of(tail)
        end = _entry_end(ttl, self.store.clock.now, self.store.clock.started) if ttl else b"\r\n"
        return head, value_bytes if end and self._takes_small_sets else -1, end, () if is_silent else (b"STORED\r\n",)

    def _form_of(self, tail: bytes) -> SetForm:
        """Return what the words behind a set's key say; mostly they are the same as the last time."""
        if tail != self._tail:
            if len(tail) > LONGEST_TAIL_BYTES:
                return NO_FORM
            self._tail, self._form = tail, _read_form(tail)
        return self._form


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
