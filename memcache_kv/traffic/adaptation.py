"""What has to be changed in a recorded request before another server gets it: CAS ids, and absolute expiry times."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from memcache_kv.protocol.binary.frames import HEAD_BYTES, REQUEST_MAGIC
from memcache_kv.traffic.text_requests import STORING_COMMANDS
from memcache_kv.traffic.wire import WireRequest

LONGEST_RELATIVE_SECONDS = 60 * 60 * 24 * 30
"""An expiry time above this is a unix time."""
LATEST_EXPIRY = (1 << 31) - 1
CAS_WORD = 5
NEVER_GIVEN = 1 << 62
"""No server gets so far with its CAS ids."""
EXPIRY_WORDS = {
    **dict.fromkeys((word.decode() for word in STORING_COMMANDS), 3),
    "touch": 2,
    "gat": 1,
    "gats": 1,
    "flush_all": 1,
}
"""Which word of a text command is an expiry time."""
EXPIRY_FLAGS = b"TNR"
EXPIRY_EXTRAS = {
    ("set", 8): 4,
    ("add", 8): 4,
    ("replace", 8): 4,
    ("cas", 8): 4,
    ("touch", 4): 0,
    ("gat", 4): 0,
    ("flush_all", 4): 0,
    ("incr", 20): 16,
    ("decr", 20): 16,
}
"""Where in a packet's extras, by command and their length, the four bytes of an expiry time are."""
CREATES_NOTHING = 0xFFFFFFFF
"""As the expiry time of the binary incr and decr: a missing item is not made."""
_CAS_AT = HEAD_BYTES - 8
_WORD = re.compile(rb"[^ \r\n]+")

Change: TypeAlias = Callable[[bytes], bytes]


class CasIds:
    """Which CAS id of the other server stands for which recorded one, of each key."""

    def __init__(self) -> None:
        self._others: dict[tuple[bytes, int], int] = {}
        self._recorded: dict[tuple[bytes, int], int] = {}

    def other(self, key: bytes, recorded: int) -> int:
        """Return the other server's id for a recorded one.

        For a number that no reply had, it is the same number, or one far above if the other server gave that number to
        an item of this key: a client that guessed wrong must do so again.
        """
        guess = recorded if (key, recorded) not in self._recorded else recorded | NEVER_GIVEN
        return self._others.get((key, recorded), guess)

    def match(self, key: bytes, recorded: int, other: int) -> bool:
        """Note that both servers gave these ids, and tell whether that fits what they gave before.

        The same recorded id must meet the same other one, and a new one a new one.
        """
        if not recorded or not other:
            return recorded == other
        fits = (
            self._others.get((key, recorded), other) == other and self._recorded.get((key, other), recorded) == recorded
        )
        self._others[key, recorded] = other
        self._recorded[key, other] = recorded
        return fits


def adapted(request: WireRequest, ids: CasIds, shift: int) -> bytes:
    """Return a request's bytes for the other server.

    shift: how many seconds later than in the recording it is asked; absolute expiry times move by as many.
    """
    if request.data[:1] == bytes([REQUEST_MAGIC]):
        return _adapted_packet(request, ids, shift)
    line, end, rest = request.data.partition(b"\n")
    return _adapted_line(request, line, ids, shift) + end + rest


def _moved(number: int, shift: int) -> int:
    """Return an expiry time, moved if it is a unix time."""
    return min(number + shift, LATEST_EXPIRY) if LONGEST_RELATIVE_SECONDS < number <= LATEST_EXPIRY else number


def _adapted_line(request: WireRequest, line: bytes, ids: CasIds, shift: int) -> bytes:
    def change_expiry(word: bytes) -> bytes:
        return b"%d" % _moved(int(word), shift) if word.isdigit() else word

    def change_cas(word: bytes) -> bytes:
        return b"%d" % ids.other(request.keys[0], int(word)) if word.isdigit() else word

    if request.command in ("mg", "ms", "md", "ma"):
        return _with_flags(line, change_expiry, change_cas)
    line = _with_word(line, EXPIRY_WORDS.get(request.command), change_expiry)
    return _with_word(line, CAS_WORD, change_cas) if request.command == "cas" and request.keys else line


def _with_word(line: bytes, place: int | None, change: Change) -> bytes:
    """Return a line with one of its words changed, if it is there."""
    words = list(_WORD.finditer(line))
    if place is None or place >= len(words):
        return line
    start, stop = words[place].span()
    return line[:start] + change(line[start:stop]) + line[stop:]


def _with_flags(line: bytes, change_expiry: Change, change_cas: Change) -> bytes:
    """Return the line of a meta command with its flags changed that have an expiry time or a CAS id."""
    for place, word in enumerate(_WORD.findall(line)[2:], 2):
        change = change_cas if word[:1] == b"C" else change_expiry if word[:1] in EXPIRY_FLAGS else None
        if change is not None:
            line = _with_word(line, place, partial(_behind_the_letter, change))
    return line


def _behind_the_letter(change: Change, flag: bytes) -> bytes:
    return flag[:1] + change(flag[1:])


def _adapted_packet(request: WireRequest, ids: CasIds, shift: int) -> bytes:
    data = bytearray(request.data)
    cas = int.from_bytes(data[_CAS_AT:HEAD_BYTES], "big")
    if cas and request.keys:
        data[_CAS_AT:HEAD_BYTES] = ids.other(request.keys[0], cas).to_bytes(8, "big")
    place = EXPIRY_EXTRAS.get((request.command, data[4]))
    if place is not None:
        start = HEAD_BYTES + place
        number = int.from_bytes(data[start : start + 4], "big")
        if number != CREATES_NOTHING:
            data[start : start + 4] = _moved(number, shift).to_bytes(4, "big")
    return bytes(data)
