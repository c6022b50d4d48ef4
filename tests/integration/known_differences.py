"""Where releases of memcached answer differently.

The tests expect what 1.6.45 does; for releases before it (Debian's 1.6.18 is the one these lines were taken
from) they look here. Ours follows 1.6.45 and says so when asked for its version.
"""

import re
from base64 import b64decode, b64encode
from typing import NamedTuple

from tests.integration.wire import OURS, RunningServer

REWRITTEN_PARSER = (1, 6, 45)
"""The first release known to answer as the second column does."""

BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
DELETE_USAGE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"


class Difference(NamedTuple):
    """A request, and its reply before and since."""

    name: str
    request: bytes
    before: bytes
    since: bytes


def _too_few_words(line: bytes) -> Difference:
    return Difference(f"too few words: {line.decode()}", line + b"\r\n", b"ERROR\r\n", BAD_LINE)


TOO_FEW_WORDS = [
    _too_few_words(line)
    for line in (
        b"get", b"get ", b"gets", b"gat", b"gats", b"touch", b"touch a", b"verbosity", b"set", b"set a",
        b"set a 0", b"set a 0 0", b"add a 0 0", b"replace a 0 0", b"append a 0 0", b"prepend a 0 0",
        b"cas", b"cas a", b"cas a 0 0", b"incr", b"incr a", b"decr", b"decr a", b"delete",
    )
]  # fmt: skip
"""A command with nothing to work on."""

EMPTY_LINES = [
    Difference("empty line", b"\r\n", b"ERROR\r\n", BAD_LINE),
    Difference("empty line with a bare newline", b"\n", b"ERROR\r\n", BAD_LINE),
    Difference("one letter", b"x\r\n", b"ERROR\r\n", BAD_LINE),
    Difference("two letters and a bare newline", b"xy\n", b"ERROR\r\n", BAD_LINE),
    Difference("only a space", b" \r\n", b"ERROR\r\n", BAD_LINE),
]
"""Lines too short to be a command."""

EXTRA_WORDS = [
    Difference("delete with a word", b"delete a b\r\n", DELETE_USAGE, b"NOT_FOUND\r\n"),
    Difference("delete with a time", b"delete a 1\r\n", DELETE_USAGE, b"NOT_FOUND\r\n"),
    Difference("delete with words", b"delete a b c d\r\n", b"ERROR\r\n", b"NOT_FOUND\r\n"),
    Difference("touch with words", b"touch a 0 b c\r\n", b"ERROR\r\n", b"NOT_FOUND\r\n"),
    Difference("incr with words", b"incr a 1 b c\r\n", b"ERROR\r\n", b"NOT_FOUND\r\n"),
    Difference("verbosity with words", b"verbosity 0 b c\r\n", b"ERROR\r\n", b"OK\r\n"),
    Difference("flush_all with words", b"flush_all 0 b c\r\n", b"ERROR\r\n", b"OK\r\n"),
    Difference("set with words", b"set a 0 0 3 b c\r\nfoo\r\n", b"ERROR\r\nERROR\r\n", b"STORED\r\n"),
]
"""Words behind the last one a command knows: refused before, ignored since."""

LEADING_SPACES = [
    Difference("get", b" get a\r\n", b"END\r\n", b"ERROR\r\n"),
    Difference("delete", b"  delete a\r\n", b"NOT_FOUND\r\n", b"ERROR\r\n"),
    Difference("mn", b" mn\r\n", b"MN\r\n", b"ERROR\r\n"),
]
"""Spaces before the command: skipped before, part of an unknown command since."""

REFUSED_STORAGE = [
    Difference(name, line + b"\r\nfoo\r\n", BAD_LINE + b"ERROR\r\n", BAD_LINE)
    for name, line in (
        ("negative flags", b"set a -1 0 3"),
        ("flags not a number", b"set a abc 0 3"),
        ("flags a fraction", b"set a 1.5 0 3"),
        ("flags in hexadecimal", b"set a 0x10 0 3"),
        ("flags beyond 64 bits", b"set a 18446744073709551616 0 3"),
        ("exptime not a number", b"set a 0 abc 3"),
        ("exptime a fraction", b"set a 0 1.5 3"),
        ("cas not a number", b"cas a 0 0 3 abc"),
        ("cas negative", b"cas a 0 0 3 -1"),
        ("cas beyond 64 bits", b"cas a 0 0 3 18446744073709551616"),
        ("key too long", b"set " + b"k" * 251 + b" 0 0 3"),
        ("key far too long", b"add " + b"k" * 1500 + b" 0 0 3"),
    )
]
"""Storage commands with a known length that are refused: their data is a line of its own before, skipped since."""

REFUSED_SILENT_STORAGE = [
    Difference(name, line + b"\r\nfoo\r\n", b"ERROR\r\n", b"")
    for name, line in (
        ("flags not a number", b"set a abc 0 3 noreply"),
        ("exptime not a number", b"add a 0 abc 3 noreply"),
        ("cas not a number", b"cas a 0 0 3 abc noreply"),
        ("key too long", b"set " + b"k" * 251 + b" 0 0 3 noreply"),
    )
]
"""The same with noreply."""

UNKNOWN_LENGTH = [
    Difference("no key", b"set  0 0 3\r\nfoo\r\n", b"ERROR\r\nERROR\r\n", BAD_LINE + b"ERROR\r\n"),
    Difference("no length", b"set a 0 0\r\nfoo\r\n", b"ERROR\r\nERROR\r\n", BAD_LINE + b"ERROR\r\n"),
    Difference("noreply, negative", b"set a 0 0 -1 noreply\r\nfoo\r\n", b"ERROR\r\n", BAD_LINE + b"ERROR\r\n"),
    Difference("noreply, no number", b"set a 0 0 x noreply\r\nfoo\r\n", b"ERROR\r\n", BAD_LINE + b"ERROR\r\n"),
    Difference("plus sign", b"set a 0 0 +3\r\nfoo\r\n", b"STORED\r\n", BAD_LINE + b"ERROR\r\n"),
]
"""Storage commands whose length can't be known, so that what follows is read as commands."""

LONG_KEYS = [
    Difference(line.decode(), line + b" " + b"k" * 251 + b"\r\n", BAD_LINE, BAD_LINE + b"\r\n")
    for line in (b"get", b"gets", b"get a", b"gat 0", b"gats 0")
]
"""Fetching a key of 251 bytes: since the rewrite an empty line follows the error.

A client would take that line for the reply to its next request, so ours sends the error alone.
"""

NUMBERS = [
    Difference("gat without a key", b"gat 0\r\n", b"END\r\n", BAD_LINE),
    Difference("gats without a key", b"gats 0\r\n", b"END\r\n", BAD_LINE),
    Difference("gat beyond 32 bits", b"gat 99999999999 a\r\n", b"END\r\n", BAD_EXPTIME),
    Difference("touch beyond 32 bits", b"touch a 99999999999\r\n", b"NOT_FOUND\r\n", BAD_EXPTIME),
    Difference("flush_all beyond 32 bits", b"flush_all 99999999999\r\n", b"OK\r\n", BAD_EXPTIME),
    Difference(
        "incr with a plus sign",
        b"incr a +1\r\n",
        b"NOT_FOUND\r\n",
        b"CLIENT_ERROR invalid numeric delta argument\r\n",
    ),
    Difference(
        "cache_memlimit beyond 32 bits",
        b"cache_memlimit 10000000000\r\n",
        b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
        b"ERROR\r\n",
    ),
]
"""Numbers read more strictly."""

OTHERS = [
    Difference("verbosity beyond 32 bits", b"verbosity 99999999999999\r\n", b"OK\r\n", BAD_LINE),
    Difference("flush_all with only a sign", b"flush_all -\r\n", BAD_EXPTIME, b"OK\r\n"),
    Difference(
        "shutdown", b"shutdown\r\n", b"ERROR: shutdown not enabled\r\n", b"SERVER_ERROR: shutdown not enabled\r\n"
    ),
    Difference("bget", b"bget a\r\n", b"END\r\n", b"ERROR\r\n"),
    Difference("noreply on an unknown command", b"foo noreply\r\n", b"ERROR\r\n", b""),
    Difference("noreply as the key of delete", b"delete noreply\r\n", b"NOT_FOUND\r\n", b""),
]

NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
BAD_FLAG = b"CLIENT_ERROR invalid or duplicate flag\r\n"
BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
MISS, STORED = b"NOT_FOUND\r\n", b"STORED\r\n"
ONE_22, ONE_23 = b"0" * 21 + b"1", b"0" * 22 + b"1"
ONE_11, ONE_12 = b"0" * 10 + b"1", b"0" * 11 + b"1"

LONG_NUMBERS = [
    Difference("a delta of 22 digits", b"incr a %b\r\n" % ONE_22, MISS, MISS),
    Difference("a delta of 23 digits", b"incr a %b\r\n" % ONE_23, MISS, BAD_DELTA),
    Difference("a large delta of 22 digits", b"incr a 0018446744073709551615\r\n", MISS, MISS),
    Difference("too large a delta of 22 digits", b"incr a 0018446744073709551616\r\n", BAD_DELTA, BAD_DELTA),
    Difference("an id of 22 digits", b"cas a 0 0 1 %b\r\nx\r\n" % ONE_22, MISS, MISS),
    Difference("an id of 23 digits", b"cas a 0 0 1 %b\r\nx\r\n" % ONE_23, MISS, BAD_LINE),
    Difference("ma, 22 digits", b"ma a D%b\r\n" % ONE_22, b"NF\r\n", b"NF\r\n"),
    Difference("ma, 23 digits", b"ma a D%b\r\n" % ONE_23, b"NF\r\n", BAD_FLAG),
    Difference("flags and exptime of 400 digits", b"set a %0400d %0400d 1\r\nx\r\n" % (1, 5), STORED, STORED),
    Difference("a length of 11 digits", b"set a 0 0 %b\r\nx\r\n" % ONE_11, STORED, STORED),
    Difference(
        "a length of 12 digits",
        b"set a 0 0 %b\r\nxyz\r\n" % ONE_12,
        BAD_CHUNK + b"ERROR\r\n",
        BAD_LINE + b"ERROR\r\n",
    ),
    Difference(
        "ms, a length of 12 digits",
        b"ms a %b\r\nxyz\r\n" % ONE_12,
        BAD_CHUNK + b"ERROR\r\n",
        BAD_LINE + b"ERROR\r\n",
    ),
    Difference("an exptime of 11 digits", b"touch a %b\r\n" % ONE_11, MISS, MISS),
    Difference("an exptime of 12 digits", b"touch a %b\r\n" % ONE_12, MISS, BAD_EXPTIME),
    Difference("an exptime of 11 characters", b"touch a -%b\r\n" % ONE_11[1:], MISS, MISS),
    Difference("an exptime of 12 characters", b"touch a -%b\r\n" % ONE_11, MISS, BAD_EXPTIME),
    Difference("a level of 11 digits", b"verbosity 00000000000\r\n", b"OK\r\n", b"OK\r\n"),
    Difference("a level of 12 digits", b"verbosity 000000000000\r\n", b"OK\r\n", BAD_LINE),
    Difference("ms, flags of 12 digits", b"ms a 1 F%b\r\nx\r\n" % ONE_12, b"HD\r\n", BAD_LINE),
    Difference("ms, a ttl of 12 digits", b"ms a 1 T%b\r\nx\r\n" % ONE_12, b"HD\r\n", BAD_TOKEN),
    *[
        Difference(
            f"incr of {value.decode()}",
            b"set a 0 0 %d\r\n%b\r\nincr a 1\r\n" % (len(value), value),
            STORED + reply,
            STORED + reply,
        )
        for value, reply in (
            (b"-0", b"1\r\n"),
            (b"-1", NON_NUMERIC),
            (b"-9223372036854775808", NON_NUMERIC),
            (b"-9223372036854775809", b"9223372036854775808\r\n"),
            (b"-18446744073709551615", b"2\r\n"),
            (b"-18446744073709551616", NON_NUMERIC),
        )
    ],
]
"""Numbers of 64 bits have up to 22 digits, those of 32 bits up to 11 characters, flags and exptimes of a set any."""

MANY_WORDS = [
    Difference(f"{name}, {where}", before + b" x" * words + after + b"\r\n" + block, old, reply)
    for name, before, words, block, old, silent, loud in (
        ("set", b"set a 0 0 1", 17, b"x\r\n", b"ERROR\r\nERROR\r\n", b"", STORED),
        ("delete", b"delete a", 20, b"", b"ERROR\r\n", b"", MISS),
        ("incr", b"incr a 1", 19, b"", b"ERROR\r\n", b"", MISS),
        ("unknown", b"foo", 21, b"", b"ERROR\r\n", b"", b"ERROR\r\n"),
        ("flush_all", b"flush_all 0", 20, b"", b"ERROR\r\n", b"", b"OK\r\n"),
    )
    for where, after, reply in (
        ("noreply as the 23rd word", b" noreply", silent),
        ("noreply as the 23rd word of 24", b" noreply x", silent),
        ("noreply as the 24th word", b" x noreply", loud),
    )
]
MANY_WORDS += [
    Difference("HTTP/ as the 24th word", b"GET" + b" x" * 22 + b" HTTP/1.1\r\n", b"ERROR\r\n", b"ERROR\r\n"),
    Difference(
        "no flag as the 23rd word",
        b"mg a" + b" q" * 20 + b" !\r\n",
        b"CLIENT_ERROR options flags are too long\r\n",
        BAD_LINE,
    ),
]
"""Of a line the first 23 words count."""

LINE_FEEDS = [
    Difference(name, request, reply, reply)
    for name, request, reply in (
        ("mg", b"set a 0 0 1\r\n1\r\nmg a Ox\nmg v\r\n", STORED + b"HD Ox\r\nEN\r\n"),
        ("ms", b"ms a 5 q Ox\nhello\r\nmg q1\r\nmn\r\n", b"EN\r\nMN\r\n"),
        ("ms and its value", b"ms a 2 Ox k\nhi\r\nmn\r\nmg a v\r\n", b"HD Ox ka\r\nMN\r\nVA 2\r\nhi\r\n"),
    )
]
"""A line feed behind an opaque ends the line."""

DIFFERENCES = [
    *LONG_NUMBERS,
    *MANY_WORDS,
    *LINE_FEEDS,
    *TOO_FEW_WORDS,
    *EMPTY_LINES,
    *EXTRA_WORDS,
    *LEADING_SPACES,
    *REFUSED_STORAGE,
    *REFUSED_SILENT_STORAGE,
    *UNKNOWN_LENGTH,
    *LONG_KEYS,
    *NUMBERS,
    *OTHERS,
]


WORDS = {
    b"get": (2, 9), b"gets": (2, 9), b"gat": (3, 9), b"gats": (3, 9), b"set": (5, 5), b"add": (5, 5),
    b"replace": (5, 5), b"append": (5, 5), b"prepend": (5, 5), b"cas": (6, 6), b"delete": (2, 2), b"incr": (3, 3),
    b"decr": (3, 3), b"touch": (3, 3), b"flush_all": (1, 2), b"verbosity": (2, 2), b"mn": (1, 1), b"mg": (2, 12),
    b"ms": (3, 12),
    b"md": (2, 12), b"ma": (2, 12),
}  # fmt: skip
"""Commands, and how many words without noreply they may have that all releases answer them alike."""

OLD_META_FLAGS = {
    b"mg": rb"[bcfhklqstv]|O\S{1,31}|[NRT]\d{1,6}",
    b"ms": rb"[bckqI]|O\S{1,31}|[FT]\d{1,6}|C(?:\d{1,18}|<.*>)|M[EAPRS]",
    b"md": rb"[bkqI]|O\S{1,31}|T\d{1,6}|C(?:\d{1,18}|<.*>)",
    b"ma": rb"[bkqtcv]|O\S{1,31}|[NT]\d{1,6}|[DJ]\d{1,19}|M[ID+-]|C(?:\d{1,18}|<.*>)",
}
"""The flags, with their arguments, that have not changed their meaning."""


def _is_base64(word: bytes) -> bool:
    try:
        return b64encode(b64decode(word, validate=True)) == word
    except ValueError:
        return False


def answered_alike_before(line: bytes) -> bool:
    """Whether releases before 1.6.45 answer a request as those since: where it is well-formed and known to them."""
    words = [word for word in line.split(b" ") if word]
    if len(line) < 2 or line[:1] == b" " or words[0] not in WORDS or max(map(len, words)) > 250:
        return False
    counted = words[:-1] if words[-1] == b"noreply" else words
    fewest, most = WORDS[words[0]]
    if not fewest <= len(counted) <= most:
        return False
    if words[0] in OLD_META_FLAGS:
        if b"b" in words[2:] and not _is_base64(words[1]):
            return False
        if words[0] == b"ms" and not re.fullmatch(rb"\d{1,9}", words[2]):
            return False
        flags = words[3 if words[0] == b"ms" else 2 :]
        if len({flag[:1] for flag in flags}) < len(flags):
            return False
        return all(re.fullmatch(OLD_META_FLAGS[words[0]], flag) for flag in flags)
    first = 1 if words[0] in (b"gat", b"gats", b"flush_all", b"verbosity") else 2
    numbers = (
        [] if words[0] in (b"get", b"gets", b"delete") else words[first : 2 if words[0] in (b"gat", b"gats") else 9]
    )
    allowed = [b"-1"] if words[0] in (b"touch", b"gat", b"gats") else []
    return all(re.fullmatch(rb"\d{1,9}|<.*>|noreply", word) for word in numbers if word not in allowed)


def has_rewritten_parser(server: RunningServer) -> bool:
    """Whether a server answers as the second column."""
    return tuple(int(part) for part in server.version.split(".")) >= REWRITTEN_PARSER


def reply_of(server: RunningServer, difference: Difference) -> bytes:
    """What this server is to answer."""
    if server.kind == OURS and difference in LONG_KEYS:
        return difference.before
    return difference.since if has_rewritten_parser(server) else difference.before


def either(server: RunningServer, *, before: bytes, since: bytes) -> bytes:
    """The one of two replies that fits the server's release."""
    return since if has_rewritten_parser(server) else before
