"""The paths of the admin listener: what each answers, and to whom."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcache_kv.auth.access import HERE
from memcache_kv.auth.admin_token import AdminToken
from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.protocol.admin.listener import admin_dialect
from memcache_kv.protocol.admin.observed import Reason
from memcache_kv.protocol.session import Session
from memcache_kv.protocol.text.framing import TextProtocol
from memcache_kv.stats.metrics import MeasuredServer
from tests.protocol.context_factory import Surroundings

PROBES = ["/livez", "/readyz"]
PAGES = ["/metrics", "/stats.json", "/version"]
PATHS = [*PROBES, *PAGES]


class Observed:
    """A server in any condition."""

    def __init__(self) -> None:
        self.surroundings = Surroundings()
        self.reported: MeasuredServer | None = self.surroundings.context
        self.ill: list[Reason] = []
        self.missing: list[Reason] = []

    def illnesses(self) -> list[Reason]:
        """What it was told."""
        return self.ill

    def obstacles(self) -> list[Reason]:
        """What it was told."""
        return self.ill + self.missing


class Answered(NamedTuple):
    """A reply."""

    status: int
    headers: dict[str, str]
    body: bytes


class Talk:
    """A connection to the admin listener of a server."""

    def __init__(self, settings: Settings | None = None, token: AdminToken | None = None) -> None:
        self.observed = Observed()
        self.stream = io.StringIO()
        dialect = admin_dialect(settings or Settings(), self.observed, token, Log(0, self.stream))
        self.session: Session = dialect.make(self.observed.surroundings.context, 7, None, HERE)

    def send(self, request: bytes) -> bytes:
        self.session.receive(request)
        while self.session.paused:
            self.session.resume()
        reply = b"".join(self.session.out)
        self.session.out.clear()
        return reply

    def ask(self, path: str, method: str = "GET", host: str = "localhost", **headers: str) -> Answered:
        """Ask for a path."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        head, _, body = self.send("\r\n".join([*lines, "", ""]).encode()).partition(b"\r\n\r\n")
        status, *found = head.decode().split("\r\n")
        said = dict(line.split(": ", 1) for line in found)
        if said.get("Transfer-Encoding") == "chunked":
            body = joined(body)
        return Answered(int(status.split(" ")[1]), said, body)

    def json(self, path: str) -> Any:
        status, said, body = self.ask(path)
        assert (status, said["Content-Type"]) == (200, "application/json")
        return json.loads(body)


def joined(chunks: bytes) -> bytes:
    """A body, from its chunks."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body


@pytest.fixture
def talk() -> Talk:
    return Talk()


# Probes


def test_probes_succeed_while_nothing_is_wrong(talk: Talk) -> None:
    assert talk.json("/livez") == {"status": "alive", "reasons": []}
    assert talk.json("/readyz") == {"status": "ready", "reasons": []}


def test_what_is_missing_fails_readiness_alone(talk: Talk) -> None:
    talk.observed.missing = [Reason("loading", "the items are being loaded")]
    status, _, body = talk.ask("/readyz")
    assert status == 503
    assert json.loads(body) == {
        "status": "not ready",
        "reasons": [{"reason": "loading", "detail": "the items are being loaded"}],
    }
    assert talk.ask("/livez")[0] == 200


def test_an_illness_fails_both(talk: Talk) -> None:
    talk.observed.ill = [Reason("stuck", "1 of 1 workers serve no connection")]
    for path, status in (("/livez", "not alive"), ("/readyz", "not ready")):
        code, _, body = talk.ask(path)
        assert (code, json.loads(body)["status"]) == (503, status)


# Pages


def test_versions(talk: Talk) -> None:
    found = talk.json("/version")
    assert found.keys() == {"memcache_kv", "memcached", "python", "compiled"}
    assert found["memcached"] == "1.6.45"
    assert isinstance(found["compiled"], bool)


def test_statistics_are_numbers_where_they_can_be(talk: Talk) -> None:
    found = talk.json("/stats.json")
    assert found.keys() == {"stats", "settings", "memcache_kv", "items", "slabs"}
    assert found["stats"]["cmd_get"] == 0
    assert isinstance(found["stats"]["rusage_user"], float)
    assert found["stats"]["version"] == "1.6.45"
    assert found["settings"]["growth_factor"] == 1.25
    assert found["settings"]["umask"] == "700"
    assert found["settings"]["evictions"] == "on"
    assert found["memcache_kv"]["memcache_kv_longest_turn_us"] == 0
    assert (found["items"], found["slabs"]) == ({}, {"active_slabs": 0, "total_malloced": 0})


def test_statistics_by_size_class_are_objects(talk: Talk) -> None:
    client = TextProtocol(talk.observed.surroundings.context, 8)
    client.receive(b"set a 0 0 1\r\nx\r\nset b 0 0 2000\r\n" + b"x" * 2000 + b"\r\n")
    found = talk.json("/stats.json")
    assert found["stats"]["curr_items"] == 2
    assert [each["number"] for each in found["items"].values()] == [1, 1]
    classes = {number: each for number, each in found["slabs"].items() if number.isdigit()}
    assert classes.keys() == found["items"].keys()
    assert [each["used_chunks"] for each in classes.values()] == [1, 1]
    assert found["slabs"]["active_slabs"] == 2


def test_there_are_no_statistics_before_the_items_are_loaded(talk: Talk) -> None:
    talk.observed.reported = None
    status, said, body = talk.ask("/stats.json")
    assert (status, said["Content-Type"]) == (503, "application/problem+json")
    assert "being loaded" in json.loads(body)["detail"]
    assert b"memcached_up 0\n" in talk.ask("/metrics")[2]


def test_metrics_are_in_the_text_format(talk: Talk) -> None:
    status, said, body = talk.ask("/metrics")
    assert (status, said["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"memcached_up 1\n" in body


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(talk: Talk, path: str) -> None:
    talk.ask("/livez")
    got, asked = talk.ask(path), talk.ask(path, "HEAD")
    assert asked == got._replace(body=b"")
    assert talk.ask("/livez")[0] == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "nonsense"])
def test_nothing_can_be_changed(talk: Talk, path: str, method: str) -> None:
    status, said, body = talk.ask(path, method)
    assert (status, said["Allow"], said["Content-Type"]) == (405, "GET, HEAD", "application/problem+json")
    assert json.loads(body)["status"] == 405


@pytest.mark.parametrize("path", ["/", "/livez/", "/LIVEZ", "/metrics/x", "/v1/kv/a", "/openapi.json", "/stats"])
def test_other_paths_are_not_found(talk: Talk, path: str) -> None:
    status, said, body = talk.ask(path)
    assert (status, said["Content-Type"]) == (404, "application/problem+json")
    assert json.loads(body)["title"] == "Not Found"


def test_a_query_makes_no_difference(talk: Talk) -> None:
    assert talk.ask("/livez?verbose=1")[0] == 200


# Who may read


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_other_sites_can_read_no_page(talk: Talk, path: str) -> None:
    assert talk.ask(path, host="rebound.example")[0] == 421
    assert talk.ask(path, Origin="https://other.example")[0] == 403
    assert talk.ask(path, host="10.1.2.3:9150")[0] == 200


@pytest.mark.parametrize("path", PROBES)
def test_probes_may_call_the_server_by_any_name(talk: Talk, path: str) -> None:
    assert talk.ask(path, host="cache.example")[0] == 200


def test_a_probe_does_not_open_the_pages_to_the_same_headers(talk: Talk) -> None:
    """The framing remembers the headers of a request that was allowed."""
    for _ in range(2):
        assert talk.ask("/livez", host="cache.example")[0] == 200
        assert talk.ask("/version", host="cache.example")[0] == 421


def test_configured_names_and_origins_may_read() -> None:
    talk = Talk(Settings(http_host=("cache.example",), http_origin=("https://page.example",), admin_listen=("a.b:1",)))
    assert talk.ask("/version", host="cache.example")[0] == 200
    assert talk.ask("/version", host="a.b:1")[0] == 200
    status, said, _ = talk.ask("/version", Origin="https://page.example")
    assert (status, said["Access-Control-Allow-Origin"]) == (200, "https://page.example")
    preflight = {"Origin": "https://page.example", "Access_Control_Request_Method": "GET"}
    assert talk.ask("/version", "OPTIONS", **preflight)[0] == 204


@pytest.fixture
def guarded(tmp_path: Path) -> Talk:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return Talk(token=AdminToken(path))


@pytest.mark.parametrize("path", [*PAGES, "/none"])
def test_with_a_token_only_its_bearers_read_the_pages(guarded: Talk, path: str) -> None:
    for _ in range(2):  # once by the general path, once by the fast path
        status, said, _ = guarded.ask(path)
        assert (status, said["WWW-Authenticate"]) == (401, 'Bearer realm="memcache_kv admin"')
        assert guarded.ask(path, Authorization="Bearer secret")[0] == (404 if path == "/none" else 200)
        assert guarded.ask(path, Authorization="Bearer wrong")[0] == 401
    assert guarded.stream.getvalue().count("without its token") == 1


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_token(guarded: Talk, path: str) -> None:
    assert guarded.ask(path)[0] == 200


def test_with_the_token_any_name_will_do(guarded: Talk) -> None:
    assert guarded.ask("/version", host="cache.example", Authorization="Bearer secret")[0] == 200


# What is no request


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17000, 431),
        (b"get a\r\n\r\n", 400),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n", 413),
    ],
)
def test_malformed_and_large_requests_are_rejected(talk: Talk, request_bytes: bytes, status: int) -> None:
    reply = talk.send(request_bytes)
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert talk.session.closing
