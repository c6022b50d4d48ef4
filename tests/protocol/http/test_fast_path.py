"""The fast path of HTTP gives exactly the replies of the general path, in which h11 parses every request."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.protocol.http.fast_path import known_headers
from memcache_kv.protocol.http.framing import HttpProtocol
from tests.protocol.context_factory import Conversation
from tests.protocol.http.http_talk import HOST, HttpTalk, ask


class GeneralHttpProtocol(HttpProtocol):
    """HTTP without its fast path."""

    __slots__ = ()

    def _run_common(self, data: bytes, position: int, done: int) -> tuple[int, int]:
        return position, done


LINES = st.sampled_from(
    [b"GET /k HTTP/1.1", b"GET /v1/kv/k HTTP/1.1", b"HEAD /v1/kv/k HTTP/1.1", b"PUT /k HTTP/1.1", b"DELETE /k HTTP/1.1",
     b"PUT /v1/kv/k?ttl=3 HTTP/1.1", b"GET /%6b?x=1 HTTP/1.1", b"POST /v1/pipeline HTTP/1.1", b"GET /v1/kv HTTP/1.1",
     b"GET /k HTTP/1.0", b"GET  /k HTTP/1.1", b"get /k HTTP/1.1", b"GET /k\x80 HTTP/1.1", b"GET /k", b"GET k HTTP/1.1",
     b"GET http://a.b/k HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /k HTTP/1.1 ", b"GET /\x01 HTTP/1.1",
     b"\r\nGET /k HTTP/1.1"]
)  # fmt: skip
EXTRAS = st.sampled_from(
    [b"", b"", b"Accept: */*\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: y\n z\r\n",
     b" folded\r\n", b"Expect: 100-continue\r\n", b"Transfer-Encoding: chunked\r\n", b'If-None-Match: "1"\r\n',
     b"Host: b\r\n", b"bad\r\n", b"Content-Length: 5\r\n", b"Origin: http://evil.example\r\n", b"X: a\nHost: c\r\n",
     b"Content-Type: text/plain\r\n", b"content-length: 3, 3\r\n", b"X: \x00\r\n", b"X:\r\n"]
)  # fmt: skip
LENGTHS = st.sampled_from(
    [b"Content-Length: %d", b"Content-Length:  %d", b"content-length: 0%d", b"Content-Length: +%d"]
)
BODIES = st.sampled_from([None, None, b"", b'{"value": 1}', b'{"value": "x"}', b"raw", b"[]", b"v" * 5000])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


def request(line: bytes, host: bytes, extra: bytes, length: bytes, body: bytes | None, end: bytes) -> bytes:
    sized = b"" if body is None else length % len(body) + b"\r\n"
    return line + end + host + extra + sized + end + (body or b"")


COMMON = st.builds(
    request,
    st.sampled_from([b"GET /k HTTP/1.1", b"GET /v1/kv/k HTTP/1.1", b"PUT /v1/kv/k HTTP/1.1", b"PUT /k HTTP/1.1",
                     b"DELETE /v1/kv/k HTTP/1.1"]),
    st.just(HOST),
    st.sampled_from([b"", b"Accept: */*\r\n"]),
    st.just(b"Content-Length: %d"),
    BODIES,
    st.just(b"\r\n"),
)  # fmt: skip
ANY = st.builds(
    request, LINES, st.sampled_from([HOST, HOST, b"", b"Host: evil.example\r\n"]), EXTRAS, LENGTHS, BODIES, ENDS
)
STREAMS = st.lists(st.one_of(COMMON, COMMON, COMMON, ANY, st.binary(max_size=9)), max_size=12).map(b"".join)
OTHERS = (
    b"set k 5 0 1\r\nx\r\n",
    b"delete k\r\n",
    b"gets k\r\n",
    b"set k 0 9 1\r\n\xff\r\n",
    b"append k 0 0 1\r\n}\r\n",
)
"""What clients of the text protocol do meanwhile."""


@given(STREAMS, st.lists(st.integers(0, 900), max_size=5), st.lists(st.sampled_from(OTHERS), max_size=3))
def test_both_paths_give_the_same_replies_and_counts(stream: bytes, cuts: list[int], others: list[bytes]) -> None:
    talks = [HttpTalk(), HttpTalk(protocol_class=GeneralHttpProtocol)]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for number, (start, stop) in enumerate(pairwise(edges)):
        piece = stream[start:stop]
        assert talks[0].feed(piece) == talks[1].feed(piece)
        assert talks[0].protocol.closing == talks[1].protocol.closing
        for talk in talks:
            Conversation(talk.around).feed(others[number] if number < len(others) else b"get k\r\n")
            talk.around.clock.now += 1
    assert talks[0].around.counts() == talks[1].around.counts()


def test_the_second_request_with_the_same_headers_is_not_parsed_by_h11() -> None:
    talk, parsed = HttpTalk(), []
    talk.feed(ask("GET", "/k") + ask("PUT", "/k", b'{"value": 1}'))
    protocol = talk.protocol

    class Watching(type(protocol)):  # type: ignore[misc]
        __slots__ = ()

        def _parse(self, data: bytes) -> bytes:
            parsed.append(data)
            return bytes(super()._parse(data))

    protocol.__class__ = Watching
    replies = talk.feed(ask("GET", "/other") + ask("PUT", "/k", b'{"value": 12345}') + ask("GET", "/v1/kv/k?x=y"))
    assert replies.count(b"HTTP/1.1 ") == 3
    assert not parsed
    talk.feed(ask("GET", "/k", None, b"X: y\r\n"))
    assert len(parsed) == 1


def test_requests_that_say_how_the_connection_goes_on_are_not_remembered() -> None:
    def head(rest: bytes, line: bytes = b"GET /k HTTP/1.1\r\n") -> bytes:
        return line + HOST + rest + b"\r\n"

    assert known_headers(head(b""), {}) is not None
    assert known_headers(head(b"Connection: Keep-Alive\r\n"), {b"connection": b"Keep-Alive"}) is not None
    for name, value in ((b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")):
        assert known_headers(head(name + b": " + value + b"\r\n"), {name: value}) is None
    assert known_headers(head(b"", b"GET /k HTTP/1.0\r\n"), {}) is None
    assert known_headers(head(b"", b"GET http://a/k HTTP/1.1\r\n"), {}) is None
    assert known_headers(b"GET /k HTTP/1.1\nX: HTTP/1.1\r\n" + HOST + b"\r\n", {}) is None
    assert known_headers(head(b"Content-Length: 1\r\nContent-Length: 1\r\n"), {}) is None
    assert known_headers(head(b"X: " + b"y" * 3000 + b"\r\n"), {}) is None
