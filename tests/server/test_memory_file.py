"""--memory-file: what a graceful stop keeps, and that nothing else is kept."""

import contextlib
import io
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, JournalFailed, StoppedEarly
from memcache_kv.observe.log import Log
from memcache_kv.server.run import ServerRun
from memcache_kv.store import ItemStore
from tests.fake_clock import FakeClock
from tests.program import PATIENCE_SECONDS, Program, poll_until

HELD = {
    b"plain": (b"0 0 5", b"value"),
    b"flags": (b"4294967295 0 2", b"\r\n"),
    b"empty": (b"7 0 0", b""),
    b"\xff\xfe": (b"0 0 3", b"\x00\xff\n"),
    b"large": (b"0 0 300000", b"x" * 300_000),
    b"soon": (b"0 100 1", b"s"),
    b"late": (b"0 1000 1", b"l"),
}


class Run:
    """A server with a memory file, from its start to its stop, and its log."""

    def __init__(self, path: Path, clock: FakeClock | None = None, **settings: object) -> None:
        self.stream = io.StringIO()
        chosen = Settings(port=0, listen=("127.0.0.1",), memory_file=path, enable_shutdown=True)
        self.server = ServerRun(chosen._replace(**settings), clock, Log(0, self.stream))  # type: ignore[arg-type]

    @property
    def said(self) -> str:
        return self.stream.getvalue()

    def ask(self, request: bytes, end: bytes = b"\r\n") -> bytes:
        """Send a request; return the reply up to its end."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_SECONDS) as client:
            client.sendall(request)
            reply = b""
            while not reply.endswith(end):
                piece = client.recv(1 << 20)
                assert piece, reply[:100]
                reply += piece
            return reply

    def values(self, *keys: bytes) -> dict[bytes, bytes]:
        """The values of keys, by a get of each."""
        found = {}
        for key in keys:
            reply = self.ask(b"get " + key + b"\r\n", b"END\r\n")
            if reply != b"END\r\n":
                found[key] = reply.removeprefix(b"VALUE " + key + b" ")
        return found

    def stop(self, is_graceful: bool = True) -> None:
        self.server.stopping.set(is_graceful)
        self.server.stop()


@contextlib.contextmanager
def running(path: Path, is_graceful: bool = True, clock: FakeClock | None = None, **settings: object) -> Iterator[Run]:
    """A server that is stopped at the end of the block."""
    run = Run(path, clock, **settings)
    run.server.start()
    try:
        yield run
    finally:
        run.stop(is_graceful)


def fill(run: Run) -> None:
    for key, (words, value) in HELD.items():
        assert run.ask(b"set " + key + b" " + words + b"\r\n" + value + b"\r\n") == b"STORED\r\n"


def expected(*left_out: bytes) -> dict[bytes, bytes]:
    return {
        key: words.split()[0] + b" " + words.split()[2] + b"\r\n" + value + b"\r\nEND\r\n"
        for key, (words, value) in HELD.items()
        if key not in left_out
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory_file"


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def test_a_graceful_stop_keeps_all_items_for_one_start(path: Path) -> None:
    with running(path) as first:
        assert "no items were saved by a graceful stop: starting with an empty cache" in first.said
        fill(first)
    assert f"saved {len(HELD)} items" in first.said
    with running(path, is_graceful=False) as second:
        assert f"loaded {len(HELD)} items" in second.said
        assert second.values(*HELD) == expected()
        assert names(path) == ["memory_file"], "they are removed once they are loaded"
    with running(path, is_graceful=False) as third:
        assert third.values(*HELD) == {}, "the second stop was not graceful"


def test_what_expires_meanwhile_is_gone_and_the_rest_keeps_its_time(path: Path) -> None:
    clock = FakeClock()
    with running(path, clock=clock) as first:
        fill(first)
    later = FakeClock()
    later.now = clock.now + 500
    with running(path, clock=later) as second:
        assert second.values(*HELD) == expected(b"soon")
        assert second.ask(b"mg late t\r\n") == b"HD t500\r\n"


def test_cas_ids_stay_and_are_not_given_again(path: Path) -> None:
    with running(path) as first:
        fill(first)
        before = first.ask(b"mg plain c\r\n")
    with running(path) as second:
        assert second.ask(b"mg plain c\r\n") == before
        gone = int(second.ask(b"ms gone 1 c\r\nx\r\n").split(b"c")[1])
        for key in (*HELD, b"gone"):
            second.ask(b"delete " + key + b"\r\n")
    with running(path) as third:
        assert int(third.ask(b"ms gone 1 c\r\ny\r\n").split(b"c")[1]) > gone


def test_stale_items_and_a_flush_that_waits_stay(path: Path) -> None:
    clock = FakeClock()
    with running(path, clock=clock) as first:
        first.ask(b"set a 0 0 1\r\nv\r\n")
        first.ask(b"md a I\r\n")
        first.ask(b"set b 0 0 1\r\nv\r\n")
        first.ask(b"flush_all 50\r\n")
    with running(path, clock=clock) as second:
        assert second.ask(b"mg a v\r\n", b"v\r\n").startswith(b"VA 1 X W")
    later = FakeClock()
    later.now = clock.now + 51
    with running(path, clock=later) as third:
        assert third.values(b"a", b"b") == {}


def test_with_less_memory_what_fits_is_loaded(path: Path) -> None:
    with running(path, memory_limit=64 * MIB) as first:
        for number in range(40):
            first.ask(b"set k%d 0 0 500000\r\n" % number + b"x" * 500_000 + b"\r\n")
    with running(path, memory_limit=8 * MIB) as second:
        count = len(second.values(*(b"k%d" % number for number in range(40))))
        loaded = int(second.said.partition(": loaded ")[2].partition(" ")[0])
        assert 8 <= count <= loaded < 20
        assert f"{40 - loaded} did not fit" in second.said


def test_with_more_memory_and_other_settings_all_are_loaded(path: Path) -> None:
    with running(path) as first:
        fill(first)
    with running(path, memory_limit=200 * MIB, shards=2, slab_growth_factor=2.0, threads=2) as second:
        assert second.values(*HELD) == expected()


def test_an_unclean_stop_leaves_nothing_to_load(path: Path) -> None:
    with Program("-p", "0", "-l", "127.0.0.1", "-e", str(path)) as first:
        assert first.ask(b"set a 0 0 1\r\nv\r\n") == b"STORED\r\n"
        assert first.end(signal.SIGUSR1) == 0
    with Program("-p", "0", "-l", "127.0.0.1", "-e", str(path)) as second:
        assert second.ask(b"get a\r\n") == b"VALUE a 0 1\r\n"
        second.process.kill()
    with Program("-p", "0", "-l", "127.0.0.1", "-e", str(path)) as third:
        assert third.ask(b"get a\r\n") == b"END\r\n"
        assert third.ask(b"set a 0 0 1\r\nv\r\n") == b"STORED\r\n"
        assert third.end(signal.SIGTERM) == 0
    assert names(path) == ["memory_file"], "SIGTERM saves nothing"


def test_only_shutdown_graceful_saves_items(path: Path) -> None:
    for command, is_kept in ((b"shutdown graceful\r\n", True), (b"shutdown\r\n", False)):
        run = Run(path)
        run.server.start()
        run.ask(b"set a 0 0 1\r\nv\r\n")
        with socket.create_connection(("127.0.0.1", run.server.port)) as client:
            client.sendall(command)
            poll_until(run.server.stopping.is_set, "it is asked to stop")
        run.server.stop()
        assert path.with_name("memory_file.items").exists() == is_kept


@pytest.mark.parametrize("place", ["middle", "end"])
def test_saved_items_that_are_damaged_are_loaded_as_far_as_they_are_whole(path: Path, place: str) -> None:
    with running(path) as first:
        fill(first)
    [base] = path.with_name("memory_file.items").glob("increment-*")
    data = base.read_bytes()
    start, length = (len(data) // 2, 1) if place == "middle" else (len(data) - 20, 20)
    base.write_bytes(data[:start] + b"\0" * length + data[start + length :])
    with running(path) as second:
        assert "not all saved items can be read" in second.said
        found = second.values(*HELD)
        assert found.items() <= expected().items()
        assert len(found) < len(HELD)


def test_a_memcacheds_file_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"memory of another server" * 1000)
    path.with_name("memory_file.meta").write_text("Tmain\n")
    with running(path) as first:
        fill(first)
    with running(path) as second:
        assert second.values(b"plain") != {}
    assert path.read_bytes() == b"memory of another server" * 1000


def test_a_start_that_is_stopped_keeps_what_was_saved(path: Path) -> None:
    with running(path) as first:
        fill(first)
    stopped = Run(path)
    stopped.server.on_loading = lambda done, total: stopped.server.stopping.set()
    with pytest.raises(StoppedEarly):
        stopped.server.start()
    with running(path) as second:
        assert second.values(*HELD) == expected()


def test_two_servers_cannot_use_one_file(path: Path) -> None:
    with running(path):
        other = Run(path)
        with pytest.raises(ConfigError, match="another server uses the memory file"):
            other.server.start()


def test_a_stop_that_cannot_save_is_a_failure_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(store: ItemStore) -> int:
        raise OSError(28, "No space left on device")

    with running(path) as first:
        fill(first)
        monkeypatch.setattr(ItemStore, "next_cas", fail)
    assert isinstance(first.server.failure, JournalFailed)
    assert "can't save the items for" in first.said
    assert "No space left on device" in first.said
    monkeypatch.undo()
    assert names(path) == ["memory_file"]


def test_preload_fills_only_a_server_that_has_no_saved_items(path: Path) -> None:
    rows = path.with_name("rows")
    rows.write_text("plain from-the-file\n")
    with running(path, preload=(str(rows),)) as first:
        assert first.values(b"plain") == {b"plain": b"0 13\r\nfrom-the-file\r\nEND\r\n"}
        fill(first)
    with running(path, preload=(str(rows),)) as second:
        assert second.values(*HELD) == expected()
        assert f"{rows} was not loaded, as a graceful stop had saved the items" in second.said


def test_the_setting_is_in_the_statistics(path: Path) -> None:
    with running(path) as run:
        assert f"STAT memory_file {path}\r\n".encode() in run.ask(b"stats settings\r\n", b"END\r\n")
