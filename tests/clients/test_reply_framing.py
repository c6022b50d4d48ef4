"""Where replies end, fed whole and byte by byte."""

import pytest

from clients.reply_framing import expect

REPLIES = [
    (b"get a", b"END\r\n"),
    (b"get a", b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n"),
    (b"gets a b", b"VALUE a 0 1 7\r\nx\r\nVALUE b 0 0 8\r\n\r\nEND\r\n"),
    (b"gat 10 a", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    (b"get a", b"SERVER_ERROR out of memory\r\n"),
    (b"get", b"ERROR\r\n"),
    (b"set a 0 0 1", b"STORED\r\n"),
    (b"incr a 1", b"6\r\n"),
    (b"delete a", b"NOT_FOUND\r\n"),
    (b"version", b"VERSION 1.6.45\r\n"),
    (b"stats", b"STAT pid 1\r\nSTAT END_of 2\r\nEND\r\n"),
    (b"stats reset", b"RESET\r\n"),
    (b"stats bogus", b"CLIENT_ERROR bad\r\n"),
    (b"lru_crawler metadump all", b"OK\r\nkey=a exp=-1\r\nEND\r\n"),
    (b"lru_crawler mgdump all", b"OK\r\nmg a\r\nEN\r\n"),
    (b"config get cluster", b"CONFIG cluster 0 3\r\n1\na\r\n\r\nEND\r\n"),
    (b"mg a v", b"VA 4 f0\r\nEN\r\n\r\n"),
    (b"mg a", b"HD\r\n"),
    (b"mg a v", b"EN\r\n"),
    (b"ms a 1", b"HD\r\n"),
    (b"me a", b"ME a exp=-1\r\n"),
    (b"mn", b"MN\r\n"),
    (b"mg a v q", b"VA 9\r\nVERSION 1\r\nVERSION 1.6.45\r\n"),
    (b"set a 0 0 1 noreply", b"VERSION 1.6.45\r\n"),
    (b"set a 0 0 x noreply", b"CLIENT_ERROR bad data chunk\r\nVERSION 1.6.45\r\n"),
    (b"", b"ERROR\r\n"),
]


@pytest.mark.parametrize(("line", "reply"), REPLIES)
def test_a_reply_is_complete_at_its_last_byte_and_not_before(line: bytes, reply: bytes) -> None:
    reply_end = expect(line).reply_end
    assert [reply_end(reply[:size]) for size in range(len(reply))] == [None] * len(reply)
    assert reply_end(reply) == len(reply)


@pytest.mark.parametrize(("line", "reply"), REPLIES)
def test_what_follows_a_reply_is_not_part_of_it(line: bytes, reply: bytes) -> None:
    assert expect(line).reply_end(reply + b"STORED\r\n") == len(reply)


@pytest.mark.parametrize(
    ("line", "data_bytes"),
    [
        (b"set k 0 0 5", 5),
        (b"cas k 1 0 12 99 noreply", 12),
        (b"append k 0 0 0", 0),
        (b"ms k 3 T30", 3),
        (b"set k 7", 7),
        (b"set k 0 0 -1", None),
        (b"set k 0 0 many", None),
        (b"ms k", None),
        (b"get set 0 0 5", None),
    ],
)
def test_a_storage_line_asks_for_as_much_data_as_it_announces(line: bytes, data_bytes: int | None) -> None:
    assert expect(line).data_bytes == data_bytes
