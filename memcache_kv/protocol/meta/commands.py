"""The meta commands: mg, ms, md, ma, me and mn (memcached's doc/protocol.txt, "Meta Commands").

This module parses them and formats the replies; `commands/` carries them out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from memcache_kv.commands import arithmetic
from memcache_kv.commands.arithmetic import Arithmetic, Counted
from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.commands.retrieve import Retrieval, Retrieved, inspect, retrieve
from memcache_kv.commands.store_value import SizeRule, accepts_size, store_value
from memcache_kv.protocol.meta.flags import (
    OPAQUE_LIMIT_BYTES,
    BadFlags,
    Flags,
    decoded,
    look_like_flags,
    opaque,
    read_flags,
)
from memcache_kv.protocol.numbers import signed32
from memcache_kv.protocol.replies import (
    BAD_FORMAT,
    KEY_LIMIT_BYTES,
    LARGEST_LENGTH,
    NON_NUMERIC,
    OUT_OF_MEMORY,
    TOO_LARGE,
)
from memcache_kv.store.entry import (
    Entry,
    cas_of,
    deadline_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.writes import Mode, Outcome, Write

if TYPE_CHECKING:
    from memcache_kv.protocol.responder import LineResponder
    from memcache_kv.store.store import ItemStore

_T, _N, _R, _s, _t, _c, _l, _h, _u, _O, _k = b"TNRstclhuOk"
LOCKED = frozenset(b"TNRlh")
"""Flags of mg that change the item, or ask for its state before this request."""

STATUS = {
    Outcome.STORED: b"HD",
    Outcome.DELETED: b"HD",
    Outcome.EXISTS: b"EX",
    Outcome.NOT_FOUND: b"NF",
    Outcome.NOT_STORED: b"NS",
}
MODES = {
    b"": Mode.SET,
    b"\0": Mode.SET,
    b"S": Mode.SET,
    b"E": Mode.ADD,
    b"A": Mode.APPEND,
    b"P": Mode.PREPEND,
    b"R": Mode.REPLACE,
}

META_SIZE_RULE = SizeRule(drops=frozenset(Mode))
"""A value that is too large deletes the old one in every mode."""


def mn(protocol: LineResponder, words: list[bytes]) -> None:
    """mn: reply, so that a client knows that all earlier requests were carried out."""
    protocol.reply(b"MN")


def _flags_of(protocol: LineResponder, key: bytes, tokens: list[bytes], words: int) -> Flags:
    """Parse the flags of a command; ignore a chosen CAS id if CAS is off. Raises BadFlags."""
    flags = read_flags(key, tokens, words)
    if not protocol.store.gives_cas:
        flags.new_cas = 0
    return flags


def _read(protocol: LineResponder, words: list[bytes], error: bytes = b"") -> Flags | None:
    """Parse the flags after a command's key. If they are invalid, reply with an error and return None.

    error: replaces the specific error text for flags with a valid first character; b"" keeps it.
    """
    if not look_like_flags(words[2:]):
        protocol.reply(BAD_FORMAT)
        return None
    try:
        return _flags_of(protocol, words[1], words[2:], len(words))
    except BadFlags as fault:
        protocol.reply(error or fault.args[0])
        return None


# mg


def mg(protocol: LineResponder, words: list[bytes]) -> None:
    """mg <key> <flags>*"""
    flags = _read(protocol, words)
    if flags is None:
        return
    try:
        _answer(protocol, flags, retrieve(protocol, _retrieval(protocol.store, flags)))
    except BadFlags as fault:
        protocol.reply(fault.args[0])


def _retrieval(store: ItemStore, flags: Flags) -> Retrieval:
    """Return what a mg asks for. Flags that change the item have no effect after an opaque that is too long."""
    letters = flags.letters
    tokens = _effective(flags)
    is_cut_short = len(tokens) < len(flags.tokens)
    if not letters & LOCKED:
        return Retrieval(flags.key, _c in letters, _u not in letters, is_cut_short=is_cut_short)
    return Retrieval(
        flags.key,
        needs_cas=_c in letters,
        is_read=_u not in letters,
        wants_access_metadata=_l in letters or _h in letters,
        deadline=_new_deadline(store, flags, tokens, is_made=False),
        initial_deadline=None if flags.vivify_ttl is None else _new_deadline(store, flags, tokens, is_made=True) or 0,
        recache_deadline=None if flags.recache_ttl is None else store.deadline(flags.recache_ttl),
        recaches_after_touch=_R in letters and _stands_before(_T, _R, flags.tokens),
        new_cas=flags.new_cas,
        is_cut_short=is_cut_short,
    )


def _answer(protocol: LineResponder, flags: Flags, found: Retrieved | None) -> None:
    """Reply to a mg. Raises BadFlags."""
    if found is None:
        text = flags.identity()
        if not flags.quiet:
            protocol.reply(b"EN" + text)
        return
    fields = _Fields(protocol.store, flags, found).text()
    wire_bytes = wire_bytes_of(found.entry)
    if not flags.has(b"v") or protocol.store.has_cas(found.entry, flags.cas):
        protocol.reply(b"HD" + fields)
        return
    line_end = wire_bytes.index(b"\r")
    length = wire_bytes[wire_bytes.index(b" ", 1) : line_end]
    protocol.send(b"VA" + length + fields, wire_bytes[line_end + 2 :])


class _Fields:
    """The fields of a reply to mg, in the order in which the request asked for them."""

    def __init__(self, store: ItemStore, flags: Flags, found: Retrieved) -> None:
        self._store = store
        self._flags = flags
        self._found = found
        self._wire_bytes = wire_bytes_of(found.entry)

    def text(self) -> bytes:
        """Return all fields, followed by Z, X and W where they apply. Raises BadFlags."""
        fields = [_META_FIELDS[token[0]](self, token) for token in self._flags.tokens if token[0] in _META_FIELDS]
        found = self._found
        return b"".join(fields) + b" Z" * found.is_won + b" X" * found.is_stale + b" W" * found.wins

    def size(self, token: bytes) -> bytes:
        """s: the length of the value."""
        wire_bytes = self._wire_bytes
        return b" s" + wire_bytes[wire_bytes.index(b" ", 1) + 1 : wire_bytes.index(b"\r")]

    def client_flags(self, token: bytes) -> bytes:
        """f: the client flags."""
        return b" f" + self._wire_bytes[1 : self._wire_bytes.index(b" ", 1)]

    def seconds_left(self, token: bytes) -> bytes:
        """t: seconds until the item expires, after the effect of the flags before this one; -1 is never."""
        found = self._found
        return _seconds_left(self._store, self._flags, token, found.former_deadline, found.is_made)

    def cas(self, token: bytes) -> bytes:
        """c: the CAS id."""
        return b" c%d" % cas_of(self._found.entry)

    def idle_seconds(self, token: bytes) -> bytes:
        """l: seconds since the item was last read, or stored if it was never read."""
        return b" l%d" % (self._store.clock.now - self._found.accessed)

    def was_hit(self, token: bytes) -> bytes:
        """h: whether the item was read before."""
        return b" h1" if self._found.was_read else b" h0"

    def opaque(self, token: bytes) -> bytes:
        """O: the client's opaque."""
        return opaque(token)

    def key(self, token: bytes) -> bytes:
        """k: the key."""
        return self._flags.echo()


_META_FIELDS: dict[int, Callable[[_Fields, bytes], bytes]] = {
    ord("s"): _Fields.size,
    ord("f"): _Fields.client_flags,
    ord("t"): _Fields.seconds_left,
    ord("c"): _Fields.cas,
    ord("l"): _Fields.idle_seconds,
    ord("h"): _Fields.was_hit,
    ord("O"): _Fields.opaque,
    ord("k"): _Fields.key,
}
"""The field that each flag of mg adds to the reply."""


# Flags that take effect in the order in which they were given


def _effective(flags: Flags) -> list[bytes]:
    """Return the flags before an opaque that is too long, or all flags."""
    if _O not in flags.letters:
        return flags.tokens
    return list(takewhile(lambda token: token[0] != _O or len(token) <= OPAQUE_LIMIT_BYTES, flags.tokens))


def _stands_before(first: int, second: int, tokens: list[bytes]) -> bool:
    letters = bytes([token[0] for token in tokens])
    return 0 <= letters.find(first) < letters.find(second)


def _new_deadline(store: ItemStore, flags: Flags, tokens: list[bytes], is_made: bool) -> int | None:
    """Return the deadline that these flags set, in their order; None if none does.

    T always counts; N counts only if the item was missing.
    """
    deadline = None
    for token in tokens:
        if token[0] == _T and flags.ttl is not None:
            deadline = store.deadline(flags.ttl)
        elif token[0] == _N and is_made and flags.vivify_ttl is not None:
            deadline = store.deadline(flags.vivify_ttl)
    return deadline


def _seconds_left(store: ItemStore, flags: Flags, token: bytes, former: int, is_made: bool) -> bytes:
    """Return the field t: seconds until the deadline, after the effect of the flags before this one; -1 is never."""
    changed = _new_deadline(store, flags, flags.tokens[: flags.tokens.index(token)], is_made)
    deadline = former if changed is None else changed
    return b" t%d" % (max(0, deadline - store.clock.now) if deadline else -1)


# ms


def ms(protocol: LineResponder, words: list[bytes]) -> None:
    """ms <key> <datalen> <flags>*, followed by the data block."""
    length = signed32(words[2])
    if length is None or not 0 <= length <= LARGEST_LENGTH or not look_like_flags(words[3:]):
        protocol.reply(BAD_FORMAT)
        return
    try:
        flags = _flags_of(protocol, words[1], words[3:], len(words))
        mode = _mode(flags)
        if not accepts_size(protocol, mode, flags.key, length, flags.client_flags, META_SIZE_RULE):
            raise BadFlags(TOO_LARGE)
        flags.identity()  # rejects an opaque that is too long before the block is read
    except BadFlags as fault:
        protocol.reply(fault.args[0])
        protocol.swallow(length)
    else:
        protocol.expect_block(flags.client_flags, length, partial(_finish_ms, protocol, flags, mode, length))


def _mode(flags: Flags) -> Mode:
    mode = MODES.get(flags.mode)
    if mode is None:
        raise BadFlags(b"CLIENT_ERROR invalid mode for ms M token")
    if flags.cas is not None and mode in (Mode.SET, Mode.REPLACE):
        return Mode.CAS
    return mode


def _finish_ms(protocol: LineResponder, flags: Flags, mode: Mode, length: int, wire_bytes: bytes) -> None:
    """Store the data block of a ms, and reply."""
    makes_missing = mode.joins and flags.vivify_ttl is not None
    ttl = flags.vivify_ttl if makes_missing else flags.ttl
    write = Write(
        mode,
        flags.key,
        wire_bytes,
        protocol.store.deadline(ttl or 0),
        cas=(flags.cas or 0) if protocol.store.gives_cas else 0,
        new_cas=flags.new_cas,
        needs_cas=_c in flags.letters,
        makes_missing=makes_missing,
        takes_older=mode is Mode.CAS and flags.has(b"I"),
    )
    outcome, entry = store_value(protocol, write, drops_old=True)
    if outcome is Outcome.NO_MEMORY:
        protocol.reply(OUT_OF_MEMORY)
    elif outcome is not Outcome.STORED or not flags.quiet:
        protocol.reply(STATUS[outcome] + b"".join(_stored_field(flags, token, length, entry) for token in flags.tokens))


def _stored_field(flags: Flags, token: bytes, length: int, entry: Entry | None) -> bytes:
    letter = token[0]
    if letter == _O:
        return opaque(token)
    if letter == _k:
        return flags.echo()
    if letter == _c:
        return b" c%d" % (0 if entry is None else cas_of(entry))
    if letter == _s:
        return b" s%d" % (length if entry is None else len(value_of(wire_bytes_of(entry))))
    return b""


# md


def md(protocol: LineResponder, words: list[bytes]) -> None:
    """md <key> <flags>*: delete, empty or invalidate an item."""
    flags = _read(protocol, words)
    if flags is None:
        return
    try:
        text = flags.identity()
    except BadFlags as fault:
        protocol.reply(fault.args[0])
        return
    outcome = delete(
        protocol,
        Deletion(
            flags.key,
            flags.cas,
            empties=flags.has(b"x"),
            invalidates=flags.has(b"I"),
            flags=flags.client_flags,
            deadline=None if flags.ttl is None else protocol.store.deadline(flags.ttl),
            new_cas=flags.new_cas,
            command="md",
            counts_mismatch=True,
        ),
    )
    if outcome is not Outcome.DELETED or not flags.quiet:
        protocol.reply(STATUS[outcome] + text)


# ma


def ma(protocol: LineResponder, words: list[bytes]) -> None:
    """ma <key> <flags>*: increment or decrement."""
    flags = _read(protocol, words, b"CLIENT_ERROR invalid or duplicate flag")
    if flags is None:
        return
    if flags.mode not in (b"", b"\0", b"I", b"+", b"D", b"-"):
        protocol.reply(b"CLIENT_ERROR invalid mode for ma M token")
        return
    counted = arithmetic.count(protocol, _arithmetic(protocol, flags))
    if counted.outcome is Outcome.NO_MEMORY:
        reply = b"SERVER_ERROR Out of memory allocating new item"
    elif counted.outcome is Outcome.NON_NUMERIC:
        reply = NON_NUMERIC
    else:
        try:
            reply = _counted_reply(protocol, flags, counted)
        except BadFlags as fault:
            reply = fault.args[0]
    if not flags.quiet or not reply.startswith((b"HD", b"VA")):
        protocol.reply(reply)


def _arithmetic(protocol: LineResponder, flags: Flags) -> Arithmetic:
    """Return what a ma asks for. T and N have no effect after an opaque that is too long."""
    tokens = _effective(flags)
    return Arithmetic(
        flags.key,
        flags.delta,
        is_up=flags.mode not in (b"D", b"-"),
        cas=flags.cas or 0,
        needs_cas=_c in flags.letters,
        new_cas=flags.new_cas,
        deadline=_new_deadline(protocol.store, flags, tokens, is_made=False),
        initial=None if flags.vivify_ttl is None else flags.initial,
        initial_deadline=_new_deadline(protocol.store, flags, tokens, is_made=True) or 0,
    )


def _counted_reply(protocol: LineResponder, flags: Flags, counted: Counted) -> bytes:
    """Return the reply to a ma, without its line end. Raises BadFlags."""
    if counted.outcome is not Outcome.STORED:
        return STATUS[counted.outcome] + flags.identity()
    fields = b"".join([_counted_field(protocol.store, flags, counted, token) for token in flags.tokens])
    if not flags.has(b"v"):
        return b"HD" + fields
    digits = b"%d" % counted.number
    return b"VA %d%b\r\n%b" % (len(digits), fields, digits)


def _counted_field(store: ItemStore, flags: Flags, counted: Counted, token: bytes) -> bytes:
    letter = token[0]
    if letter == _c:
        return b" c%d" % counted.cas
    if letter == _t:
        return _seconds_left(store, flags, token, counted.former_deadline, counted.is_made)
    if letter == _O:
        return opaque(token)
    return flags.echo() if letter == _k else b""


# me


def me(protocol: LineResponder, words: list[bytes]) -> None:
    """me <key> [b]: show an item's metadata, for debugging."""
    key, in_base64 = words[1], words[2:3] == [b"b"]
    if in_base64 and len(key) <= KEY_LIMIT_BYTES:
        key = decoded(key)
    if not 0 < len(key) <= KEY_LIMIT_BYTES or not look_like_flags(words[2:]):
        protocol.reply(BAD_FORMAT)
        return
    store = protocol.store
    entry = inspect(protocol, key)
    if entry is None:
        protocol.reply(b"EN")
        return
    shown = base64.b64encode(key) if in_base64 else key
    now, deadline = store.clock.now, deadline_of(entry)
    protocol.reply(
        b"ME %b exp=%d la=%d cas=%d fetch=%b cls=%d size=%d"
        % (
            shown,
            deadline - now if deadline else -1,
            now - store.accessed_at(entry),
            cas_of(entry),
            b"yes" if store.was_read(key, entry) else b"no",
            store.class_of(key, entry),
            store.size_of(key, entry),
        )
    )
