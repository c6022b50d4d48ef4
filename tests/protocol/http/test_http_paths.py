"""The paths of HTTP that are no keys: the listing, the pipeline and the description; and the operation log."""

import json
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError
from memcache_kv.observe.log import Log
from memcache_kv.observe.operation_log import OperationLog
from memcache_kv.protocol.http import key_listing
from memcache_kv.protocol.http.content_types import FLAGS_BY_TYPE, MEDIA_TYPES, flags_for, type_for
from memcache_kv.protocol.http.routes import PATHS
from tests.program import poll_until
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.http.http_talk import HttpTalk, ask
from tests.protocol.http.test_http_limits import parsed


def get_json(talk: HttpTalk, target: str) -> dict[str, object]:
    response, body = parsed(talk.feed(ask("GET", target)))
    assert response.status_code == 200, body
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def run(talk: HttpTalk, operations: object) -> list[dict[str, object]]:
    """The results of a pipeline."""
    body = json.dumps(operations).encode()
    response, body = parsed(talk.feed(ask("POST", "/v1/pipeline", body, b"Content-Type: application/json\r\n")), "POST")
    assert response.status_code == 200, body
    found = json.loads(body)
    assert isinstance(found, list)
    return found


# The listing


@pytest.fixture
def full() -> HttpTalk:
    """Two hundred items, in several shards."""
    talk = HttpTalk(Surroundings(shards=4))
    text = Conversation(talk.around)
    for number in range(200):
        text.feed(b"set key:%03d 0 0 1\r\nx\r\n" % number)
    return talk


def pages(talk: HttpTalk, query: str) -> Iterator[list[str]]:
    """The keys of each page."""
    cursor: object = ""
    while cursor is not None:
        page = get_json(talk, f"/v1/kv?{query}&cursor={cursor}")
        rows = page["keys"]
        assert isinstance(rows, list)
        yield [row["key"] for row in rows]
        cursor = page["cursor"]


def test_every_key_is_listed_once(full: HttpTalk) -> None:
    for limit in (1, 7, 50, 1000):
        listed = list(pages(full, f"limit={limit}"))
        assert all(len(page) <= limit for page in listed)
        assert sorted(chain(*listed)) == [f"key:{number:03}" for number in range(200)]


def test_keys_with_a_prefix_are_listed(full: HttpTalk) -> None:
    assert sorted(chain(*pages(full, "prefix=key%3a01&limit=3"))) == [f"key:{number:03}" for number in range(10, 20)]
    assert [*chain(*pages(full, "prefix=none"))] == []


def test_what_is_there_all_the_time_is_listed_whatever_changes(full: HttpTalk) -> None:
    text, seen = Conversation(full.around), []
    for number, page in enumerate(pages(full, "limit=9")):
        seen += page
        text.feed(b"delete key:%03d\r\nset new:%d 0 0 1\r\nx\r\n" % (150 + number, number))
    assert len(seen) == len(set(seen))
    assert {f"key:{number:03}" for number in range(150)} <= set(seen)


def test_a_row_describes_the_item() -> None:
    talk = HttpTalk()
    talk.feed(ask("PUT", "/v1/kv/a%20%ff?ttl=60", b"123", b"Content-Type: text/plain; charset=utf-8\r\n"))
    expires = talk.around.clock.now + 60
    assert get_json(talk, "/v1/kv") == {
        "keys": [{"key": "a%20%FF", "bytes": 3, "type": "text/plain; charset=utf-8", "expires": expires}],
        "cursor": None,
    }
    talk.around.clock.now += 60
    assert get_json(talk, "/v1/kv") == {"keys": [], "cursor": None}


def test_a_page_ends_when_it_has_looked_at_many_keys(full: HttpTalk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_listing, "EXAMINED_LIMIT", 1)
    listed = list(pages(full, "prefix=none"))
    assert listed == [[]] * 4


def test_a_listing_takes_several_turns(full: HttpTalk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.protocol.session.TURN_SECONDS", -1.0)
    full.protocol.receive(ask("GET", "/v1/kv?limit=1000") + ask("GET", "/none"))
    turns = 1
    while full.protocol.paused:
        full.protocol.resume()
        turns += 1
    assert turns > 200
    replies = b"".join(full.protocol.out)
    assert replies.count(b'"key": ') == 200
    assert replies.endswith(b'{"error": "Key not found"}')


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "limit must be"), ("limit=1001", "limit must be"), ("limit=x", "limit must be"),
        ("cursor=x", "cursor is not valid"), ("cursor=AAAAAAAA", "cursor is not valid"),
        ("cursor=%C3%A9", "cursor is not valid"), ("limits=1", "is not a parameter"),
    ],
)  # fmt: skip
def test_a_bad_query_is_an_error(full: HttpTalk, query: str, detail: str) -> None:
    response, body = parsed(full.feed(ask("GET", f"/v1/kv?{query}")))
    assert response.status_code == 400
    assert detail in json.loads(body)["detail"]


def test_the_head_of_a_listing_has_no_body(full: HttpTalk) -> None:
    reply = full.feed(ask("HEAD", "/v1/kv"))
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.endswith(b"Transfer-Encoding: chunked\r\n\r\n")


def test_http_1_0_gets_a_listing_without_chunks(full: HttpTalk) -> None:
    head, _, body = full.feed(b"GET /v1/kv?limit=1000 HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(json.loads(body)["keys"]) == 200
    assert full.protocol.closing


# The pipeline


def test_operations_are_carried_out_in_order() -> None:
    results = run(
        HttpTalk(),
        [
            {"method": "PUT", "key": "a%20b", "value": "é", "type": "text/plain; charset=utf-8", "ttl": 5},
            {"method": "GET", "key": "a b"},
            {"method": "PUT", "key": "a b", "base64": "/w==", "ifMatch": '"1"'},
            {"method": "PUT", "key": "a b", "value": "x", "ifMatch": '"1"'},
            {"method": "GET", "key": "a%20b"},
            {"method": "GET", "key": "a%20b", "ifNoneMatch": '"2"'},
            {"method": "DELETE", "key": "a b"},
            {"method": "DELETE", "key": "a b"},
            {"method": "PUT", "key": "a b"},
            {"method": "GET", "key": ""},
        ],
    )
    assert results[:3] == [
        {"status": 201, "etag": '"1"'},
        {"status": 200, "etag": '"1"', "type": "text/plain; charset=utf-8", "value": "é"},
        {"status": 204, "etag": '"2"'},
    ]
    assert results[4] == {"status": 200, "etag": '"2"', "type": "application/octet-stream", "base64": "/w=="}
    assert [result["status"] for result in results] == [201, 200, 204, 412, 200, 304, 204, 404, 400, 400]
    assert all("detail" in result for result in results if result["status"] in (400, 404, 412))


def test_an_empty_pipeline_has_no_results() -> None:
    assert run(HttpTalk(), []) == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"[]", b"text/plain", 415), (b"{}", b"application/json", 400), (b"[", b"application/json", 400),
        (b'[{"method": "GET"}]', b"application/json", 400), (b"[" * 5000, b"application/json", 400),
        (b'[{"method": "POST", "key": "k"}]', b"application/json", 400),
        (b'[{"method": "GET", "key": "k", "ttl": -1}]', b"application/json", 400),
        (b'[{"method": "GET", "key": "k", "keys": 1}]', b"application/json", 400),
        (b"[%b]" % b",".join([b'{"method": "GET", "key": "k"}'] * 1001), b"application/json; charset=utf-8", 413),
    ],
)  # fmt: skip
def test_what_is_no_list_of_operations_is_an_error(body: bytes, kind: bytes, status: int) -> None:
    response, _ = parsed(HttpTalk().feed(ask("POST", "/v1/pipeline", body, b"Content-Type: %b\r\n" % kind)), "POST")
    assert response.status_code == status


def test_a_pipeline_takes_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.protocol.session.TURN_SECONDS", -1.0)
    talk = HttpTalk()
    body = json.dumps([{"method": "PUT", "key": f"k{number}", "value": "x"} for number in range(50)]).encode()
    talk.protocol.receive(ask("POST", "/v1/pipeline", body, b"Content-Type: application/json\r\n"))
    assert len(talk.around.store) == 1
    assert talk.protocol.paused
    talk.go_on()
    assert len(talk.around.store) == 50


# The description


def test_the_description_has_every_path_and_method() -> None:
    described = get_json(HttpTalk(), "/openapi.json")
    paths = described["paths"]
    assert isinstance(paths, dict)
    assert paths.keys() == {"/{key}", "/v1/kv/{key}"} | {path.decode() for path in PATHS}
    for path, methods in PATHS.items():
        assert {name.upper() for name in paths[path.decode()]} == {name.decode() for name in methods} - {"HEAD"}


def test_every_type_comes_back_as_it_was_sent() -> None:
    for name, flags in FLAGS_BY_TYPE.items():
        assert flags_for(name) == flags
        assert type_for(flags) == name
        assert flags & 0xFFFF == 0
    assert len(set(FLAGS_BY_TYPE.values())) == len(FLAGS_BY_TYPE)
    assert len(set(MEDIA_TYPES.values())) == len(MEDIA_TYPES)
    assert type_for(0) == type_for(1) == type_for(0x5FFF0000) == b"application/octet-stream"
    assert flags_for(b"") == flags_for(b"Application/Octet-Stream") == 0


# The operation log

NOON = time.mktime((2024, 10, 7, 14, 7, 10, 0, 0, -1))


class Logging:
    """An operation log with a clock that stands still."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, NOON
        self.around = Surroundings()
        self.log = OperationLog(path, Log(0, self.around.stream), lambda: self.now)
        self.log.start(lambda name, error: None)
        self.around.context.operations = self.log

    def wait_for(self, text: str) -> None:
        poll_until(lambda: self.path.exists() and text in self.path.read_text(), text)


@pytest.fixture
def logging(tmp_path: Path) -> Iterator[Logging]:
    made = Logging(tmp_path / "operations")
    yield made
    made.log.stop()


def test_operations_are_logged_in_this_form(logging: Logging) -> None:
    talk = HttpTalk(logging.around)
    talk.feed(
        ask("PUT", "/key_1", b'{"value": "value_1"}') + ask("GET", "/key_1") + ask("GET", "/key_2")
        + ask("POST", "/key_3", b'{"value": {"a": 1}}') + ask("DELETE", "/key_1") + ask("DELETE", "/key_1")
        + ask("PUT", "/v1/kv/a%0Ab", b"1\n2\xff") + ask("GET", "/v1/kv/a%0Ab") + ask("DELETE", "/v1/kv/a%0Ab")
        + ask("PUT", "/v1/kv/long", b"v" * 201)
    )  # fmt: skip
    logging.log.saved(5)
    logging.log.saved(6)
    logging.wait_for("SAVE")
    at = "2024-10-07 14:07:10 - "
    assert logging.path.read_text().splitlines() == [
        at + "PUT - Key: key_1, Value: value_1", at + "GET - Key: key_1, Value: value_1",
        at + "GET - Key: key_2, Value: None", at + 'PUT - Key: key_3, Value: {"a": 1}', at + "DELETE - Key: key_1",
        at + "PUT - Key: a\\nb, Value: 1\\n2\\xff", at + "GET - Key: a\\nb, Value: 1\\n2\\xff",
        at + "DELETE - Key: a\\nb", at + "PUT - Key: long, Value: " + "v" * 200 + "...", at + "SAVE",
    ]  # fmt: skip
    logging.now += 1
    logging.log.saved(6)
    logging.wait_for("14:07:11 - SAVE")


@pytest.mark.parametrize("is_asked", [False, True])
def test_the_file_is_opened_again_once_it_is_moved(logging: Logging, tmp_path: Path, is_asked: bool) -> None:
    logging.log.add("PUT", b"first", b"1")
    logging.wait_for("first")
    logging.path.rename(tmp_path / "operations.1")
    if is_asked:
        logging.log.reopen()
    logging.log.add("PUT", b"second", b"2")
    logging.wait_for("second")
    assert "second" not in (tmp_path / "operations.1").read_text()
    assert logging.path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't write the operation log"):
        OperationLog(tmp_path / "none" / "log", Log(0))


def test_a_failure_to_write_is_logged(logging: Logging, tmp_path: Path) -> None:
    logging.path.unlink()
    logging.path.mkdir()
    logging.log.add("PUT", b"k", b"1")
    poll_until(lambda: "can't write to the operation log" in logging.around.stream.getvalue(), "a line about it")


def test_settings_without_the_log_write_nothing() -> None:
    assert Settings().operation_log is None
    assert Surroundings().context.operations is None
