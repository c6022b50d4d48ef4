"""Requests of the binary protocol and memcached 1.6.45's replies to them, from an empty store.

A CAS id is written as its place among those that the replies have shown.
"""

import struct
from typing import NamedTuple

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.version import PROTOCOL_VERSION
from tests.protocol.binary.binary_packets import Packet, Reply

O = Opcode  # noqa: E741
NOT_FOUND, EXISTS, TOO_LARGE, INVALID, NOT_STORED, NON_NUMERIC = range(1, 7)
AUTH_ERROR, UNKNOWN = 0x20, 0x81
TEXTS = {
    NOT_FOUND: b"Not found",
    EXISTS: b"Data exists for key.",
    TOO_LARGE: b"Too large.",
    INVALID: b"Invalid arguments",
    NOT_STORED: b"Not stored.",
    NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    AUTH_ERROR: b"Auth failure.",
    UNKNOWN: b"Unknown command",
}
MARK = Packet(O.NOOP, opaque=0x600D)
MARKED = Reply(O.NOOP, opaque=0x600D)
ITEM_LIMIT_BYTES = 1 << 20


class BinaryCase(NamedTuple):
    """Requests, the replies to them, and whether the connection is closed behind them."""

    name: str
    requests: tuple[Packet, ...]
    replies: tuple[Reply, ...]
    closes: bool = False

    @property
    def sent(self) -> bytes:
        """All requests."""
        return b"".join([packet.to_bytes() for packet in self.requests])


def storing(
    opcode: int, key: bytes = b"a", value: bytes = b"x", flags: int = 0, exptime: int = 0, cas: int = 0
) -> Packet:
    return Packet(opcode, key, struct.pack("!II", flags, exptime), value, cas)


def joining(opcode: int, key: bytes = b"a", value: bytes = b"yz", cas: int = 0) -> Packet:
    return Packet(opcode, key, b"", value, cas)


def touching(opcode: int, key: bytes = b"a", exptime: int = 0) -> Packet:
    return Packet(opcode, key, struct.pack("!I", exptime))


def counting(
    opcode: int, key: bytes = b"n", delta: int = 1, initial: int = 0, exptime: int = 0, cas: int = 0
) -> Packet:
    return Packet(opcode, key, struct.pack("!QQI", delta, initial, exptime), cas=cas)


def hit(opcode: int, value: bytes = b"x", flags: int = 0, cas: int = 1, key: bytes = b"") -> Reply:
    return Reply(opcode, key=key, extras=struct.pack("!I", flags), value=value, cas=cas)


def number(opcode: int, value: int, cas: int) -> Reply:
    return Reply(opcode, value=struct.pack("!Q", value), cas=cas)


def error(opcode: int, status: int) -> Reply:
    return Reply(opcode, status, value=TEXTS[status])


def case(name: str, *parts: Packet | Reply, closes: bool = False) -> BinaryCase:
    requests = tuple(part for part in parts if isinstance(part, Packet))
    replies = tuple(part for part in parts if isinstance(part, Reply))
    return BinaryCase(name, requests, replies, closes)


SET = storing(O.SET)
STORED = Reply(O.SET, cas=1)

RETRIEVAL = [
    case("get", storing(O.SET, flags=5), STORED, Packet(O.GET, b"a"), hit(O.GET, flags=5)),
    case("get that misses", Packet(O.GET, b"a"), error(O.GET, NOT_FOUND)),
    case("getk", SET, STORED, Packet(O.GETK, b"a"), hit(O.GETK, key=b"a")),
    case("getk that misses tells the key alone", Packet(O.GETK, b"ab"), Reply(O.GETK, NOT_FOUND, key=b"ab")),
    case(
        "getq and getkq", SET, STORED, Packet(O.GETQ, b"a"), hit(O.GETQ), Packet(O.GETKQ, b"a"), hit(O.GETKQ, key=b"a")
    ),
    case("getq and getkq that miss are silent", Packet(O.GETQ, b"a"), Packet(O.GETKQ, b"a"), MARK, MARKED),
    case("get of an empty value", storing(O.SET, value=b""), STORED, Packet(O.GET, b"a"), hit(O.GET, b"")),
    case(
        "large flags, and a value with line ends",
        storing(O.SET, value=b"\r\nEND\r\n", flags=0xFFFFFFFF),
        STORED,
        Packet(O.GET, b"a"),
        hit(O.GET, b"\r\nEND\r\n", 0xFFFFFFFF),
    ),
    case(
        "a key no line can name",
        storing(O.SET, b"a b\r\n"),
        STORED,
        Packet(O.GETK, b"a b\r\n"),
        hit(O.GETK, key=b"a b\r\n"),
    ),
    case("a key of 250 bytes", storing(O.SET, b"k" * 250), STORED, Packet(O.GET, b"k" * 250), hit(O.GET)),
    case("touch tells the flags", storing(O.SET, flags=7), STORED, touching(O.TOUCH), hit(O.TOUCH, b"", 7)),
    case("touch that misses", touching(O.TOUCH), error(O.TOUCH, NOT_FOUND)),
    case(
        "touch with another time",
        SET,
        STORED,
        touching(O.TOUCH, exptime=100),
        hit(O.TOUCH, b""),
        Packet(O.GET, b"a"),
        hit(O.GET),
    ),
    case("gat", storing(O.SET, flags=7), STORED, touching(O.GAT), hit(O.GAT, flags=7)),
    case("gat that misses", touching(O.GAT), error(O.GAT, NOT_FOUND)),
    case("gatq", SET, STORED, touching(O.GATQ), hit(O.GATQ)),
    case("gatq and gatkq that miss are silent", touching(O.GATQ), touching(O.GATKQ), MARK, MARKED),
    case(
        "gatk and gatkq",
        SET,
        STORED,
        touching(O.GATK),
        hit(O.GATK, key=b"a"),
        touching(O.GATKQ),
        hit(O.GATKQ, key=b"a"),
    ),
    case("gatk that misses tells the key alone", touching(O.GATK, b"ab"), Reply(O.GATK, NOT_FOUND, key=b"ab")),
]

STORAGE = [
    case(
        "set over a value has another id", SET, STORED, SET, Reply(O.SET, cas=2), Packet(O.GET, b"a"), hit(O.GET, cas=2)
    ),
    case("set with its id", SET, STORED, storing(O.SET, value=b"y", cas=1), Reply(O.SET, cas=2)),
    case(
        "set with another id",
        SET,
        STORED,
        storing(O.SET, value=b"y", cas=9),
        error(O.SET, EXISTS),
        Packet(O.GET, b"a"),
        hit(O.GET),
    ),
    case("set with an id where nothing is", storing(O.SET, cas=9), error(O.SET, NOT_FOUND)),
    case("the largest exptime is far off", storing(O.SET, exptime=0xFFFFFFFF), STORED, Packet(O.GET, b"a"), hit(O.GET)),
    case(
        "an exptime from long ago",
        storing(O.SET, exptime=2592001),
        STORED,
        Packet(O.GET, b"a"),
        error(O.GET, NOT_FOUND),
    ),
    case("add", storing(O.ADD), Reply(O.ADD, cas=1), storing(O.ADD), error(O.ADD, EXISTS)),
    case("add with its id stores over the value", SET, STORED, storing(O.ADD, value=b"y", cas=1), Reply(O.ADD, cas=2)),
    case("add with an id where nothing is", storing(O.ADD, cas=9), error(O.ADD, NOT_FOUND)),
    case(
        "replace",
        SET,
        STORED,
        storing(O.REPLACE, value=b"y"),
        Reply(O.REPLACE, cas=2),
        Packet(O.GET, b"a"),
        hit(O.GET, b"y", cas=2),
    ),
    case("replace of nothing", storing(O.REPLACE), error(O.REPLACE, NOT_FOUND)),
    case("replace with another id", SET, STORED, storing(O.REPLACE, cas=9), error(O.REPLACE, EXISTS)),
    case(
        "append keeps the flags",
        storing(O.SET, flags=3),
        STORED,
        joining(O.APPEND),
        Reply(O.APPEND, cas=2),
        Packet(O.GET, b"a"),
        hit(O.GET, b"xyz", 3, 2),
    ),
    case(
        "prepend",
        SET,
        STORED,
        joining(O.PREPEND),
        Reply(O.PREPEND, cas=2),
        Packet(O.GET, b"a"),
        hit(O.GET, b"yzx", 0, 2),
    ),
    case(
        "append and prepend to nothing",
        joining(O.APPEND),
        error(O.APPEND, NOT_STORED),
        joining(O.PREPEND),
        error(O.PREPEND, NOT_STORED),
    ),
    case(
        "append with its id, and with another",
        SET,
        STORED,
        joining(O.APPEND, cas=1),
        Reply(O.APPEND, cas=2),
        joining(O.APPEND, cas=1),
        error(O.APPEND, EXISTS),
    ),
    case("append with an id to nothing", joining(O.APPEND, cas=9), error(O.APPEND, NOT_STORED)),
    case(
        "quiet stores tell of failures alone",
        storing(O.SETQ),
        storing(O.ADDQ),
        error(O.ADDQ, EXISTS),
        storing(O.REPLACEQ, value=b"y"),
        joining(O.APPENDQ, value=b"z"),
        joining(O.PREPENDQ, value=b"w"),
        joining(O.APPENDQ, b"none"),
        error(O.APPENDQ, NOT_STORED),
        storing(O.REPLACEQ, b"none"),
        error(O.REPLACEQ, NOT_FOUND),
        storing(O.SETQ, cas=9),
        error(O.SETQ, EXISTS),
        MARK,
        MARKED,
    ),
    case("a value of the largest size", storing(O.SET, value=b"v" * (ITEM_LIMIT_BYTES - 70000)), STORED),
    case(
        "a value too large removes the old one",
        SET,
        STORED,
        storing(O.SET, value=b"v" * ITEM_LIMIT_BYTES),
        error(O.SET, TOO_LARGE),
        Packet(O.GET, b"a"),
        error(O.GET, NOT_FOUND),
    ),
    case(
        "an add, replace or append too large leaves it",
        SET,
        STORED,
        storing(O.ADD, value=b"v" * ITEM_LIMIT_BYTES),
        error(O.ADD, TOO_LARGE),
        storing(O.REPLACEQ, value=b"v" * ITEM_LIMIT_BYTES),
        error(O.REPLACEQ, TOO_LARGE),
        joining(O.APPENDQ, value=b"v" * ITEM_LIMIT_BYTES),
        error(O.APPENDQ, TOO_LARGE),
        Packet(O.GET, b"a"),
        hit(O.GET),
    ),
    case(
        "an append beyond the limit is not stored",
        storing(O.SET, value=b"v" * 600000),
        STORED,
        joining(O.APPEND, value=b"w" * 600000),
        error(O.APPEND, NOT_STORED),
    ),
]

CHANGES = [
    case(
        "delete",
        SET,
        STORED,
        Packet(O.DELETE, b"a"),
        Reply(O.DELETE),
        Packet(O.DELETE, b"a"),
        error(O.DELETE, NOT_FOUND),
    ),
    case(
        "delete with its id",
        SET,
        STORED,
        Packet(O.DELETE, b"a", cas=1),
        Reply(O.DELETE),
        Packet(O.GET, b"a"),
        error(O.GET, NOT_FOUND),
    ),
    case(
        "delete with another id",
        SET,
        STORED,
        Packet(O.DELETE, b"a", cas=9),
        error(O.DELETE, EXISTS),
        Packet(O.GET, b"a"),
        hit(O.GET),
    ),
    case("delete with an id of nothing", Packet(O.DELETE, b"a", cas=9), error(O.DELETE, NOT_FOUND)),
    case("deleteq", SET, STORED, Packet(O.DELETEQ, b"a"), Packet(O.DELETEQ, b"a"), error(O.DELETEQ, NOT_FOUND)),
    case(
        "increment makes, then counts",
        counting(O.INCREMENT, initial=10),
        number(O.INCREMENT, 10, 1),
        counting(O.INCREMENT, delta=5),
        number(O.INCREMENT, 15, 2),
        Packet(O.GET, b"n"),
        hit(O.GET, b"15", 0, 2),
    ),
    case("increment that may not make", counting(O.INCREMENT, exptime=0xFFFFFFFF), error(O.INCREMENT, NOT_FOUND)),
    case(
        "increment wraps",
        storing(O.SET, b"n", b"18446744073709551615"),
        STORED,
        counting(O.INCREMENT, delta=2),
        number(O.INCREMENT, 1, 2),
    ),
    case(
        "increment with the largest delta",
        storing(O.SET, b"n", b"5"),
        STORED,
        counting(O.INCREMENT, delta=(1 << 64) - 1),
        number(O.INCREMENT, 4, 2),
    ),
    case(
        "decrement stops at 0 and keeps the length",
        storing(O.SET, b"n", b"10", 3),
        STORED,
        counting(O.DECREMENT, delta=100),
        number(O.DECREMENT, 0, 2),
        Packet(O.GET, b"n"),
        hit(O.GET, b"0 ", 3, 2),
    ),
    case(
        "decrement makes, too",
        counting(O.DECREMENT, initial=(1 << 64) - 1),
        number(O.DECREMENT, (1 << 64) - 1, 1),
        Packet(O.GET, b"n"),
        hit(O.GET, b"18446744073709551615"),
    ),
    case(
        "counting with its id, and with another",
        storing(O.SET, b"n", b"1"),
        STORED,
        counting(O.INCREMENT, cas=1),
        number(O.INCREMENT, 2, 2),
        counting(O.DECREMENT, cas=1),
        error(O.DECREMENT, EXISTS),
    ),
    case(
        "counting with an id makes what is missing", counting(O.INCREMENT, cas=9, initial=3), number(O.INCREMENT, 3, 1)
    ),
    case(
        "counting what is no number",
        storing(O.SET, b"n"),
        STORED,
        counting(O.INCREMENT),
        error(O.INCREMENT, NON_NUMERIC),
        counting(O.DECREMENT),
        error(O.DECREMENT, NON_NUMERIC),
    ),
    case(
        "counting an empty value with another id",
        storing(O.SET, b"n", b""),
        STORED,
        counting(O.INCREMENT, cas=9),
        error(O.INCREMENT, NON_NUMERIC),
    ),
    case(
        "no number and another id",
        storing(O.SET, b"n", b"x"),
        STORED,
        counting(O.INCREMENT, cas=9),
        error(O.INCREMENT, EXISTS),
    ),
    case(
        "what counting makes may expire",
        counting(O.INCREMENT, exptime=2592001),
        number(O.INCREMENT, 0, 1),
        Packet(O.GET, b"n"),
        error(O.GET, NOT_FOUND),
    ),
    case(
        "incrementq and decrementq",
        counting(O.INCREMENTQ, initial=4),
        counting(O.DECREMENTQ),
        counting(O.INCREMENTQ, b"none", exptime=0xFFFFFFFF),
        error(O.INCREMENTQ, NOT_FOUND),
        Packet(O.GETQ, b"n"),
        hit(O.GETQ, b"3"),
    ),
    case("flush", SET, STORED, Packet(O.FLUSH), Reply(O.FLUSH), Packet(O.GET, b"a"), error(O.GET, NOT_FOUND)),
    case(
        "flush with time 0",
        SET,
        STORED,
        Packet(O.FLUSH, extras=bytes(4)),
        Reply(O.FLUSH),
        Packet(O.GET, b"a"),
        error(O.GET, NOT_FOUND),
    ),
    case("flushq", SET, STORED, Packet(O.FLUSHQ), Packet(O.GET, b"a"), error(O.GET, NOT_FOUND)),
]

SERVER = [
    case("noop", Packet(O.NOOP), Reply(O.NOOP)),
    case("version", Packet(O.VERSION), Reply(O.VERSION, value=PROTOCOL_VERSION.encode())),
    case(
        "the opaque and the CAS id of a request come back, or do not",
        Packet(O.NOOP, cas=5, opaque=1),
        Reply(O.NOOP, opaque=1),
    ),
    case("quit", Packet(O.QUIT), Reply(O.QUIT), closes=True),
    case("quitq", MARK, MARKED, Packet(O.QUITQ), closes=True),
    case("an unknown command", Packet(0x50), error(0x50, UNKNOWN), MARK, MARKED),
    case("an unknown command with a value", Packet(0x1F, value=b"x" * 30), error(0x1F, UNKNOWN), MARK, MARKED),
    case(
        "sasl without a login",
        Packet(O.SASL_LIST),
        error(O.SASL_LIST, UNKNOWN),
        Packet(O.SASL_AUTH, b"PLAIN", b"", b"\0a\0b"),
        error(O.SASL_AUTH, UNKNOWN),
        Packet(O.SASL_STEP, b"PLAIN", b"", b"\0a\0b"),
        error(O.SASL_STEP, UNKNOWN),
        MARK,
        MARKED,
    ),
    case("stat reset", Packet(O.STAT, b"reset"), Reply(O.STAT)),
    case("stat resetting", Packet(O.STAT, b"resetting"), Reply(O.STAT)),
    case("stat of something unknown", Packet(O.STAT, b"foo"), error(O.STAT, NOT_FOUND)),
    case("stat conns", Packet(O.STAT, b"conns"), error(O.STAT, NOT_FOUND)),
    case("stat with the beginning of a word", Packet(O.STAT, b"item"), error(O.STAT, NOT_FOUND)),
    case(
        "stat items without items, cachedump and a longer word",
        Packet(O.STAT, b"cachedump 1 0"),
        error(O.STAT, NOT_FOUND),
        Packet(O.STAT, b"itemsx"),
        error(O.STAT, NOT_FOUND),
    ),
    case("stat sizes", Packet(O.STAT, b"sizes"), Reply(O.STAT, key=b"sizes_status", value=b"disabled"), Reply(O.STAT)),
    case(
        "stat detail",
        Packet(O.STAT, b"detail"),
        error(O.STAT, NOT_FOUND),
        Packet(O.STAT, b"detail on"),
        Reply(O.STAT),
        Packet(O.GET, b"p:a"),
        error(O.GET, NOT_FOUND),
        storing(O.SETQ, b"p:a"),
        Packet(O.GETQ, b"p:a"),
        hit(O.GETQ),
        Packet(O.DELETEQ, b"p:a"),
        Packet(O.STAT, b"detail off"),
        Reply(O.STAT),
        Packet(O.GETQ, b"p:a"),
        Packet(O.STAT, b"detail dump"),
        Reply(O.STAT, key=b"detailed", value=b"PREFIX p get 2 hit 1 set 1 del 1\r\nEND\r\n"),
        Reply(O.STAT),
        Packet(O.STAT, b"reset"),
        Reply(O.STAT),
    ),
]

FAULTS = [
    ("get with extras", Packet(O.GET, b"a", b"1234"), INVALID),
    ("get without a key", Packet(O.GET), INVALID),
    ("get with a value", Packet(O.GET, b"a", value=b"x"), INVALID),
    ("a key of 251 bytes", Packet(O.GET, b"k" * 251), INVALID),
    ("an unknown command with a key of 251 bytes", Packet(0x50, b"k" * 251), INVALID),
    ("a body shorter than the key", Packet(O.GET, b"a", body_bytes=0), UNKNOWN),
    ("a body shorter than key and extras", storing(O.SET, value=b"")._replace(body_bytes=8), UNKNOWN),
    ("a body of more than a gigabyte", storing(O.SET)._replace(body_bytes=(1 << 30) + 1), INVALID),
    ("set without extras", Packet(O.SET, b"a", value=b"x"), INVALID),
    ("set without a key", storing(O.SET, b""), INVALID),
    ("setq with other extras", Packet(O.SETQ, b"a", bytes(7), b"x"), INVALID),
    ("append with extras", Packet(O.APPEND, b"a", bytes(8), b"x"), INVALID),
    ("append without a key", joining(O.APPEND, b""), INVALID),
    ("delete with a value", Packet(O.DELETE, b"a", value=b"x"), INVALID),
    ("delete without a key", Packet(O.DELETE), INVALID),
    ("increment with other extras", Packet(O.INCREMENT, b"a", bytes(16)), INVALID),
    ("increment with a value", counting(O.INCREMENT)._replace(value=b"x"), INVALID),
    ("increment without a key", counting(O.INCREMENT, b""), INVALID),
    ("touch without extras", Packet(O.TOUCH, b"a"), INVALID),
    ("gatkq without a key", touching(O.GATKQ, b""), INVALID),
    ("noop with a key", Packet(O.NOOP, b"a"), INVALID),
    ("version with a value", Packet(O.VERSION, value=b"x"), INVALID),
    ("flush with a key", Packet(O.FLUSH, b"a"), INVALID),
    ("flush with two bytes of extras", Packet(O.FLUSH, extras=b"\0\0"), INVALID),
    ("quit with extras", Packet(O.QUIT, extras=b"\0"), INVALID),
    ("quitq with a key", Packet(O.QUITQ, b"a"), INVALID),
    ("stat with extras", Packet(O.STAT, extras=b"\0\0\0\0"), INVALID),
    ("sasl list with a key", Packet(O.SASL_LIST, b"a"), INVALID),
    ("sasl auth without a mechanism", Packet(O.SASL_AUTH, value=b"\0a\0b"), INVALID),
]
"""Requests whose lengths do not fit: they are answered, and the connection is closed."""

CLOSING = [
    case(name, MARK, MARKED, packet, error(packet.opcode, status), closes=True) for name, packet, status in FAULTS
]
CLOSING += [
    case("another magic byte", MARK, MARKED, Packet(O.NOOP, magic=0x81), closes=True),
    case("text", MARK, MARKED, Packet(0x65, magic=0x67, value=b"version\r\n"), closes=True),
    case(
        "touch with a value, which is no request",
        MARK,
        MARKED,
        touching(O.TOUCH)._replace(value=b"x" * 24),
        error(O.TOUCH, NOT_FOUND),
        closes=True,
    ),
]

OPEN = [*RETRIEVAL, *STORAGE, *CHANGES, *(each for each in SERVER if not each.closes)]
CASES = [*OPEN, *(each for each in SERVER if each.closes), *CLOSING]
