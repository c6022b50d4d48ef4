"""Who may use HTTP: tokens, classes, hosts and origins; and what is answered while the journal can't be written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.config.settings import Settings
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.observe.audit import AuditLog
from memcache_kv.observe.watchers import Stream
from memcache_kv.protocol.http.message import HttpRequest
from tests.protocol.context_factory import Conversation, Surroundings
from tests.protocol.credentials import AtOnce, Later, OneUser
from tests.protocol.http.http_talk import CREATED, HOST, ITEM, MISSING, NO_ITEM, HttpTalk, ask

TOKEN = b"Authorization: Bearer user:pass\r\n"
CHALLENGE = b'WWW-Authenticate: Bearer realm="memcache_kv"'


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 ")
    return int(reply[9:12])


# Tokens


@pytest.mark.parametrize("headers", [b"", b"Authorization: Basic dXNlcjpwYXNz\r\n", b"Authorization: Bearer x\r\n"])
def test_without_a_token_nothing_is_answered(headers: bytes) -> None:
    talk = HttpTalk(users=AtOnce(OneUser()))
    for request in (ask("GET", "/k", None, headers), ask("PUT", ITEM, b"1", headers), ask("GET", "/openapi.json")):
        reply = talk.feed(request)
        assert status_of(reply) == 401
        assert CHALLENGE in reply
    assert len(talk.around.store) == 0
    assert talk.around.counters.auth_cmds == 0


def test_with_a_token_requests_are_answered() -> None:
    talk = HttpTalk(users=AtOnce(OneUser()))
    for _ in range(3):
        assert talk.feed(ask("GET", "/k", None, TOKEN)) == MISSING
    assert talk.protocol.user == b"user"
    assert (talk.around.counters.auth_cmds, talk.around.counters.auth_errors) == (1, 0)


def test_the_scheme_is_in_any_case() -> None:
    assert (
        HttpTalk(users=AtOnce(OneUser())).feed(ask("GET", "/k", None, b"authorization: bearer user:pass\r\n"))
        == MISSING
    )


def test_a_wrong_token_is_an_error_and_logs_the_client_out() -> None:
    talk = HttpTalk(users=AtOnce(OneUser()))
    good, wrong = ask("GET", "/k", None, TOKEN), ask("GET", "/k", None, TOKEN.replace(b"pass", b"nope"))
    assert talk.feed(good * 2) == MISSING * 2
    assert b'error="invalid_token"' in talk.feed(wrong)
    assert talk.protocol.user is None
    assert status_of(talk.feed(ask("GET", "/k"))) == 401
    assert talk.feed(good * 2) == MISSING * 2
    assert talk.around.counters.auth_errors == 1


def test_a_token_may_be_checked_later() -> None:
    users = Later()
    talk = HttpTalk(users=users)
    first, second = ask("PUT", ITEM, b"1", TOKEN), ask("GET", "/none", None, TOKEN)
    assert talk.feed(first + second) == b""
    assert users.asked == [(b"user", b"pass")]
    assert not talk.protocol.paused
    assert talk.protocol.is_amid_request
    assert talk.protocol.held_bytes >= len(second)
    talk.protocol.resume()
    replies = talk.go_on()
    assert b"201 Created" in replies
    assert b"404 Not Found" in replies
    assert users.asked == [(b"user", b"pass")]


def test_a_token_that_is_found_to_be_wrong_later_is_an_error() -> None:
    talk = HttpTalk(users=Later())
    assert talk.feed(ask("PUT", ITEM, b"1", b"Authorization: Bearer user:nope\r\n")) == b""
    talk.protocol.resume()
    assert status_of(talk.go_on()) == 401
    assert len(talk.around.store) == 0


def test_logins_are_written_to_the_audit_log(tmp_path: Path) -> None:
    around = Surroundings()
    around.context.audit = AuditLog(tmp_path / "audit", around.context.log)
    talk = HttpTalk(around, users=AtOnce(OneUser()))
    talk.feed(ask("GET", "/k", None, TOKEN) * 2 + ask("GET", "/k", None, b"Authorization: Bearer user:x\r\n"))
    around.context.audit.close()
    text = (tmp_path / "audit").read_text()
    assert [part in text for part in ('"outcome": "ok"', '"outcome": "failed"')] == [True, True]
    assert text.count("\n") == 2


# Classes

READER = Origin("tcp:10.0.0.9:1", False, CommandClass.READ)
WRITER = Origin("tcp:10.0.0.9:1", False)


def test_a_reader_changes_nothing() -> None:
    talk = HttpTalk(origin=READER)
    for request in (
        ask("PUT", ITEM, b"1"), ask("DELETE", ITEM), ask("PUT", "/k", b'{"value": 1}'), ask("DELETE", "/k"),
        ask("POST", "/k", b'{"value": 1}'), ask("GET", "/v1/kv"),
    ):  # fmt: skip
        assert status_of(talk.feed(request)) == 403
    assert talk.feed(ask("GET", ITEM) + ask("GET", "/k")) == NO_ITEM + MISSING
    pipeline = ask("POST", "/v1/pipeline", b'[{"method": "DELETE", "key": "k"}]', b"Content-Type: application/json\r\n")
    assert b'[{"status":403,' in talk.feed(pipeline)


def test_only_admins_list_keys(tmp_path: Path) -> None:
    assert status_of(HttpTalk(origin=WRITER).feed(ask("GET", "/v1/kv"))) == 403
    assert status_of(HttpTalk().feed(ask("GET", "/v1/kv"))) == 200
    assert status_of(HttpTalk(settings=Settings(disable_dumping=True)).feed(ask("GET", "/v1/kv"))) == 403


# Hosts and origins


def with_host(host: bytes, extra: bytes = b"") -> bytes:
    return b"GET /k HTTP/1.1\r\nHost: " + host + b"\r\n" + extra + b"\r\n"


CALLED = Settings(http_host=("cache.example",), http_listen=("named.example:8080",))


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:80", b"127.0.0.1:8080", b"10.1.2.3", b"[::1]", b"[fe80::1]:8080", b"node1:8080",
     b"a.localhost", b"cache.example", b"Cache.Example.:1", b"named.example:8080", b""],
)  # fmt: skip
def test_the_server_is_known_by_these_names(host: bytes) -> None:
    assert HttpTalk(settings=CALLED).feed(with_host(host)) == MISSING


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.cache.example", b"127.0.0.1.evil.example", b"a.b:8080", b"1.2"]
)
def test_a_name_that_may_be_of_another_site_is_rejected(host: bytes) -> None:
    talk = HttpTalk(settings=CALLED)
    assert status_of(talk.feed(with_host(host))) == 421
    assert talk.feed(with_host(b"localhost")) == MISSING
    assert HttpTalk(settings=Settings(http_host=("*",))).feed(with_host(host)) == MISSING


FOREIGN = [b"Origin: http://evil.example\r\n", b"Origin: null\r\n", b"Sec-Fetch-Site: cross-site\r\n",
           b"Sec-Fetch-Site: same-site\r\n", b"Origin: http://localhost:9999\r\n"]  # fmt: skip


@pytest.mark.parametrize("header", FOREIGN)
def test_pages_of_other_sites_are_rejected(header: bytes) -> None:
    for settings in (Settings(), Settings(http_origin=("https://app.example",))):
        talk = HttpTalk(settings=settings)
        assert status_of(talk.feed(ask("PUT", ITEM, b"1", header))) == 403
        assert len(talk.around.store) == 0
        preflight = b"OPTIONS /v1/kv/k HTTP/1.1\r\n" + HOST + header + b"Access-Control-Request-Method: PUT\r\n\r\n"
        assert b"Access-Control-Allow" not in talk.feed(preflight)


@pytest.mark.parametrize("header", [b"Origin: http://localhost:8080\r\n", b"Sec-Fetch-Site: same-origin\r\n",
                                    b"Sec-Fetch-Site: none\r\n"])  # fmt: skip
def test_pages_of_its_own_and_typed_addresses_are_served(header: bytes) -> None:
    reply = HttpTalk().feed(ask("PUT", ITEM, b"1", header))
    assert reply == CREATED
    assert b"Access-Control" not in reply


def test_pages_of_a_configured_origin_are_served() -> None:
    talk = HttpTalk(settings=Settings(http_origin=("https://app.example/",)), users=AtOnce(OneUser()))
    origin = b"Origin: https://app.example\r\n"
    preflight = b"OPTIONS /v1/kv/k HTTP/1.1\r\n" + HOST + origin + b"Access-Control-Request-Method: PUT\r\n\r\n"
    reply = talk.feed(preflight)
    assert reply.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-Methods: GET, HEAD, PUT, POST, DELETE\r\n" in reply
    allowed = b"Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\n"
    for headers in (origin, origin + TOKEN):
        assert allowed in talk.feed(ask("PUT", ITEM, b"1", headers))
    assert talk.feed(ask("GET", "/k", None, TOKEN)).count(b"Vary: Origin\r\n") == 1


def test_without_configured_origins_there_is_no_preflight() -> None:
    preflight = b"OPTIONS /k HTTP/1.1\r\n" + HOST + b"Access-Control-Request-Method: PUT\r\n\r\n"
    assert status_of(HttpTalk().feed(preflight)) == 405


# Writes that fail


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[HttpTalk]:
    """A conversation with a server whose journal can't be written."""
    talk = HttpTalk()
    talk.feed(ask("PUT", ITEM, b"1"))
    around = talk.around
    journal = Journal(JournalDirectory(tmp_path), Fsync.EVERYSEC)
    around.store.log = around.context.journal = journal
    around.renew_requests()
    journal.refuses = True
    yield talk
    journal.refuses = False
    journal.close()


def test_nothing_changes_while_the_journal_cannot_be_written(refusing: HttpTalk) -> None:
    changes = [
        ask("PUT", ITEM, b"2"), ask("DELETE", ITEM), ask("PUT", ITEM, b"2", b'If-Match: "1"\r\n'),
        ask("PUT", "/k", b'{"value": 2}'), ask("DELETE", "/k"),
    ]  # fmt: skip
    assert [status_of(refusing.feed(change)) for change in changes] == [507] * 5
    operations = b'[{"method": "PUT", "key": "k", "value": "2"}, {"method": "GET", "key": "k"}]'
    reply = refusing.feed(ask("POST", "/v1/pipeline", operations, b"Content-Type: application/json\r\n"))
    assert b'[{"status":507,' in reply
    assert b'{"status":200,' in reply
    assert refusing.feed(ask("GET", ITEM)).endswith(b"\r\n1")
    assert refusing.around.context.journal is not None
    assert refusing.around.context.journal.refusals == 6


@pytest.mark.parametrize("request_bytes", [ask("PUT", ITEM, b"1"), ask("PUT", "/k", b'{"value": 1}')])
def test_a_reply_whose_write_is_lost_becomes_an_error(request_bytes: bytes) -> None:
    talk = HttpTalk()
    talk.feed(request_bytes)
    talk.protocol.receive(request_bytes)
    talk.protocol.take_back()
    [reply] = talk.protocol.out
    assert status_of(reply) == 507
    assert reply.endswith(b"}\n")
    talk.protocol.out.clear()
    talk.protocol.receive(request_bytes * 2)
    talk.protocol.take_back()
    assert talk.protocol.closing


def test_a_part_of_a_reply_whose_write_is_lost_ends_the_connection() -> None:
    talk = HttpTalk()
    talk.protocol.out += [b"5\r\nabcde\r\n", b"0\r\n\r\n"]
    talk.protocol.take_back()
    assert talk.protocol.closing


def test_a_value_that_looks_like_a_reply_is_not_taken_for_one_reply() -> None:
    talk = HttpTalk()
    talk.feed(ask("PUT", ITEM, b"HTTP/1.1 200 OK\r\n" + b"v" * 5000))
    talk.protocol.receive(ask("GET", ITEM) + ask("PUT", ITEM, b"1"))
    talk.protocol.take_back()
    assert talk.protocol.closing


# Other protocols


def test_it_shares_the_store_with_the_text_protocol() -> None:
    around = Surroundings()
    talk, text = HttpTalk(around), Conversation(around)
    talk.feed(
        ask("PUT", "/k", b'{"value": "v"}') + ask("PUT", "/v1/kv/r?ttl=100", b"raw", b"Content-Type: text/plain\r\n")
    )
    assert text.feed(b"get k r\r\n") == b'VALUE k 1342242816 3\r\n"v"\r\nVALUE r 1342308352 3\r\nraw\r\nEND\r\n'
    assert text.feed(b"mg r t c\r\n") == b"HD t100 c1\r\n"
    text.feed(b"set n 3 0 2\r\n41\r\nincr n 1\r\n")
    assert talk.feed(ask("GET", "/n")).endswith(b'{"value": "42"}')
    talk.feed(ask("PUT", "/n", b'{"value": 7}'))
    text.feed(b"incr n 1\r\n")
    assert talk.feed(ask("GET", "/n")).endswith(b'{"value": 8}')
    assert text.feed(b"gets n\r\n").startswith(b"VALUE n 1342242816 1 ")


def test_a_tag_is_the_cas_id_of_the_other_protocols() -> None:
    around = Surroundings()
    talk, text = HttpTalk(around), Conversation(around)
    text.feed(b"set k 0 0 1\r\nx\r\n")
    assert b'ETag: "1"\r\n' in talk.feed(ask("GET", ITEM))
    assert text.feed(b"cas k 0 0 1 1\r\ny\r\n") == b"STORED\r\n"
    assert status_of(talk.feed(ask("PUT", ITEM, b"z", b'If-Match: "1"\r\n'))) == 412


def test_without_cas_ids_there_are_no_tags() -> None:
    talk = HttpTalk(settings=Settings(disable_cas=True))
    replies = talk.feed(ask("PUT", ITEM, b"1") + ask("GET", ITEM) + ask("PUT", ITEM, b"1", b'If-None-Match: "1"\r\n'))
    assert b"ETag" not in replies
    assert replies.count(b"HTTP/1.1 20") == 3
    assert status_of(talk.feed(ask("DELETE", ITEM, None, b'If-Match: "1"\r\n'))) == 412
    assert status_of(talk.feed(ask("DELETE", ITEM, None, b"If-Match: *\r\n"))) == 204


def test_watchers_and_prefixes_see_its_requests() -> None:
    talk = HttpTalk()
    text = Conversation(talk.around, 31)
    text.feed(b"stats detail on\r\n")
    talk.feed(
        ask("PUT", "/a:1", b'{"value": 1}') + ask("GET", "/a:1") + ask("GET", "/v1/kv/a:2") + ask("DELETE", "/a:1")
    )
    assert text.feed(b"stats detail dump\r\n") == b"PREFIX a get 2 hit 1 set 1 del 1\r\nEND\r\n"
    streams = frozenset({Stream.FETCHERS, Stream.MUTATIONS, Stream.DELETIONS})
    watcher = talk.around.context.observers.watchers.add(streams, lambda: None)
    assert watcher is not None
    talk.feed(ask("PUT", ITEM, b"1") + ask("GET", ITEM) + ask("DELETE", ITEM))
    lines = b"".join(watcher.take())
    assert [part in lines for part in (b"type=item_store", b"type=item_get", b"type=deleted")] == [True] * 3


def test_a_parameter_is_decoded_byte_by_byte() -> None:
    assert HttpRequest(b"GET", b"/", b"a=%ff+x&b=&a=%C3%A9").parameters == {"a": "\xc3\xa9", "b": ""}
