"""The admin listener of a server in this process: its limits, and what it does without."""

import http.client
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.errors import ConfigError, ListenError
from memcache_kv.journal.lifecycle import JournalLifecycle
from memcache_kv.protocol import session
from memcache_kv.server import admin_loop, condition
from memcache_kv.server.admin import ADMIN_CONNECTIONS
from memcache_kv.server.listener import MemcacheServer
from memcache_kv.server.run import ServerRun
from tests.certificates import make_certificates
from tests.program import PATIENCE_SECONDS, poll_until
from tests.server.test_dialects import LOCAL, Serving, far_address, serving

ADMIN = LOCAL._replace(admin_listen=("127.0.0.1:0",))
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply
    return int(reply[9:12])


def livez(made: Serving, number: int = 0) -> int:
    return status_of(made.ask("admin", LAST, number))


def is_closed(client: socket.socket) -> bool:
    """Wait until the server closes a connection, whose client reads nothing else."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


# Outside of -c


def test_it_answers_while_all_connections_are_taken() -> None:
    with serving(ADMIN._replace(conn_limit=1)) as made, made.connect("admin") as admin:
        with socket.create_connection(("127.0.0.1", made.server.port), PATIENCE_SECONDS) as client:
            client.sendall(b"version\r\n")
            assert client.recv(100).startswith(b"VERSION ")
            with socket.create_connection(("127.0.0.1", made.server.port), PATIENCE_SECONDS) as rejected:
                assert rejected.recv(100) == b"ERROR Too many open connections\r\n"
            assert livez(made) == 200
            admin.sendall(LIVEZ)
            assert status_of(admin.recv(1000)) == 200
            client.sendall(b"stats\r\n")
            said = client.recv(10000)
    assert b"STAT curr_connections 1\r\n" in said
    assert b"STAT total_connections 1\r\n" in said


def test_its_traffic_counts_nowhere_in_the_statistics() -> None:
    with serving(ADMIN) as made:
        for _ in range(5):
            assert livez(made) == 200
        found = json.loads(
            made.ask("admin", LAST.replace(b"/livez", b"/stats.json HTTP/1.0\r\nX:", 1)).partition(b"\r\n\r\n")[2]
        )
    assert found["stats"]["total_connections"] == 0
    assert found["stats"]["bytes_read"] == found["stats"]["bytes_written"] == 0


# Loading


def test_it_is_not_ready_while_the_journal_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    recover = JournalLifecycle.open

    def slowly(lifecycle: JournalLifecycle) -> None:
        reading.set()
        assert go_on.wait(PATIENCE_SECONDS)
        recover(lifecycle)

    monkeypatch.setattr(JournalLifecycle, "open", slowly)
    made = Serving(ADMIN._replace(journal=tmp_path / "journal"))
    start = threading.Thread(target=made.server.start, daemon=True)
    start.start()
    assert reading.wait(PATIENCE_SECONDS)
    assert livez(made) == 200
    assert b'"reason": "loading"' in made.ask("admin", LAST.replace(b"/livez", b"/readyz"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made.server.port), PATIENCE_SECONDS)
    go_on.set()
    start.join(PATIENCE_SECONDS)
    assert status_of(made.ask("admin", LAST.replace(b"/livez", b"/readyz"))) == 200
    made.server.stop()


def test_it_is_ready_before_the_first_client_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    made, pages, start = Serving(ADMIN), list[bytes](), MemcacheServer.start

    def ask_first(listener: MemcacheServer) -> None:
        if listener in made.server.listeners:
            pages.extend(made.ask("admin", LAST.replace(b"/livez", path)) for path in (b"/readyz", b"/metrics"))
        start(listener)

    monkeypatch.setattr(MemcacheServer, "start", ask_first)
    made.server.start()
    made.server.stop()
    ready, metrics = pages
    assert status_of(ready) == 200
    assert b"\nmemcached_up 1\n" in metrics


# Workers


@pytest.mark.long
def test_livez_fails_while_a_worker_takes_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "STUCK_SECONDS", 2.5)  # an idle worker takes a turn each second
    with serving(ADMIN) as made:
        poll_until(lambda: livez(made) == 200, "the worker takes turns")
        locks = [shard.lock for shard in made.server.store.shards]
        for lock in locks:
            lock.acquire()
        try:
            with socket.create_connection(("127.0.0.1", made.server.port), PATIENCE_SECONDS) as client:
                client.sendall(b"set k 0 0 1\r\nv\r\n")
                poll_until(lambda: livez(made) == 503, "the worker is stuck")
                assert b'"stuck"' in made.ask("admin", LAST)
                for lock in locks:
                    lock.release()
                locks.clear()
                assert client.recv(100) == b"STORED\r\n"
                poll_until(lambda: livez(made) == 200, "it takes turns again")
        finally:
            for lock in locks:
                lock.release()


# Limits


def test_there_is_a_limit_of_connections() -> None:
    with serving(ADMIN) as made:
        clients = [made.connect("admin") for _ in range(ADMIN_CONNECTIONS)]
        for client in clients:
            client.sendall(LIVEZ[:-2])  # not whole: it can't be closed for another one
        with made.connect("admin") as rejected:
            assert status_of(rejected.recv(1000)) == 503
            assert is_closed(rejected)
        for client in clients:
            client.sendall(b"\r\n")
            assert status_of(client.recv(1000)) == 200
            client.close()
        poll_until(lambda: livez(made) == 200, "there is room again")


def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    with serving(ADMIN) as made:
        clients = []
        for _ in range(ADMIN_CONNECTIONS - admin_loop.SPARE_CONNECTIONS):
            clients.append(made.connect("admin"))
            clients[-1].sendall(LIVEZ)
            assert status_of(clients[-1].recv(1000)) == 200
        clients[0].sendall(LIVEZ)
        assert status_of(clients[0].recv(1000)) == 200
        assert livez(made) == 200
        assert is_closed(clients[1])
        for client in [clients[0], *clients[2:]]:
            client.sendall(LIVEZ)
            assert status_of(client.recv(1000)) == 200
        for client in clients:
            client.close()


@pytest.mark.parametrize("turn_seconds", [1e9, -1.0], ids=["in one turn", "in turns"])
@pytest.mark.parametrize("sent", [b"", b"GET /li", LIVEZ + b"GET"])
def test_a_slow_request_is_given_up(monkeypatch: pytest.MonkeyPatch, sent: bytes, turn_seconds: float) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", turn_seconds)
    monkeypatch.setattr(admin_loop, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    with serving(ADMIN) as made:
        began = time.monotonic()
        with made.connect("admin") as client:
            client.sendall(sent)
            if sent.startswith(LIVEZ):
                assert status_of(client.recv(1000)) == 200
            assert is_closed(client)
            assert time.monotonic() - began >= 0.4


def test_a_later_request_has_the_same_limit_from_its_first_byte_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_loop, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    with serving(ADMIN) as made, made.connect("admin") as client:
        client.sendall(LIVEZ)
        assert status_of(client.recv(1000)) == 200
        time.sleep(0.5)  # idle for longer than a request may take
        began = time.monotonic()
        client.sendall(b"GET /li")
        assert is_closed(client)
        assert time.monotonic() - began >= 0.4


def test_more_bytes_do_not_prolong_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_loop, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    with serving(ADMIN) as made, made.connect("admin") as client:
        client.settimeout(0.05)
        client.sendall(b"GET /livez HTTP/1.1\r\n")
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                client.sendall(b"X: y\r\n")
                if client.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("it was served for ever")


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_loop, "KEEP_ALIVE_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    with serving(ADMIN) as made, made.connect("admin") as client:
        client.sendall(LIVEZ)
        assert status_of(client.recv(1000)) == 200
        assert is_closed(client)


def test_a_reply_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_loop, "REPLY_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    with serving(ADMIN._replace(verbose=1)) as made, made.connect("admin") as client:
        client.setblocking(False)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while "connection closed" not in made.stream.getvalue():
            assert time.monotonic() < give_up_at
            try:
                client.send(LIVEZ.replace(b"/livez", b"/stats.json") * 50)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        assert livez(made) == 200


def test_a_flood_of_requests_leaves_three_quarters_of_the_time_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loop's own figures: what it worked, and what it rested."""
    rests: list[float] = []
    works: list[float] = []
    sleep, thread_time = time.sleep, time.thread_time

    class Time:
        """The module `time`, as the loop uses it."""

        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def thread_time() -> float:
            now = thread_time()
            works.append(now)
            return now

        @staticmethod
        def sleep(seconds: float) -> None:
            rests.append(seconds)
            sleep(seconds)

    monkeypatch.setattr(admin_loop, "time", Time)
    with serving(ADMIN) as made:
        clients = [made.connect("admin") for _ in range(8)]
        for client in clients:
            client.sendall(LIVEZ * 200)
        for client in clients:
            replies = b""
            while replies.count(b"HTTP/1.1 200 ") < 200:
                piece = client.recv(1 << 16)
                assert piece
                replies += piece
            client.close()
    turns = [end - begin for begin, end in zip(works[::2], works[1::2], strict=False)]
    long_turns = [seconds for seconds in turns if seconds > admin_loop.UNNOTICED_SECONDS]
    assert long_turns
    assert len(rests) == len(long_turns)
    for worked, rested in zip(long_turns, rests, strict=True):
        assert rested == pytest.approx(min(3 * worked, admin_loop.LONGEST_REST_SECONDS))


def test_a_body_may_have_64_kib() -> None:
    head = "POST /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n"
    with serving(ADMIN) as made:
        for size, status in ((65536, 405), (65537, 413)):
            assert status_of(made.ask("admin", head.format(size).encode() + b"x" * size)) == status


# Addresses and TLS


def test_a_port_alone_listens_on_both_loopback_addresses_and_a_path_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with serving(LOCAL._replace(admin_listen=("0", str(path)))) as made:
        addresses = made.server.addresses_of("admin")
        assert addresses[0].startswith("127.0.0.1:")
        assert addresses[-1] == str(path)
        for number in range(len(addresses)):
            assert livez(made, number) == 200
        assert f"the admin listener answers on {', '.join(addresses)}\n" in made.stream.getvalue()
        assert len(made.server.addresses) == 1
    assert not path.exists()


def tls_livez(port: int, host: str, context: ssl.SSLContext) -> int:
    """The status of a probe over TLS."""
    with socket.create_connection((host, port), PATIENCE_SECONDS) as sock:
        with context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(LAST)
            return status_of(client.recv(1000))


def test_tls_is_on_where_it_is_asked_for(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    tls = TlsOptions(str(certificates.chain), str(certificates.key), ssl_ca_cert=str(certificates.authority))
    addresses = ("127.0.0.1:0", "mtls:127.0.0.2:0", "notls:127.0.0.3:0")
    with serving(LOCAL._replace(admin_listen=addresses, admin_tls=True, tls=tls)) as made:
        ports = [int(each.rpartition(":")[2]) for each in made.server.addresses_of("admin")]
        context = certificates.context()
        connection = http.client.HTTPSConnection("localhost", ports[0], timeout=PATIENCE_SECONDS, context=context)
        for _ in range(2):
            connection.request("GET", "/stats.json")
            reply = connection.getresponse()
            assert reply.status == 200
            assert "ssl_enabled" not in json.loads(reply.read())["settings"]
        connection.close()
        assert tls_livez(ports[1], "127.0.0.2", certificates.context(with_client=True)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            tls_livez(ports[1], "127.0.0.2", context)
        assert status_of(made.ask("admin", LAST, 2)) == 200


def test_a_reload_reads_the_certificates_again(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    with serving(ADMIN._replace(admin_tls=True, tls=tls)) as made:
        port = int(made.server.addresses_of("admin")[0].rpartition(":")[2])
        assert tls_livez(port, "127.0.0.1", certificates.context()) == 200
        others = make_certificates(tmp_path / "certificates")  # in the same files
        made.server.reload()
        assert tls_livez(port, "127.0.0.1", others.context()) == 200


def test_a_handshake_that_does_not_come_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_loop, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(admin_loop, "TURN_WAIT_SECONDS", 0.1)
    certificates = make_certificates(tmp_path / "certificates")
    tls = TlsOptions(str(certificates.chain), str(certificates.key))
    with serving(ADMIN._replace(admin_tls=True, tls=tls)) as made, made.connect("admin") as client:
        assert is_closed(client)
        with made.connect("admin") as plain:
            plain.sendall(LIVEZ)
            while not is_closed(plain):  # an alert may come before
                pass


def test_a_taken_port_stops_the_start() -> None:
    with serving(ADMIN) as made:
        taken = made.server.addresses_of("admin")[0]
        for settings in (ADMIN._replace(admin_listen=(taken,)), LOCAL._replace(admin_listen=("127.0.0.1:0", taken))):
            second = Serving(settings)
            with pytest.raises(ListenError, match="Address already in use"):
                second.server.start()
        with pytest.raises(ListenError, match="write \\[HOST:\\]PORT or a path"):
            Serving(LOCAL._replace(admin_listen=("127.0.0.1",))).server.start()
        assert livez(made) == 200


def test_strangers_are_warned_of_unless_they_need_a_token(tmp_path: Path) -> None:
    open_to_all = LOCAL._replace(admin_listen=(f"{far_address()}:0",))
    warning = "can read the statistics and settings"
    with serving(open_to_all) as made:
        assert warning in made.stream.getvalue()
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o604)
    with serving(open_to_all._replace(admin_token_file=path)) as made:
        assert warning not in made.stream.getvalue()
        assert f"every user can read {path}" in made.stream.getvalue()
    with serving(ADMIN) as made:
        assert warning not in made.stream.getvalue()


def test_a_token_that_can_not_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read the admin token"):
        ServerRun(ADMIN._replace(admin_token_file=tmp_path / "none"))


def test_a_reload_reads_the_token_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    with serving(ADMIN._replace(admin_token_file=path)) as made:

        def version(token: str) -> int:
            request = LAST.replace(b"/livez", b"/version").replace(
                b"Host:", b"Authorization: Bearer %b\r\nHost:" % token.encode()
            )
            return status_of(made.ask("admin", request))

        assert (version("old"), version("new")) == (200, 401)
        path.write_text("new")
        made.server.reload()
        assert (version("old"), version("new")) == (401, 200)
        path.write_text("")
        made.server.reload()
        assert version("new") == 200
        assert "has no admin token" in made.stream.getvalue()
