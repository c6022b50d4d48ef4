"""Cut the input of the text and meta protocols into requests, by the rules by which a server reads it."""

from __future__ import annotations

from memcache_kv.protocol.meta.flags import BadFlags, decoded, look_like_flags, read_flags
from memcache_kv.protocol.numbers import signed32
from memcache_kv.protocol.replies import LARGEST_LENGTH
from memcache_kv.protocol.text.admin import ADMIN_COMMANDS
from memcache_kv.protocol.text.classic import KEYED, KEYLESS, WORDS_LIMIT
from memcache_kv.protocol.text.framing import LINE_LIMIT_BYTES, MULTIGET_LIMIT_BYTES
from memcache_kv.traffic.text_replies import ANY_LINE, DUMPED, REPLY_FORMS, ReplyForm, TextReply
from memcache_kv.traffic.wire import UNKNOWN_NAME, ExpectedReply, Silence, Unanswered, UnknownForm, WireRequest

SHORTEST_COMMAND_BYTES = 4
"""A line with fewer bytes, with its line end, is an error whatever is in it."""
STORING_COMMANDS = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
META_COMMANDS = (b"mg", b"ms", b"md", b"ma", b"me")
LISTING_COMMANDS = (b"get", b"gets", b"gat", b"gats")
"""The commands that may name many keys."""
_ERRORS_ONLY = ReplyForm(frozenset((b"ERROR",)))
_READABLE = frozenset(range(32, 127)) | frozenset(b"\r\n\t")


class TextFraming:
    """Lines and data blocks."""

    def next_request(self, held: bytearray, position: int) -> tuple[WireRequest, ExpectedReply] | None:
        """Return the request that begins at `position`, and the form of its reply; None while it is not complete.

        Raises UnknownForm for a line that no server would read to its end, and for what is no text at all.
        """
        if position < len(held) and held[position] not in _READABLE:
            raise UnknownForm
        stop = held.find(b"\n", position)
        if stop < 0:
            _limit_line(held, position)
            return None
        line = bytes(held[position : stop - 1 if stop > position and held[stop - 1] == 13 else stop])
        after = stop + 1 + _block_bytes_after(line)
        if after > len(held):
            return None
        data = bytes(held[position:after])
        if stop + 1 - position < SHORTEST_COMMAND_BYTES:
            return WireRequest(UNKNOWN_NAME, (), data, True), TextReply(ANY_LINE)
        return _request(_words_of(line), data)


def _limit_line(held: bytearray, position: int) -> None:
    """Raise UnknownForm if a line of which the end is not there is longer than a server lets it be."""
    length = len(held) - position
    if length > LINE_LIMIT_BYTES:
        is_get = held[position : position + len(b"gets ")].startswith((b"get ", b"gets "))
        if not is_get or length > MULTIGET_LIMIT_BYTES:
            raise UnknownForm


def _words_of(line: bytes) -> list[bytes]:
    """Split a line as a server does. A line with spaces before its command has an empty first word."""
    words = line.split(b" ")
    words = words[:1] + [word for word in words[1:] if word]
    return words if words[0] in LISTING_COMMANDS else words[:WORDS_LIMIT]


def _block_bytes_after(line: bytes) -> int:
    """Return how many bytes of data belong to a request with this line, with their line end."""
    words = _words_of(line)
    length = None
    if words[0] in STORING_COMMANDS and len(words) >= KEYED[words[0]][1]:
        length = signed32(words[4])
    elif words[0] == b"ms" and len(words) >= KEYED[b"ms"][1] and look_like_flags(words[3:]):
        length = signed32(words[2])
    elif words[:2] == [b"config", b"set"] and len(words) > 4:
        length = signed32(words[4])
    return 0 if length is None or not 0 <= length <= LARGEST_LENGTH else length + len(b"\r\n")


def _request(words: list[bytes], data: bytes) -> tuple[WireRequest, ExpectedReply]:
    """Return a request of these words, and the form of its reply. Raises UnknownForm."""
    word = words[0]
    if word in KEYED:
        return _keyed(word, words, data)
    if word in KEYLESS:
        name = word.decode()
        return _made(name, (), data, Unanswered() if word == b"quit" else TextReply(REPLY_FORMS.get(name, ANY_LINE)))
    word = word or b"".join(words[1:2])
    is_noreply = words[-1] == b"noreply"
    if word in ADMIN_COMMANDS:
        name = word.decode()
        form = DUMPED if _is_dump(words) else REPLY_FORMS.get(name, ANY_LINE)
        return _made(name, (), data, Unanswered() if is_noreply else TextReply(form))
    if words[-1].startswith(b"HTTP/"):
        raise UnknownForm
    reply = TextReply(_ERRORS_ONLY, Silence.SOMETIMES) if is_noreply else TextReply(ANY_LINE)
    return _made(UNKNOWN_NAME, (), data, reply)


def _is_dump(words: list[bytes]) -> bool:
    """Tell whether a line lists all keys. A server takes the beginning of the word for it too."""
    words = [word for word in words if word]
    names = (b"metadump", b"mgdump")
    return words[0] == b"lru_crawler" and len(words) == 3 and any(name.startswith(words[1]) for name in names)


def _made(command: str, keys: tuple[bytes, ...], data: bytes, form: ExpectedReply) -> tuple[WireRequest, ExpectedReply]:
    return WireRequest(command, keys, data, form.silence is Silence.NEVER), form


def _keyed(word: bytes, words: list[bytes], data: bytes) -> tuple[WireRequest, ExpectedReply]:
    """Return a request that names keys, and the form of its reply."""
    command = word.decode()
    form = REPLY_FORMS[command]
    if len(words) < KEYED[word][1]:
        return _made(command, (), data, TextReply(form))
    if word in META_COMMANDS:
        return _meta(command, words, data)
    keys = tuple(words[2:] if word in (b"gat", b"gats") else words[1:] if word in LISTING_COMMANDS else words[1:2])
    is_silent = words[-1] == b"noreply" and word not in LISTING_COMMANDS
    if word in STORING_COMMANDS:  # without a data block, the length is invalid, and the server says so
        is_silent = is_silent and data.index(b"\n") + 1 < len(data)
    return _made(command, keys, data, Unanswered() if is_silent else TextReply(form))


def _meta(command: str, words: list[bytes], data: bytes) -> tuple[WireRequest, ExpectedReply]:
    """Return a meta request, and the form of its reply, which repeats opaque and key if the request asks for them."""
    form, tokens = REPLY_FORMS[command], words[3 if command == "ms" else 2 :]
    letters = {token[:1] for token in tokens}
    keys = (decoded(words[1]) if b"b" in letters else words[1],)
    if command == "me" or b"q" not in letters or not look_like_flags(tokens):
        return _made(command, keys, data, TextReply(form))
    repeated = [token for token in tokens if token[:1] == b"O"]
    if b"k" in letters and b"b" not in letters:
        repeated.append(b"k" + words[1])
    may_fail = command in ("ms", "ma") or not _are_valid(words[1], tokens, len(words))
    return _made(command, keys, data, TextReply(form, Silence.SOMETIMES, repeated, may_fail))


def _are_valid(key: bytes, tokens: list[bytes], words: int) -> bool:
    """Tell whether a server accepts these flags."""
    try:
        read_flags(key, tokens, words).identity()
    except BadFlags:
        return False
    return True
