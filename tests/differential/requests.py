"""Requests, valid and broken: each a line with, where it has one, a data block."""

import re
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from memcache_kv.store.entry import KEY_LIMIT_BYTES
from tests.differential import words
from tests.differential.differences import is_omitted
from tests.differential.words import K251, WIDE, keys, line_ends
from tests.protocol.spellings import spelled

LARGEST_BLOCK = 70_000
LARGEST_LENGTH = 2**31 - 3
"""A length up to here is believed, so that a stream would have to be as long."""

META = (b"mg", b"ms", b"ma")
STORAGE = (b"set",) * 6 + (b"add", b"replace", b"append", b"prepend", b"cas", b"cas")
STORING = tuple([command] for command in {*STORAGE, *META})
"""The first words of requests that may make an item."""


@dataclass(frozen=True)
class Request:
    """One request; `ragged` is whether its data block may not have the length that the line tells."""

    line: bytes
    block: bytes = b""
    end: bytes = b"\r\n"

    def __repr__(self) -> str:
        sent = self.sent
        return repr(sent) if len(sent) < 400 else f"{sent[:200]!r} ... {sent[-40:]!r} ({len(sent)} bytes)"

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Let hypothesis print it as `repr` does."""
        printer.text(repr(self))

    @property
    def is_alone(self) -> bool:
        """Whether what is before it has to be answered first, because memcached holds on to it until then."""
        words = self.words
        if words[:1] in ([b"incr"], [b"decr"], [b"ma"]):
            return True
        return words[:1] in ([b"get"], [b"gets"], [b"gat"], [b"gats"]) and max(map(len, words)) > 250

    @property
    def line_read(self) -> bytes:
        """The line as a server reads it: no more than one carriage return belongs to its end."""
        return (self.line + self.end).removesuffix(b"\n").removesuffix(b"\r")

    @property
    def words(self) -> list[bytes]:
        return [word for word in self.line_read.split(b" ") if word]

    @property
    def sent(self) -> bytes:
        return self.line + self.end + self.block

    @property
    def length(self) -> int:
        """The length of the data block that the line announces, as far as one can tell; 0 where it does not."""
        words = self.words
        place = {b"ms": 2}.get(words[0], 4) if words else 4
        if len(words) <= place or words[0] not in (b"ms", *STORAGE):
            return 0
        match = re.match(rb"[+\-0]*(\d{1,19})", words[place])
        return int(match[1]) if match else 0

    @property
    def asks_for_access(self) -> bool:
        """Whether its reply may say if an item was read."""
        words = self.words
        return words[:1] == [b"me"] or (words[:1] == [b"mg"] and any(word[:1] == b"h" for word in words[2:]))

    @property
    def question(self) -> "Request | None":
        """A mg that asks whether the item that this may store was read, without being a read itself."""
        words = self.words
        if words[:1] not in STORING or len(words) < 2 or len(words[1]) > KEY_LIMIT_BYTES:
            return None
        is_encoded = words[0] in META and b"b" in words[2:]
        return Request(b"mg %b h u%b" % (words[1], b" b" if is_encoded else b""))

    @property
    def is_endless(self) -> bool:
        """Whether a server may wait for more of a data block than a stream has."""
        words = self.words
        return LARGEST_BLOCK < self.length <= LARGEST_LENGTH or any(
            word[:1] == b"<" for word in words[2:3] + words[4:5]
        )


def _value_for(draw: st.DrawFn, key: bytes) -> bytes:
    chosen: bytes = draw(words.wide_numbers if key == WIDE else words.values)
    return chosen


def _block(draw: st.DrawFn, value: bytes) -> tuple[int, bytes]:
    """A length and a data block that mostly has it."""
    off = draw(st.sampled_from((0,) * 14 + (1, -1, 2, 7))) if len(value) < 4000 else 0
    return max(0, len(value) + off), value + b"\r\n"


@st.composite
def storage(draw: st.DrawFn) -> Request:
    command, key = draw(st.sampled_from(STORAGE)), draw(keys)
    if key == WIDE and command in (b"append", b"prepend"):
        command = b"set"
    length, block = _block(draw, _value_for(draw, key))
    line = [command, key, draw(words.flags), draw(words.exptimes), draw(spelled(length))]
    if command == b"cas":
        line.append(draw(words.cas_ids))
    line += draw(words.far_words)
    if draw(st.integers(0, 7)) == 0:
        line.append(b"noreply")
    return Request(b" ".join(line), block, draw(line_ends))


@st.composite
def retrievals(draw: st.DrawFn) -> Request:
    command = draw(st.sampled_from((b"get", b"get", b"gets", b"gets", b"gat", b"gats")))
    chosen = draw(st.lists(keys, min_size=1, max_size=3))
    if draw(st.integers(0, 30)) == 0:
        chosen = [K251, *chosen]
    exptime = [draw(words.exptimes)] if command.startswith(b"gat") else []
    return Request(b" ".join([command, *exptime, *chosen]), end=draw(line_ends))


@st.composite
def changes(draw: st.DrawFn) -> Request:
    command = draw(st.sampled_from((b"incr", b"incr", b"decr", b"touch", b"delete")))
    arguments = {b"incr": words.deltas, b"decr": words.deltas, b"touch": words.exptimes}
    line = [command, draw(keys)]
    if command in arguments:
        line.append(draw(arguments[command]))
    line += draw(words.far_words)
    if draw(st.integers(0, 5)) == 0:
        line.append(b"noreply")
    return Request(b" ".join(line), end=draw(line_ends))


@st.composite
def administration(draw: st.DrawFn) -> Request:
    line = [draw(st.sampled_from((b"flush_all", b"verbosity", b"mn", b"flush_all")))]
    if line[0] == b"verbosity":
        line.append(draw(words.levels))
    elif line[0] == b"flush_all" and draw(st.booleans()):
        line.append(draw(words.delays))
    if line[0] != b"mn" and draw(st.integers(0, 4)) == 0:
        line.append(b"noreply")
    return Request(b" ".join(line), end=draw(line_ends))


classic = st.one_of(*[storage()] * 6, *[retrievals()] * 5, *[changes()] * 5, administration())


# Meta

OPAQUES = (b"", b"1", b"abc", b"opaque", b"x" * 30, b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 100)
TIMES = words.exptimes
BAD_ARGUMENTS = (
    b"x",
    b"-",
    b"",
    b"-1",
    b"1x",
    b"+1",
    b"18446744073709551616",
    b"99999999999999999999",
    b"\t1",
    *words.PADDED,
)
given_ids = words.usually(
    (b"1000000000000", b"1000000000007", b"9223372036854775808", b"18446744073709551615"), BAD_ARGUMENTS
)
numbers = words.usually((b"0", b"1", b"5", b"91", b"9223372036854775808", b"18446744073709551615"), BAD_ARGUMENTS)
ARGUMENTS: dict[bytes, st.SearchStrategy[bytes]] = {
    b"O": st.sampled_from(OPAQUES),
    b"E": given_ids, b"C": words.cas_ids, b"N": TIMES, b"R": TIMES, b"T": TIMES,
    b"F": words.usually((b"0", b"1", b"255", b"4294967295"), (*BAD_ARGUMENTS, b"4294967296")),
    b"M": st.sampled_from((b"E", b"A", b"P", b"R", b"S", b"I", b"D", b"+", b"-", b"e", b"", b"append", b"X", b"SS")),
    b"D": numbers, b"J": numbers,
}  # fmt: skip
LETTERS = {
    b"mg": b"cfhklOqstvvENRT" + b"Cu",
    b"ms": b"cCEFIkOqsTM" + b"MN",
    b"md": b"CEIkOqTxI",
    b"ma": b"ENJDTMOqtcvkC",
    b"me": b"k",
}
UNKNOWN = tuple(b"zZSa!0\x80\x7f\xff") + tuple(b"PLuxIEbCMFDJ")
"""Flags that no command knows, or some only."""


@st.composite
def one_flag(draw: st.DrawFn, letter: int) -> bytes:
    """A flag with its argument; some have one where none belongs."""
    name = bytes((letter,))
    if name in ARGUMENTS:
        return name + draw(ARGUMENTS[name])
    return name + (b"junk" if draw(st.integers(0, 40)) == 0 else b"")


@st.composite
def flag_lists(draw: st.DrawFn, command: bytes) -> list[bytes]:
    """Flags of a command in any order, now and then with a stranger, a repetition, or far too many."""
    luck = draw(st.integers(0, 40))
    letters = list(draw(st.lists(st.sampled_from(LETTERS[command]), max_size=7, unique=luck != 1)))
    if luck == 2:
        letters.append(draw(st.sampled_from(UNKNOWN)))
    if luck == 3:
        letters = list(dict.fromkeys(LETTERS[command] + b"bcfhklOqstvuxIPL"))[: draw(st.integers(15, 22))]
    return [draw(one_flag(letter)) for letter in draw(st.permutations(letters))]


def _meta_key(draw: st.DrawFn, command: bytes, flags: list[bytes]) -> bytes:
    """A key; encoded ones come with the flag b nearly always."""
    luck = draw(st.integers(0, 12))
    if luck == 0:
        return draw(st.sampled_from((K251, b"YQ==", b"a")))
    encoded = luck < 4 and b"b" not in flags and command != b"me"
    if encoded:
        flags.insert(draw(st.integers(0, len(flags))), b"b")
    key: bytes = draw(words.encoded_keys if encoded else keys)
    return key


@st.composite
def meta(draw: st.DrawFn) -> Request:
    """mg, md, ma or me."""
    command = draw(st.sampled_from((b"mg",) * 5 + (b"md", b"md", b"ma", b"ma", b"me")))
    flags = draw(flag_lists(command))
    key = _meta_key(draw, command, flags)
    return Request(b" ".join([command, key, *flags]), end=draw(line_ends))


@st.composite
def meta_sets(draw: st.DrawFn) -> Request:
    flags = draw(flag_lists(b"ms"))
    key = _meta_key(draw, b"ms", flags)
    name = words.SHARED.get(key, key)
    if name == WIDE:
        flags = [flag for flag in flags if flag[:2] not in (b"MA", b"MP", b"Ma")]
    value = _value_for(draw, name)
    length, block = _block(draw, value)
    if any(flag[:1] == b"E" for flag in flags):
        length, block = len(value), value + b"\r\n"
        flags = [flag for flag in flags if len(flag) <= 32]
    return Request(b" ".join([b"ms", key, draw(spelled(length)), *flags]), block, draw(line_ends))


any_meta = st.one_of(*[meta()] * 3, meta_sets())


# Damage

STRAY = (b"", b" ", b"noreply", b"a", b"x", b"q", b"0", b"HTTP/1.1 x", b"v", b"k", b"Oo")
SMALL_META = (
    b"mg",
    b"ms",
    b"ms a",
    b"ma",
    b"md",
    b"me",
    b"mgx a",
    b" mg a",
    b"mn a",
    b"mn  ",
    b"ms a x",
    b"ms a -1",
    b"mg  a",
)
SMALL = (b"", b"x", b"get", b"set", b"gat 0", b"foo", b"foo noreply", b" ", b"   ",
         b"GET a", b" get a", b"\rget a", b"cas a 0 0 1", b"m", b"mx a", b"bget a", b"touch a", b"verbosity",
         b"flush_all a b c", b"set a 0 0", b"delete a 0", b"delete a 0 noreply", b"incr n",
         b"set a 0 0 1 noreply x")  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[Request]) -> Request:
    """A request with one word too few, too many or in the wrong place, or with spaces where none belong."""
    request = draw(whole)
    words_there = request.line.split(b" ")
    place = draw(st.integers(0, len(words_there) - 1))
    kind = draw(st.sampled_from(("drop", "double", "insert", "space", "swap", "return", "tail", "head")))
    if kind == "drop":
        del words_there[place]
    elif kind == "double":
        words_there.insert(place, words_there[place])
    elif kind == "insert":
        words_there.insert(place, draw(st.sampled_from(STRAY)))
    elif kind == "space":
        words_there.insert(place, b"")
    elif kind == "swap" and place:
        words_there[place], words_there[-1] = words_there[-1], words_there[place]
    elif kind == "tail":
        words_there.append(draw(st.sampled_from(STRAY)))
    elif kind == "head":
        words_there.insert(0, b"")
    line = b" ".join(words_there) + (b"\r" if kind == "return" else b"")
    broken = replace(request, line=line)
    return request if broken.is_endless or must_stay_whole(broken) else broken


def must_stay_whole(request: Request) -> bool:
    """Whether damage may have made a request of it that memcached answers otherwise on purpose."""
    words = request.words
    if words[:1] == [b"me"]:
        return True
    return words[:1] == [b"ms"] and any(word[:1] == b"E" for word in words)


def is_compared(request: Request) -> bool:
    """Whether both servers are to answer it alike."""
    return not is_omitted(request.line_read)


def mixed(valid: st.SearchStrategy[Request], small: tuple[bytes, ...]) -> st.SearchStrategy[Request]:
    """Mostly valid requests, some broken."""
    return st.one_of(*[valid] * 8, damaged(valid), st.sampled_from(small).map(Request)).filter(is_compared)
