"""The fast path of the line protocol: PUT and GET in their common form, many at once.

Requests in any other form take the general path (`framing.py`, `commands.py`), which gives the same replies.
"""

from __future__ import annotations

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.line.commands import KEY_NOT_FOUND, STORED, WORD_LIMIT_BYTES, is_word
from memcache_kv.protocol.session import Session
from memcache_kv.store.entry import LINE_FEED, PLAIN, SPACE, expiring_end, value_of, wire_bytes_of

LINE_BYTES = bytes(range(ord(" "), 127)) + b"\r\n"
"""The bytes of requests in their common form."""
HEADS = tuple(b" 0 %d\r\n" % size for size in range(WORD_LIMIT_BYTES + 1))
"""The beginning of an entry, by the size of its value."""
COMMON_TTL_DIGITS = 9
"""A ttl with at most this many digits gives a deadline that a small entry can hold."""


class LineFastPath(Session):
    """The fast path of a connection that speaks the line protocol."""

    __slots__ = ()

    def _run_common(self, lines: list[bytes], done: int, line_end: bytes) -> int:
        """Carry out lines from number `done` on, up to the first that is not in its common form.

        lines: printable ASCII and spaces only; line_end: what ends the replies. Returns how many lines are done.
        """
        gets = misses = puts = 0
        out, store, tables, mask = self.out, self.store, self.store.tables, self.store.mask
        try:
            for line in lines[done:] if done else lines:
                command, _, rest = line.partition(b" ")
                if command == b"GET":
                    entry = tables[hash(rest) & mask].get(rest)
                    if entry.__class__ is bytes and entry[-1] == PLAIN:
                        if store.records_access:
                            store.record_access(rest, entry)
                        value = entry[entry.find(LINE_FEED) + 1 : -2]
                    elif entry is None and (SPACE in rest or not 0 < len(rest) <= WORD_LIMIT_BYTES):
                        break
                    elif (live := store.get(rest)) is None:
                        out += (KEY_NOT_FOUND, line_end)
                        misses += 1
                        continue
                    elif live.__class__ is bytes:
                        value = value_of(wire_bytes_of(live))
                    else:
                        break
                    if not (value.isalnum() and len(value) <= WORD_LIMIT_BYTES) and is_word(value) is None:
                        break
                    out += (b"OK ", value, line_end)
                    gets += 1
                elif command == b"PUT" and self._put(rest):
                    out += (STORED, line_end)
                    puts += 1
                else:
                    break
        except WritesRejected:
            pass  # the general path raises it again and replies
        counters = self.counters
        if gets or misses:
            counters.cmd_get += gets + misses
            counters.get_hits += gets
            counters.get_misses += misses
        counters.cmd_set += puts
        return done + gets + misses + puts

    def _put(self, rest: bytes) -> bool:
        """Store a value; rest: the words after the command. Return False, doing nothing, for another form.

        Raises WritesRejected.
        """
        key, _, rest = rest.partition(b" ")
        value, _, ttl = rest.partition(b" ")
        size = len(value)
        if not 0 < len(key) <= WORD_LIMIT_BYTES or not 0 < size <= WORD_LIMIT_BYTES or not self.takes_small_sets:
            return False
        if not ttl:
            entry_end = b"\r\n"
        elif ttl.isdigit() and len(ttl) <= COMMON_TTL_DIGITS:
            entry_end = expiring_end(self.store.clock.now + int(ttl)) if int(ttl) else b"\r\n"
        else:
            return False
        self.store.put(key, b"".join((HEADS[size], value, entry_end)))
        return True
