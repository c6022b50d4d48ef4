"""A conversation in HTTP, and whole replies to its requests."""

import re
from typing import NamedTuple

from memcache_kv.auth.access import Origin
from memcache_kv.config.settings import Settings
from memcache_kv.protocol.http.framing import HttpProtocol
from memcache_kv.protocol.http.listener import dialect_of, item_site
from tests.protocol.context_factory import Surroundings
from tests.protocol.credentials import AtOnce, Later

HOST = b"Host: localhost:8080\r\n"
JSON_TYPE = b"Content-Type: application/json\r\n"


def ask(method: str, target: str, body: bytes | None = None, headers: bytes = b"") -> bytes:
    """The bytes of a request."""
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return f"{method} {target} HTTP/1.1\r\n".encode() + HOST + headers + length + b"\r\n" + (body or b"")


def reply(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    """The bytes of a reply, without its date."""
    has_body = not status.startswith(("204", "304"))
    length = b"Content-Length: %d\r\n" % len(body) if has_body else b""
    return f"HTTP/1.1 {status}\r\n".encode() + headers + length + b"\r\n" + body


def without_dates(data: bytes) -> bytes:
    """Replies without the lines of their dates, each of which is checked."""
    return re.sub(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"", data)


class HttpCase(NamedTuple):
    """Requests and all replies to them, without dates, from an empty store."""

    name: str
    request: bytes
    reply: bytes


STORED = reply("200 OK", b'{"message": "Value stored successfully"}', JSON_TYPE)
DELETED = reply("200 OK", b'{"message": "Key deleted successfully"}', JSON_TYPE)
MISSING = reply("404 Not Found", b'{"error": "Key not found"}', JSON_TYPE)
NO_VALUE = reply(
    "400 Bad Request", b'{"error":"The body must be a JSON object with the member \\"value\\""}', JSON_TYPE
)
NO_PATH = reply("404 Not Found", b'{"error":"Nothing is at this path; a key is /key, or /v1/kv/key"}', JSON_TYPE)
PLAIN, NOSNIFF = b"Content-Type: text/plain\r\n", b"X-Content-Type-Options: nosniff\r\n"
BYTES = b"Content-Type: application/octet-stream\r\n"


def value(json: bytes) -> bytes:
    return reply("200 OK", b'{"value": ' + json + b"}", JSON_TYPE)


def put_value(key: str, json: bytes) -> bytes:
    return ask("PUT", f"/{key}", b'{"value": ' + json + b"}")


def tag(number: int) -> bytes:
    return b'ETag: "%d"\r\n' % number


def item(body: bytes, number: int, kind: bytes = BYTES) -> bytes:
    return reply("200 OK", body, kind + tag(number) + NOSNIFF)


def problem(status: str, detail: str, headers: bytes = b"") -> bytes:
    number, _, title = status.partition(" ")
    body = f'{{"type": "about:blank", "title": "{title}", "status": {number}, "detail": "{detail}"}}\n'
    return reply(status, body.encode(), b"Content-Type: application/problem+json\r\n" + headers)


NO_ITEM = problem("404 Not Found", "There is no item with this key.")
FAILED = problem("412 Precondition Failed", "The item is not as If-Match or If-None-Match demands.")
VALUE_METHODS, ITEM_METHODS = b"Allow: GET, HEAD, POST, PUT, DELETE\r\n", b"Allow: GET, HEAD, PUT, DELETE\r\n"

VALUE_CASES = [
    HttpCase("a value comes back", put_value("k", b'"v"') + ask("GET", "/k"), STORED + value(b'"v"')),
    HttpCase("a value by POST", ask("POST", "/k", b'{"value":1}') + ask("GET", "/k"), STORED + value(b"1")),
    *[HttpCase(f"the value {json!r}", put_value("k", json) + ask("GET", "/k"), STORED + value(json))
      for json in (b"null", b"true", b"-1.50e3", b'""', b"[]", b'{"a": [1, {"b": null}]}', b"123456789012345678901234",
                   '"žluťoučký"'.encode(), b'"\\u00e9\\n"')],
    HttpCase("further members", ask("PUT", "/k", b'{"x": 1, "value": 2, "y": {}}') + ask("GET", "/k"),
             STORED + value(b"2")),
    HttpCase("a value is replaced", put_value("k", b"1") + put_value("k", b"2") + ask("GET", "/k"),
             STORED * 2 + value(b"2")),
    HttpCase("a missing key", ask("GET", "/k"), MISSING),
    HttpCase("delete", put_value("k", b"1") + ask("DELETE", "/k") + ask("DELETE", "/k") + ask("GET", "/k"),
             STORED + DELETED + MISSING * 2),
    HttpCase("an encoded key", put_value("a%20b%2fc%C3%A9", b"1") + ask("GET", "/a%20b%2Fc%c3%a9") + ask("GET", "/a"),
             STORED + value(b"1") + MISSING),
    HttpCase("an unfinished escape", put_value("a%2", b"1") + ask("GET", "/a%252"), STORED + value(b"1")),
    HttpCase("HEAD", put_value("k", b"1") + ask("HEAD", "/k"),
             STORED + b"HTTP/1.1 200 OK\r\n" + JSON_TYPE + b"Content-Length: 12\r\n\r\n"),
    *[HttpCase(f"the body {body!r}", ask("PUT", "/k", body) + ask("GET", "/k"), NO_VALUE + MISSING)
      for body in (b"", b"{}", b"1", b'{"value": }', b'{"value": 1', b'{"value": NaN}', b'{"value": "\xff"}',
                   b"[" * 9999)],
    HttpCase("the longest key", put_value("k" * 250, b"1") + ask("GET", "/" + "k" * 250), STORED + value(b"1")),
    HttpCase("a longer key", ask("GET", "/" + "k" * 251),
             reply("400 Bad Request", b'{"error":"The key has 251 bytes; allowed: 1 to 250."}', JSON_TYPE)),
    HttpCase("no key", ask("GET", "/") + ask("GET", "/a/b"),
             NO_PATH * 2),
    HttpCase("another method", ask("PATCH", "/k"), reply(
        "405 Method Not Allowed", b'{"error":"The method is not allowed here."}', JSON_TYPE + VALUE_METHODS)),
]  # fmt: skip

ITEM = "/v1/kv/k"
PUT_ONE = ask("PUT", ITEM, b"one", PLAIN)
CREATED, REPLACED = reply("201 Created", b"", tag(1)), reply("204 No Content", b"", tag(2))
NOT_KEPT = problem(
    "415 Unsupported Media Type",
    "The type can't be kept: send one of the types of the documentation, alone or with a charset of it.",
)

ITEM_CASES = [
    HttpCase("an item comes back", PUT_ONE + ask("GET", ITEM), CREATED + item(b"one", 1, PLAIN)),
    HttpCase("an item without a type", ask("PUT", ITEM, b"\0\xff") + ask("GET", ITEM), CREATED + item(b"\0\xff", 1)),
    HttpCase("an empty item", ask("PUT", ITEM, b"") + ask("GET", ITEM), CREATED + item(b"", 1)),
    HttpCase("an item is replaced", PUT_ONE + ask("PUT", ITEM, b"two") + ask("GET", ITEM),
             CREATED + REPLACED + item(b"two", 2)),
    HttpCase("HEAD of an item", PUT_ONE + ask("HEAD", ITEM) + ask("HEAD", "/v1/kv/x"),
             CREATED + item(b"one", 1, PLAIN)[:-3] + NO_ITEM[: NO_ITEM.index(b"\r\n\r\n") + 4]),
    HttpCase("a missing item", ask("GET", ITEM), NO_ITEM),
    HttpCase("an item is deleted", PUT_ONE + ask("DELETE", ITEM) + ask("DELETE", ITEM),
             CREATED + reply("204 No Content") + NO_ITEM),
    HttpCase("a key with slashes", ask("PUT", "/v1/kv/a/b//c", b"1") + ask("GET", "/v1/kv/a%2Fb%2f%2Fc"),
             CREATED + item(b"1", 1)),
    HttpCase("a key of any bytes", ask("PUT", "/v1/kv/%00%0D%0A%20%ff", b"1") + ask("GET", "/v1/kv/%00%0d%0a%20%FF"),
             CREATED + item(b"1", 1)),
    HttpCase("an item by absolute target", ask("PUT", "http://localhost/v1/kv/k", b"1") + ask("GET", ITEM),
             CREATED + item(b"1", 1)),
    HttpCase("the same store for both", put_value("k", b'{"a":1}') + ask("GET", ITEM) + ask("GET", "/k"),
             STORED + item(b'{"a":1}', 1, JSON_TYPE) + value(b'{"a":1}')),
    HttpCase("text read as JSON", PUT_ONE + ask("GET", "/k"), CREATED + value(b'"one"')),
    HttpCase("bytes read as JSON", ask("PUT", ITEM, b"\xff") + ask("GET", "/k"), CREATED + reply(
        "406 Not Acceptable", b'{"error":"The value is not text; only /v1/kv and memcached\'s protocols can read it"}',
        JSON_TYPE)),
    HttpCase("what is not JSON after all", ask("PUT", ITEM, b"{]", JSON_TYPE) + ask("GET", "/k"),
             CREATED + value(b'"{]"')),
    HttpCase("a document",
             ask("PUT", ITEM, b"<p>", b'Content-Type: TEXT/HTML;charset="UTF-8"\r\n') + ask("GET", ITEM),
             CREATED + reply("200 OK", b"<p>", b"Content-Type: text/html; charset=utf-8\r\n" + tag(1) + NOSNIFF
                             + b"Content-Security-Policy: sandbox\r\n")),
    HttpCase("a type that can't be kept", ask("PUT", ITEM, b"1", b"Content-Type: a/b\r\n") + ask("GET", ITEM),
             NOT_KEPT + NO_ITEM),
    HttpCase("another method for an item", ask("POST", ITEM, b"1"),
             problem("405 Method Not Allowed", "The method is not allowed here.", ITEM_METHODS)),
    HttpCase("a path of nothing", ask("GET", "/v1/x") + ask("GET", "/v1/kv/"),
             problem("404 Not Found", "There is nothing at this path.") * 2),
    HttpCase("a ttl", ask("PUT", ITEM + "?ttl=10", b"1") + ask("GET", ITEM), CREATED + item(b"1", 1)),
    HttpCase("the longest ttl", ask("PUT", ITEM + "?ttl=2147483647", b"1") + ask("GET", ITEM), CREATED + item(b"1", 1)),
    *[HttpCase(f"the ttl {ttl!r}", ask("PUT", f"{ITEM}?ttl={ttl}", b"1") + ask("GET", ITEM), problem(
        "400 Bad Request", f"ttl must be a number from 0 to 2147483647, not '{ttl}'.") + NO_ITEM)
      for ttl in ("2147483648", "-1", "x", "1.5", "", "1_0")],
    HttpCase("an unknown parameter", ask("PUT", ITEM + "?tll=1", b"1") + ask("GET", ITEM + "?ttl=1"),
             problem("400 Bad Request", "'tll' is not a parameter; allowed: ttl.")
             + problem("400 Bad Request", "'ttl' is not a parameter; allowed: none.")),
    HttpCase("not modified", PUT_ONE + ask("GET", ITEM, None, b'If-None-Match: "7", W/"1"\r\n'),
             CREATED + reply("304 Not Modified", b"", tag(1))),
    HttpCase("any is not modified", PUT_ONE + ask("GET", ITEM, None, b"If-None-Match: *\r\n"),
             CREATED + reply("304 Not Modified", b"", tag(1))),
    HttpCase("modified", PUT_ONE + ask("GET", ITEM, None, b'If-None-Match: "2"\r\n'), CREATED + item(b"one", 1, PLAIN)),
    HttpCase("a missing item is not unmodified", ask("GET", ITEM, None, b"If-None-Match: *\r\n"), NO_ITEM),
    HttpCase("read if it matches", PUT_ONE + ask("GET", ITEM, None, b'If-Match: "1"\r\n')
             + ask("GET", ITEM, None, b'If-Match: "2"\r\n') + ask("GET", ITEM, None, b'If-Match: W/"1"\r\n'),
             CREATED + item(b"one", 1, PLAIN) + FAILED * 2),
    HttpCase("only if it is new", ask("PUT", ITEM, b"1", b"If-None-Match: *\r\n") * 2, CREATED + FAILED),
    HttpCase("only if it is there", ask("PUT", ITEM, b"1", b"If-Match: *\r\n") + PUT_ONE
             + ask("PUT", ITEM, b"2", b"If-Match: *\r\n"), FAILED + CREATED + REPLACED),
    HttpCase("compare and swap", PUT_ONE + ask("PUT", ITEM, b"2", b'If-Match: "1"\r\n') * 2 + ask("GET", ITEM),
             CREATED + REPLACED + FAILED + item(b"2", 2)),
    HttpCase("swap if it is none of these", PUT_ONE + ask("PUT", ITEM, b"2", b'If-None-Match: "1"\r\n')
             + ask("PUT", ITEM, b"2", b'If-None-Match: "5"\r\n'), CREATED + FAILED + REPLACED),
    HttpCase("delete if it matches", PUT_ONE + ask("DELETE", ITEM, None, b'If-Match: "2"\r\n')
             + ask("DELETE", ITEM, None, b'If-Match: "1"\r\n') + ask("DELETE", ITEM, None, b'If-Match: "1"\r\n'),
             CREATED + FAILED + reply("204 No Content") + FAILED),
    *[HttpCase(f"the tag {text!r}", ask("GET", ITEM, None, b"If-Match: %b\r\n" % text),
               problem("400 Bad Request", 'If-Match must be * or a list of tags such as \\"12\\".'))
      for text in (b"1", b'"1', b'"1" "2"', b"w/\"1\"")],
    HttpCase("tags that no item has", PUT_ONE + ask("GET", ITEM, None, b'If-Match: "", "01", "x", "1"\r\n'),
             CREATED + item(b"one", 1, PLAIN)),
]  # fmt: skip

CHUNKED = (
    b"PUT /v1/kv/k HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\non\r\n1;x=y\r\ne\r\n0\r\nTrailer: 1\r\n\r\n"
)
FRAMING_CASES = [
    HttpCase("a body in chunks", CHUNKED + ask("GET", ITEM), CREATED + item(b"one", 1)),
    HttpCase("lines that end in one byte", b"GET /k HTTP/1.1\nHost: a\n\n" * 2, MISSING * 2),
    HttpCase("headers in any case", b"GET /k HTTP/1.1\r\nhOST: a\r\n\r\n", MISSING),
    HttpCase("a name beside the address", b"GET /k HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", MISSING),
]
CASES = VALUE_CASES + ITEM_CASES + FRAMING_CASES


class HttpTalk:
    """HTTP driven as a worker drives it: fed, sent from, resumed while it is paused."""

    def __init__(
        self,
        around: Surroundings | None = None,
        users: AtOnce | Later | None = None,
        settings: Settings | None = None,
        origin: Origin | None = None,
        protocol_class: type[HttpProtocol] = HttpProtocol,
    ) -> None:
        self.around = around if around is not None else Surroundings(settings)
        dialect = dialect_of("http", item_site(self.around.settings), protocol_class)
        made = dialect.make(self.around.context, 30, users, origin or Origin())
        assert isinstance(made, HttpProtocol)
        self.protocol = made

    def feed(self, *pieces: bytes) -> bytes:
        """Give it bytes in several reads; return what it answers, without dates."""
        return without_dates(b"".join([self._feed(piece) for piece in pieces if piece]))

    def _feed(self, data: bytes) -> bytes:
        protocol = self.protocol
        if protocol.closing:
            return b""
        protocol.receive(data)
        return self.go_on()

    def go_on(self) -> bytes:
        """Resume it while it is paused, and return all that it answers."""
        protocol = self.protocol
        sent = self._take()
        while protocol.paused and not protocol.closing:
            protocol.resume()
            sent += self._take()
        return sent

    def _take(self) -> bytes:
        sent = b"".join(self.protocol.out)
        self.protocol.out.clear()
        return sent
