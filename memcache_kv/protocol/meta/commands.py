"""The meta commands: mg, ms, md, ma, me and mn (memcached's doc/protocol.txt, "Meta Commands").

What reads an item and changes it, or tells how it was before, does so in one `Store.update`, so that of many clients
that find an item stale one alone wins.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from memcache_kv.commands import arithmetic
from memcache_kv.commands.arithmetic import Arithmetic, Counted
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
    FETCHED,
    STALE,
    WON,
    Entry,
    cas_of,
    deadline_of,
    pack,
    state_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.writes import Mode, Outcome, Write

if TYPE_CHECKING:
    from memcache_kv.protocol.responder import LineResponder
    from memcache_kv.store.store import Store

_T, _N, _s, _t, _c, _l, _h, _O, _k = b"TNstclhOk"
LOCKED = frozenset(b"TNRlh")
"""Flags of mg that change the item, or tell how it was before this request."""

STATUS = {Outcome.STORED: b"HD", Outcome.EXISTS: b"EX", Outcome.NOT_FOUND: b"NF", Outcome.NOT_STORED: b"NS"}
MODES = {
    b"": Mode.SET,
    b"\0": Mode.SET,
    b"S": Mode.SET,
    b"E": Mode.ADD,
    b"A": Mode.APPEND,
    b"P": Mode.PREPEND,
    b"R": Mode.REPLACE,
}


def mn(protocol: LineResponder, words: list[bytes]) -> None:
    """mn: answer, so that a client knows that all before it was carried out."""
    protocol.reply(b"MN")


def _flags_of(protocol: LineResponder, key: bytes, tokens: list[bytes], words: int) -> Flags:
    """Read the flags of a command; a CAS id to give is forgotten where items have none. Raises BadFlags."""
    flags = read_flags(key, tokens, words)
    if not protocol.store.gives_cas:
        flags.new_cas = 0
    return flags


def _read(protocol: LineResponder, words: list[bytes], error: bytes = b"") -> Flags | None:
    """Read the flags behind a command's key; None, and it is answered, where they can't be used.

    error: what is answered to flags that look like some, in place of what is wrong with them.
    """
    if not look_like_flags(words[2:]):
        protocol.reply(BAD_FORMAT)
        return None
    try:
        return _flags_of(protocol, words[1], words[2:], len(words))
    except BadFlags as fault:
        protocol.reply(error or fault.args[0])
        return None


def _has_id(protocol: LineResponder, entry: Entry, cas: int | None) -> bool:
    """Tell whether an item has this CAS id; where items have none, all have 0, and else none has it."""
    return cas == cas_of(entry) and (bool(cas) or not protocol.store.gives_cas)


# mg


def mg(protocol: LineResponder, words: list[bytes]) -> None:
    """mg <key> <flags>*"""
    flags = _read(protocol, words)
    if flags is None:
        return
    try:
        protocol.observe_lookup(flags.key)
        if flags.letters & LOCKED:
            _get_changing(protocol, flags)
        else:
            _get(protocol, flags)
    except BadFlags as fault:
        protocol.reply(fault.args[0])


def _get(protocol: LineResponder, flags: Flags) -> None:
    """Carry out a mg that changes nothing, unless the item is stale and waits for a winner."""
    store, key = protocol.store, flags.key
    find = store.peek if flags.has(b"u") else store.gets if _c in flags.letters else store.get
    entry = find(key)
    if entry is None:
        _answer_miss(protocol, flags)
    elif state_of(entry) & (STALE | WON) or (_c in flags.letters and not cas_of(entry)):
        _get_changing(protocol, flags)
    else:
        fields = _Reading(protocol, flags, entry).fields()
        protocol.observe_fetch(key, entry)
        protocol.counters.cmd_get += 1
        protocol.counters.get_hits += 1
        _answer_hit(protocol, flags, entry, fields)


def _get_changing(protocol: LineResponder, flags: Flags) -> None:
    """Carry out a mg with the key to itself."""
    store, key = protocol.store, flags.key
    if flags.letters & {_l, _h} and not store.keeps_access_metadata:
        store.keep_access_metadata()
    reading: _Reading | None = None

    def decide(old: Entry | None) -> Entry | None:
        nonlocal reading
        if old is None and flags.vivify_ttl is None:
            return None
        reading = _Reading(protocol, flags, old)
        return reading.decide()

    expires = flags.ttl is not None and 0 < store.deadline(flags.ttl) <= store.clock.now
    if not store.update(key, decide, forgets=expires) or reading is None:
        _answer_miss(protocol, flags)
        return
    if reading.fault:
        raise BadFlags(reading.fault)
    protocol.observe_fetch(key, reading.kept)
    if store.records_access and not flags.has(b"u"):
        store.record_access(key, reading.kept)
    name = "touch" if flags.ttl is not None else "get"
    protocol.counters.count("cmd_" + name)
    protocol.counters.count(name + "_hits")
    _answer_hit(protocol, flags, reading.kept, reading.text)


def _answer_hit(protocol: LineResponder, flags: Flags, entry: Entry, fields: bytes) -> None:
    wire_bytes = wire_bytes_of(entry)
    if not flags.has(b"v") or _has_id(protocol, entry, flags.cas):
        protocol.reply(b"HD" + fields)
        return
    line_end = wire_bytes.index(b"\r")
    length = wire_bytes[wire_bytes.index(b" ", 1) : line_end]
    protocol.send(b"VA" + length + fields, wire_bytes[line_end + 2 :])


def _answer_miss(protocol: LineResponder, flags: Flags) -> None:
    protocol.observe_fetch(flags.key, None)
    protocol.counters.cmd_get += 1
    protocol.counters.get_misses += 1
    text = flags.identity()
    if not flags.quiet:
        protocol.reply(b"EN" + text)


class _Reading:
    """One item as one mg sees it, and what becomes of it: flags take effect in the order in which they were given."""

    def __init__(self, protocol: LineResponder, flags: Flags, old: Entry | None) -> None:
        self._flags = flags
        self._old = old
        self._store = protocol.store
        self._created = old is None
        self._won = False
        self._accessed = self._store.clock.now if old is None else self._store.accessed_at(old)
        self._deadline = 0 if old is None else deadline_of(old)
        self._state = 0 if old is None else state_of(old)
        self._cas = flags.new_cas if old is None else cas_of(old)
        self._ready = pack(0, b"") if old is None else wire_bytes_of(old)
        self.kept: Entry = self._ready
        self.text = b""
        self.fault = b""

    def decide(self) -> Entry:
        """Make the reply and the entry to keep."""
        if not self._cas and _c in self._flags.letters:
            self._cas = self._store.next_cas()
        try:
            self.text = self.fields() + self._mark()
        except BadFlags as fault:
            self.fault = fault.args[0]
        old = self._old
        after = (self._deadline, self._cas, self._state)
        if old is not None and after == (deadline_of(old), cas_of(old), state_of(old)):
            self.kept = old
        else:
            self.kept = self._store.renewed(self._flags.key, self._ready, *after, old)
        return self.kept

    def fields(self) -> bytes:
        """Return what the flags ask to be told. Raises BadFlags."""
        return b"".join([_FIELDS[token[0]](self, token) for token in self._flags.tokens if token[0] in _FIELDS])

    def size(self, token: bytes) -> bytes:
        """s: the length of the value."""
        return b" s" + self._ready[self._ready.index(b" ", 1) + 1 : self._ready.index(b"\r")]

    def client_flags(self, token: bytes) -> bytes:
        """f: the client flags."""
        return b" f" + self._ready[1 : self._ready.index(b" ", 1)]

    def seconds_left(self, token: bytes) -> bytes:
        """t: until it expires; -1 is never."""
        return b" t%d" % (max(0, self._deadline - self._store.clock.now) if self._deadline else -1)

    def cas(self, token: bytes) -> bytes:
        """c: the CAS id."""
        return b" c%d" % self._cas

    def idle_seconds(self, token: bytes) -> bytes:
        """l: since it was last read or, if nobody has, stored."""
        return b" l%d" % (self._store.clock.now - self._accessed)

    def was_hit(self, token: bytes) -> bytes:
        """h: whether it was read before."""
        return b" h1" if self._state & FETCHED else b" h0"

    def opaque(self, token: bytes) -> bytes:
        """O: what the client wants to have back."""
        return opaque(token)

    def key(self, token: bytes) -> bytes:
        """k: the key."""
        return self._flags.echo()

    def change_ttl(self, token: bytes) -> bytes:
        """T: let it live so long from now."""
        self._deadline = self._store.deadline(self._flags.ttl or 0)
        return b""

    def fill_in(self, token: bytes) -> bytes:
        """N: how long what was made for a miss lives; who made it has won."""
        if self._created:
            self._deadline = self._store.deadline(self._flags.vivify_ttl or 0)
            self._won = True
        return b""

    def renew(self, token: bytes) -> bytes:
        """R: with less than this left to live, the first to ask wins."""
        runs_out = 0 < self._deadline < self._store.deadline(self._flags.recache_ttl or 0)
        self._won = self._won or (runs_out and not self._created and not self._state & WON)
        return b""

    def _mark(self) -> bytes:
        """Return Z (somebody is already at it), X (stale) and W (you are to store it anew), and note a win."""
        sent, stale = self._state & WON, self._state & STALE
        won = self._won or (stale and not sent)
        if won:
            self._state |= WON
        return b" Z" * bool(sent) + b" X" * bool(stale) + b" W" * bool(won)


_FIELDS: dict[int, Callable[[_Reading, bytes], bytes]] = {
    ord("s"): _Reading.size,
    ord("f"): _Reading.client_flags,
    ord("t"): _Reading.seconds_left,
    ord("c"): _Reading.cas,
    ord("l"): _Reading.idle_seconds,
    ord("h"): _Reading.was_hit,
    ord("O"): _Reading.opaque,
    ord("k"): _Reading.key,
    ord("T"): _Reading.change_ttl,
    ord("N"): _Reading.fill_in,
    ord("R"): _Reading.renew,
}
"""What each flag of mg does and adds to the reply, in the order in which they were given."""


# ms


def ms(protocol: LineResponder, words: list[bytes]) -> None:
    """ms <key> <datalen> <flags>*, and then the data block."""
    length = signed32(words[2])
    if length is None or not 0 <= length <= LARGEST_LENGTH or not look_like_flags(words[3:]):
        protocol.reply(BAD_FORMAT)
        return
    try:
        flags = _flags_of(protocol, words[1], words[3:], len(words))
        mode = _mode(flags)
        if protocol.store.exceeds_limit(len(flags.key), length, flags.client_flags):
            protocol.counters.store_too_large += 1
            protocol.observe_rejection(flags.key, mode)
            protocol.observe_lookup(flags.key)
            protocol.drop_old_value(flags.key)
            raise BadFlags(TOO_LARGE)
        flags.identity()  # whether the opaque is too long shows before the block is read
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
    """Store the block of a ms, and answer."""
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
    outcome, entry = protocol.write_item(write)
    if outcome is Outcome.NO_MEMORY:
        protocol.drop_old_value(flags.key)
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
    """md <key> <flags>*: delete, empty, or invalidate."""
    flags = _read(protocol, words)
    if flags is None:
        return
    try:
        text = flags.identity()
    except BadFlags as fault:
        protocol.reply(fault.args[0])
        return
    status, before = b"NF", None
    protocol.observe_lookup(flags.key)

    def decide(old: Entry | None) -> Entry | None:
        nonlocal status, before
        before = old
        if old is None:
            return None
        if flags.cas is not None and not _has_id(protocol, old, flags.cas):
            status = b"EX"
            return old
        status = b"HD"
        return _deleted(protocol, flags, old)

    protocol.store.update(flags.key, decide, forgets=True)
    deleted = status == b"HD" and not flags.has(b"I")
    if deleted or status != b"HD":
        protocol.counters.count("delete_hits" if deleted else "delete_misses")
    protocol.observe_delete(flags.key, before if deleted else None, "md")
    if status != b"HD" or not flags.quiet:
        protocol.reply(status + text)


def _deleted(protocol: LineResponder, flags: Flags, old: Entry) -> Entry | None:
    """Return what a md leaves of an item: nothing, or an empty or stale one with its CAS id or a new one."""
    store, stale = protocol.store, flags.has(b"I")
    wire_bytes, deadline, cas, state = wire_bytes_of(old), deadline_of(old), cas_of(old), state_of(old)
    before: Entry | None = old
    if flags.has(b"x"):
        wire_bytes, deadline, state, before = pack(flags.client_flags, b""), store.deadline(flags.ttl or 0), 0, None
    elif not stale:
        return None
    if stale:
        deadline = deadline if flags.ttl is None else store.deadline(flags.ttl)
        state = (state | STALE) & ~WON
        cas = store.next_cas()
    return store.renewed(flags.key, wire_bytes, deadline, flags.new_cas or cas, state, before)


# ma


def ma(protocol: LineResponder, words: list[bytes]) -> None:
    """ma <key> <flags>*: count up or down."""
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
    """Return what a ma asks for. T and N have no effect behind an opaque that is too long."""
    tokens = list(takewhile(lambda token: token[0] != _O or len(token) <= OPAQUE_LIMIT_BYTES, flags.tokens))
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


def _new_deadline(store: Store, flags: Flags, tokens: list[bytes], is_made: bool) -> int | None:
    """Return the deadline that these flags set, in their order: T, and N of what was missing; None where none does."""
    deadline = None
    for token in tokens:
        if token[0] == _T and flags.ttl is not None:
            deadline = store.deadline(flags.ttl)
        elif token[0] == _N and is_made and flags.vivify_ttl is not None:
            deadline = store.deadline(flags.vivify_ttl)
    return deadline


def _counted_reply(protocol: LineResponder, flags: Flags, counted: Counted) -> bytes:
    """Return the reply to a ma, without its line end. Raises BadFlags."""
    if counted.outcome is not Outcome.STORED:
        return STATUS[counted.outcome] + flags.identity()
    fields = b"".join([_counted_field(protocol, flags, counted, place) for place in range(len(flags.tokens))])
    if not flags.has(b"v"):
        return b"HD" + fields
    digits = b"%d" % counted.number
    return b"VA %d%b\r\n%b" % (len(digits), fields, digits)


def _counted_field(protocol: LineResponder, flags: Flags, counted: Counted, place: int) -> bytes:
    token = flags.tokens[place]
    letter = token[0]
    if letter == _c:
        return b" c%d" % counted.cas
    if letter == _t:
        changed = _new_deadline(protocol.store, flags, flags.tokens[:place], counted.is_made)
        deadline = counted.former_deadline if changed is None else changed
        return b" t%d" % (max(0, deadline - protocol.store.clock.now) if deadline else -1)
    if letter == _O:
        return opaque(token)
    return flags.echo() if letter == _k else b""


# me


def me(protocol: LineResponder, words: list[bytes]) -> None:
    """me <key> [b]: tell about an item, for people who look for a fault."""
    key, in_base64 = words[1], words[2:3] == [b"b"]
    if in_base64 and len(key) <= KEY_LIMIT_BYTES:
        key = decoded(key)
    if not 0 < len(key) <= KEY_LIMIT_BYTES or not look_like_flags(words[2:]):
        protocol.reply(BAD_FORMAT)
        return
    store = protocol.store
    store.keep_access_metadata()
    protocol.counters.cmd_meta += 1
    protocol.observe_lookup(key)
    entry = store.get_with_cas(key)
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
            b"yes" if state_of(entry) & FETCHED else b"no",
            store.class_of(key, entry),
            store.size_of(key, entry),
        )
    )
