r"""The short ways of the text protocol: gets of one key and sets of a small value, one alone or many at once.

Whatever is not in its usual form is left to `text.py`, which would answer all of it in the same way, only slower: of a
request that comes alone 1.0 instead of 2.6 microseconds, of one in a batch of 32 a third instead of three quarters.
They are quick because what costs is one step of the interpreter, not one byte: `split` and `join` take many requests in
one, and a look-up tells several things at once.
"""

from __future__ import annotations

from functools import lru_cache

from memcache_kv.errors import ChangesRefused
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES
from memcache_kv.protocol.session import TURN_BYTES, Session
from memcache_kv.store.item import (
    EXPIRING,
    EXPIRING_BYTES,
    LAST_DEADLINE,
    LINE_FEED,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    Entry,
    absolute_deadline,
    expiring_end,
    is_plain_key,
    make_entry,
    ready_of,
)

BATCH = 64
"""How many gets are taken apart at once: where something else follows, no more was taken apart in vain."""
NEXT_GET = b"\r\nget "
ENDS_KEPT = 256
DIGITS = 9
LONGEST_GET_BYTES = 300
"""A first request longer than this has several keys, and is not looked up as if it were one."""

# A length or flags are read by looking them up: one look-up checks that it is a canonical number in range and converts
# it, in 30 ns where isdigit, int and comparisons take 130.
LENGTHS = {b"%d" % n: n for n in range(PLAIN_LIMIT_BYTES - 20)}
FLAG_HEADS = {b"%d" % n: b" %d " % n for n in range(256)}


class UsualRequests(Session):
    """What a text connection does with requests in their usual form."""

    __slots__ = ()

    def answer_lone(self, data: bytes) -> bytes:
        """Carry out input that is one request in its usual form; return the reply, or nothing where it is not.

        A bare entry's key has neither space nor line feed, so that a hit proves that there is one request.
        """
        if self._held or self._mid_block or self._observation.active:
            return b""
        head = data[:4]
        if head == b"get " and len(data) < LONGEST_GET_BYTES:
            key, store = data[4:-2], self.store
            entry = store.tables[hash(key) & store.mask].get(key)
            if data[-2:] != b"\r\n":
                return b""
            if entry.__class__ is not bytes or entry[-1] != PLAIN:
                return self._answer_lone_other(key, entry)
            if store.noting:
                store.note(key, entry)
            counters = self.counters
            counters.cmd_get += 1
            counters.get_hits += 1
            return b"".join((b"VALUE ", key, entry, b"END\r\n"))
        if head == b"set " and data[-2:] == b"\r\n":
            if len(data) > PLAIN_LIMIT_BYTES:
                return self._set_large(data)
            line, line_end, block = data[:-2].partition(b"\r\n")
            words = line.split(b" ")
            if line_end and len(words) == 5:
                _, key, flags, exptime, length = words
                # The block is as long as the line says, so that there is no second request.
                if LENGTHS.get(length) == len(block) and self.store_small(key, flags, exptime, length, block):
                    self.counters.cmd_set += 1
                    return b"STORED\r\n"
        return b""

    def _answer_lone_other(self, key: bytes, entry: Entry | None) -> bytes:
        """Answer a lone get of what is missing, expires, has a CAS id, or is large."""
        store, counters = self.store, self.counters
        expired = expiring_end(store.clock.now)
        if entry.__class__ is bytes and entry[-1] == EXPIRING and entry[-EXPIRING_BYTES:] > expired:
            if store.noting:
                store.note(key, entry)
            counters.cmd_get += 1
            counters.get_hits += 1
            return b"".join((b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n"))
        if not is_plain_key(key) or not 0 < len(key) <= KEY_LIMIT_BYTES:
            return b""
        entry = store.get(key)
        counters.cmd_get += 1
        if entry is None:
            counters.get_misses += 1
            return b"END\r\n"
        counters.get_hits += 1
        return b"".join((b"VALUE ", key, ready_of(entry), b"END\r\n"))

    def _set_large(self, data: bytes) -> bytes:
        """Carry out a lone set of a value that is too long to be copied three times."""
        line_end = data.find(b"\r\n")
        words = data[:line_end].split(b" ")
        if len(words) != 5 or not words[3].isdigit() or not words[4].isdigit() or max(map(len, words[3:])) > DIGITS:
            return b""
        _, key, flags, exptime, length = words
        head, store, value_bytes = FLAG_HEADS.get(flags), self.store, len(data) - line_end - 4
        if head is None or int(length) != value_bytes or not store.evicts or not 0 < len(key) <= KEY_LIMIT_BYTES:
            return b""
        if LINE_FEED in key or store.exceeds_limit(len(key), value_bytes, int(flags)):
            return b""
        ready = b"".join((head, length, memoryview(data)[line_end:]))
        try:
            store.put(key, make_entry(key, ready, store.deadline(int(exptime)), accessed=store.clock.now))
        except ChangesRefused:
            return b""
        self.counters.cmd_set += 1
        return b"STORED\r\n"

    def _run_usual(self, data: bytes, position: int, end: int) -> tuple[int, int]:
        """Carry out the usual requests with which a part of the input begins: a get or a set, and all its lines whole.

        end: where its last line end is. Returns the position behind them, and how many they were.
        """
        chunks = data[position:end].split(NEXT_GET, BATCH)
        stop = end + 2
        if len(chunks) > BATCH:
            stop = end - len(chunks.pop()) - 4
        if chunks[0][:4] == b"get ":
            chunks[0] = chunks[0][4:]
            if len(chunks[0]) > LONGEST_GET_BYTES and b"\r\n" not in chunks[0]:
                return position, 0
            rest, sets = 0, 0
        else:
            rest, sets = self._run_sets(chunks.pop(0))
        following = iter(() if rest else chunks)
        out, store = self.out, self.store
        tables, mask, noting = store.tables, store.mask, store.noting
        expired = expiring_end(store.clock.now)
        others = 0
        for key in following:
            entry = tables[hash(key) & mask].get(key)
            if entry.__class__ is bytes and entry[-1] == PLAIN:
                if noting:
                    store.note(key, entry)
                out += (b"VALUE ", key, entry, b"END\r\n")
                continue
            if entry.__class__ is bytes and entry[-1] == EXPIRING and entry[-EXPIRING_BYTES:] > expired:
                if noting:
                    store.note(key, entry)
                out += (b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\nEND\r\n")
                continue
            others += 1
            rest, more = self._run_other(key)
            sets += more
            if rest:
                break
        unread = list(following) if others or not rest else chunks
        gets = len(chunks) - len(unread)
        hits = gets - others
        self.counters.cmd_get += hits
        self.counters.get_hits += hits
        left = sum(map(len, unread)) + len(unread) * len(NEXT_GET)
        return stop - left - rest, gets + sets

    def _run_other(self, chunk: bytes) -> tuple[int, int]:
        """Carry out a get that is no plain hit, or that has sets behind it, from behind its `get `.

        Returns how many bytes are left for the general way, with their line ends, and how many sets there were.
        """
        key, line_end, following = chunk.partition(b"\r\n")
        if not is_plain_key(key) or not 0 < len(key) <= KEY_LIMIT_BYTES or self.turn_bytes > TURN_BYTES:
            return len(b"get ") + len(chunk) + 2, 0
        entry, counters = self.store.get(key), self.counters
        counters.cmd_get += 1
        if entry is None:
            counters.get_misses += 1
            self.out.append(b"END\r\n")
        else:
            counters.get_hits += 1
            ready = ready_of(entry)
            self.turn_bytes += len(ready)
            self.out += (b"VALUE ", key, ready, b"END\r\n")
        return self._run_sets(following) if line_end else (0, 0)

    def _run_sets(self, text: bytes) -> tuple[int, int]:
        """Carry out the small sets with which these lines, the last without its end, begin.

        Returns how many bytes are left, with their line ends, and how many sets there were.
        """
        if len(text) > PLAIN_LIMIT_BYTES and LENGTHS.keys().isdisjoint(text[: text.find(b"\r\n")].split(b" ")[4:5]):
            return len(text) + 2, 0  # a large block: to look for lines in it would take long
        lines, out = text.split(b"\r\n"), self.out
        position = 0
        while position + 1 < len(lines):
            words, block = lines[position].split(b" "), lines[position + 1]
            if words[0] != b"set" or len(words) < 5 or LENGTHS.get(words[4]) != len(block):
                break
            if len(words) > 5 and words[5:] != [b"noreply"]:
                break
            if not self.store_small(words[1], words[2], words[3], words[4], block):
                break
            if len(words) == 5:
                out.append(b"STORED\r\n")
            position += 2
        sets = position // 2
        self.counters.cmd_set += sets
        left = lines[position:]
        return sum(map(len, left)) + 2 * len(left), sets

    def store_small(self, key: bytes, flags: bytes, exptime: bytes, length: bytes, block: bytes) -> bool:
        """Store a small value, given in the words of a line and its block; False where the general way must."""
        head, store = FLAG_HEADS.get(flags), self.store
        end = b"\r\n" if exptime == b"0" else _entry_end(exptime, store.clock.now, store.clock.started)
        if head is None or not end or not self._takes_small_sets:
            return False
        if not 0 < len(key) <= KEY_LIMIT_BYTES or LINE_FEED in key:
            return False
        try:
            store.put(key, b"".join((head, length, b"\r\n", block, end)))
        except ChangesRefused:  # the general way finds it too, and answers
            return False
        return True


@lru_cache(ENDS_KEPT)
def _entry_end(exptime: bytes, now: int, started: int) -> bytes:
    """Return what ends a small entry with this exptime; nothing where it is none in its usual form.

    Items stored in the same second mostly have the same exptimes: a look-up takes a third of the time.
    """
    if not exptime.isdigit() or len(exptime) > DIGITS:
        return b""
    deadline = absolute_deadline(int(exptime), now, started)
    return expiring_end(deadline) if 0 < deadline <= LAST_DEADLINE else b""
