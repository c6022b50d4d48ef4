"""What HTTP rejects, what it keeps of unfinished requests, and how long its turns are."""

import json

import h11
import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol import session
from tests.protocol.context_factory import Surroundings
from tests.protocol.http.http_talk import HOST, ITEM, MISSING, HttpTalk, ask

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def parsed(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """A reply as h11 reads it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response, body = client.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    return response, body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02", 400),
        (b"\x80\x00\x00\x00\r\n\r\n", 400),
        (b"GET /k HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"GET /" + b"k" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000, 431),
    ],
)
def test_what_is_no_request_is_an_error_and_ends_the_connection(request_bytes: bytes, status: int) -> None:
    talk = HttpTalk()
    response, body = parsed(talk.feed(request_bytes))
    assert response.status_code == status
    assert json.loads(body)["status"] == status
    assert (b"connection", b"close") in response.headers
    assert talk.protocol.closing
    assert talk.protocol.held_bytes == 0


def test_an_incomplete_head_is_kept_up_to_its_limit() -> None:
    talk = HttpTalk()
    for _ in range(16):
        talk.feed(b"x" * 1000)
    assert talk.protocol.held_bytes == 16_000
    assert talk.protocol.is_amid_request
    assert b"431" in talk.feed(b"x" * 1000)


def test_a_body_is_kept_until_it_is_whole() -> None:
    talk = HttpTalk()
    talk.feed(b"PUT /v1/kv/k HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
    assert talk.protocol.block_bytes_left == 100_000
    assert talk.protocol.state == "conn_nread"
    for number in range(1, 10):
        assert talk.feed(b"v" * 10_000) == b""
        assert talk.protocol.held_bytes == number * 10_000
    assert talk.feed(b"v" * 10_000).startswith(b"HTTP/1.1 201 ")
    assert talk.protocol.held_bytes == 0
    assert not talk.protocol.is_amid_request


SMALL = Settings(max_item_size=2048, memory_limit=1 << 20)
BODY_LIMIT = 2 * 2048 + 64 * 1024


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_discarded(is_chunked: bool) -> None:
    talk = HttpTalk(settings=SMALL)
    head = b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"Content-Length: 1000000\r\n\r\n"
    talk.feed(b"PUT /v1/kv/k HTTP/1.1\r\n" + HOST + head)
    for _ in range(100):
        part = b"v" * 10_000
        assert (talk.protocol.held_bytes, talk.feed(b"2710\r\n%b\r\n" % part if is_chunked else part)) <= (
            BODY_LIMIT,
            b"~",
        )
    replies = talk.feed((b"0\r\n\r\n" if is_chunked else b"") + ask("GET", "/k"))
    if is_chunked:
        assert replies.startswith(b"HTTP/1.1 413 ")
    assert replies.endswith(MISSING)
    assert not talk.protocol.closing


def test_a_client_that_waits_is_asked_to_go_on() -> None:
    talk = HttpTalk(settings=SMALL)
    head = b"PUT /v1/kv/k HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    assert talk.feed(head % 3) == CONTINUE
    assert talk.feed(b"one").startswith(b"HTTP/1.1 201 ")
    reply = talk.feed(head % 100_000)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert talk.protocol.closing


@pytest.mark.parametrize("target", ["/k", ITEM])
def test_an_item_that_is_too_large_leaves_the_old_one(target: str) -> None:
    talk = HttpTalk(settings=SMALL)
    body = b'{"value": "%b"}'
    talk.feed(ask("PUT", target, body % b"old"))
    assert talk.feed(ask("PUT", target, body % (b"v" * 2048))).startswith(b"HTTP/1.1 413 ")
    assert b"old" in talk.feed(ask("GET", target))
    assert talk.around.counters.store_too_large == 1


def test_full_memory_is_507_and_leaves_the_old_item() -> None:
    talk = HttpTalk(Surroundings(Settings(memory_limit=1 << 20, max_item_size=1 << 19, disable_evictions=True)))
    statuses = {talk.feed(ask("PUT", f"/v1/kv/{number}", b"v" * 4000))[9:12] for number in range(400)}
    statuses |= {talk.feed(ask("PUT", "/k", b'{"value": "%b"}' % (b"v" * 4000)))[9:12]}
    assert statuses == {b"201", b"507"}
    assert talk.feed(ask("GET", "/v1/kv/0")).endswith(b"v" * 4000)


def test_http_1_0_and_close_end_the_connection() -> None:
    for request in (b"GET /k HTTP/1.0\r\n\r\n", ask("GET", "/k", None, b"Connection: foo, Close\r\n")):
        talk = HttpTalk()
        assert b"Connection: close\r\n" in talk.feed(request + ask("GET", "/k"))
        assert talk.protocol.closing
        assert talk.protocol.close_reason == "normal"


# Turns


def test_many_requests_take_several_turns() -> None:
    talk = HttpTalk(settings=Settings(max_reqs_per_event=10))
    protocol = talk.protocol
    protocol.receive(ask("GET", "/k") * 25)
    assert b"".join(protocol.out).count(b"404 Not Found") == 10
    assert protocol.paused
    assert talk.around.counters.conn_yields == 1
    assert talk.go_on().count(b"404 Not Found") == 25


def test_a_turn_ends_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", -1.0)
    talk = HttpTalk(Surroundings(verbosity=2))
    talk.protocol.receive(ask("GET", "/k") * 3)
    assert b"".join(talk.protocol.out).count(b"404 Not Found") == 1
    assert talk.protocol.paused


def test_large_replies_take_several_turns() -> None:
    talk = HttpTalk()
    talk.feed(ask("PUT", ITEM, b"v" * 500_000) + ask("GET", ITEM))
    talk.protocol.receive(ask("GET", ITEM) * 10)
    assert sum(map(len, talk.protocol.out)) < 2_000_000
    assert talk.protocol.paused
    assert len(talk.go_on()) > 5_000_000


def test_a_closed_session_keeps_nothing() -> None:
    talk = HttpTalk()
    talk.feed(b"GET /")
    talk.protocol.close()
    assert talk.protocol.held_bytes == 0
    assert not talk.protocol.is_amid_request


def test_every_reply_is_valid_to_h11() -> None:
    talk = HttpTalk()
    talk.protocol.receive(ask("PUT", ITEM, b"one", b"Content-Type: text/html\r\n"))
    talk.protocol.receive(ask("GET", ITEM))
    data = b"".join(talk.protocol.out)
    response, body = parsed(data[data.index(b"HTTP/1.1 200") :])
    assert (response.status_code, body, bytes(response.reason)) == (200, b"one", b"OK")
    assert {bytes(name) for name, _ in response.headers} >= {b"date", b"etag", b"content-length"}


# Counts and observers


def test_requests_are_counted_as_those_of_text() -> None:
    requests = (
        ask("PUT", ITEM, b"1") + ask("PUT", "/k", b'{"value": 1}') + ask("GET", ITEM) + ask("HEAD", ITEM)
        + ask("GET", "/k") + ask("GET", "/x") + ask("GET", "/v1/kv/x") + ask("DELETE", ITEM) + ask("DELETE", "/k")
    )  # fmt: skip
    for talk in (HttpTalk(), HttpTalk(Surroundings(verbosity=2))):
        talk.feed(requests)
        counts = {name: count for name, count in talk.around.counts().items() if count}
        assert counts == {"cmd_set": 2, "cmd_get": 5, "get_hits": 3, "get_misses": 2, "delete_hits": 1,
                          "delete_misses": 1}  # fmt: skip


def test_the_log_has_requests_and_replies() -> None:
    talk = HttpTalk(Surroundings(verbosity=2))
    talk.feed(ask("PUT", ITEM + "?ttl=5", b"1") + ask("GET", "/x") + b"bad\r\n\r\n")
    assert talk.around.logged == [
        "<30 PUT /v1/kv/k?ttl=5", ">30 HTTP/1.1 201 Created", "<30 GET /x", ">30 HTTP/1.1 404 Not Found",
        "<30 (malformed)", ">30 HTTP/1.1 400 Bad Request",
    ]  # fmt: skip


def test_a_ttl_ends() -> None:
    talk = HttpTalk()
    talk.feed(ask("PUT", ITEM + "?ttl=10", b"1"))
    talk.around.clock.now += 9
    assert talk.feed(ask("GET", ITEM)).startswith(b"HTTP/1.1 200 ")
    talk.around.clock.now += 1
    assert talk.feed(ask("GET", ITEM)).startswith(b"HTTP/1.1 404 ")
    assert talk.feed(ask("PUT", ITEM, b"1")).startswith(b"HTTP/1.1 201 ")
