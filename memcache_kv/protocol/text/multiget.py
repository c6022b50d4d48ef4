"""Reply to a get of several keys at once, which is much faster than one by one."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from memcache_kv.store.entry import (
    EXPIRING,
    EXPIRING_BYTES,
    PLAIN,
    PLAIN_LIMIT_BYTES,
    Entry,
    Item,
    expiring_end,
    is_text_key,
    wire_bytes_of,
)

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session

KEYS_PER_TURN = 256
"""How many keys of one get are handled before other connections have their turn."""
LAST_BYTE: Callable[[Any], int] = itemgetter(-1)
"""Returns an entry's last byte: a line feed for a plain entry. Raises TypeError for an Item or None."""


def answer_line(session: Session, rest: bytes) -> bytes | None:
    """Return the whole reply to a get line, END included; None if the general path must reply.

    rest: the line after the command.
    """
    keys = rest.split(b" ")
    if len(keys) > KEYS_PER_TURN:
        return None
    entries = session.store.kept_many(keys)
    pieces: list[Any] | None = _of_bare(session, keys, entries)
    if not pieces:  # so it is not known yet whether the words are valid keys
        pieces = _of_any(session, keys, entries) if all(map(is_text_key, keys)) else None
    if pieces is None:
        return None
    if session.observers.active:
        session.observers.pass_over(len(keys) - 1, 0, 0)  # the caller counts the request as one lookup
    return b"".join((*pieces, b"END\r\n"))


def answer_keys(session: Session, keys: list[bytes]) -> bytes | None:
    """Return the reply to a get of these keys, without END; None if the keys must be handled one by one."""
    entries = session.store.kept_many(keys)
    pieces = _of_bare(session, keys, entries) or _of_any(session, keys, entries)
    if pieces is not None and session.observers.active:
        session.observers.pass_over(len(keys), 0, 0)
    return None if pieces is None else b"".join(pieces)


def _of_bare(session: Session, keys: list[bytes], entries: list[Entry | None]) -> list[Any]:
    """Return the pieces of the reply if all keys have plain entries, which is common; an empty list if not.

    Slice assignments place all keys and entries at once.
    """
    try:
        if bytes(map(LAST_BYTE, entries)) != b"\n" * len(keys):
            return []
    except TypeError:  # one is missing, or an Item
        return []
    pieces: list[Any] = [b"VALUE "] * (3 * len(keys))
    pieces[1::3] = keys
    pieces[2::3] = entries
    session.counters.cmd_get += len(keys)
    session.counters.get_hits += len(keys)
    if session.observers.active:
        session.observers.fetched_together(keys, ())
    return pieces


def _of_any(session: Session, keys: list[bytes], entries: list[Entry | None]) -> list[bytes] | None:
    """Return the pieces of the reply; None if a key has a large value."""
    store, counters, pieces, missed = session.store, session.counters, list[bytes](), list[bytes]()
    expired = expiring_end(store.clock.now)
    for key, entry in zip(keys, entries, strict=True):
        if entry.__class__ is bytes and entry[-1] == PLAIN:
            pieces += (b"VALUE ", key, entry)
        elif entry.__class__ is bytes and entry[-1] == EXPIRING and entry[-EXPIRING_BYTES:] > expired:
            if store.records_access:
                store.record_access(key, entry)
            pieces += (b"VALUE ", key, entry[:-EXPIRING_BYTES], b"\r\n")
        elif isinstance(entry, Item) and len(entry) > PLAIN_LIMIT_BYTES:
            return None
        elif (live := store.get(key)) is None:
            missed.append(key)
        else:
            pieces += (b"VALUE ", key, wire_bytes_of(live))
    counters.cmd_get += len(keys)
    counters.get_hits += len(keys) - len(missed)
    counters.get_misses += len(missed)
    if session.observers.active:
        session.observers.fetched_together(keys, missed)
    return pieces
