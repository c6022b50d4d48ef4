"""`watch` over the wire: the same lines from ours and from memcached."""

import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.integration.conftest import MakeServer
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import OURS, RunningServer, Wire, poll_until


class WatchLine:
    """One line, taken apart."""

    def __init__(self, text: bytes) -> None:
        assert text.endswith(b"\n"), text
        fields = [field.partition("=") for field in text.decode().split()]
        self.names = [name for name, _, _ in fields]
        self.values = {name: value for name, _, value in fields}
        assert re.fullmatch(r"\d+\.\d+", self.values["ts"])
        assert self.names[:3] == ["ts", "gid", "type"]

    @property
    def text(self) -> str:
        """What should be the same for both servers: all but time, number, and the connection's number and port."""
        own = ("ts", "gid", "cfd", "rport")
        return " ".join(name if name in own[2:] else f"{name}={self.values[name]}" for name in self.names[2:])


@contextmanager
def watching(server: RunningServer, streams: bytes) -> Iterator[Callable[[], WatchLine]]:
    """Watch these streams; what is given returns the next line."""
    with server.connect() as connection, connection.makefile("rb") as file:
        connection.sendall(b"watch " + streams + b"\r\n")
        assert file.readline() == b"OK\r\n"
        yield lambda: WatchLine(file.readline())


def ask(server: RunningServer, *requests: bytes) -> None:
    """Send requests and wait until all are carried out."""
    with server.connect() as connection, connection.makefile("rb") as file:
        for request in requests:
            connection.sendall(request)
        connection.sendall(b"mn\r\n")
        while file.readline() != b"MN\r\n":
            continue


REQUESTS = [
    (b"set a 0 100 1\r\nx\r\n", ["get a not_found 0 0", "store a stored set 100 1 1"]),
    (b"get a b\r\n", ["get a found 1 1", "get b not_found 0 0"]),
    (b"append a 0 7 2\r\nyy\r\n", ["get a found 1 1", "store a stored append 100 1 3"]),
    (b"add a 0 7 2\r\nyy\r\n", ["get a found 1 3", "store a not_stored add 7 1 2"]),
    (b"replace q 0 7 2\r\nyy\r\n", ["get q not_found 0 0", "store q not_stored replace 7 1 2"]),
    (b"prepend q 0 7 2\r\nyy\r\n", ["get q not_found 0 0", "store q not_stored prepend 7 1 2"]),
    (b"cas a 0 7 2 987654\r\nyy\r\n", ["get a found 1 3", "store a exists cas 7 1 2"]),
    (b"cas q 0 7 2 987654\r\nyy\r\n", ["get q not_found 0 0", "store q not_found cas 7 1 2"]),
    (b"gat 0 a\r\n", ["get a found 1 3"]),
    (b"touch a 0\r\n", ["get a found 1 3"]),
    (b"touch q 0\r\n", ["get q not_found 0 0"]),
    (b"set n 0 0 1\r\n9\r\n", ["get n not_found 0 0", "store n stored set 0 1 1"]),
    (b"incr n 1\r\n", ["get n found 1 1"]),
    (b"incr a 1\r\n", ["get a found 1 3"]),
    (b"decr q 1\r\n", ["get q not_found 0 0"]),
    (b"delete n\r\n", ["get n found 1 2", "deleted n delete 1 2"]),
    (b"delete n\r\n", ["get n not_found 0 0"]),
    (b"set n,~#\x80 0 0 1\r\nx\r\n", ["get n%2C~%23%80 not_found 0 0", "store n%2C~%23%80 stored set 0 1 1"]),
    (b"ms m 2 T30\r\nxx\r\n", ["get m not_found 0 0", "store m stored set 30 1 2"]),
    (b"ms m 2 MA\r\nxx\r\n", ["get m found 1 2", "store m stored append 30 1 4"]),
    (b"ms v 2 MP N20\r\nxx\r\n", ["get v not_found 0 0", "store v stored prepend 20 1 2"]),
    (b"ms m 2 ME\r\nxx\r\n", ["get m found 1 4", "store m not_stored add 0 1 2"]),
    (b"ms AA== 1 b\r\nx\r\n", ["get %00 not_found 0 0", "store %00 stored set 0 1 1"]),
    (b"mg m v\r\n", ["get m found 1 4"]),
    (b"mg m v T30\r\n", ["get m found 1 4"]),
    (b"mg w v\r\n", ["get w not_found 0 0"]),
    (b"mg w v N30\r\n", ["get w not_found 0 0"]),
    (b"ma a\r\n", ["get a found 1 3"]),
    (b"ma q\r\n", ["get q not_found 0 0"]),
    (b"ma c N0 J5\r\n", ["get c not_found 0 0", "get c not_found 0 0", "store c stored add 0 1 1"]),
    (b"md m I T30\r\n", ["get m found 1 4"]),
    (b"md m\r\n", ["get m found 1 4", "deleted m md 1 4"]),
    (b"md m\r\n", ["get m not_found 0 0"]),
    (b"me a\r\n", ["get a found 1 3"]),
    (b"verbosity 0\r\n", []),
    (b"set a 0 0 1\r\nxyz\r\n", []),
]
"""Requests and their lines, shortened: what, key, status, the command and its ttl where it stores, class and size."""


def written_out(short: str) -> str:
    what, key, *rest = short.split()
    if what == "get":
        return "type=item_get key={} status={} clsid={} cfd size={}".format(key, *rest)
    if what == "store":
        return "type=item_store key={} status={} cmd={} ttl={} clsid={} cfd size={}".format(key, *rest)
    return "type=deleted key={} cmd={} clsid={} size={}".format(key, *rest)


def lines_without_the_clock(lines: list[WatchLine]) -> list[str]:
    """The lines' texts, as they are where no second ends between the requests: a ttl may have become one less."""
    return [re.sub(r"ttl=(99|29|19|6)\b", lambda ttl: f"ttl={int(ttl[1]) + 1}", line.text) for line in lines]


class TheEnd:
    """Equals the line that a get of `the-end` causes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WatchLine) and other.values.get("key") == "the-end"


def test_requests_cause_the_same_lines_in_both(make_server: MakeServer) -> None:
    server = make_server()  # a key that an earlier test stored would be told as flushed
    if not has_rewritten_parser(server):
        pytest.skip("releases before 1.6.45 have no deletions to watch, and answer some of these requests otherwise")
    expected = [written_out(short) for _, lines in REQUESTS for short in lines]
    with watching(server, b"fetchers mutations deletions") as next_line:
        ask(server, *[request for request, _ in REQUESTS], b"get the-end\r\n")
        lines = list(iter(next_line, TheEnd()))
    assert lines_without_the_clock(lines) == expected
    numbers = [int(line.values["gid"]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert {line.values["cfd"] for line in lines if "cfd" in line.values} == {lines[0].values["cfd"]}


def test_the_first_look_up_after_a_flush_tells_of_it(server: RunningServer) -> None:
    with watching(server, b"fetchers") as next_line:
        ask(server, b"set lost 0 0 1\r\nx\r\n")
        time.sleep(2.1)  # memcached takes what is younger at once, and tells nothing of it
        ask(server, b"flush_all\r\nget lost\r\nget lost\r\n")
        assert [next_line().values["status"] for _ in range(3)] == ["not_found", "flushed", "not_found"]


def test_an_expired_item_is_told_as_such_once(make_server: MakeServer) -> None:
    server = make_server("-o", "no_lru_crawler,no_lru_maintainer")  # they may find it first
    with watching(server, b"fetchers") as next_line:
        ask(server, b"set a 0 1 1\r\nx\r\n")
        time.sleep(2.1)
        ask(server, b"get a\r\nget a\r\n")
        assert [next_line().values["status"] for _ in range(3)] == ["not_found", "expired", "not_found"]


def test_a_line_has_the_time_of_the_day(server: RunningServer) -> None:
    with watching(server, b"fetchers") as next_line:
        before = time.time()
        ask(server, b"get a\r\n")
        assert int(before) <= float(next_line().values["ts"]) <= time.time() + 1


def test_the_connection_is_told_by_its_number(server: RunningServer) -> None:
    with watching(server, b"fetchers") as next_line, Wire(server) as one, Wire(server) as other:
        one.expect(b"get a\r\n", b"END\r\n")
        other.expect(b"get a\r\n", b"END\r\n")
        one.expect(b"get a\r\n", b"END\r\n")
        numbers = sorted(next_line().values["cfd"] for _ in range(3))  # several threads of memcached's may be at it
    assert len(set(numbers)) == 2


def test_an_item_that_makes_room_is_told(make_server: MakeServer) -> None:
    server = make_server("-m", "8")
    value = b"set k%d 0 0 10000 noreply\r\n" + b"x" * 10000 + b"\r\n"
    ask(server, *[value % number for number in range(2000)])
    with watching(server, b"evictions") as next_line:
        ask(server, *[value % number for number in range(2000, 2010)])
        line = next_line()
    assert re.fullmatch(r"type=eviction key=k\d+ fetch=no ttl=-1 la=\d+ clsid=\d+ size=10000", line.text)


# Connections


def next_about(next_line: Callable[[], WatchLine], port: int) -> WatchLine:
    """The next line about the connection from this port."""
    while True:
        line = next_line()
        if line.values["rport"] == str(port):
            return line


@pytest.mark.parametrize(
    ("request_", "reason"),
    [(b"quit\r\n", "normal"), (b"GET / HTTP/1.1\r\n", "error"), (b"x" * 5000, "error"), (b"", "normal")],
)
def test_a_connection_is_told_when_it_comes_and_why_it_goes(
    server: RunningServer, request_: bytes, reason: str
) -> None:
    with watching(server, b"connevents") as next_line:
        with server.connect() as connection:
            port = connection.getsockname()[1]
            connection.sendall(request_)
            if request_:
                with suppress(ConnectionResetError):
                    assert connection.recv(100) == b""
        came, went = next_about(next_line, port), next_about(next_line, port)
    assert came.text == "type=conn_new rip=127.0.0.1 rport transport=tcp cfd"
    assert went.text == f"type=conn_close rip=127.0.0.1 rport transport=tcp reason={reason} cfd"
    assert came.values["cfd"] == went.values["cfd"]


def test_one_who_breaks_off_is_told_as_an_error(server: RunningServer) -> None:
    with watching(server, b"connevents") as next_line:
        with server.connect() as connection:
            port = connection.getsockname()[1]
            connection.sendall(b"mn\r\n")
            assert connection.recv(100) == b"MN\r\n"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert next_about(next_line, port).values["type"] == "conn_new"
        assert next_about(next_line, port).values["reason"] == "error"


def test_one_who_watched_goes_with_an_error(server: RunningServer) -> None:
    with watching(server, b"connevents") as next_line:
        with server.connect() as connection:
            port = connection.getsockname()[1]
            connection.sendall(b"watch evictions\r\n")
            assert connection.recv(100) == b"OK\r\n"
        assert next_about(next_line, port).values["type"] == "conn_new"
        assert next_about(next_line, port).values["reason"] == "error"


def test_an_idle_one_goes_with_that_reason(make_server: MakeServer) -> None:
    server = make_server("-o", "idle_timeout=1")
    with watching(server, b"connevents") as next_line, server.connect() as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"mn\r\n")
        assert next_about(next_line, port).values["type"] == "conn_new"
        assert next_about(next_line, port).values["reason"] == "idle_timeout"


def test_a_unix_socket_has_no_address(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(unix=str(tmp_path / "socket"))
    with watching(server, b"connevents") as next_line:
        server.connect().close()
        lines = iter(next_line, None)  # those who saw the server start may be told to have gone as late as here
        came = next(line for line in lines if line.values["type"] == "conn_new")
        went = next(line for line in lines if line.values["cfd"] == came.values["cfd"])
    assert came.text == "type=conn_new rip=unix rport transport=local cfd"
    assert went.text == "type=conn_close rip=unix rport transport=local reason=normal cfd"
    assert went.values["rport"] == "0"


# Who may watch


def stats_of(server: RunningServer) -> dict[str, str]:
    with server.connect() as connection, connection.makefile("rb") as file:
        connection.sendall(b"stats\r\n")
        lines = iter(file.readline, b"END\r\n")
        return {name: value for _, name, value in (line.decode().rstrip().split(maxsplit=2) for line in lines)}


def test_statistics_tell_of_those_who_watch(make_server: MakeServer) -> None:
    server = make_server()
    with watching(server, b"fetchers"), watching(server, b"fetchers") as next_line:
        ask(server, b"get a\r\n")
        next_line()
        poll_until(lambda: stats_of(server)["log_watchers"] == "2", "both are counted")
        poll_until(lambda: stats_of(server)["log_watcher_sent"] == "2", "both lines are counted")
        stats = stats_of(server)
    names = ("log_worker_dropped", "log_worker_written", "log_watcher_skipped")
    assert [stats[name] for name in names] == ["0", "1", "0"]
    poll_until(lambda: stats_of(server)["log_watchers"] == "0", "both are forgotten")


def test_one_who_watches_shows_in_stats_conns(server: RunningServer) -> None:
    def count() -> int:
        connection.sendall(b"stats conns\r\n")
        return sum(b":state conn_watch" in line for line in iter(file.readline, b"END\r\n"))

    with watching(server, b"evictions"), server.connect() as connection, connection.makefile("rb") as file:
        poll_until(lambda: count() == 1, "it shows")  # memcached answers before it sets the state


def test_watching_may_be_forbidden(make_server: MakeServer) -> None:
    with Wire(make_server("-W")) as wire:
        wire.expect(b"watch\r\n", b"CLIENT_ERROR watch commands not allowed\r\n")


def test_one_who_does_not_read_misses_lines_and_costs_the_others_nothing(make_server: MakeServer) -> None:
    server = make_server("-o", "watcher_logbuf_size=8")
    request = b"get " + b" ".join(b"%d" % number + b"#" * 200 for number in range(100)) + b"\r\n"
    with server.connect() as slow, slow.makefile("rb") as file:
        slow.sendall(b"watch\r\n")
        assert file.readline() == b"OK\r\n"
        with Wire(server) as wire:
            while stats_of(server)["log_watcher_skipped"] == "0":
                for _ in range(20):
                    wire.expect(request, b"END\r\n")
            if server.kind == OURS:
                assert server.resident_bytes() < 200 << 20
            _read_until_skipped(file, wire)
        assert WatchLine(file.readline()).values["type"] == "item_get"


def _read_until_skipped(file: BinaryIO, wire: Wire) -> None:
    """Read on until some lines are said to be missing, which shows with the next line that there is room for."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for _ in range(100):
            if re.fullmatch(rb"skipped=[1-9]\d*\n", file.readline()):
                return
        wire.expect(b"get a\r\n", b"END\r\n")
    raise AssertionError("nothing was said to be missing")
