"""Those who watch: which lines there are, who gets them, and what becomes of those that nobody reads."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from memcache_kv.config.memcached_options import Unused
from memcache_kv.config.settings import Settings
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.watchers import WATCHERS_LIMIT, Stream, Watcher, Watchers
from memcache_kv.server.run import ServerRun
from memcache_kv.server.worker import Worker
from memcache_kv.store import Item, Mode, Outcome
from memcache_kv.store.entry import LONG_PAST, Entry, pack
from memcache_kv.store.writes import Write
from tests.fake_clock import FakeClock
from tests.integration.wire import poll_until
from tests.protocol.context_factory import Surroundings

NOW = 1_700_000_000
STARTED = NOW - 50
STAMP = "ts=1700000000.000042"


def nothing() -> None:
    """Be told of a line, and do nothing."""


def watchers_at(now: int = NOW, limit_bytes: int = 10_000) -> Watchers:
    return Watchers(FakeClock(now, STARTED), limit_bytes, lambda: now * 1_000_000 + 42)


def added(watchers: Watchers, *streams: Stream, notify: Callable[[], None] = nothing) -> Watcher:
    watcher = watchers.add(frozenset(streams), notify)
    assert watcher is not None
    return watcher


def lines_of(watcher: Watcher) -> list[str]:
    return [line.decode() for line in watcher.take()]


def line_about(happening: Callable[[Watchers], None], stream: Stream) -> str:
    """The line that one who watches this stream gets, without time and number."""
    watchers = watchers_at()
    watcher = added(watchers, stream)
    others = added(watchers, *(frozenset(Stream) - {stream}))
    happening(watchers)
    assert lines_of(others) == []
    (line,) = lines_of(watcher)
    assert line.startswith(f"{STAMP} gid=3 ")
    assert line.endswith("\n")
    return line.removeprefix(f"{STAMP} gid=3 ").rstrip("\n")


# Lines


@pytest.mark.parametrize(
    ("entry", "flushed", "text"),
    [
        (None, False, "status=not_found clsid=0 cfd=7 size=0"),
        (None, True, "status=flushed clsid=0 cfd=7 size=0"),
        (pack(5, b"abc"), False, "status=found clsid=1 cfd=7 size=3"),
        (Item(pack(5, b"abc"), NOW + 1), False, "status=found clsid=1 cfd=7 size=3"),
        (Item(pack(5, b"abc"), NOW), False, "status=expired clsid=0 cfd=7 size=0"),
    ],
)
def test_a_look_up_tells_what_was_there(entry: Entry | None, flushed: bool, text: str) -> None:
    line = line_about(lambda w: w.looked_up(7, b"k", entry, flushed), Stream.FETCHERS)
    assert line == f"type=item_get key=k {text}"


@pytest.mark.parametrize("mode", Mode)
def test_a_store_tells_the_command_and_what_became_of_it(mode: Mode) -> None:
    write = Write(mode, b"k", pack(0, b"four"))
    line = line_about(lambda w: w.stored(7, write, Outcome.NOT_STORED, None), Stream.MUTATIONS)
    assert line == f"type=item_store key=k status=not_stored cmd={mode.value} ttl=0 clsid=1 cfd=7 size=4"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.STORED, "stored"),
        (Outcome.NOT_STORED, "not_stored"),
        (Outcome.EXISTS, "exists"),
        (Outcome.NOT_FOUND, "not_found"),
        (Outcome.NO_MEMORY, "no_memory"),
    ],
)
def test_an_outcome_has_memcacheds_name(outcome: Outcome, status: str) -> None:
    line = line_about(lambda w: w.stored(7, Write(Mode.SET, b"k", pack(0, b"")), outcome, None), Stream.MUTATIONS)
    assert f" status={status} cmd=set " in line


def test_a_value_that_was_joined_shows_its_whole_length_and_the_ttl_it_kept() -> None:
    write = Write(Mode.APPEND, b"k", pack(0, b"yy"), NOW + 5)
    kept = Item(pack(0, b"xxyy"), NOW + 100)
    line = line_about(lambda w: w.stored(7, write, Outcome.STORED, kept), Stream.MUTATIONS)
    assert line == "type=item_store key=k status=stored cmd=append ttl=100 clsid=1 cfd=7 size=4"


def test_a_ttl_that_has_passed_shows_in_32_bits_since_the_start() -> None:
    write = Write(Mode.SET, b"k", pack(0, b"x"), LONG_PAST)
    line = line_about(lambda w: w.stored(7, write, Outcome.STORED, None), Stream.MUTATIONS)
    assert f" ttl={2**32 - 50} " in line


def test_a_value_that_is_too_large_shows_no_size() -> None:
    line = line_about(lambda w: w.rejected(7, b"k", Mode.ADD), Stream.MUTATIONS)
    assert line == "type=item_store key=k status=too_large cmd=add ttl=0 clsid=0 cfd=7 size=0"


def test_a_deletion_tells_the_command() -> None:
    line = line_about(lambda w: w.deleted(b"k", pack(0, b"four"), "md"), Stream.DELETIONS)
    assert line == "type=deleted key=k cmd=md clsid=1 size=4"


@pytest.mark.parametrize(
    ("entry", "was_read", "text"),
    [
        (pack(0, b"four"), False, "fetch=no ttl=-1 la=9"),
        (Item(pack(0, b"four"), NOW + 30), True, "fetch=yes ttl=30 la=9"),
    ],
)
def test_an_eviction_tells_whether_the_item_was_of_use(entry: Entry, was_read: bool, text: str) -> None:
    line = line_about(lambda w: w.evicted(b"k", entry, NOW - 9, was_read), Stream.EVICTIONS)
    assert line == f"type=eviction key=k {text} clsid=1 size=4"


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("127.0.0.1", 4242), "rip=127.0.0.1 rport=4242 transport=tcp"),
        (("::1", 4242, 0, 0), "rip=::1 rport=4242 transport=tcp"),
        (("fe80::1%eth0", 4242, 0, 2), "rip=fe80::1 rport=4242 transport=tcp"),
        ("", "rip=unix rport=0 transport=local"),
    ],
)
def test_a_connection_tells_its_other_end(peer: object, text: str) -> None:
    assert line_about(lambda w: w.opened(7, peer), Stream.CONNEVENTS) == f"type=conn_new {text} cfd=7"
    line = line_about(lambda w: w.closed(7, peer, "normal"), Stream.CONNEVENTS)
    assert line == f"type=conn_close {text} reason=normal cfd=7"


def test_a_key_is_written_as_part_of_a_uri() -> None:
    key = bytes(range(256))
    line = line_about(lambda w: w.looked_up(7, key, None), Stream.FETCHERS)
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    assert line.split()[1] == "key=" + "".join(chr(c) if c in plain else f"%{c:02X}" for c in key)


# Who gets them


def test_lines_are_numbered_and_everybody_who_watches_gets_the_same() -> None:
    watchers = watchers_at()
    one, two = added(watchers, Stream.FETCHERS), added(watchers, Stream.FETCHERS, Stream.DELETIONS)
    watchers.looked_up(7, b"a", None)
    watchers.deleted(b"b", pack(0, b""), "delete")
    watchers.looked_up(7, b"c", None)
    numbers = [line.split()[1] for line in lines_of(two)]
    assert numbers == ["gid=3", "gid=4", "gid=5"]
    assert [line.split()[1] for line in lines_of(one)] == ["gid=3", "gid=5"]
    assert (watchers.written, watchers.sent, watchers.skipped) == (3, 5, 0)


def test_nothing_is_made_while_nobody_watches_its_stream() -> None:
    watchers = watchers_at()
    watchers.looked_up(7, b"a", None)
    watcher = added(watchers, Stream.CONNEVENTS)
    watchers.looked_up(7, b"a", None)
    watchers.remove(watcher)
    watchers.opened(7, "")
    assert (watchers.written, watchers.count) == (0, 0)


def test_one_who_left_gets_no_more_and_is_told_no_more() -> None:
    watchers = watchers_at()
    told: list[bool] = []
    watcher = added(watchers, Stream.FETCHERS, notify=lambda: told.append(True))
    other = added(watchers, Stream.FETCHERS)
    watchers.remove(watcher)
    watchers.looked_up(7, b"a", None)
    assert (lines_of(watcher), told, len(lines_of(other))) == ([], [], 1)


def test_there_is_a_limit_to_those_who_watch() -> None:
    watchers = watchers_at()
    first, *_ = [added(watchers, Stream.FETCHERS) for _ in range(WATCHERS_LIMIT)]
    assert watchers.add(frozenset({Stream.FETCHERS}), nothing) is None
    watchers.remove(first)
    assert watchers.add(frozenset({Stream.FETCHERS}), nothing) is not None


def test_one_is_told_once_until_it_takes_its_lines() -> None:
    watchers = watchers_at()
    told: list[bool] = []
    watcher = added(watchers, Stream.FETCHERS, notify=lambda: told.append(True))
    for _ in range(3):
        watchers.looked_up(7, b"a", None)
    assert len(told) == 1
    assert len(lines_of(watcher)) == 3
    watchers.looked_up(7, b"a", None)
    assert len(told) == 2


def test_a_reset_forgets_the_counts_but_nobody_who_watches() -> None:
    watchers = watchers_at()
    added(watchers, Stream.FETCHERS)
    watchers.looked_up(7, b"a", None)
    watchers.reset()
    assert (watchers.written, watchers.sent, watchers.skipped, watchers.count) == (0, 0, 0, 1)


# Bounds


def test_one_who_does_not_read_misses_lines_and_is_told_how_many() -> None:
    watchers = watchers_at(limit_bytes=1000)
    slow, quick = added(watchers, Stream.FETCHERS), added(watchers, Stream.FETCHERS)
    for number in range(100):
        watchers.looked_up(7, b"k%d" % number, None)
        assert len(lines_of(quick)) == 1
    kept = lines_of(slow)
    assert 0 < len("".join(kept)) <= 1000
    assert watchers.skipped == 100 - len(kept)
    watchers.looked_up(7, b"last", None)
    (after,) = lines_of(slow)
    skipped, line = after.splitlines()
    assert skipped == f"skipped={100 - len(kept)}"
    assert " key=last " in line
    watchers.looked_up(7, b"more", None)
    assert "skipped" not in "".join(lines_of(slow))


@pytest.mark.parametrize("limit_bytes", range(700, 1100, 10))
def test_the_line_about_missing_lines_has_its_place_within_the_bound(limit_bytes: int) -> None:
    watchers = watchers_at(limit_bytes=limit_bytes)
    watcher = added(watchers, Stream.FETCHERS)
    for _ in range(20):
        watchers.looked_up(7, b"x" * 200, None)  # this one misses sooner than the short one
        watchers.looked_up(7, b"x", None)
    assert limit_bytes // 2 < len("".join(lines_of(watcher))) <= limit_bytes


def test_the_bound_is_what_the_settings_say() -> None:
    service = ServerRun(Settings(extended=Unused(watcher_logbuf_size=2000)))
    watcher = added(service.watchers, Stream.FETCHERS)
    for _ in range(100):
        service.observers.looked_up(7, b"x", None)
    assert 1500 < len("".join(lines_of(watcher))) <= 2000


def test_threads_lose_no_line_between_them() -> None:
    watchers = watchers_at(limit_bytes=1 << 20)
    called = threading.Event()
    watcher = added(watchers, Stream.FETCHERS, notify=called.set)

    def look_up() -> None:
        for _ in range(500):
            watchers.looked_up(7, b"k", None)

    threads = [threading.Thread(target=look_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    while len(seen) < 2000:
        assert called.wait(20), f"only {len(seen)} lines came"
        called.clear()
        seen += lines_of(watcher)
    for thread in threads:
        thread.join()
    assert [line.split()[1] for line in seen] == [f"gid={number}" for number in range(2, 2002)]


# The hot path


@pytest.mark.parametrize("stream", Stream)
def test_single_requests_are_observed_only_for_those_who_watch_them(stream: Stream) -> None:
    watchers = watchers_at()
    observers = Observers(Log(), watchers=watchers)
    assert not observers.active
    watcher = added(watchers, stream)
    assert observers.active is (stream in {Stream.FETCHERS, Stream.MUTATIONS, Stream.DELETIONS})
    watchers.remove(watcher)
    assert not observers.active


def test_what_is_followed_is_told_before_and_after() -> None:
    watchers = watchers_at()
    seen: list[bool] = []
    watchers.follow(lambda: seen.append(watchers.is_watched(Stream.EVICTIONS)))
    watcher = added(watchers, Stream.EVICTIONS, Stream.FETCHERS)
    watchers.remove(watcher)
    assert seen == [True, False]


# A worker


@contextmanager
def served() -> Iterator[tuple[Surroundings, Worker]]:
    around = Surroundings()
    worker = Worker(around.context)
    worker.start()
    try:
        yield around, worker
    finally:
        worker.stop()
        worker.join(20)
        assert not worker.is_alive()
        worker.close()


@contextmanager
def connected(worker: Worker) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    worker.context.totals.open()
    worker.adopt(theirs)
    with ours:
        ours.settimeout(20)
        yield ours


def test_a_line_reaches_a_connection_that_says_nothing() -> None:
    with served() as (around, worker), connected(worker) as client:
        client.sendall(b"watch fetchers\r\n")
        assert client.recv(100) == b"OK\r\n"
        around.context.observers.watchers.looked_up(7, b"k", None)
        assert client.recv(1000).endswith(b"type=item_get key=k status=not_found clsid=0 cfd=7 size=0\n")


def test_a_connection_that_watches_takes_no_more_commands() -> None:
    with served() as (around, worker), connected(worker) as client:
        client.sendall(b"watch fetchers\r\nset a 0 0 1\r\nx\r\n")
        assert client.recv(100) == b"OK\r\n"
        client.sendall(b"set a 0 0 1\r\nx\r\n" * 5000)
        around.context.observers.watchers.looked_up(7, b"k", None)
        assert b" key=k " in client.recv(1000)
        assert len(around.store) == 0


def test_one_who_watches_and_leaves_is_forgotten() -> None:
    with served() as (around, worker):
        watchers = around.context.observers.watchers
        with connected(worker) as client:
            client.sendall(b"watch\r\n")
            assert client.recv(100) == b"OK\r\n"
            assert watchers.count == 1
        poll_until(lambda: watchers.count == 0, "the one who left is forgotten")
        assert not around.context.observers.active


def test_one_who_reads_late_gets_all_that_was_kept_and_then_what_is_new() -> None:
    with served() as (around, worker), connected(worker) as client:
        client.sendall(b"watch fetchers\r\n")
        assert client.recv(100) == b"OK\r\n"
        watchers = around.context.observers.watchers
        for _ in range(4):  # its socket fills up, then what the worker holds for it, then what waits for the worker
            before = watchers.skipped
            while watchers.skipped == before:
                watchers.looked_up(7, b"k" * 250, None)
            time.sleep(0.05)
        kept = watchers.sent
        text = b""
        while text.count(b" type=") < kept:
            text += client.recv(1 << 20)
        watchers.looked_up(7, b"last", None)
        text += client.recv(1000)
        told = sum(int(number) for number in re.findall(rb"^skipped=(\d+)\n", text, re.MULTILINE))
        assert told == watchers.skipped
        assert b" key=last " in text


def test_a_worker_does_not_wait_for_one_who_watches_and_does_not_read() -> None:
    with served() as (around, worker), connected(worker) as client, connected(worker) as other:
        client.sendall(b"watch fetchers\r\n")
        assert client.recv(100) == b"OK\r\n"
        watchers = around.context.observers.watchers
        while watchers.skipped < 10:
            other.sendall(b"get " + b" ".join([b"k" * 250] * 100) + b"\r\n")
            assert other.recv(100) == b"END\r\n"
        worker.stop()  # the clock stands still: one that waits for its clients would never end
        worker.join(10)
        assert not worker.is_alive()


def test_connections_come_and_go_with_a_reason() -> None:
    with served() as (_, worker), connected(worker) as watcher:
        watcher.sendall(b"watch connevents\r\n")
        assert watcher.recv(100) == b"OK\r\n"
        for request, reason in [(b"quit\r\n", b"normal"), (b"GET / HTTP/1.1\r\n", b"error"), (b"", b"normal")]:
            with connected(worker) as client:
                client.sendall(request)
                if request:
                    assert client.recv(100) == b""
            text = b""
            while text.count(b"\n") < 2:
                text += watcher.recv(1000)
            came, went = text.splitlines()
            assert b" type=conn_new rip=unix rport=0 transport=local cfd=" in came
            assert b" type=conn_close rip=unix rport=0 transport=local reason=%b cfd=" % reason in went
            assert came.rpartition(b"=")[2] == went.rpartition(b"=")[2]
