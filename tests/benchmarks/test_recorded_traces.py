"""How recorded traces are found, read and replayed."""

import hashlib
import io
import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.recorded_traces import RECORDED, Recorded, TraceError, read_column, read_ranges, read_words
from benchmarks.simulated import NEVER, next_requests
from benchmarks.trace import Outcome, Replay, batches
from clients.local_server import LocalServer, default_command

PACKED = lzma.compress(b"\0\0\0\7\0\0\1\0\xff\xff\xff\xff")


def a_trace(url: str, data: bytes = PACKED) -> Recorded:
    return Recorded("made up", url, hashlib.sha256(data).hexdigest(), lambda packed: read_words(packed, "I"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "memcache_kv" / "traces"


def test_words_are_big_endian_and_unsigned() -> None:
    assert list(read_words(io.BytesIO(PACKED), "I")) == [7, 256, 0xFFFFFFFF]
    assert list(read_words(io.BytesIO(lzma.compress(b"\xff" * 8 + b"\0" * 7 + b"\1")), "Q")) == [(1 << 64) - 1, 1]


def test_many_words_are_read_in_pieces() -> None:
    numbers = range(100_000)
    packed = lzma.compress(b"".join(number.to_bytes(4, "big") for number in numbers))
    assert list(read_words(io.BytesIO(packed), "I")) == list(numbers)


def test_a_line_of_the_arc_format_is_a_range() -> None:
    assert list(read_ranges(io.BytesIO(b"10 3 0 0\n5 1 0 1\n"))) == [10, 11, 12, 5]


def test_a_column_is_found_by_its_name() -> None:
    assert list(read_column(io.BytesIO(b"time,size,lbn\n1,512,42\n2,512,43\n"), "lbn")) == [42, 43]


def test_a_fetched_trace_is_kept_and_read(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "made.trace.xz"
    source.write_bytes(PACKED)
    trace = a_trace(source.as_uri())
    trace.fetch()
    source.unlink()
    trace.fetch()
    assert trace.keys(2) == [7, 256]
    assert [path.name for path in cache.iterdir()] == ["made.trace.xz"]


def test_another_file_than_the_known_one_is_neither_kept_nor_read(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "made.trace.xz"
    source.write_bytes(b"<html>moved</html>")
    trace = a_trace(source.as_uri())
    with pytest.raises(TraceError, match="SHA-256 differs"):
        trace.fetch()
    assert not cache.exists()
    cache.mkdir(parents=True)
    trace.path.write_bytes(b"cut off")
    with pytest.raises(TraceError, match="SHA-256 differs"):
        trace.keys()


def test_a_trace_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    trace = a_trace((tmp_path / "none.xz").as_uri())
    with pytest.raises(TraceError, match=r"none\.xz"):
        trace.fetch()
    with pytest.raises(TraceError, match="it is not there"):
        trace.keys()


def test_each_recorded_trace_has_a_file_of_its_own() -> None:
    assert len({trace.path for trace in RECORDED.values()}) == len(RECORDED)


def test_the_next_request_of_each_key_is_found() -> None:
    assert next_requests([5, 6, 5, 5]) == [2, NEVER, 3, NEVER]


def test_a_batch_ends_before_a_key_that_it_has() -> None:
    a, b, c = (b"a", 1), (b"b", 1), (b"c", 1)
    assert list(batches([a, b, a, a, b, c], 2)) == [[a, b], [a], [a, b], [c]]
    assert list(batches([], 2)) == []


def test_a_key_that_comes_twice_in_a_row_is_hit_the_second_time() -> None:
    with LocalServer(default_command()) as server:
        replay = Replay(server.address)
        outcome: Outcome = replay.run([(b"a", 10), (b"a", 10), (b"b", 10), (b"a", 10)])
        replay.close()
    assert (outcome.requests, outcome.hits) == (4, 2)


def test_who_reads_the_keys_may_stop_early(tmp_path: Path, cache: Path) -> None:
    numbers = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    source = tmp_path / "made.trace.xz"
    source.write_bytes(lzma.compress(numbers))
    program = f"""
import pathlib, sys
from benchmarks import recorded_traces
from tests.benchmarks.test_recorded_traces import a_trace
source = pathlib.Path({str(source)!r})
recorded_traces.RECORDED["made"] = a_trace(source.as_uri(), source.read_bytes())
sys.exit(recorded_traces.main(["made", "--print"]))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        said = process.stderr.read().decode()
    assert (process.returncode, "Traceback" in said) == (0, False)
