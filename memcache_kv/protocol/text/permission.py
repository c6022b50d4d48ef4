"""Whether a client may use a text command, and what is answered if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.protocol.command_classes import admin_report, class_in_text
from memcache_kv.protocol.numbers import signed32
from memcache_kv.protocol.replies import LARGEST_LENGTH

if TYPE_CHECKING:
    from memcache_kv.protocol.text.responder import TextResponder

LENGTH_WORDS = {b"ms": 2, b"config": 4} | dict.fromkeys((b"set", b"add", b"replace", b"append", b"prepend", b"cas"), 4)
"""Commands with a data block, and which of their words is its length."""
WITHOUT_NOREPLY = frozenset((b"mg", b"ms", b"md", b"ma", b"gat", b"gats", b"stats", b"watch"))


def is_admitted(protocol: TextResponder, words: list[bytes]) -> bool:
    """Return whether the client may use a command, and write an admin command to the audit log.

    If not, answer that in memcached's form for what a flag turns off, and ignore the data block.
    """
    command_class = class_in_text(words)
    if protocol.admits(command_class, lambda: b" ".join(words)):
        return True
    name = words[0]
    protocol.noreply = name not in WITHOUT_NOREPLY and words[-1] == b"noreply"
    protocol.reply(b"CLIENT_ERROR " + _refused(words) + b" not allowed")
    place = LENGTH_WORDS.get(name, len(words))
    if place < len(words):
        length = signed32(words[place])
        if length is not None and 0 <= length <= LARGEST_LENGTH:
            protocol.swallow(length)
    return False


def _refused(words: list[bytes]) -> bytes:
    """Return what is not allowed, in memcached's words where it has some."""
    name = words[0]
    if name == b"stats":
        return b"stats " + admin_report(words[1])
    if name == b"config":
        return b" ".join(words[:2])
    if name == b"watch":
        return b"watch commands"
    if name == b"mg":
        return b"mg with a flag that changes the item"
    return name
