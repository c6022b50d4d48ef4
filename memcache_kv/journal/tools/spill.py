"""A temporary file for what does not fit into memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from typing import BinaryIO, Self

from memcache_kv.errors import JournalError
from memcache_kv.journal.disk import write_all


class Spill:
    """A temporary file without a name, in the directory that TMPDIR names: nothing is left of it after the process.

    It is created at the first write. Use it as a context, whose end frees the disk space. Raises JournalError if the
    file can't be written or read.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._written_bytes = 0

    def write(self, data: bytes, extents: array[int]) -> None:
        """Append a piece, and its offset and length to `extents`."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed by `close`)
            write_all(self._file, data)
        except OSError as error:
            raise self._failed("write", error) from None
        extents.extend((self._written_bytes, len(data)))
        self._written_bytes += len(data)

    def read(self, extents: array[int]) -> Iterator[bytes]:
        """Yield pieces by their offsets and lengths."""
        for at in range(0, len(extents), 2):
            try:
                yield self._read(extents[at], extents[at + 1])
            except OSError as error:
                raise self._failed("read", error) from None

    def _read(self, offset: int, length: int) -> bytes:
        assert self._file is not None
        self._file.seek(offset)
        pieces = []
        while length and (piece := self._file.read(length)):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    @staticmethod
    def _failed(what: str, error: OSError) -> JournalError:
        return JournalError(
            f"can't {what} temporary files in {tempfile.gettempdir()}: {error.strerror or error}; "
            "let TMPDIR name a directory with as much free space as the journal takes"
        )

    def close(self) -> None:
        """Free the disk space."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
