"""The classic text commands. Each function takes the connection's protocol and the words of the command line.

The checks, the places where `noreply` may stand and the reply texts are those of memcached 1.6.45. protocol.txt
describes what each command does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memcache_kv.commands import arithmetic
from memcache_kv.commands import delete as deletion
from memcache_kv.commands import touch as touching
from memcache_kv.commands.arithmetic import Arithmetic
from memcache_kv.commands.delete import Deletion
from memcache_kv.commands.discovery import CLUSTER_KEY
from memcache_kv.commands.store_value import accepts_size, store_value
from memcache_kv.protocol.meta import commands
from memcache_kv.protocol.numbers import signed32, stored_exptime, stored_flags, unsigned64
from memcache_kv.protocol.replies import (
    BAD_EXPTIME,
    BAD_FORMAT,
    KEY_LIMIT_BYTES,
    LARGEST_LENGTH,
    NON_NUMERIC,
    OUT_OF_MEMORY,
    TOO_LARGE,
)
from memcache_kv.protocol.text import admin, watch
from memcache_kv.protocol.text.permission import is_admitted
from memcache_kv.stats.counters import Counters
from memcache_kv.store.writes import Mode, Outcome, Write
from memcache_kv.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from memcache_kv.commands.retrieve import Finder
    from memcache_kv.protocol.text.responder import Handler, KeyedHandler, KeyedResponder, TextResponder


STORED_REPLIES = {
    Outcome.STORED: b"STORED",
    Outcome.NOT_STORED: b"NOT_STORED",
    Outcome.EXISTS: b"EXISTS",
    Outcome.NOT_FOUND: b"NOT_FOUND",
    Outcome.NO_MEMORY: OUT_OF_MEMORY,
}

WORDS_LIMIT = 23
"""memcached ignores further words of a line, except for the keys of a get."""


def dispatch(protocol: TextResponder, line: bytes) -> None:
    """Carry out one command line, given without its line end."""
    words = line.split(b" ")
    first = words[0]
    if b"" in words:
        words = [word for word in words if word]
    if len(words) > WORDS_LIMIT and first not in RETRIEVAL:
        del words[WORDS_LIMIT:]
    if first in KEYED:
        handler, fewest = KEYED[first]
        if len(words) < fewest:
            protocol.reply(BAD_FORMAT)
        elif first not in protocol.checked_commands or is_admitted(protocol, words):
            handler(protocol, words)
    elif first in KEYLESS:
        if first not in protocol.checked_commands or is_admitted(protocol, words):
            KEYLESS[first](protocol, words)
    else:
        protocol.noreply = words[-1:] == [b"noreply"]
        known = admin.command(words[0], protocol.context) if words else None
        if known is not None:
            if words[0] not in protocol.checked_commands or is_admitted(protocol, words):
                known(protocol, words)
        elif len(words) > 1 and words[-1].startswith(b"HTTP/"):
            protocol.closing = True
        else:
            protocol.reply(b"ERROR")


# Retrieval


def get(protocol: KeyedResponder, words: list[bytes]) -> None:
    """get <key>*; one key alone stands for the cluster's configuration, if there is one."""
    configuration = protocol.configuration if len(words) == 2 and words[1] == CLUSTER_KEY else None
    if configuration is None:
        _retrieve(protocol, words, protocol.store.get, False)
    else:
        protocol.answer_get(words[1:], lambda key: configuration, False, Counters.count_gets)


def gets(protocol: KeyedResponder, words: list[bytes]) -> None:
    """gets <key>*"""
    _retrieve(protocol, words, protocol.store.gets, True)


def _retrieve(protocol: KeyedResponder, words: list[bytes], find: Finder, with_cas: bool) -> None:
    del words[0]
    if max(map(len, words)) > KEY_LIMIT_BYTES:
        protocol.reply(BAD_FORMAT)
    else:
        protocol.answer_get(words, find, with_cas, Counters.count_gets)


def gat(protocol: KeyedResponder, words: list[bytes]) -> None:
    """gat <exptime> <key>*"""
    _retrieve_and_touch(protocol, words, False)


def gats(protocol: KeyedResponder, words: list[bytes]) -> None:
    """gats <exptime> <key>*"""
    _retrieve_and_touch(protocol, words, True)


def _retrieve_and_touch(protocol: KeyedResponder, words: list[bytes], with_cas: bool) -> None:
    exptime, keys = signed32(words[1]), words[2:]
    if exptime is None:
        protocol.reply(BAD_EXPTIME)
    elif max(map(len, keys)) > KEY_LIMIT_BYTES:
        protocol.reply(BAD_FORMAT)
    else:
        deadline = protocol.store.deadline(exptime)
        find = partial(protocol.store.touch, deadline=deadline, with_cas=with_cas)
        protocol.answer_get(keys, find, with_cas, Counters.count_touches)


# Storage


def _storage(mode: Mode) -> KeyedHandler:
    def handler(protocol: KeyedResponder, words: list[bytes]) -> None:
        _storage_command(protocol, words, mode)

    return handler


def _storage_command(protocol: KeyedResponder, words: list[bytes], mode: Mode) -> None:
    """<command> <key> <flags> <exptime> <bytes> [<cas unique>] [noreply], followed by the data block."""
    length = signed32(words[4])
    if length is None or not 0 <= length <= LARGEST_LENGTH:
        protocol.reply(BAD_FORMAT)
        return
    protocol.noreply = words[-1] == b"noreply"
    key, flags, exptime = words[1], stored_flags(words[2]), stored_exptime(words[3])
    cas = (unsigned64(words[5]) if len(words) > 5 else None) if mode is Mode.CAS else 0
    if len(key) > KEY_LIMIT_BYTES or flags is None or exptime is None or cas is None:
        protocol.reply(BAD_FORMAT)
        protocol.swallow(length)
    elif not accepts_size(protocol, mode, key, length, flags):
        protocol.reply(TOO_LARGE)
        protocol.swallow(length)
    else:
        deadline = protocol.store.deadline(exptime)
        protocol.expect_block(flags, length, partial(_store_block, protocol, mode, key, deadline, cas))


def _store_block(protocol: KeyedResponder, mode: Mode, key: bytes, deadline: int, cas: int, wire_bytes: bytes) -> None:
    outcome, _ = store_value(protocol, Write(mode, key, wire_bytes, deadline, cas))
    protocol.reply(STORED_REPLIES[outcome])


# Changes to existing items


def delete(protocol: KeyedResponder, words: list[bytes]) -> None:
    """delete <key> [noreply]; other words are ignored."""
    if not _take_key(protocol, words):
        return
    outcome = deletion.delete(protocol, Deletion(words[1]))
    protocol.reply(b"DELETED" if outcome is Outcome.DELETED else b"NOT_FOUND")


def incr(protocol: KeyedResponder, words: list[bytes]) -> None:
    """incr <key> <value> [noreply]"""
    _count(protocol, words, is_up=True)


def decr(protocol: KeyedResponder, words: list[bytes]) -> None:
    """decr <key> <value> [noreply]"""
    _count(protocol, words, is_up=False)


def _count(protocol: KeyedResponder, words: list[bytes], is_up: bool) -> None:
    if not _take_key(protocol, words):
        return
    amount = unsigned64(words[2])
    if amount is None:
        protocol.reply(b"CLIENT_ERROR invalid numeric delta argument")
        return
    counted = arithmetic.count(protocol, Arithmetic(words[1], amount, is_up))
    if counted.outcome is Outcome.STORED:
        protocol.reply(b"%d" % counted.number)
    else:
        protocol.reply(NON_NUMERIC if counted.outcome is Outcome.NON_NUMERIC else b"NOT_FOUND")


def touch(protocol: KeyedResponder, words: list[bytes]) -> None:
    """touch <key> <exptime> [noreply]"""
    if not _take_key(protocol, words):
        return
    exptime = signed32(words[2])
    if exptime is None:
        protocol.reply(BAD_EXPTIME)
        return
    found = touching.touch(protocol, words[1], protocol.store.deadline(exptime))
    protocol.reply(b"TOUCHED" if found else b"NOT_FOUND")


def _take_key(protocol: KeyedResponder, words: list[bytes]) -> bool:
    """Check for noreply, and check the key's length. If the key is too long, reply with an error and return False."""
    protocol.noreply = words[-1] == b"noreply"
    if len(words[1]) <= KEY_LIMIT_BYTES:
        return True
    protocol.reply(BAD_FORMAT)
    return False


# The server


def version(protocol: TextResponder, words: list[bytes]) -> None:
    """version"""
    protocol.reply(b"VERSION " + PROTOCOL_VERSION.encode())


def quit_(protocol: TextResponder, words: list[bytes]) -> None:
    """quit"""
    protocol.close_reason = "normal"
    protocol.closing = True


RETRIEVAL = frozenset((b"get", b"gets", b"gat", b"gats"))

KEYED: dict[bytes, tuple[KeyedHandler, int]] = {
    b"get": (get, 2),
    b"gets": (gets, 2),
    b"gat": (gat, 3),
    b"gats": (gats, 3),
    b"set": (_storage(Mode.SET), 5),
    b"add": (_storage(Mode.ADD), 5),
    b"replace": (_storage(Mode.REPLACE), 5),
    b"append": (_storage(Mode.APPEND), 5),
    b"prepend": (_storage(Mode.PREPEND), 5),
    b"cas": (_storage(Mode.CAS), 5),
    b"delete": (delete, 2),
    b"incr": (incr, 3),
    b"decr": (decr, 3),
    b"touch": (touch, 3),
    b"mg": (commands.mg, 2),
    b"ms": (commands.ms, 3),
    b"md": (commands.md, 2),
    b"ma": (commands.ma, 2),
    b"me": (commands.me, 2),
}
"""Commands with a key: the handler and the smallest number of words."""

KEYLESS: dict[bytes, Handler] = {
    b"version": version,
    b"quit": quit_,
    b"stats": admin.stats,
    b"mn": commands.mn,
    b"watch": watch.watch,
}
