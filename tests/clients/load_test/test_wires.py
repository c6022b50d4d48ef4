"""The protocols of the load: what their requests are, and where their replies end, however they are cut."""

import pytest

from clients.load_test.wires import DEFAULT_PORTS, wire_for
from clients.load_test.wires.binary import HEADER
from clients.load_test.wires.wire import BadReply, Outcome

STORED, HIT, MISS, ERROR = Outcome.STORED, Outcome.HIT, Outcome.MISS, Outcome.ERROR


def packet(status: int, body: bytes, extras: int = 0) -> bytes:
    """A reply of the binary protocol."""
    return HEADER.pack(0x81, 0, 0, extras, 0, status, len(body), 0, 0) + body


def response(status: str, body: bytes, length: str = "Content-Length") -> bytes:
    return f"HTTP/1.1 {status}\r\nServer: x\r\n{length}: {len(body)}\r\n\r\n".encode() + body


REQUESTS = [
    ("line", 0, b"PUT k v\n", b"GET k\n"),
    ("line", 9, b"PUT k v 9\n", b"GET k\n"),
    ("text", 0, b"set k 0 0 1\r\nv\r\n", b"get k\r\n"),
    ("text", 9, b"set k 0 9 1\r\nv\r\n", b"get k\r\n"),
    ("meta", 0, b"ms k 1\r\nv\r\n", b"mg k v\r\n"),
    ("meta", 9, b"ms k 1 T9\r\nv\r\n", b"mg k v\r\n"),
    ("binary", 9, HEADER.pack(0x80, 1, 1, 8, 0, 0, 10, 0, 0) + b"\0\0\0\0\0\0\0\x09kv",
     HEADER.pack(0x80, 0, 1, 0, 0, 0, 1, 0, 0) + b"k"),
    ("http", 9, b"PUT /v1/kv/k?ttl=9 HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/octet-stream\r\n"
     b"Content-Length: 1\r\n\r\nv", b"GET /v1/kv/k HTTP/1.1\r\nHost: h:1\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "ttl", "put", "get"), REQUESTS)
def test_requests(protocol: str, ttl: int, put: bytes, get: bytes) -> None:
    wire = wire_for(protocol, ttl, "h:1")
    assert wire.put(b"k", b"v") == put
    assert wire.get(b"k") == get


def test_http_keys_are_segments_of_a_path() -> None:
    assert wire_for("http", 0, "h").get(b"a/b ?%\xff~").startswith(b"GET /v1/kv/a%2Fb%20%3F%25%FF~ HTTP/1.1\r\n")


REPLIES = [
    ("line", False, b"OK stored\n", STORED),
    ("line", True, b"OK stored\r\n", HIT),
    ("line", True, b"ERROR key not found\n", MISS),
    ("line", True, b"ERROR the value is stale\n", ERROR),
    ("line", False, b"ERROR out of memory\n", ERROR),
    ("text", False, b"STORED\r\n", STORED),
    ("text", True, b"VALUE k 0 7\r\na\r\nEND\r\r\nEND\r\n", HIT),
    ("text", True, b"VALUE k 0 0\r\n\r\nEND\r\n", HIT),
    ("text", True, b"END\r\n", MISS),
    ("text", False, b"SERVER_ERROR out of memory storing object\r\n", ERROR),
    ("text", True, b"STORED\r\n", ERROR),
    ("text", False, b"END\r\n", ERROR),
    ("meta", False, b"HD\r\n", STORED),
    ("meta", True, b"VA 4\r\na\r\nb\r\n", HIT),
    ("meta", True, b"VA 4 t-1 f0\r\na\r\nb\r\n", HIT),
    ("meta", True, b"EN\r\n", MISS),
    ("meta", False, b"NS\r\n", ERROR),
    ("meta", True, b"HD\r\n", ERROR),
    ("binary", False, packet(0, b""), STORED),
    ("binary", True, packet(0, b"\0\0\0\0value", 4), HIT),
    ("binary", True, packet(1, b"Not found"), MISS),
    ("binary", False, packet(0x82, b"Out of memory"), ERROR),
    ("binary", False, packet(1, b"Not found"), ERROR),
    ("http", False, response("201 Created", b""), STORED),
    ("http", False, b"HTTP/1.1 204 No Content\r\nETag: \"1\"\r\n\r\n", STORED),
    ("http", True, response("200 OK", b"HTTP/1.1 200 OK\r\n\r\n"), HIT),
    ("http", True, response("200 OK", b"v", "content-length"), HIT),
    ("http", True, response("404 Not Found", b"{}"), MISS),
    ("http", False, response("404 Not Found", b"{}"), ERROR),
    ("http", False, response("507 Insufficient Storage", b"{}"), ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "is_get", "reply", "outcome"), REPLIES)
def test_replies_end_where_they_end(protocol: str, is_get: bool, reply: bytes, outcome: Outcome) -> None:
    wire = wire_for(protocol, 0, "h")
    for before in (b"", reply):
        for behind in (b"", reply, b"x"):
            data = before + reply + behind
            assert wire.reply(data, len(before), is_get) == (len(before) + len(reply), outcome)
        for cut in range(len(reply)):
            assert wire.reply(before + reply[:cut], len(before), is_get)[0] == 0


@pytest.mark.parametrize(
    ("protocol", "reply", "words"),
    [
        ("line", b"ERROR bad key\n", "ERROR bad key"),
        ("text", b"SERVER_ERROR x\r\n", "SERVER_ERROR x"),
        ("meta", b"CLIENT_ERROR \xff\r\n", "CLIENT_ERROR \\xff"),
        ("binary", packet(0x82, b"Out of memory"), "status 0x82 Out of memory"),
        ("http", response("507 Full", b"{}"), "HTTP/1.1 507 Full {}"),
    ],
)
def test_errors_have_words(protocol: str, reply: bytes, words: str) -> None:
    assert wire_for(protocol, 0, "h").words_of(reply) == words


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        ("text", b"x" * 3000),
        ("text", b"VALUE k 0 x\r\n"),
        ("meta", b"VA x\r\n"),
        ("binary", b"ERROR\r\n" * 10),
        ("http", b"ERROR\r\n\r\n"),
        ("http", b"x" * 20000),
        ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_what_is_no_reply_is_found(protocol: str, data: bytes) -> None:
    with pytest.raises(BadReply):
        wire_for(protocol, 0, "h").reply(data, 0, True)


def test_every_protocol_has_a_port() -> None:
    assert list(DEFAULT_PORTS) == ["line", "text", "meta", "binary", "http"]
