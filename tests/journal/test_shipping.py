"""Closed files are handed to a command in an order in which they make up a journal at any time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from memcache_kv.journal import Compactor, Fsync, Journal, JournalDirectory, recover
from memcache_kv.journal.manifest import MANIFEST_NAME
from memcache_kv.journal.shipping import Shipper
from memcache_kv.journal.tools.verify import verify
from memcache_kv.observe.log import Log
from memcache_kv.observe.log_form import Level
from memcache_kv.store import ItemStore, Mode
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock
from tests.integration.wire import poll_until
from tests.journal.journals import STARTED, manifest_in, names_in
from tests.journal.tools.journals import new_store
from tests.program import Program

SHIP = 'cp "$MEMCACHE_KV_CLOSED_FILE" {0}/new && mv {0}/new {0}/"$(basename "$MEMCACHE_KV_CLOSED_FILE")"'
"""Copies a file as rsync does: it appears as a whole."""


class LogOfLines(Log):
    """Keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """Keep a line."""
        self.lines.append(text)

    def failure(self, what: str, error: BaseException, consequence: str = "") -> None:
        """Keep a line."""
        self.lines.append(f"{what}: {error}; {consequence}")


class First:
    """A store with a journal that is shipped to a directory."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self.journal = journal
        self.log = LogOfLines()
        self.store = ItemStore(FakeClock(STARTED), shards=1, log=journal)
        self.written = 0

    def write(self) -> None:
        """Store one more key, and have it written."""
        self.store.store(Mode.SET, b"key%d" % self.written, pack(0, b"value"))
        self.written += 1
        assert self.journal.append()

    def rewrite(self) -> None:
        """Rewrite the journal."""
        compactor = Compactor(self.journal, self.store, 0, self.log)
        compactor.rewrite()
        assert (compactor.done, compactor.failures) == (1, 0)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    """A journal under `never`, which nobody else syncs."""
    (tmp_path / "standby").mkdir()
    with closing(JournalDirectory(tmp_path / "journal")) as directory:
        journal = Journal(directory, Fsync.NEVER)
        journal.start()
        with closing(journal):
            yield First(tmp_path, journal)


@contextmanager
def shipping(first: First, command: str, rotate_seconds: int = 0) -> Iterator[Shipper]:
    shipper = Shipper(first.journal, first.log, command, rotate_seconds)
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.stop()


def keys_of(path: Path) -> set[bytes]:
    """The keys of a server that starts with a copy of what was shipped."""
    copy = path.with_name("started")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns(".*", "new"))  # what is still being shipped
    assert verify(copy).is_sound
    store = new_store()  # nothing is evicted
    with closing(JournalDirectory(copy)) as directory:
        manifest = directory.open()
        assert manifest is not None
        recover(copy, directory.disk, manifest, store)
    return {key for key, _ in store.items()}


def has_shipped(path: Path, name: str) -> Callable[[], bool]:
    return lambda: (path / "manifest.json").exists() and name in {part.name for part in manifest_in(path).parts}


def test_closed_increments_are_shipped_in_order_and_a_manifest_of_them(first: First) -> None:
    standby = first.path / "standby"
    first.write()
    with shipping(first, SHIP.format(standby)):
        for number in range(1, 4):
            first.journal.rotate()
            first.write()
            poll_until(has_shipped(standby, f"increment-00000{number}.jsonl"), "the increment is shipped")
            assert keys_of(standby) == {b"key%d" % each for each in range(number)}
    assert first.log.lines == []
    assert manifest_in(standby).id == first.journal.id


def test_a_command_gets_each_file_once_and_knows_the_journal(first: First) -> None:
    told = first.path / "told"
    first.write()
    with shipping(first, f'echo "$MEMCACHE_KV_JOURNAL $MEMCACHE_KV_CLOSED_FILE" >> {told}'):
        for number in (1, 2):
            first.journal.rotate()
            first.write()
            poll_until(lambda: told.exists() and told.read_text().count("manifest") == number, "shipped")  # noqa: B023
    journal = first.path / "journal"
    assert told.read_text().splitlines() == [
        f"{journal} {journal / 'increment-000001.jsonl'}",
        f"{journal} {journal / 'closed/manifest.json'}",
        f"{journal} {journal / 'increment-000002.jsonl'}",
        f"{journal} {journal / 'closed/manifest.json'}",
    ]


def test_a_rewrite_ships_the_base_with_the_increment_in_which_it_was_completed(first: First) -> None:
    standby = first.path / "standby"
    first.write()
    with shipping(first, SHIP.format(standby)):
        first.rewrite()
        poll_until(has_shipped(standby, "base-000002.jsonl"), "the base is shipped")
        assert has_shipped(standby, "increment-000002.jsonl")()
        assert keys_of(standby) == {b"key0"}
        first.write()
        first.journal.rotate()
        poll_until(has_shipped(standby, "increment-000003.jsonl"), "the increment is shipped")
        assert keys_of(standby) == {b"key0", b"key1"}


def test_nothing_is_shipped_ahead_of_what_failed(first: First) -> None:
    standby, blocker = first.path / "standby", first.path / "blocker"
    blocker.touch()
    command = f"if [ -e {blocker} ]; then echo no way >&2; exit 7; fi; " + SHIP.format(standby)
    first.write()
    with shipping(first, command):
        first.journal.rotate()
        poll_until(lambda: bool(first.log.lines), "the failure is logged")
        first.write()
        first.journal.rotate()
        assert names_in(standby) == set()
        blocker.unlink()
        poll_until(has_shipped(standby, "increment-000002.jsonl"), "both are shipped")
    assert "failed with status 7 for " in first.log.lines[0]
    assert "increment-000001.jsonl: no way; it is run again in 1 s" in first.log.lines[0]
    assert keys_of(standby) == {b"key0", b"key1"}


def test_writes_go_on_while_a_command_hangs_and_it_is_killed_at_the_end(
    first: First, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcache_kv.journal.shipping.GRACE_SECONDS", 0.1)
    pid = first.path / "pid"
    first.write()
    with shipping(first, f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000"):
        first.journal.rotate()
        poll_until(pid.exists, "the command runs")
        first.write()
    assert any("--on-rotate was killed" in line for line in first.log.lines)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_increments_with_writes_are_closed_regularly_and_others_are_not(first: First) -> None:
    with shipping(first, "", rotate_seconds=1):
        first.write()
        poll_until(lambda: len(first.journal.files.closed) == 1, "an increment with a write is closed")
        poll_until(lambda: not manifest_in(first.path / "journal").unnamed, "a manifest names both")
        time.sleep(1.5)
        assert len(first.journal.files.closed) == 1
        first.write()
        poll_until(lambda: len(first.journal.files.closed) == 2, "the next one too")


def acknowledged_until_killed(server: Program, is_over: Callable[[], bool]) -> list[float]:
    """Store keys one after the other until the server is killed, and return when each was acknowledged."""
    moments: list[float] = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        replies = connection.makefile("rb")
        while not is_over():
            connection.sendall(b"set key%d 0 0 5\r\nvalue\r\n" % len(moments))
            assert replies.readline() == b"STORED\r\n"
            moments.append(time.monotonic())
    server.kill()
    return moments


def missing_after_a_kill(path: Path, rotate_seconds: int, command: str, is_over: Callable[[Path], bool]) -> float:
    """Kill a server that ships, start from what was shipped, and return how many seconds of writes are missing."""
    standby = path / "standby"
    standby.mkdir(parents=True)
    flags = ("--rotate-seconds", str(rotate_seconds), "--on-rotate", command.format(standby))
    with Program("-p", "0", "-l", "127.0.0.1", "--journal", str(path / "journal"), *flags) as server:
        moments = acknowledged_until_killed(server, lambda: is_over(standby))
    keys = keys_of(standby)
    assert keys == {b"key%d" % number for number in range(len(keys))}, "not the first writes"
    assert 0 < len(keys) <= len(moments)
    seconds = moments[-1] - moments[len(keys) - 1]
    print(f"{len(moments) - len(keys)} of {len(moments)} writes are missing, those of the last {seconds:.2f} s")
    return seconds


def test_a_standby_that_starts_after_a_kill_lacks_only_the_last_writes(tmp_path: Path) -> None:
    standby = tmp_path / "standby"
    missing_after_a_kill(tmp_path, 1, SHIP, lambda path: has_shipped(path, "increment-000003.jsonl")())
    with Program("-p", "0", "-l", "127.0.0.1", "--journal", str(standby)) as second:
        assert second.ask(b"get key0\r\n").startswith(b"VALUE key0")
        assert second.end(signal.SIGINT) == 0


class AfterShipping:
    """Tells whether so much time has passed since a standby had its first manifest."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: float | None = None

    def __call__(self, standby: Path) -> bool:
        """Look for the manifest, and at the clock."""
        if self._began is None and (standby / MANIFEST_NAME).exists():
            self._began = time.monotonic()
        return self._began is not None and time.monotonic() - self._began >= self._seconds


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("rotate_seconds", "kills"), [(1, 20), (10, 5)])
def test_how_much_a_standby_lacks_after_kills_at_random(tmp_path: Path, rotate_seconds: int, kills: int) -> None:
    """Only the last writes are missing, each time. `-rP` prints the figures of docs/howto/backup.md."""
    assert shutil.which("rsync"), "Debian has it in rsync"
    found = []
    for number in range(kills):
        command, waits = (
            'rsync -a "$MEMCACHE_KV_CLOSED_FILE" {}/',
            AfterShipping(rotate_seconds * (1 + Random(number).random())),
        )
        found.append(missing_after_a_kill(tmp_path / str(number), rotate_seconds, command, waits))
    print(f"every {rotate_seconds} s, {kills} kills: median {sorted(found)[kills // 2]:.1f} s, most {max(found):.1f} s")
