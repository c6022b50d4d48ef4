"""Opening a data file: a path or standard input, as it is or compressed with gzip or zstd."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from memcache_kv.config.settings import STANDARD_INPUT
from memcache_kv.errors import DataFileError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
COPY_BYTES = 1 << 17
"""How much is read from the file at once."""
FED_BYTES = 2048
"""How much is given to the decompressor at once, so that its output is bounded: four bytes may become 128 KiB."""

Wait = Callable[[int], None]
"""Called with a descriptor before each read that may block: it may wait until there is input, or raise."""


def never_wait(fd: int) -> None:
    """Let the read itself wait."""


class RawData(io.RawIOBase):
    """The bytes of a file as they are on disk, counted in `done`.

    total: the file's length; 0 if that is not known.
    """

    def __init__(self, fd: int, wait: Wait) -> None:
        super().__init__()
        self._fd = fd
        status = os.fstat(fd)
        is_regular = stat.S_ISREG(status.st_mode)
        self.total = status.st_size if is_regular else 0
        self.done = 0
        self._wait = never_wait if is_regular else wait
        self._unread = b""

    def head(self) -> bytes:
        """Return the first bytes, before any others are read."""
        while len(self._unread) < len(ZSTD_MAGIC) and (piece := self._read(len(ZSTD_MAGIC) - len(self._unread))):
            self._unread += piece
        return self._unread

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer, and return their number; 0 at the end."""
        piece, self._unread = self._unread or self._read(len(buffer)), b""
        buffer[: len(piece)] = piece
        self.done += len(piece)
        return len(piece)

    def _read(self, most: int) -> bytes:
        self._wait(self._fd)
        return os.read(self._fd, most)


class Content(io.RawIOBase):
    """The decompressed bytes of a file, which the first read begins. What is wrong with it is raised as DataFileError.

    name: the file's, for messages.
    """

    def __init__(self, name: str, raw: RawData) -> None:
        super().__init__()
        self._name = name
        self._raw = raw
        self._file: BinaryIO | None = None
        self._errors: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer, and return their number; 0 at the end."""
        try:
            if self._file is None:
                self._file, errors = _decompressed(self._raw, self._name)
                self._errors += errors
            piece = self._file.read(len(buffer))
        except self._errors as error:
            raise DataFileError(f"can't read {self._name}: {getattr(error, 'strerror', None) or error}") from None
        buffer[: len(piece)] = piece
        return len(piece)


class DataFile:
    """An open data file.

    name: for messages. file: its decompressed content.
    """

    def __init__(self, name: str, file: BinaryIO, raw: RawData) -> None:
        self.name = name
        self.file = file
        self._raw = raw

    @property
    def done(self) -> int:
        """How many bytes were read, as they are on disk."""
        return self._raw.done

    @property
    def total(self) -> int:
        """How many bytes there are in all; 0 if that is not known."""
        return self._raw.total


@contextlib.contextmanager
def open_data(path: str, wait: Wait = never_wait) -> Iterator[DataFile]:
    """Open a data file by its path, or standard input by `-`. Its first bytes say whether it is compressed.

    wait: called before each read from anything but a regular file. Raises DataFileError, as the content's `read` does.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    with contextlib.ExitStack() as undo:
        try:
            file = sys.stdin.buffer if path == STANDARD_INPUT else undo.enter_context(open(path, "rb", buffering=0))
            raw = RawData(file.fileno(), wait)
        except OSError as error:
            raise DataFileError(f"can't read {name}: {error.strerror or error}") from None
        yield DataFile(name, io.BufferedReader(Content(name, raw), COPY_BYTES), raw)


def _decompressed(raw: RawData, name: str) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    """Return the content of a file, and the errors that reading it may raise besides the common ones."""
    head, file = raw.head(), io.BufferedReader(raw, COPY_BYTES)
    if head.startswith(GZIP_MAGIC):
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=file)), ()
    if head.startswith(ZSTD_MAGIC):
        return _open_zstd(file, name)
    return file, ()


def _open_zstd(file: BinaryIO, name: str) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return cast(BinaryIO, zstd.ZstdFile(file)), (zstd.ZstdError,)
    try:
        import zstandard
    except ImportError:
        raise DataFileError(
            f"{name} is compressed with zstd, which this Python can't read: pip install '.[zstd]' in a clone, "
            "or pip install zstandard"
        ) from None
    frames = ZstdFrames(file, zstandard.ZstdDecompressor().decompressobj)
    return cast(BinaryIO, frames), (zstandard.ZstdError,)


class ZstdFrames(io.RawIOBase):
    """The content of all frames of a file. Unlike the stream reader of zstandard, it notices that a frame is cut off.

    make: returns a decompressor for one frame.
    """

    def __init__(self, file: BinaryIO, make: Callable[[], Any]) -> None:
        super().__init__()
        self._file = file
        self._make = make
        self._frame = make()
        self._is_amid_frame = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer, and return their number; 0 at the end.

        Raises EOFError if a frame is cut off.
        """
        while not self._ready:
            piece = self._frame.unused_data or self._file.read(FED_BYTES)
            if self._frame.eof:
                self._frame, self._is_amid_frame = self._make(), False
            if not piece:
                if self._is_amid_frame:
                    raise EOFError("the compressed data was cut off")
                return 0
            self._is_amid_frame = True
            self._ready = memoryview(self._frame.decompress(piece))
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size
