"""--preload: what a server holds when it begins to listen, what it says about bad lines, and when it does not start."""

import errno
import gzip
import io
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from memcache_kv.config.loading import load_settings
from memcache_kv.config.memcached_options import MIB
from memcache_kv.config.settings import Settings
from memcache_kv.errors import ConfigError, DataFileError, JournalError, StoppedEarly
from memcache_kv.journal import JournalDirectory
from memcache_kv.journal.disk import File, SystemDisk
from memcache_kv.observe.log import Log
from memcache_kv.server.memory import MemoryWatch
from memcache_kv.server.preload import Preload
from memcache_kv.server.run import ServerRun
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import value_of, wire_bytes_of
from tests.fake_clock import FakeClock
from tests.program import PATIENCE_SECONDS, Program, command, environment, run_to_its_end

BAD = b"good 1\n\nnovalue\n" + b"k" * 251 + b" long\n other\nlast 2\n"
ROWS = 1_000_000
LARGEST_SECONDS = 5.0
LARGEST_KILOBYTES = 230_000_000 // 1024

SHARED_PRINTS = 10
"""The count of items that were left out is wrong by one for each pair of keys whose hashes have the same print."""


@contextmanager
def running(settings: Settings) -> Iterator[ServerRun]:
    """A server that runs for a while."""
    server = ServerRun(settings._replace(port=0, listen=("127.0.0.1",)), log=Log(0, io.StringIO()))
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Started:
    """A server that has been started and stopped, and its log."""

    def __init__(self, settings: Settings, before_start: Callable[[ServerRun], None] = lambda server: None) -> None:
        stream = io.StringIO()
        self.server = ServerRun(settings._replace(port=0, listen=("127.0.0.1",)), log=Log(0, stream))
        try:
            before_start(self.server)
            self.server.start()
            self.items = {key: value_of(wire_bytes_of(entry)) for key, entry in self.server.store.items()}
            self.server.stop()
        finally:
            self.said = stream.getvalue().splitlines()


@pytest.fixture(autouse=True)
def no_memory_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of this process is that of other tests too."""
    monkeypatch.setattr(MemoryWatch, "check", lambda watch: None)
    monkeypatch.setattr(MemoryWatch, "check_often", lambda watch: None)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_the_items_of_all_files_are_there_and_later_lines_win(tmp_path: Path) -> None:
    large = b"v" * 100_000
    first = write(tmp_path / "first", b"a 1\nb 1\nlarge " + large + b"\nb 2\n")
    second = write(tmp_path / "second.gz", gzip.compress(b"b 3\nc 4\n"))
    started = Started(Settings(preload=(first, second)))
    assert started.items == {b"a": b"1", b"b": b"3", b"c": b"4", b"large": large}
    assert [line.partition(" in ")[0] for line in started.said[:2]] == [
        f"loaded 4 items from {first}", f"loaded 2 items from {second}",
    ]  # fmt: skip


def test_bad_lines_are_counted_and_named_and_the_others_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "data", BAD)
    started = Started(Settings(preload=(path,)))
    assert started.items == {b"good": b"1", b"last": b"2"}
    assert started.said[:5] == [
        f"{path}, line 2: the line is empty",
        f"{path}, line 3: there is no value after the key",
        f"{path}, line 4: the key has 251 bytes; the limit is 250",
        f"{path}, line 5: the line begins with a space: there is no key",
        f"{path}: 4 lines are no items and were not loaded",
    ]


def test_only_the_first_ten_bad_lines_of_a_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"x\n" * 70_000 + b"a 1\n" + b"x\n" * 70_000)
    started = Started(Settings(preload=(path,)))
    assert started.items == {b"a": b"1"}
    assert [line for line in started.said if ", line " in line] == [
        f"{path}, line {number}: there is no value after the key" for number in range(1, 11)
    ]
    assert f"{path}: 140000 lines are no items and were not loaded" in started.said


def test_an_item_larger_than_the_limit_is_a_bad_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"a 1\nb " + b"v" * 2000 + b"\n")
    started = Started(Settings(preload=(path,), max_item_size=1024))
    assert started.items == {b"a": b"1"}
    assert started.said[0].startswith(f"{path}, line 2: the line has 2002 bytes; the limit is ")


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data", BAD)
    with pytest.raises(DataFileError, match=f"^{path}, line 2: the line is empty; --preload-strict"):
        Started(Settings(preload=(path,), preload_strict=True))
    Started(Settings(preload=(write(tmp_path / "good", b"a 1\n"),), preload_strict=True))


def test_a_file_that_cannot_be_read_is_an_error_strict_or_not(tmp_path: Path) -> None:
    cut_off = write(tmp_path / "data.gz", gzip.compress(os.urandom(1000).hex().encode() + b" v\n")[:-8])
    for path in (str(tmp_path / "none"), cut_off):
        with pytest.raises(DataFileError, match=f"^can't read {path}: "):
            Started(Settings(preload=(path,)))


# Too little room


@pytest.mark.parametrize("evicts", [True, False])
def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path, evicts: bool) -> None:
    path = write(tmp_path / "data", b"".join(b"%032d %b\n" % (number, b"v" * 100) for number in range(20_000)))
    settings = Settings(preload=(path,), memory_limit=2 * MIB, max_item_size=MIB, disable_evictions=not evicts)
    started = Started(settings)
    assert 3000 < len(started.items) < 8000
    count, _, text = started.said[1].partition(" ")
    assert text == f"items of {path} did not fit: -m 2 has no room for them; all need about -m 6"
    assert abs(int(count) + len(started.items) - 20_000) <= SHARED_PRINTS
    assert started.server.store.used_bytes <= 2 * MIB
    assert len(Started(settings._replace(memory_limit=6 * MIB, preload_strict=True)).items) == 20_000
    with pytest.raises(DataFileError, match="did not fit"):
        Started(settings._replace(preload_strict=True))


def test_max_items_holds_too(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"".join(b"%d v\n" % number for number in range(1000)))
    started = Started(Settings(preload=(path,), max_items=100))
    assert len(started.items) == 100
    count, _, text = started.said[1].partition(" ")
    assert text == f"items of {path} did not fit: --max-items allows no more"
    assert abs(int(count) - 900) <= SHARED_PRINTS


# With a journal


def test_a_new_journal_is_filled_and_its_changes_outlive_a_restart(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"a 1\nb 2\nc 3\n")
    settings = Settings(preload=(path,), journal=tmp_path / "journal")

    with running(settings) as server:
        assert len(server.store) == 3
        server.store.delete(b"a")
        server.store.put(b"b", b" 0 3\r\nnew\r\n")
    again = Started(settings)
    assert again.items == {b"b": b"new", b"c": b"3"}
    assert f"{tmp_path / 'journal'} holds a journal already, so {path} was not loaded" in "\n".join(again.said)
    assert Started(settings._replace(preload=())).items == again.items


def test_an_emptied_journal_is_not_filled_again(tmp_path: Path) -> None:
    settings = Settings(preload=(write(tmp_path / "data", b"a 1\n"),), journal=tmp_path / "journal")
    with running(settings) as server:
        server.store.flush()
    assert Started(settings).items == {}


@pytest.mark.parametrize(
    ("content", "error"), [(b"a 1\nbad\n", DataFileError), (b"a 1\n", StoppedEarly)], ids=["bad line", "stop"]
)
def test_a_start_that_fails_leaves_no_part_of_the_items_in_the_journal(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    path = write(tmp_path / "data", content)
    settings = Settings(preload=(path,), preload_strict=True, journal=tmp_path / "journal")

    def stop(server: ServerRun) -> None:
        if error is StoppedEarly:
            server.stopping.set()

    with pytest.raises(error):
        Started(settings, stop)
    with pytest.raises(error):
        Started(settings, stop)
    JournalDirectory(tmp_path / "journal").close()  # nobody holds it
    write(tmp_path / "data", b"b 2\n")
    assert Started(settings).items == {b"b": b"2"}


def test_a_disk_without_room_is_an_error_of_the_journal(tmp_path: Path) -> None:
    class FullDisk(SystemDisk):
        def create(self, path: Path) -> File:
            raise OSError(errno.ENOSPC, "No space left on device")

    path = write(tmp_path / "data", b"a 1\n")
    store, log = ItemStore(FakeClock()), Log(0, io.StringIO())
    preload = Preload(Settings(preload=(path,)), store, log, wait=lambda fd: None, check=lambda done, total: None)
    with closing(JournalDirectory(tmp_path / "journal", FullDisk())) as directory:
        with pytest.raises(JournalError, match=f"can't write the journal in {tmp_path / 'journal'}: No space left"):
            preload.fill_journal(directory)
    JournalDirectory(tmp_path / "journal").close()


def test_what_does_not_fit_stays_in_the_journal(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"".join(b"%032d %b\n" % (number, b"v" * 100) for number in range(20_000)))
    small = Settings(preload=(path,), journal=tmp_path / "journal", memory_limit=2 * MIB, max_item_size=MIB)
    with pytest.raises(DataFileError, match="did not fit"):
        Started(small._replace(preload_strict=True))
    assert len(Started(small).items) < 8000
    assert len(Started(small._replace(memory_limit=8 * MIB)).items) == 20_000


# The program


def test_the_items_are_there_before_the_program_says_that_it_listens(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"key value\n")
    with Program("-p", "0", "-l", "127.0.0.1", "--preload", path) as program:
        assert program.said.index(b"loaded 1 items") < program.said.index(b"listening on")
        assert program.ask(b"get key\r\n") == b"VALUE key 0 5\r\n"


def test_a_failed_load_is_told_in_one_line_and_by_the_status(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b"bad\n")
    ended = run_to_its_end("-p", "0", "--preload", path, "--preload-strict")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        f"memcache-kv: {path}, line 1: there is no value after the key; --preload-strict loads every line or does not "
        "start",
    )


@pytest.mark.parametrize("journal", [False, True], ids=["store", "journal"])
def test_a_signal_ends_the_wait_for_standard_input(tmp_path: Path, journal: bool) -> None:
    """Nothing is ever written to the pipe, so that the read would block for good."""
    flags = ["--journal", str(tmp_path / "journal")] if journal else []
    with subprocess.Popen(
        command("-p", "0", "-l", "127.0.0.1", "-P", str(tmp_path / "pid"), "--preload", "-", *flags),
        env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            give_up_at = time.monotonic() + PATIENCE_SECONDS
            while not (tmp_path / "pid").exists():
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()


def test_standard_input_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"key value\n")
    os.close(writing)
    with subprocess.Popen(
        command("-p", "0", "-l", "127.0.0.1", "--preload", "-"),
        env=environment(), stdin=reading, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(reading)
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"loaded 1 items from standard input in ")
        finally:
            process.kill()


def test_standard_input_can_be_given_once() -> None:
    assert load_settings({"preload": ["-", "data"]}, None, {}).preload == ("-", "data")
    with pytest.raises(ConfigError, match="only once"):
        load_settings({"preload": ["-", "-"]}, None, {})


@pytest.mark.long
def test_a_million_rows_take_five_seconds_and_230_megabytes_at_most(tmp_path: Path) -> None:
    """The processor's seconds count, as other tests run at the same time."""
    with (tmp_path / "rows").open("w") as file:
        for number in range(ROWS):
            file.write(f"{uuid.UUID(int=number << 64 | number)} {number:035}\n")
    with Program("-p", "0", "-l", "127.0.0.1", "-m", "1024", "--preload", str(tmp_path / "rows")) as program:
        fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{program.process.pid}/status").read_text()
        kilobytes = int(status.partition("VmHWM:")[2].split()[0])
        assert program.ask(b"get %b\r\n" % str(uuid.UUID(int=7 << 64 | 7)).encode()).endswith(b" 0 35\r\n")
    assert seconds < LARGEST_SECONDS
    assert kilobytes < LARGEST_KILOBYTES
