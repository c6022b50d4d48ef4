"""The packets of the binary protocol: headers, opcodes, statuses and memcached's error texts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

REQUEST_MAGIC = 0x80
HEAD = Struct("!HHBxxxIIQ")
"""A request's header: magic and opcode, lengths of key and extras, (data type, reserved), body length, opaque, CAS
id."""
HEAD_BYTES = HEAD.size
REPLY = Struct("!BBHBxHIIQ")
"""A reply's header: magic, opcode, lengths of key and extras, (data type), status, body length, opaque, CAS id."""
REPLY_MAGIC = 0x81
LARGEST_BODY_BYTES = 1 << 30
"""A request with a larger body length closes the connection, as in memcached."""


class Opcode(IntEnum):
    """The command of a request. Those with a Q at the end are quiet.

    A quiet get sends no reply on a miss, the other quiet commands none on success.
    """

    GET = 0x00
    SET = 0x01
    ADD = 0x02
    REPLACE = 0x03
    DELETE = 0x04
    INCREMENT = 0x05
    DECREMENT = 0x06
    QUIT = 0x07
    FLUSH = 0x08
    GETQ = 0x09
    NOOP = 0x0A
    VERSION = 0x0B
    GETK = 0x0C
    GETKQ = 0x0D
    APPEND = 0x0E
    PREPEND = 0x0F
    STAT = 0x10
    SETQ = 0x11
    ADDQ = 0x12
    REPLACEQ = 0x13
    DELETEQ = 0x14
    INCREMENTQ = 0x15
    DECREMENTQ = 0x16
    QUITQ = 0x17
    FLUSHQ = 0x18
    APPENDQ = 0x19
    PREPENDQ = 0x1A
    VERBOSITY = 0x1B
    TOUCH = 0x1C
    GAT = 0x1D
    GATQ = 0x1E
    SASL_LIST = 0x20
    SASL_AUTH = 0x21
    SASL_STEP = 0x22
    GATK = 0x23
    GATKQ = 0x24
    CONFIG_GET = 0x60
    CONFIG_SET = 0x64
    CONFIG_DELETE = 0x66


class Status(IntEnum):
    """The result of a request."""

    SUCCESS = 0x00
    NOT_FOUND = 0x01
    EXISTS = 0x02
    TOO_LARGE = 0x03
    INVALID = 0x04
    NOT_STORED = 0x05
    NON_NUMERIC = 0x06
    AUTH_ERROR = 0x20
    AUTH_CONTINUE = 0x21
    UNKNOWN_COMMAND = 0x81
    NO_MEMORY = 0x82


TEXTS = {
    Status.NOT_FOUND: b"Not found",
    Status.EXISTS: b"Data exists for key.",
    Status.TOO_LARGE: b"Too large.",
    Status.INVALID: b"Invalid arguments",
    Status.NOT_STORED: b"Not stored.",
    Status.NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    Status.AUTH_ERROR: b"Auth failure.",
    Status.UNKNOWN_COMMAND: b"Unknown command",
    Status.NO_MEMORY: b"Out of memory",
}
"""The body of a reply with such a status."""


@dataclass(slots=True)
class Request:
    """One request without its value, which may not have arrived yet."""

    opcode: int
    opaque: int
    cas: int
    extras: bytes
    key: bytes
    value_bytes: int
    """Length of the body after extras and key; negative if these are longer than the body."""

    def described(self) -> bytes:
        """Return the command with its key and the number in its extras, for the audit log."""
        words = [Opcode(self.opcode).name.encode(), self.key]
        if self.extras:
            words.append(b"%d" % int.from_bytes(self.extras, "big"))
        return b" ".join(filter(None, words))


def packet(
    request: Request, status: int = 0, extras: bytes = b"", key: bytes = b"", value: bytes = b"", cas: int = 0
) -> bytes:
    """Return a complete reply packet to a request."""
    size = len(extras) + len(key) + len(value)
    head = REPLY.pack(REPLY_MAGIC, request.opcode, len(key), len(extras), status, size, request.opaque, cas)
    return b"".join((head, extras, key, value))
