"""Cut the input of the binary protocol into requests; the forms of its replies."""

from __future__ import annotations

from memcache_kv.protocol.binary.frames import HEAD, HEAD_BYTES, LARGEST_BODY_BYTES, REPLY, REPLY_MAGIC, REQUEST_MAGIC
from memcache_kv.protocol.binary.frames import Opcode as Op
from memcache_kv.traffic.wire import UNKNOWN_NAME, ExpectedReply, Silence, Unanswered, UnknownForm, WireRequest

OPCODE_NAMES: dict[int, str] = {
    **dict.fromkeys((Op.GET, Op.GETQ, Op.GETK, Op.GETKQ), "get"),
    **dict.fromkeys((Op.GAT, Op.GATQ, Op.GATK, Op.GATKQ), "gat"),
    **dict.fromkeys((Op.SET, Op.SETQ), "set"),
    **dict.fromkeys((Op.ADD, Op.ADDQ), "add"),
    **dict.fromkeys((Op.REPLACE, Op.REPLACEQ), "replace"),
    **dict.fromkeys((Op.APPEND, Op.APPENDQ), "append"),
    **dict.fromkeys((Op.PREPEND, Op.PREPENDQ), "prepend"),
    **dict.fromkeys((Op.DELETE, Op.DELETEQ), "delete"),
    **dict.fromkeys((Op.INCREMENT, Op.INCREMENTQ), "incr"),
    **dict.fromkeys((Op.DECREMENT, Op.DECREMENTQ), "decr"),
    **dict.fromkeys((Op.FLUSH, Op.FLUSHQ), "flush_all"),
    **dict.fromkeys((Op.QUIT, Op.QUITQ), "quit"),
    **dict.fromkeys((Op.CONFIG_GET, Op.CONFIG_SET, Op.CONFIG_DELETE), "config"),
    Op.TOUCH: "touch",
    Op.NOOP: "noop",
    Op.VERSION: "version",
    Op.VERBOSITY: "verbosity",
    Op.STAT: "stats",
    Op.SASL_LIST: "sasl_list",
    Op.SASL_AUTH: "sasl_auth",
    Op.SASL_STEP: "sasl_step",
}
"""The command of each opcode. A set or replace with a CAS id is `cas`."""
QUIET_OPCODES = frozenset(opcode for opcode in Op if opcode.name.endswith("Q"))
_KEYLESS_COMMANDS = ("config", "sasl_auth", "sasl_step", "stats")
"""The commands whose key is none of an item."""


class BinaryFraming:
    """Packets of requests."""

    def next_request(self, held: bytearray, position: int) -> tuple[WireRequest, ExpectedReply] | None:
        """Return the request that begins at `position`, and the form of its reply; None while it is not complete.

        Raises UnknownForm for a header after which a server closes the connection.
        """
        if position < len(held) and held[position] != REQUEST_MAGIC:
            raise UnknownForm
        if len(held) - position < HEAD_BYTES:
            return None
        head, key_bytes, extras_bytes, body_bytes, opaque, cas = HEAD.unpack_from(held, position)
        if key_bytes + extras_bytes > body_bytes or body_bytes > LARGEST_BODY_BYTES:
            raise UnknownForm
        if len(held) - position < HEAD_BYTES + body_bytes:
            return None
        data = bytes(held[position : position + HEAD_BYTES + body_bytes])
        opcode = head & 0xFF
        command = OPCODE_NAMES.get(opcode, UNKNOWN_NAME)
        key_at = HEAD_BYTES + extras_bytes
        key = data[key_at : key_at + key_bytes]
        keys = (key,) if key and command not in _KEYLESS_COMMANDS else ()
        form: ExpectedReply = Unanswered() if opcode == Op.QUITQ else PacketReply(opcode, opaque, key)
        name = "cas" if cas and command in ("set", "replace") else command
        return WireRequest(name, keys, data, form.silence is Silence.NEVER), form


class PacketReply:
    """The reply to one request, in packets. It repeats the request's opcode and opaque, and sometimes its key."""

    __slots__ = ("silence", "_opcode", "_opaque", "_key", "_at")

    def __init__(self, opcode: int, opaque: int, key: bytes) -> None:
        self.silence = Silence.SOMETIMES if opcode in QUIET_OPCODES else Silence.NEVER
        self._opcode, self._opaque, self._key = opcode, opaque, key
        self._at = 0

    def fits(self, arrived: bytearray) -> bool | None:
        """Tell whether the first packet answers this request; None until its header and its key are complete."""
        if len(arrived) < HEAD_BYTES:
            return None
        magic, opcode, key_bytes, extras_bytes, _, _, opaque, _ = REPLY.unpack_from(arrived)
        if magic != REPLY_MAGIC or opcode != self._opcode or opaque != self._opaque:
            return False
        if not key_bytes or opcode not in QUIET_OPCODES:
            return True
        key_at = HEAD_BYTES + extras_bytes
        if len(arrived) < key_at + key_bytes:
            return None
        return arrived[key_at : key_at + key_bytes] == self._key

    def end(self, arrived: bytearray) -> int | None:
        """Return the length of all packets of the reply; None while one is not complete."""
        while len(arrived) - self._at >= HEAD_BYTES:
            _, _, _, _, status, body_bytes, _, _ = REPLY.unpack_from(arrived, self._at)
            after = self._at + HEAD_BYTES + int(body_bytes)
            if after > len(arrived):
                return None
            if self._opcode != Op.STAT or status or not body_bytes:  # statistics end with an empty packet
                return after
            self._at = after
        return None
