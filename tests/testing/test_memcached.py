"""The memcached of one test."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymemcache.exceptions import MemcacheServerError  # type: ignore[import-untyped]

from memcache_kv.testing import Memcached, MemcachedProc
from memcache_kv.testing.servers.in_process import ServerInProcess
from memcache_kv.testing.servers.program import ServerProgram
from memcache_kv.testing.time_travel import TimeTravel
from memcache_kv.testing.turns import SharedTurns
from memcache_kv.traffic.recording import Recording
from tests.program import poll_until
from tests.testing.programs import memcached_program
from tests.testing.wires import RawClient

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def made(server: ServerInProcess | ServerProgram) -> Iterator[MemcachedProc]:
    """Start a server, and stop it."""
    proc = MemcachedProc(server, "127.0.0.1", 0, SharedTurns(None))
    proc.start()
    yield proc
    proc.stop()


@pytest.fixture(scope="module")
def proc() -> Iterator[MemcachedProc]:
    """A server for the tests of this file."""
    yield from made(ServerInProcess("-A", TimeTravel()))


@pytest.fixture(scope="module")
def program() -> Iterator[MemcachedProc]:
    """memcached, in a process of its own."""
    yield from made(ServerProgram(memcached_program(), "-A", 30.0))


@pytest.fixture
def memcached(proc: MemcachedProc, tmp_path: Path) -> Iterator[Memcached]:
    """That server, empty."""
    with Memcached(proc, lambda: tmp_path) as memcached:
        yield memcached


def test_it_says_where_it_is(memcached: Memcached) -> None:
    assert memcached.address == (memcached.host, memcached.port) == ("127.0.0.1", memcached.port)
    assert memcached.location == f"127.0.0.1:{memcached.port}"
    assert memcached.url == f"memcached://127.0.0.1:{memcached.port}"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_finds_the_server_of_its_parent(memcached: Memcached) -> None:
    def tell_where_it_is() -> None:
        memcached.client().set("where", f"{memcached.location} {memcached.url} {memcached.address}")

    child = multiprocessing.get_context("fork").Process(target=tell_where_it_is)
    child.start()
    child.join()
    assert child.exitcode == 0
    wanted = f"{memcached.location} {memcached.url} {memcached.address}"
    assert memcached.client().get("where") == wanted.encode()


def test_its_clients_wait_for_replies_and_are_closed_at_the_end(proc: MemcachedProc, tmp_path: Path) -> None:
    with Memcached(proc, lambda: tmp_path) as memcached:
        client = memcached.client()
        client.set("a", "1")
        assert [call.reply for call in memcached.calls] == [b"STORED\r\n"]
        silent = memcached.client(default_noreply=True)
        silent.set("a", "2")
        assert memcached.store.get("a") == b"2"
        assert memcached.stats()["cmd_set"] == "2"
    assert client.sock is None
    assert silent.sock is None


def test_its_settings_for_django_name_the_backends(memcached: Memcached) -> None:
    assert memcached.django_cache(TIMEOUT=5) == {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": memcached.location,
        "TIMEOUT": 5,
    }
    assert memcached.django_cache("pylibmc")["BACKEND"].endswith(".PyLibMCCache")
    with pytest.raises(ValueError, match="pymemcache and pylibmc"):
        memcached.django_cache("memcache")


def test_its_time_moves_until_the_end_of_the_test(proc: MemcachedProc, memcached: Memcached, tmp_path: Path) -> None:
    client = memcached.client()
    client.set("a", "1", expire=60, noreply=True)
    memcached.travel(59)
    assert client.get("a") == b"1"
    memcached.travel(2)
    assert client.get("a") is None
    assert memcached.stats()["curr_items"] == "0"
    with memcached.freeze(NOON):
        client.set("b", "1", expire=int(NOON.timestamp()) + 10)
        assert int(memcached.stats()["time"]) == NOON.timestamp()
        memcached.travel(10)
        assert client.get("b") is None
    with memcached.at(NOON):
        assert 0 <= int(memcached.stats()["time"]) - NOON.timestamp() < 60
    memcached.travel(100_000)
    with Memcached(proc, lambda: tmp_path) as other:
        assert abs(int(other.stats()["time"]) - datetime.now(UTC).timestamp()) < 60


def test_the_end_of_a_test_brings_the_time_back(proc: MemcachedProc, tmp_path: Path) -> None:
    with Memcached(proc, lambda: tmp_path) as memcached:
        memcached.freeze(NOON)
    assert abs(int(proc.stats()["time"]) - datetime.now(UTC).timestamp()) < 60


def test_a_flush_that_waits_is_forgotten(proc: MemcachedProc, tmp_path: Path) -> None:
    with Memcached(proc, lambda: tmp_path) as memcached:
        memcached.client().raw_command(b"flush_all 10")
    with Memcached(proc, lambda: tmp_path) as memcached:
        memcached.client().set("a", "1")
        memcached.travel(20)
        assert memcached.client().get("a") == b"1"


def test_a_fault_lasts_as_long_as_its_block(memcached: Memcached) -> None:
    client = memcached.client()
    with memcached.fault("error", commands="get", keys="a"):
        with pytest.raises(MemcacheServerError, match="temporary failure"):
            client.get("a")
        assert client.get("b") is None
    assert client.get("a") is None
    with pytest.raises(ValueError, match="there is no fault 'delai'; do you mean delay"):
        memcached.fault("delai")


def test_a_fault_in_the_server_is_possible(memcached: Memcached) -> None:
    memcached.store.set("a", b"1")
    with memcached.fault("evict"):
        assert memcached.client().get("a") is None


@pytest.mark.parametrize("is_given", [False, True])
def test_a_recording_has_what_passed_within_its_block(memcached: Memcached, tmp_path: Path, is_given: bool) -> None:
    client = memcached.client(default_noreply=True)
    client.set("before", "1")
    path = tmp_path / "given.jsonl" if is_given else None
    with memcached.record(path) as recorder:
        client.set("a", "1")
        client.get("a")
        client.set("b", "2")
    client.get("after")
    assert recorder.path == path or recorder.path == tmp_path / f"memcached-{memcached.port}.jsonl"
    found = [call.request.data for call in Recording(recorder.path).calls()]
    assert found == [b"set a 0 0 1 noreply\r\n1\r\n", b"get a\r\n", b"set b 0 0 1 noreply\r\n2\r\n"]


def test_connections_survive_a_test(proc: MemcachedProc, tmp_path: Path) -> None:
    with RawClient(proc.address) as client:
        client.expect(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        with Memcached(proc, lambda: tmp_path):
            client.expect(b"get a\r\n", b"END\r\n")


def test_a_connection_in_the_middle_of_a_request_hinders_nobody(proc: MemcachedProc, tmp_path: Path) -> None:
    with RawClient(proc.address) as half:
        half.send(b"set a 0 0 100\r\nabc")
        with Memcached(proc, lambda: tmp_path) as memcached:
            assert len(memcached.store) == 0
            assert memcached.client().get("a") is None


def test_a_program_is_started_anew_after_what_lasts(program: MemcachedProc, tmp_path: Path) -> None:
    pids = []
    for command in (b"get a", b"verbosity 1", b"stats detail on", b"shutdown", b"get a"):
        with Memcached(program, lambda: tmp_path) as memcached:
            pids.append(memcached.stats()["pid"])
            assert memcached.stats("settings")["detail_enabled"] == "no"
            with RawClient(memcached.address) as client:
                client.send(command + b"\r\n")
                client.take(1)  # its first byte, or the end
    assert len(set(pids)) == 4
    assert pids[0] == pids[1]


@pytest.mark.parametrize(
    "use",
    [
        lambda memcached: memcached.travel(1),
        lambda memcached: memcached.freeze(),
        lambda memcached: memcached.at(NOON),
        lambda memcached: memcached.store,
    ],
    ids=["travel", "freeze", "at", "store"],
)
def test_what_a_program_cannot_do_is_skipped(
    program: MemcachedProc, tmp_path: Path, use: Callable[[Memcached], object]
) -> None:
    with Memcached(program, lambda: tmp_path) as memcached:
        with pytest.raises(pytest.skip.Exception, match=r"needs the server in pytest's process, and this is /.*"):
            use(memcached)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the descriptors are counted in /proc")
def test_everything_is_given_back(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = count()
    for proc in made(ServerInProcess("", TimeTravel())):
        with Memcached(proc, lambda: tmp_path) as memcached:
            memcached.client().set("a", "1")
            assert count() > before
    poll_until(lambda: count() <= before, "all descriptors and threads are given back")
