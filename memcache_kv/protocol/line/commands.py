"""The commands of the line protocol. Each takes the words of its line and returns the reply without its line end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from memcache_kv.auth.access import CommandClass
from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.commands.retrieve import fetch
from memcache_kv.commands.store_value import store_value
from memcache_kv.protocol.responder import Responder
from memcache_kv.store.entry import LONGEST_KEY_BYTES, STALE, Entry, pack, state_of, value_of, wire_bytes_of
from memcache_kv.store.writes import Mode, Outcome, Write

WORD_LIMIT_BYTES = LONGEST_KEY_BYTES
"""The longest key, and the longest value."""
LARGEST_TTL = (1 << 31) - 1
TTL_DIGITS = 10
"""The most digits of a ttl, leading zeros included."""

STORED = b"OK stored"
DELETED = b"OK deleted"
KEY_NOT_FOUND = b"ERROR key not found"
EXISTS_REPLIES = (b"OK 0", b"OK 1")

WORD = b"1 to %d printable ASCII characters without white space" % WORD_LIMIT_BYTES
INVALID_KEY = b"ERROR bad key; allowed: " + WORD
INVALID_VALUE = b"ERROR bad value; allowed: " + WORD
INVALID_TTL = b"ERROR bad ttl; allowed: seconds from 0 to %d, 0 for no limit" % LARGEST_TTL
STALE_VALUE = b"ERROR the value is stale; only memcached's protocols can read it"
UNPRINTABLE_VALUE = b"ERROR the value has white space or is not printable ASCII; only memcached's protocols can read it"
NO_MEMORY = b"ERROR out of memory; nothing is evicted, so something must be deleted first"
NOT_SAVED = b"ERROR not saved, as the journal can't be written; allowed until it can: GET, EXISTS, QUIT"
LOGIN_REQUIRED = b"ERROR authentication required"

is_word = re.compile(rb"[!-~]{1,%d}" % WORD_LIMIT_BYTES).fullmatch
"""Match a key or a value that the protocol can carry."""


class LineCommand(NamedTuple):
    """A command: what carries it out, the numbers of words it takes, its form, and its class."""

    carry_out: Callable[[Responder, list[bytes]], bytes]
    counts: tuple[int, ...]
    form: bytes
    command_class: CommandClass


def carry_out(responder: Responder, line: bytes, allowed: CommandClass) -> bytes:
    """Carry out one line, given without its line end; return the reply, empty after QUIT. Raises WritesRejected.

    allowed: the highest class of commands that the client may use.
    """
    words = [word for word in line.split(b" ") if word]
    command = LINE_COMMANDS.get(words[0]) if words else None
    if command is None:
        what = b"unknown command" if words else b"empty line"
        return b"ERROR " + what + b"; allowed: " + forms_of(CommandClass.ADMIN)
    if command.command_class > allowed:
        return b"ERROR " + words[0] + b" not allowed here; allowed: " + forms_of(allowed)
    if len(words) not in command.counts:
        return b"ERROR wrong number of words; allowed: " + command.form
    if len(words) > 1 and not is_word(words[1]):
        return INVALID_KEY
    return command.carry_out(responder, words)


def forms_of(allowed: CommandClass) -> bytes:
    """Return the forms of the commands up to a class."""
    return b", ".join(command.form for command in LINE_COMMANDS.values() if command.command_class <= allowed)


def put(responder: Responder, words: list[bytes]) -> bytes:
    """PUT key value [ttl]"""
    value, ttl = words[2], words[3] if len(words) > 3 else b"0"
    if not is_word(value):
        return INVALID_VALUE
    if not ttl.isdigit() or len(ttl) > TTL_DIGITS or int(ttl) > LARGEST_TTL:
        return INVALID_TTL
    deadline = responder.store.clock.now + int(ttl) if int(ttl) else 0
    outcome, _ = store_value(responder, Write(Mode.SET, words[1], pack(0, value), deadline))
    return STORED if outcome is Outcome.STORED else NO_MEMORY


def get(responder: Responder, words: list[bytes]) -> bytes:
    """GET key"""
    entry = _found(responder, words[1])
    return KEY_NOT_FOUND if entry is None else value_reply(entry)


def exists(responder: Responder, words: list[bytes]) -> bytes:
    """EXISTS key. It counts as a get."""
    return EXISTS_REPLIES[_found(responder, words[1]) is not None]


def delete_key(responder: Responder, words: list[bytes]) -> bytes:
    """DELETE key"""
    outcome = delete(responder, Deletion(words[1]))
    return DELETED if outcome is Outcome.DELETED else KEY_NOT_FOUND


def quit_connection(responder: Responder, words: list[bytes]) -> bytes:
    """QUIT"""
    responder.close_reason = "normal"
    responder.closing = True
    return b""


def _found(responder: Responder, key: bytes) -> Entry | None:
    entry = fetch(responder, key, responder.store.get)
    responder.counters.count_gets(int(entry is not None), int(entry is None))
    return entry


def value_reply(entry: Entry) -> bytes:
    """Return the reply with an entry's value, or an error that says why the protocol can't carry it."""
    if state_of(entry) & STALE:
        return STALE_VALUE
    value = value_of(wire_bytes_of(entry))
    if is_word(value):
        return b"OK " + value
    if not 0 < len(value) <= WORD_LIMIT_BYTES:
        return b"ERROR the value has %d bytes; this protocol carries 1 to %d" % (len(value), WORD_LIMIT_BYTES)
    return UNPRINTABLE_VALUE


LINE_COMMANDS: dict[bytes, LineCommand] = {
    b"PUT": LineCommand(put, (3, 4), b"PUT key value [ttl]", CommandClass.WRITE),
    b"GET": LineCommand(get, (2,), b"GET key", CommandClass.READ),
    b"DELETE": LineCommand(delete_key, (2,), b"DELETE key", CommandClass.WRITE),
    b"EXISTS": LineCommand(exists, (2,), b"EXISTS key", CommandClass.READ),
    b"QUIT": LineCommand(quit_connection, (1,), b"QUIT", CommandClass.READ),
}
