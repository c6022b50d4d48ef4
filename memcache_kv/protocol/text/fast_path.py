r"""The fast path of the text protocol: gets, and sets of small values, in their common form, one or many at once.

Whatever has another form is left to the general way (`framing.py`, `classic.py`), which answers all of it in the same
way, only slower. This is fast because a step of the interpreter costs, not a byte: `split` and `join` handle many
requests in one step, and one look-up answers several questions at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

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
    wire_bytes_of,
)

G, S = b"gs"
LINES = 128
"""How many lines are split off at once: where another request follows, few were split off in vain."""
FAST_COMMANDS = frozenset((b"get", b"set", b"mg ", b"ms "))
"""How the requests begin that the fast path may carry out."""
FORMS_KEPT = 256
"""For how many different words behind a set's key it is kept what they say."""
DIGITS = 9
"""A number with no more digits is in range."""
LONGEST_TAIL_BYTES = len(b"255 999999999 4096 noreply")
"""What follows a set's key is kept up to this length only: a client decides how long it is."""

# A length or flags are read by looking them up: one look-up checks that it is a canonical number in range, and converts
# it.
LENGTHS = {b"%d" % n: n for n in range(PLAIN_LIMIT_BYTES - 20)}
FLAG_HEADS = {b"%d" % n: b" %d " % n for n in range(256)}


class SetForm(NamedTuple):
    """What the words behind a set's key say.

    head: how the entry begins, up to the value; value_bytes: the value's length; end: how the entry ends; reply: what
    is answered, nothing with noreply.
    """

    head: bytes
    value_bytes: int
    end: bytes
    reply: tuple[bytes, ...]


NO_FORM = SetForm(b"", -1, b"", ())
"""Fits no value: the general way must carry it out."""


class FastPath(Session):
    """A text connection, as far as requests in their common form go."""

    __slots__ = ("_lines_at_once", "_missed")

    def __init__(self, context: Context, fd: int = 0) -> None:
        super().__init__(context, fd)
        self._lines_at_once = min(LINES, self._requests_per_turn)
        self._missed: list[bytes] = []
        """Keys that the present batch did not find, while they are observed."""

    def _run_fast(self, data: bytes, position: int) -> tuple[int, int]:
        """Carry out the requests in their common form with which the rest of the input begins.

        Returns the position behind them, and how many they were. What is done for most of them is written out here, as
        each call costs a tenth of a request.
        """
        if len(data) - position > PLAIN_LIMIT_BYTES and self._begins_large(data, position):
            return position, 0
        split = (data[position:] if position else data).split(b"\r\n", self._lines_at_once)
        stop = len(data) - len(split.pop())
        out, store, lines = self.out, self.store, iter(split)
        tables, mask = store.tables, store.mask
        hits = sets = others = 0
        tail = block = NO_BLOCK
        try:
            for line in lines:
                command, _, key = line.partition(b" ")
                if command == b"get":
                    entry = tables[hash(key) & mask].get(key)
                    if entry.__class__ is bytes and entry[-1] == PLAIN:  # it has a key without space and line feed
                        if store.records_access:
                            store.record_access(key, entry)
                        out += (b"VALUE ", key, entry, b"END\r\n")
                        hits += 1
                    elif self._answer_other_get(key, entry):
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
                    store.put(key, b"".join((head, block, value_end)))
                    out += reply
                    sets += 1
                    block = NO_BLOCK
                elif command == b"mg":
                    entry = tables[hash(key[:-2]) & mask].get(key[:-2]) if key[-2:] == b" v" else None
                    if entry.__class__ is bytes and entry[-1] == PLAIN and not store.records_access:
                        out += (b"VA ", after_flags(entry))
                    elif not answer_mg(self, key):
                        break
                    hits += 1
                elif command == b"ms" and store_ms(self, key, block := next(lines, NO_BLOCK)):
                    sets += 1
                    block = NO_BLOCK
                else:
                    break
            else:
                line = NO_BLOCK
        except WritesRejected:
            pass  # the general way finds it too, and answers
        self._count_fast(hits, sets, others, split)
        left = 0 if line is NO_BLOCK else sum(len(each) + 2 for each in (line, block, *lines) if each is not NO_BLOCK)
        return stop - left, hits + sets + others

    def _count_fast(self, hits: int, sets: int, others: int, lines: list[bytes]) -> None:
        """Count the requests with which these lines begin, and report them to those who observe."""
        counters = self.counters
        counters.cmd_get += hits
        counters.get_hits += hits
        counters.cmd_set += sets
        if self.observers.active:
            self._report(lines[: hits + others + 2 * sets], sets, others)

    def _report(self, lines: list[bytes], sets: int, others: int) -> None:
        """Report requests that were carried out to the observers.

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
        """Tell whether there is a set of a large value: to look for lines in that would take long."""
        if data[position : position + 4] != b"set ":
            return False
        words = data[position : data.find(b"\r\n", position)].split(b" ", 2)
        return len(words) < 3 or self.form_now(words[2]) is NO_FORM

    def _answer_other_get(self, keys: bytes, entry: Entry | None) -> bool:
        """Answer a get of several keys, or of one whose entry is not plain.

        Returns False, and has done nothing, where it has another form or the turn has no room for more.
        """
        if self.turn_bytes > TURN_BYTES:
            return False
        if SPACE in keys:
            reply = multiget.answer_line(self, keys)
            if reply is not None:
                self.out.append(reply)
            return reply is not None
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
        """Return what these words behind a set's key say now, as the exptime among them may be relative."""
        if len(words) > LONGEST_TAIL_BYTES or not self._takes_small_sets:
            return NO_FORM
        return set_form(words, self.store.clock.now, self.store.clock.started)


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
    """Read flags, exptime, length and perhaps noreply. Most sets of a second have the same few."""
    flags, exptime, length, *rest = (*words.split(b" "), b"", b"")
    head, value_bytes = FLAG_HEADS.get(flags), LENGTHS.get(length)
    if head is None or value_bytes is None or rest not in ([b"", b""], [b"noreply", b"", b""]):
        return NO_FORM
    end = b"\r\n" if exptime == b"0" else _entry_end(exptime, now, started)
    reply = () if rest[0] else (b"STORED\r\n",)
    return SetForm(head + length + b"\r\n", value_bytes, end, reply) if end else NO_FORM


def _entry_end(exptime: bytes, now: int, started: int) -> bytes:
    """Return what ends a small entry with this exptime; nothing where it has another form."""
    if not exptime.isdigit() or len(exptime) > DIGITS:
        return b""
    deadline = absolute_deadline(int(exptime), now, started)
    return expiring_end(deadline) if 0 < deadline <= LAST_DEADLINE else b""
