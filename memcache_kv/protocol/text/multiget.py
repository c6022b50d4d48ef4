"""Reply to a get of several keys at once, which is much faster than one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.store.entry import PLAIN, PLAIN_LIMIT_BYTES, Item, is_text_key, wire_bytes_of

if TYPE_CHECKING:
    from memcache_kv.protocol.session import Session

KEYS_PER_TURN = 256
"""How many keys of one get are handled before other connections have their turn."""


def answer_line(session: Session, rest: bytes) -> bytes | None:
    """Return the whole reply to a get line, END included; None if the general path must reply.

    rest: the line after the command.
    """
    keys = rest.split(b" ")
    if len(keys) > KEYS_PER_TURN:
        return None
    pieces = _pieces(session, keys)
    if pieces is None:
        return None
    if session.observers.active:
        session.observers.pass_over(len(keys) - 1, 0, 0)  # the caller counts the request as one lookup
    return b"".join((*pieces, b"END\r\n"))


def answer_keys(session: Session, keys: list[bytes]) -> bytes | None:
    """Return the reply to a get of these keys, without END; None if the keys must be handled one by one."""
    pieces = _pieces(session, keys)
    if pieces is not None and session.observers.active:
        session.observers.pass_over(len(keys), 0, 0)
    return None if pieces is None else b"".join(pieces)


def _pieces(session: Session, keys: list[bytes]) -> list[bytes] | None:
    """Return the pieces of the reply; None if a key is not valid or has a large value."""
    store, counters, pieces, missed = session.store, session.counters, list[bytes](), list[bytes]()
    if not all(map(is_text_key, keys)):
        return None
    for key, entry in zip(keys, store.kept_many(keys), strict=True):
        if entry.__class__ is bytes and entry[-1] == PLAIN:
            pieces += (b"VALUE ", key, entry)
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
