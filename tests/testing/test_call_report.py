"""Calls as lines for people."""

from memcache_kv.protocol.binary.frames import HEAD, REPLY, REPLY_MAGIC, REQUEST_MAGIC, Opcode
from memcache_kv.testing.call_report import call_lines
from memcache_kv.traffic.conversation import Call, Conversation
from memcache_kv.traffic.wire import UNKNOWN_NAME, WireRequest


def calls_of(asked: bytes, answered: bytes) -> list[Call]:
    """Cut a conversation into calls, all at second 12.5."""
    conversation = Conversation(3, lambda: 12.5)
    conversation.asked(asked)
    return conversation.answered(answered)


def lines_of(asked: bytes, answered: bytes) -> list[str]:
    head, *lines = call_lines(calls_of(asked, answered), 10.0).split("\n")
    assert head.startswith("commands: ")
    return lines


def test_text_has_its_lines_beside_one_another() -> None:
    asked = b"set user:1 5 60 5\r\nhello\r\nget user:1\r\nmg k v\r\n"
    assert lines_of(asked, b"STORED\r\nVALUE user:1 5 5\r\nhello\r\nEND\r\nVA 1\r\nx\r\n") == [
        "   2.500 s  #3  set user:1 5 60 5 | hello  ->  STORED",
        "   2.500 s  #3  get user:1                 ->  VALUE user:1 5 5 | hello | END",
        "   2.500 s  #3  mg k v                     ->  VA 1 | x",
    ]


def test_requests_without_a_reply_say_whether_one_was_asked_for() -> None:
    assert lines_of(b"set a 0 0 1 noreply\r\n1\r\n", b"") == [
        "   2.500 s  #3  set a 0 0 1 noreply | 1  ->  (none was asked for)"
    ]
    lost = Call(WireRequest("get", (b"a",), b"get a\r\n", True), b"", 10.0, 11.0)
    assert call_lines([lost], 10.0).endswith("   0.000 s  #0  get a  ->  (no reply)")


def test_what_is_long_or_no_text_is_shown_in_part_and_escaped() -> None:
    [line] = lines_of(b"set a 0 0 100\r\n" + b"\0\xff" * 50 + b"\r\n", b"STORED\r\n")
    assert "set a 0 0 100 | \\x00\\xff\\x00" in line
    assert "… (117 bytes)  ->  STORED" in line
    assert line.isascii() or line.replace("…", "").isascii()


def test_packets_are_named() -> None:
    asked = HEAD.pack(REQUEST_MAGIC << 8 | Opcode.SET, 1, 8, 14, 0, 0) + bytes(8) + b"khello"
    asked += HEAD.pack(REQUEST_MAGIC << 8 | Opcode.GET, 1, 0, 1, 0, 0) + b"k"
    asked += HEAD.pack(REQUEST_MAGIC << 8 | Opcode.GET, 1, 0, 1, 0, 0) + b"m"
    answered = REPLY.pack(REPLY_MAGIC, Opcode.SET, 0, 0, 0, 0, 0, 1)
    answered += REPLY.pack(REPLY_MAGIC, Opcode.GET, 0, 4, 0, 9, 0, 1) + bytes(4) + b"hello"
    answered += REPLY.pack(REPLY_MAGIC, Opcode.GET, 0, 0, 1, 9, 0, 0) + b"Not found"
    assert lines_of(asked, answered) == [
        "   2.500 s  #3  set k | hello  ->  success",
        "   2.500 s  #3  get k          ->  success | hello",
        "   2.500 s  #3  get m          ->  Not found (status 0x01)",
    ]


def test_of_many_calls_the_last_are_shown() -> None:
    calls = calls_of(b"mn\r\n" * 100 + b"version\r\n", b"MN\r\n" * 100 + b"VERSION 1.6.45\r\n")
    head, *lines = call_lines(calls, 12.5).split("\n")
    assert head.startswith("commands: the last 30 of 101; ")
    assert len(lines) == 30
    assert lines[-1].endswith("VERSION 1.6.45")


def test_bytes_of_no_known_form_are_shown_too() -> None:
    unknown = Call(WireRequest(UNKNOWN_NAME, (), b"\x16\x03\x01", False), b"", 10.0, 10.0)
    assert call_lines([unknown], 10.0).endswith("#0  \\x16\\x03\\x01  ->  (none was asked for)")
