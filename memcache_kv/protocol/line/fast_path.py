r"""The fast path of the line protocol: PUT and GET in their common form, many at once.

Requests in any other form take the general path (`framing.py`, `commands.py`), which gives the same replies. With the
compiled modules, these carry out the same requests and more.
"""

from __future__ import annotations

from itertools import takewhile

from memcache_kv.errors import WritesRejected
from memcache_kv.protocol.line.commands import KEY_NOT_FOUND, STORED, WORD_LIMIT_BYTES, value_reply
from memcache_kv.protocol.session import Session
from memcache_kv.store.entry import LINE_FEED, PLAIN, PLAIN_LIMIT_BYTES, SPACE, expiring_end, pack, wire_bytes_of

LINES_AT_ONCE = 128
"""How many lines are split at once. A request in another form stops the fast path, and its split lines are wasted."""
RETURN = ord("\r")
LONGEST_ALONE_BYTES = len(b"PUT   999999999\r\n") + 2 * WORD_LIMIT_BYTES
"""The longest request in its common form."""
FOUND = b"OK "
"""What the reply to a GET that finds a value begins with."""
STORED_ENTRY = pack(0, STORED.removeprefix(FOUND))
"""Stands for a PUT among the entries of a batch: a GET of it has the same reply."""
SEPARATORS = {line_end: line_end + FOUND for line_end in (b"\n", b"\r\n")}
"""What is between the values of two such replies, by the line end."""
HEADS = tuple(b" 0 %d\r\n" % size for size in range(WORD_LIMIT_BYTES + 1))
"""The beginning of an entry, by the size of its value."""
COMMON_TTL_DIGITS = 9
"""A ttl with at most this many digits gives a deadline that a small entry can hold."""


def _only(allowed: bytes) -> bytes:
    """Return a table for `bytes.translate` that changes all bytes but these."""
    return bytes(byte if byte in allowed else byte ^ 1 for byte in range(256))


ONLY_WORDS = _only(bytes(range(ord("!"), 127)))
ONLY_PRINTABLE = _only(bytes(range(ord(" "), 127)))


def _offset(size: int) -> int:
    """Return where the value begins in a plain entry of this size, if its client flags have one digit.

    0 if the protocol can't carry a value of that size. If the flags have more digits, the value begins later, and what
    is from here on contains a line end.
    """
    for digits in (1, 2, 3):
        offset = len(b" 0 \r\n") + digits
        if len(b"%d" % (size - offset - 2)) == digits and 0 < size - offset - 2 <= WORD_LIMIT_BYTES:
            return offset
    return 0


OFFSETS = bytes(map(_offset, range(PLAIN_LIMIT_BYTES + 1)))


class LineFastPath(Session):
    """The fast path of a connection that speaks the line protocol."""

    __slots__ = ()

    def _run_fast(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Carry out requests from `position` on, up to the first that is not in its common form, and at most so many.

        Returns the position after them and their number.
        """
        requests = self.context.requests
        if requests is not None:
            return requests.run_line(self, data, position, most)
        if self.observers.active:
            return position, 0
        return self._run_interpreted(data, position, most)

    def _run_interpreted(self, data: bytes, position: int, most: int) -> tuple[int, int]:
        """Do so without the compiled modules."""
        if not position and len(data) <= LONGEST_ALONE_BYTES and self._run_alone(data):
            return len(data), 1
        line_end = b"\r\n" if RETURN in data else b"\n"
        lines = (data[position:] if position else data).split(line_end, LINES_AT_ONCE if most > LINES_AT_ONCE else most)
        stop = len(data) - len(lines.pop())
        text = lines[0] if len(lines) == 1 else b"".join(lines)
        done = self._run_lines(lines if text.translate(ONLY_PRINTABLE) == text else printable(lines), line_end)
        if done < len(lines):
            stop -= sum(map(len, lines[done:])) + (len(lines) - done) * len(line_end)
        return stop, done

    def _run_alone(self, data: bytes) -> bool:
        """Carry out a PUT, or a GET of a plain entry, if that is the whole input. Return False for any other input."""
        line_end = b"\r\n" if data[-2:-1] == b"\r" else b"\n"
        line = data[: -len(line_end)]
        if data[-1] != LINE_FEED or line.translate(ONLY_PRINTABLE) != line:
            return False
        command, _, rest = line.partition(b" ")
        if command == b"GET":
            store = self.store
            entry = store.tables[hash(rest) & store.mask].get(rest)
            if entry.__class__ is not bytes or entry[-1] != PLAIN:
                return False
            if store.records_access:
                store.record_access(rest, entry)
            self._reply_values([entry], line_end)
            self.counters.cmd_get += 1
            self.counters.get_hits += 1
            return True
        if command == b"PUT" and self._put(rest):
            self.out += (STORED, line_end)
            self.counters.cmd_set += 1
            return True
        return False

    def _run_lines(self, lines: list[bytes], line_end: bytes) -> int:
        """Carry out lines of printable ASCII up to the first that is not in its common form; return their number."""
        store, tables, mask = self.store, self.store.tables, self.store.mask
        found: list[bytes] = []
        answered = others = puts = 0
        for line in lines:
            command, _, rest = line.partition(b" ")
            if command == b"GET":
                entry = tables[hash(rest) & mask].get(rest)
                if entry.__class__ is bytes and entry[-1] == PLAIN:
                    if store.records_access:
                        store.record_access(rest, entry)
                    found.append(entry)
                    continue
                if found:
                    answered += self._reply_values(found, line_end)
                    found = []
                if not self._get(rest, line_end):
                    break
                others += 1
            elif command == b"PUT" and self._put(rest):
                found.append(STORED_ENTRY)
                puts += 1
            else:
                break
        if found:
            answered += self._reply_values(found, line_end)
        if answered > puts:
            self.counters.cmd_get += answered - puts
            self.counters.get_hits += answered - puts
        self.counters.cmd_set += puts
        return answered + others

    def _reply_values(self, entries: list[bytes], line_end: bytes) -> int:
        """Reply to GETs with the values of these entries, all checked at once; return their number."""
        if len(entries) == 1:
            value = text = entries[0][OFFSETS[len(entries[0])] : -2]
        else:
            values = [entry[OFFSETS[len(entry)] : -2] for entry in entries]
            value, text = SEPARATORS[line_end].join(values), b"".join(values)
        if text.translate(ONLY_WORDS) == text:
            self.out += (FOUND, value, line_end)
        else:
            self.out += [piece for entry in entries for piece in (value_reply(entry), line_end)]
        return len(entries)

    def _get(self, key: bytes, line_end: bytes) -> bool:
        """Reply to a GET of a key without a plain entry. Return False, doing nothing, for another form."""
        if SPACE in key or not 0 < len(key) <= WORD_LIMIT_BYTES:
            return False
        entry = self.store.get(key)
        if entry is None:
            self.out += (KEY_NOT_FOUND, line_end)
            self.counters.cmd_get += 1
            self.counters.get_misses += 1
        elif isinstance(entry, bytes):
            self._reply_values([wire_bytes_of(entry)], line_end)
            self.counters.cmd_get += 1
            self.counters.get_hits += 1
        else:
            return False
        return True

    def _put(self, rest: bytes) -> bool:
        """Store a value; rest: the words after the command. Return False, doing nothing, for another form."""
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
        try:
            self.store.put(key, b"".join((HEADS[size], value, entry_end)))
        except WritesRejected:
            return False  # the general path raises it again and replies
        return True


def printable(lines: list[bytes]) -> list[bytes]:
    """Return the lines up to the first that has other bytes than printable ASCII."""
    return list(takewhile(lambda line: line.translate(ONLY_PRINTABLE) == line, lines))
