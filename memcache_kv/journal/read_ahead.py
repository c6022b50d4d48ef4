"""Decoding blocks of a journal in a second thread, while the blocks before them are applied."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from memcache_kv.unpatched import queue, threading

Decoded = TypeVar("Decoded")


class Decoding(Generic[Decoded]):
    """The decoding of one block: one thread carries it out, another waits for what came of it."""

    def __init__(self, decode: Callable[[], Decoded]) -> None:
        self._decode = decode
        self._is_done = threading.Event()
        self._decoded: Decoded
        self._error: BaseException | None = None

    def carry_out(self) -> None:
        """Decode the block."""
        try:
            self._decoded = self._decode()
        except BaseException as error:
            self._error = error
        finally:
            self._is_done.set()

    def result(self) -> Decoded:
        """Block until the block is decoded; return what came of it, or raise what `decode` raised."""
        self._is_done.wait()
        if self._error is not None:
            raise self._error
        return self._decoded


class Decoder(threading.Thread):
    """The thread that decodes blocks, in the order in which they are submitted."""

    def __init__(self) -> None:
        super().__init__(name="decoder", daemon=True)
        self._submitted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = False

    def submit(self, decode: Callable[[], Decoded]) -> Decoding[Decoded]:
        """Have a block decoded. Returns at once."""
        decoding = Decoding(decode)
        self._submitted.put(decoding.carry_out)
        return decoding

    def run(self) -> None:
        """Decode until `stop`."""
        while (carry_out := self._submitted.get()) is not None and not self._stopping:
            carry_out()
            del carry_out  # with its block, which is used again

    def stop(self) -> None:
        """Drop what has not begun, and end. Blocks until the block that is being decoded is done."""
        self._stopping = True
        self._submitted.put(None)
        self.join()


def decoded_ahead(
    blocks: Iterable[tuple[bytearray, int]], decode: Callable[[bytearray, int], Decoded], ahead: int
) -> Iterator[tuple[bytearray, Callable[[], Decoded]]]:
    """Yield each block with a function that returns what `decode` made of it, or raises what that raised.

    blocks: are decoded in order, each with the checksum of the record before it. ahead: how many of them may be decoded
    by a second thread before they are yielded; 0 lets the caller's thread decode each.
    """
    if not ahead:
        for block, before in blocks:
            yield block, partial(decode, block, before)
        return
    decoder = Decoder()
    decoder.start()
    waiting: deque[tuple[bytearray, Decoding[Decoded]]] = deque()
    try:
        for block, before in blocks:
            waiting.append((block, decoder.submit(partial(decode, block, before))))
            if len(waiting) > ahead:
                block, decoding = waiting.popleft()
                yield block, decoding.result
        while waiting:
            block, decoding = waiting.popleft()
            yield block, decoding.result
    finally:
        decoder.stop()
