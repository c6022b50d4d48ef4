"""Reading and decoding blocks of a journal in a second thread, while the blocks before them are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from memcache_kv.unpatched import queue, threading

Decoded = TypeVar("Decoded")


class Decoding(Generic[Decoded]):
    """What came of the decoding of a block: what `decode` returned, or the error that it raised."""

    def __init__(self, decode: Callable[[], Decoded]) -> None:
        self._decoded: Decoded
        self.error: BaseException | None = None
        try:
            self._decoded = decode()
        except BaseException as error:
            self.error = error

    def result(self) -> Decoded:
        """Return what `decode` returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self._decoded


Passed: TypeAlias = tuple[bytearray, Decoding[Decoded]] | BaseException | None
"""A block with what came of it; an error while a block was read; or None, the end."""


class Decoder(threading.Thread, Generic[Decoded]):
    """The thread that reads blocks and decodes them, up to the first that is damaged.

    blocks: each with the checksum of the record before it. ahead: how many of them it has decoded, or is about to, that
    nobody has taken.
    """

    def __init__(
        self, blocks: Iterable[tuple[bytearray, int]], decode: Callable[[bytearray, int], Decoded], ahead: int
    ) -> None:
        super().__init__(name="decoder", daemon=True)
        self._blocks = blocks
        self._decode = decode
        self._room = threading.Semaphore(ahead)
        self._passed: queue.SimpleQueue[Passed[Decoded]] = queue.SimpleQueue()
        self._stopping = False

    def run(self) -> None:
        """Read and decode until the end, a damaged block or `stop`."""
        try:
            self._read()
        except BaseException as error:
            self._passed.put(error)
        else:
            self._passed.put(None)

    def _read(self) -> None:
        blocks = iter(self._blocks)
        while self._room.acquire() and not self._stopping and (found := next(blocks, None)) is not None:
            block, before = found
            decoding = Decoding(partial(self._decode, block, before))
            is_damaged = decoding.error is not None
            self._passed.put((block, decoding))
            del block, found, decoding  # the block is used again
            if is_damaged:
                return

    def taken(self) -> Iterator[tuple[bytearray, Decoding[Decoded]]]:
        """Take the blocks in order, with what came of each. Raises what an iteration over the blocks has raised."""
        while (passed := self._passed.get()) is not None:
            if isinstance(passed, BaseException):
                raise passed
            self._room.release()
            yield passed
            del passed

    def stop(self) -> None:
        """Read no more. Blocks until the block that is being read or decoded is done."""
        self._stopping = True
        self._room.release()
        self.join()


def decoded_ahead(
    blocks: Iterable[tuple[bytearray, int]], decode: Callable[[bytearray, int], Decoded], ahead: int
) -> Iterator[tuple[bytearray, Callable[[], Decoded]]]:
    """Yield each block with a function that returns what `decode` made of it, or raises what that raised.

    blocks: are decoded in order, each with the checksum of the record before it. ahead: how many of them may be read
    and decoded by a second thread before they are yielded; 0 lets the caller's thread do it.
    """
    if not ahead:
        for block, before in blocks:
            yield block, partial(decode, block, before)
        return
    decoder = Decoder(blocks, decode, ahead)
    decoder.start()
    try:
        for block, decoding in decoder.taken():
            yield block, decoding.result
            del block, decoding
    finally:
        decoder.stop()
