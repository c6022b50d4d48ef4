"""Decoding blocks of a journal in a second thread, while the blocks before them are applied."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Decoded = TypeVar("Decoded")


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
    pool = ThreadPoolExecutor(1, "decoder")
    waiting: deque[tuple[bytearray, Future[Decoded]]] = deque()
    try:
        for block, before in blocks:
            waiting.append((block, pool.submit(decode, block, before)))
            if len(waiting) > ahead:
                block, future = waiting.popleft()
                yield block, future.result
        while waiting:
            block, future = waiting.popleft()
            yield block, future.result
    finally:
        pool.shutdown(cancel_futures=True)
