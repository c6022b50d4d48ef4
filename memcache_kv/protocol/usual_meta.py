r"""The short ways of the meta commands: mg and ms in their usual form, many at once.

Usual are the flags that say what to return or how to store, and nothing else: v, f, k, s, t, q and O of mg, F, T, k, q
and O of ms. What has others, or is not plainly there, is left to `meta.py`, which would answer all of it alike, but
in 4 microseconds where this takes 0.8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from memcache_kv.protocol.meta_flags import OPAQUE_LIMIT_BYTES
from memcache_kv.protocol.replies import KEY_LIMIT_BYTES
from memcache_kv.protocol.usual import BATCH, LENGTHS
from memcache_kv.store.item import LINE_FEED, PLAIN, deadline_of, ready_of

if TYPE_CHECKING:
    from memcache_kv.protocol.text import TextProtocol

NEXT_VALUE = b" v\r\nmg "
PLANS_KEPT = 256
NO_FLAGS = b" 0 "
_USUAL = frozenset(b"vfkstqO")
_O, _v, _f, _k, _s, _t, _F, _T = b"OvfkstFT"


def run_meta(protocol: TextProtocol, data: bytes, position: int, end: int) -> tuple[int, int]:
    """Carry out the usual meta commands with which a part of the input begins.

    Most of them are taken to be mg with v alone, so that what is between two such is mostly a key; a bare entry without
    client flags is then answered here. end: where the last line end is. Returns the position behind the commands, and
    how many they were.
    """
    chunks = data[position:end].split(NEXT_VALUE, BATCH)
    last = chunks.pop()  # not followed by another mg
    is_whole = len(chunks) < BATCH
    stop = end + 2 if is_whole else end - len(last) - 3
    first = b"" if chunks and chunks[0][:3] != b"mg " else b"mg "
    if chunks and first:
        chunks[0] = chunks[0][3:]
    following, done, left = iter(chunks), 0, 0
    out, store = protocol.out, protocol.store
    tables, mask, noting = store.tables, store.mask, store.noting
    hits = 0
    for key in following:
        entry = tables[hash(key) & mask].get(key)
        if entry.__class__ is bytes and entry[:3] == NO_FLAGS and entry[-1] == PLAIN and first:
            if noting:
                store.note(key, entry)
            out += (b"VA", entry[2:])  # what follows the flags in a ready value is what VA has
            hits += 1
            continue
        left, more = _run_lines(protocol, b"%b%b v" % (first, key))
        first, done = b"mg ", done + more
        if left:
            break
    protocol.counters.cmd_get += hits
    protocol.counters.get_hits += hits
    unread = list(following)
    left += sum(map(len, unread)) + len(unread) * len(NEXT_VALUE)
    if is_whole and not left:
        left, more = _run_lines(protocol, b"mg " + last if chunks else last)
        done += more
    elif is_whole:
        left += len(b"mg ") + len(last) + 2
    return stop - left, hits + done


def _run_lines(protocol: TextProtocol, text: bytes) -> tuple[int, int]:
    """Carry out commands line by line; return how many bytes are left with their line ends, and how many commands."""
    lines = text.split(b"\r\n")
    done, number, last = 0, 0, len(lines)
    while number < last:
        line = lines[number]
        command = line[:3]
        if command == b"mg " and _get(protocol, line):
            number += 1
        elif command == b"ms " and number + 1 < last and _set(protocol, line, lines[number + 1]):
            number += 2
        else:
            break
        done += 1
    left = lines[number:]
    return sum(map(len, left)) + 2 * len(left), done


def _get(protocol: TextProtocol, line: bytes) -> bool:
    """Carry out `mg <key> <flags>*`; False where the general way must."""
    words = line.split(b" ", 2)
    key, store = words[1], protocol.store
    asked = words[2] if len(words) == 3 else b""
    entry = store.tables[hash(key) & store.mask].get(key)
    if (entry is not None and entry.__class__ is not bytes) or not _get_by_plan(protocol, key, asked):
        return False
    protocol.counters.cmd_get += 1
    protocol.counters.get_hits += 1
    return True


def _get_by_plan(protocol: TextProtocol, key: bytes, asked: bytes) -> bool:
    """Answer a mg that hits with what its flags ask for, in their order."""
    opaque = b""
    if _O in asked:
        opaque, asked = _without_opaque(asked)
    plan = _plan(asked)
    if plan is None or LINE_FEED in key or not 0 < len(key) <= KEY_LIMIT_BYTES:
        return False
    entry = protocol.store.get(key)
    if entry is None:
        return False
    ready = ready_of(entry)
    size_at, line_end = ready.index(b" ", 1), ready.index(b"\r")
    fields = b""
    for letter in plan:
        if letter == _O:
            fields += b" " + opaque
        elif letter == _k:
            fields += b" k" + key
        elif letter == _f:
            fields += b" f" + ready[1:size_at]
        elif letter == _s:
            fields += b" s" + ready[size_at + 1 : line_end]
        elif letter == _t:
            deadline = deadline_of(entry)
            fields += b" t%d" % (max(0, deadline - protocol.store.clock.now) if deadline else -1)
    if _v in plan:
        protocol.out += (b"VA", ready[size_at:line_end], fields, ready[line_end:])
    else:
        protocol.out += (b"HD", fields, b"\r\n")
    return True


def _set(protocol: TextProtocol, line: bytes, block: bytes) -> bool:
    """Carry out `ms <key> <datalen> <flags>*` with its block; False where the general way must."""
    words = line.split(b" ")
    if len(words) < 3 or LENGTHS.get(words[2]) != len(block):
        return False
    if len(words) == 3:
        if not protocol.store_small(words[1], b"0", b"0", words[2], block):
            return False
        protocol.counters.cmd_set += 1
        protocol.out.append(b"HD\r\n")
        return True
    return _set_by_flags(protocol, words, block)


def _set_by_flags(protocol: TextProtocol, words: list[bytes], block: bytes) -> bool:
    """Carry out a ms with flags."""
    fields, client_flags, ttl, is_quiet, seen = b"", b"0", b"0", False, set()
    for token in words[3:]:
        letter = token[0] if token else 0
        if letter in seen:
            return False
        seen.add(letter)
        if letter == _T:
            ttl = token[1:]
        elif letter == _F:
            client_flags = token[1:]
        elif letter == _O and len(token) <= OPAQUE_LIMIT_BYTES:
            fields += b" " + token
        elif token == b"k":
            fields += b" k" + words[1]
        elif token == b"q":
            is_quiet = True
        else:
            return False
    if not protocol.store_small(words[1], client_flags, ttl, words[2], block):
        return False
    protocol.counters.cmd_set += 1
    if not is_quiet:
        protocol.out += (b"HD", fields, b"\r\n")
    return True


def _without_opaque(asked: bytes) -> tuple[bytes, bytes]:
    """Return the opaque flag, and the flags with a bare O in its place."""
    start = asked.index(b"O")
    end = asked.find(b" ", start)
    if end < 0:
        end = len(asked)
    return asked[start:end], asked[: start + 1] + asked[end:]


@lru_cache(PLANS_KEPT)
def _plan(asked: bytes) -> bytes | None:
    """Return the letters of a mg's flags in their order; None where one is unusual, or there twice."""
    letters = asked.replace(b" ", b"")
    if asked and (asked != b" ".join(bytes([each]) for each in letters)):
        return None
    return letters if len(set(letters)) == len(letters) and _USUAL.issuperset(letters) else None


__all__ = ["run_meta"]
