"""What is compared of a reply: the intended differences are masked, and CAS ids count by the order in which they came.

The masks, and the lines that are not sent at all, are those of tests/reference/differences.toml.
"""

import re
from collections.abc import Iterable, Iterator

from tests.differential.words import ENCODED, LITERAL_CAS, SHARED
from tests.reference.differences import ROWS, Mask

Masks = list[tuple[re.Pattern[bytes], bytes]]


def compiled(masks: Iterable[Mask]) -> Masks:
    """Make masks for bytes."""
    return [(re.compile(mask.pattern.encode()), mask.replacement.encode()) for mask in masks]


MASKS = compiled(mask for row in ROWS for mask in row.mask)
MASKS_OF_MEMCACHED = MASKS + compiled(mask for row in ROWS for mask in row.mask_of_memcached)
_OMITTED = [re.compile(row.omit.encode()) for row in ROWS if row.omit]


def is_omitted(line: bytes) -> bool:
    """Whether a request with this line is one that memcached answers otherwise on purpose."""
    return any(pattern.search(line) for pattern in _OMITTED)


_ID = re.compile(rb"c(\d+)")
_CAS_OF_ME = re.compile(rb"cas=(\d+)")
_VALUE = re.compile(rb"VALUE (\S+) (\d+) (\d+)( \d+)?\r\n")
_META = re.compile(rb"(?:VA (\d+)|HD|EN|NF|NS|EX)((?: [^ \r\n]\S*)*)\r\n")


class Normaliser:
    """One side's replies in the form that is compared.

    ids: every CAS id seen so far on this side, in the order of their first appearance; those that a client gave
    stay as they are.
    """

    def __init__(self, is_memcached: bool) -> None:
        self.is_memcached = is_memcached
        self.masks = MASKS_OF_MEMCACHED if is_memcached else MASKS
        self.ids: list[int] = []

    def __call__(self, reply: bytes) -> bytes:
        """Normalise the replies to one batch."""
        if self.is_memcached:
            for key, encoded in ENCODED.items():
                reply = reply.replace(b" k" + key, b" k" + encoded + b" b").replace(b"ME " + key, b"ME " + encoded)
        return b"".join(self._pieces(reply))

    def _pieces(self, reply: bytes) -> Iterator[bytes]:
        position = 0
        while position < len(reply):
            end = reply.find(b"\n", position) + 1 or len(reply)
            line = reply[position:end]
            text, length = self._line(line)
            if self.is_memcached and line == b"\r\n" and reply[:position].endswith(b"bad command line format\r\n"):
                text = b""
            yield text
            yield reply[end : end + length]
            position = end + length

    def _line(self, line: bytes) -> tuple[bytes, int]:
        """One line normalised, and the length of the data block behind it."""
        if value := _VALUE.fullmatch(line):
            cas = b" " + self._name(int(value[4])) if value[4] else b""
            return line[: value.end(3)] + cas + b"\r\n", int(value[3]) + 2
        if meta := _META.fullmatch(line):
            flags = [self._flag(flag) for flag in line[:-2].split(b" ")[2 if meta[1] else 1 :]]
            words = line[:-2].split(b" ")[: 2 if meta[1] else 1]
            return _with_plain_keys(b" ".join(words + flags)) + b"\r\n", int(meta[1]) + 2 if meta[1] else 0
        if line.startswith(b"ME "):
            return self._metadata(line), 0
        return line, 0

    def _flag(self, flag: bytes) -> bytes:
        if match := _ID.fullmatch(flag):
            return b"c" + self._name(int(match[1]))
        return self._masked(flag)

    def _metadata(self, line: bytes) -> bytes:
        """The line of `me`."""
        words = line[:-2].split(b" ")
        masked = [
            b"cas=" + self._name(int(match[1])) if (match := _CAS_OF_ME.fullmatch(word)) else self._masked(word)
            for word in words[2:]
        ]
        return b" ".join([words[0], SHARED.get(words[1], words[1]), *masked]) + b"\r\n"

    def _masked(self, word: bytes) -> bytes:
        for pattern, replacement in self.masks:
            if pattern.fullmatch(word):
                return replacement
        return word

    def _name(self, cas: int) -> bytes:
        if cas == 0 or cas >= LITERAL_CAS:
            return b"%d" % cas
        if cas not in self.ids:
            self.ids.append(cas)
        return b"#%d" % self.ids.index(cas)


def _with_plain_keys(line: bytes) -> bytes:
    for encoded, key in SHARED.items():
        line = re.sub(rb" k" + re.escape(encoded) + rb" b(?= |$)", b" k" + key, line)
    return line


__all__ = ["Normaliser", "is_omitted"]
