"""Opening data files: paths, standard input, and what is compressed."""

import gzip
import os
import sys
import threading
from pathlib import Path

import pytest

from memcache_kv.datafile.source import DataFile, open_data
from memcache_kv.errors import DataFileError, StoppedEarly

CONTENT = b"".join(b"key-%d value of it\n" % number for number in range(20_000))


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as module

        return bytes(module.compress(data, options={module.CompressionParameter.checksum_flag: 1}))
    return bytes(pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data))


def content_of(data: DataFile) -> bytes:
    pieces = []
    while piece := data.file.read(1000):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture(params=["plain", "gzip", "gzip in two members", "zstd", "zstd in two frames"])
def stored(request: pytest.FixtureRequest) -> bytes:
    """The content as it is on disk."""
    half = len(CONTENT) // 2
    return {
        "plain": lambda: CONTENT,
        "gzip": lambda: gzip.compress(CONTENT),
        "gzip in two members": lambda: gzip.compress(CONTENT[:half]) + gzip.compress(CONTENT[half:]),
        "zstd": lambda: zstd(CONTENT),
        "zstd in two frames": lambda: zstd(CONTENT[:half]) + zstd(CONTENT[half:]),
    }[request.param]()


def test_what_is_compressed_is_known_by_its_first_bytes(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "data.txt").write_bytes(stored)
    with open_data(str(tmp_path / "data.txt")) as data:
        assert (data.done, data.total) == (0, len(stored))
        assert content_of(data) == CONTENT
        assert data.done == data.total


def test_a_pipe_is_read_to_its_end_and_has_no_length(stored: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(stored)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with open_data("-", waited.append) as data:
            assert data.name == "standard input"
            assert content_of(data) == CONTENT
            assert (data.done, data.total) == (len(stored), 0)
    assert set(waited) == {reading}
    writer.join()


def test_standard_input_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with open_data("-") as data:
            assert data.file.read() == b""
        assert stdin.fileno() >= 0


def test_a_wait_may_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(fd: int) -> None:
        raise StoppedEarly("stopped")

    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w"):
        monkeypatch.setattr(sys, "stdin", stdin)
        with open_data("-", stop) as data:
            with pytest.raises(StoppedEarly):
                data.file.read()


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:200] + b"\xff" * 200 + data[400:]])
def test_a_damaged_file_is_reported(tmp_path: Path, compress: object, damage: object) -> None:
    assert callable(compress)
    assert callable(damage)
    noise = b"".join(os.urandom(16).hex().encode() + b" value\n" for _ in range(2000))
    (tmp_path / "data.gz").write_bytes(damage(compress(noise)))
    with open_data(str(tmp_path / "data.gz")) as data:
        with pytest.raises(DataFileError, match=r"can't read .*data\.gz: "):
            content_of(data)


def test_a_missing_file_and_a_directory_are_reported(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DataFileError, match=f"can't read {path}: {reason}"):
            with open_data(str(path)) as data:
                data.file.read()


def test_what_else_fails_meanwhile_is_not_taken_for_an_error_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    with pytest.raises(PermissionError):
        with open_data(str(tmp_path / "data")):
            raise PermissionError("the journal's")
