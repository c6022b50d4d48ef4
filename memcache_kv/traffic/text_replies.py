"""The forms of the replies of the text and meta protocols: how they begin, and where they end.

Blocks of data are skipped by their byte count, so data that happens to contain `END` ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from memcache_kv.traffic.wire import Silence

ERROR_HEADS = frozenset((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR"))
ANY_NUMBER = b"0"
"""Stands for any number as the first word of a reply."""
_HEAD_OF_LINE = re.compile(rb"[A-Za-z_]+|([0-9])")
BLOCK_BYTES_AT = {b"VALUE": 3, b"CONFIG": 3, b"VA": 1}
"""The first words of lines with a data block, and which word has its length."""


class ReplyForm(NamedTuple):
    """How the replies to a command look.

    lasts: the first words of the last line of a reply, besides those of errors; empty if it may be any. goes_on: the
    first words of lines after which more lines follow. hidden: the ones of `lasts` that a quiet request does not get.
    """

    lasts: frozenset[bytes] = frozenset()
    goes_on: frozenset[bytes] = frozenset()
    hidden: frozenset[bytes] = frozenset()


def _form(lasts: str, goes_on: str = "", hidden: str = "") -> ReplyForm:
    return ReplyForm(*(frozenset(words.encode().split()) for words in (lasts, goes_on, hidden)))


ANY_LINE = ReplyForm()
_RETRIEVED = _form("END", "VALUE")
_STORED = _form("STORED NOT_STORED EXISTS NOT_FOUND")
_COUNTED = ReplyForm(frozenset((ANY_NUMBER, b"NOT_FOUND")))
REPLY_FORMS: dict[str, ReplyForm] = {
    **dict.fromkeys(("get", "gets", "gat", "gats"), _RETRIEVED),
    **dict.fromkeys(("set", "add", "replace", "append", "prepend", "cas"), _STORED),
    **dict.fromkeys(("incr", "decr"), _COUNTED),
    "delete": _form("DELETED NOT_FOUND"),
    "touch": _form("TOUCHED NOT_FOUND"),
    "mg": _form("VA HD EN", hidden="EN"),
    "ms": _form("HD NS EX NF", hidden="HD"),
    "md": _form("HD NF EX NS", hidden="HD"),
    "ma": _form("VA HD NF NS EX", hidden="VA HD"),
    "me": _form("ME EN"),
    "mn": _form("MN"),
    "version": _form("VERSION"),
    "stats": _form("END RESET OK", "STAT ITEM PREFIX"),
    "config": ReplyForm(goes_on=frozenset((b"CONFIG",))),
}
"""Of all other commands, the reply is one line of any form."""
DUMPED = ReplyForm(goes_on=frozenset((b"OK", b"key", b"mg")))
"""The reply to lru_crawler metadump and mgdump. That of memcached may begin with OK."""


class TextReply:
    """The reply to one request, in text.

    tokens: the fields that the reply repeats, with their letters (`O1`, `kname`); may_fail: whether a quiet request may
    be answered with an error.
    """

    __slots__ = ("silence", "_form", "_tokens", "_may_fail", "_at")

    def __init__(
        self,
        form: ReplyForm,
        silence: Silence = Silence.NEVER,
        tokens: Iterable[bytes] = (),
        may_fail: bool = True,
    ) -> None:
        self.silence = silence
        self._form = form
        self._tokens = {token[:1]: token for token in tokens}
        self._may_fail = may_fail
        self._at = 0

    def fits(self, arrived: bytearray) -> bool | None:
        """Tell whether the first line may be one of this reply; None until the line is complete."""
        stop = arrived.find(b"\n")
        if stop < 0:
            return None
        line = bytes(arrived[:stop])
        head, form = head_of(line), self._form
        if self.silence is Silence.SOMETIMES and head == b"ERROR":  # the reply to a command that is not known
            return head in form.lasts
        if head in ERROR_HEADS:
            return self._may_fail or self.silence is Silence.NEVER
        if self.silence is Silence.SOMETIMES and head in form.hidden:
            return False
        return (not form.lasts or head in form.lasts or head in form.goes_on) and self._repeats(head, line)

    def _repeats(self, head: bytes, line: bytes) -> bool:
        """Tell whether the line repeats what the request asked it to; a miss need not, in older versions."""
        fields = {word[:1]: word for word in line.split()[1:]} if self._tokens else {}
        return all(
            fields.get(letter, token if head == b"EN" else b"") == token for letter, token in self._tokens.items()
        )

    def end(self, arrived: bytearray) -> int | None:
        """Return the reply's length; None while it is not complete. What was looked at is not looked at again."""
        goes_on = self._form.goes_on
        while (stop := arrived.find(b"\n", self._at)) >= 0:
            line = bytes(arrived[self._at : stop])
            after = stop + 1 + block_bytes(line)
            if after > len(arrived):
                return None
            if head_of(line) not in goes_on:
                return after
            self._at = after
        return None


def head_of(line: bytes) -> bytes:
    """Return what a line of a reply begins with: a word, or ANY_NUMBER for a number."""
    found = _HEAD_OF_LINE.match(line)
    return b"" if found is None else ANY_NUMBER if found[1] else found[0]


def block_bytes(line: bytes) -> int:
    """Return how many bytes of data follow a line of a reply, with their line end."""
    words = line.split()
    position = BLOCK_BYTES_AT.get(words[0] if words else b"")
    if position is None or len(words) <= position or not words[position].isdigit():
        return 0
    return int(words[position]) + 2
