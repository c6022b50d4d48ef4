"""What is not compared, and why: each purposeful difference with the narrowest mask, and the CAS ids by pattern."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.differential.words import ENCODED, LITERAL_CAS, SHARED


class Difference(NamedTuple):
    """A purposeful difference: what it is, why it stays, and how the comparison passes over it."""

    name: str
    reason: str
    handling: str


DIFFERENCES = (
    Difference(
        "a get with a key of 251 bytes",
        "memcached sends an empty line behind the error, which a client takes for the next reply",
        "the empty line is dropped from memcached's reply",
    ),
    Difference(
        "a get with a key of 251 bytes behind other keys, or before the key `noreply`",
        "memcached has fetched and touched those before it; of the reply it leaves the empty line alone",
        "the long key comes first and the other is left away",
    ),
    Difference(
        "ms with E whose data block is bad, or whose opaque is too long",
        "memcached gives the id to what is stored next on the connection",
        "not generated",
    ),
    Difference(
        "a get with a key of 251 bytes, pipelined",
        "memcached drops replies before it that have not left",
        "such a request is sent when all before it is answered",
    ),
    Difference(
        "incr and decr while a reply with the same item waits to be sent",
        "memcached then stores the new number without the spaces that keep its length",
        "such a request is sent when all before it is answered",
    ),
    Difference(
        "incr of a value that is nothing but white space",
        "memcached reads on into what lies behind it in memory",
        "no such value is generated",
    ),
    Difference(
        "flags or an exptime of a set that is white space alone",
        "memcached reads on into the next word",
        "no such word is generated",
    ),
    Difference(
        "when replies leave that have a data block behind them",
        "memcached keeps them until the block has come",
        "all of a batch is sent before its replies are read",
    ),
    Difference(
        "the time of the last access (`l`, `la=`)",
        "memcached moves it only when its LRU moves the item",
        "the number is masked",
    ),
    Difference(
        "`h` of what was stored before anybody asked for `h` or `l`",
        "keeping it costs 100 bytes an item; who does not use it does not pay",
        "each server is asked once before the first stream",
    ),
    Difference(
        "`me` with `b` alone", "memcached counts the words wrongly and does not decode the key", "not generated"
    ),
    Difference(
        "flush_all with a time before the server began",
        "memcached then forgets nothing; ours all, as with a negative time",
        "not generated",
    ),
    Difference("`cls=` and `size=` of me", "there are no slabs", "the numbers are masked"),
    Difference(
        "`t` of an item given a time that is already past",
        "memcached prints the negative number as one of 32 bits without a sign",
        "a number above 2^31 of memcached's counts as 0",
    ),
    Difference("`E0`", "an item without a CAS id can't be told from one nobody asked the id of", "not generated"),
    Difference(
        "the key in replies about an item that was stored under an encoded key and asked for plainly, or the reverse",
        "ours answers in the form asked for, memcached in the form stored",
        "an encoded key that also has a plain form counts as the plain one, one that has none as the encoded one",
    ),
    Difference(
        "`ma` with T or E where the number grows in length",
        "memcached changes the copy that it lets go of, so that they are lost",
        "not generated but for numbers that can't grow",
    ),
    Difference(
        "flush_all with a delay, and what is stored in its last second",
        "memcached takes that too; it would be one comparison more for each read",
        "time never stops in that second",
    ),
    Difference(
        "flush_all with a delay after one that took effect",
        "memcached brings back what it has not yet removed",
        "not generated",
    ),
    Difference(
        "flush_all after reads in the same second",
        "memcached keeps items that were read twice and stand behind older ones in its list",
        "an immediate flush comes first in a second of its own",
    ),
)

_ID = re.compile(rb"c(\d+)")
_TIME = re.compile(rb"t(\d+)")
_ACCESS = re.compile(rb"l\d+")
_FACTS = ((re.compile(rb" la=\d+"), b" la=#"), (re.compile(rb" cls=\d+ size=\d+"), b" cls=# size=#"))
_CAS_FACT = re.compile(rb" cas=(\d+)")
_VALUE = re.compile(rb"VALUE (\S+) (\d+) (\d+)( \d+)?\r\n")
_META = re.compile(rb"(?:VA (\d+)|HD|EN|NF|NS|EX)((?: [^ \r\n]\S*)*)\r\n")


class Normaliser:
    """One side's replies in the form that is compared.

    ids: every CAS id seen so far on this side, in the order of their first appearance; those that a client gave
    stay as they are.
    """

    def __init__(self, is_memcached: bool) -> None:
        self.is_memcached = is_memcached
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
            return self._facts(line), 0
        return line, 0

    def _flag(self, flag: bytes) -> bytes:
        if match := _ID.fullmatch(flag):
            return b"c" + self._name(int(match[1]))
        if _ACCESS.fullmatch(flag):
            return b"l#"
        match = _TIME.fullmatch(flag)
        if match and self.is_memcached and int(match[1]) >= 1 << 31:
            return b"t0"
        return flag

    def _facts(self, line: bytes) -> bytes:
        words = line.split(b" ")
        line = b" ".join([words[0], SHARED.get(words[1], words[1]), *words[2:]])
        for pattern, replacement in _FACTS:
            line = pattern.sub(replacement, line)
        return _CAS_FACT.sub(lambda match: b" cas=" + self._name(int(match[1])), line)

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


__all__ = ["DIFFERENCES", "Difference", "Normaliser"]
