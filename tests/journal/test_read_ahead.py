"""Reading and decoding a journal's blocks in a second thread."""

import threading
from collections.abc import Iterator

import pytest

from memcache_kv.journal import disk
from memcache_kv.journal.read_ahead import decoded_ahead
from memcache_kv.journal.recovery import block_bytes

MEBIBYTE = 1 << 20


def numbered(count: int) -> Iterator[tuple[bytearray, int]]:
    """Blocks that differ, each with a number in place of a checksum."""
    for number in range(count):
        yield bytearray(b"block %d" % number), number


def decode(block: bytearray, before: int) -> tuple[bytes, int]:
    if b"damaged" in block:
        raise ValueError("damaged")
    return bytes(block), before


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "decoder"]


@pytest.mark.parametrize("ahead", [0, 1, 2, 100])
def test_blocks_come_in_order_with_what_was_decoded(ahead: int) -> None:
    found = [(block, decoded()) for block, decoded in decoded_ahead(numbered(50), decode, ahead)]
    assert found == [(block, (bytes(block), number)) for block, number in numbered(50)]
    assert not decoders()


@pytest.mark.parametrize("ahead", [0, 1, 2, 100])
def test_an_error_of_reading_comes_after_the_blocks_before_it(ahead: int) -> None:
    def fails() -> Iterator[tuple[bytearray, int]]:
        yield from numbered(5)
        raise OSError("the disk")

    found = []
    with pytest.raises(OSError, match="the disk"):  # noqa: PT012
        for _, decoded in decoded_ahead(fails(), decode, ahead):
            found.append(decoded())
    assert found == [(bytes(block), number) for block, number in numbered(5)]
    assert not decoders()


@pytest.mark.parametrize("ahead", [1, 2, 100])
def test_nothing_is_read_behind_a_damaged_block(ahead: int) -> None:
    read = []

    def damaged() -> Iterator[tuple[bytearray, int]]:
        for block in (b"one", b"damaged", b"three"):
            read.append(block)
            yield bytearray(block), 0

    (_, one), (block, two) = decoded_ahead(damaged(), decode, ahead)
    assert one() == (b"one", 0)
    assert block == b"damaged"
    with pytest.raises(ValueError, match="damaged"):
        two()
    assert read == [b"one", b"damaged"]


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_no_more_blocks_are_read_than_are_wanted(taken: int) -> None:
    """Who is done early gets all back: the thread ends, and what was being read is closed."""
    read: list[int] = []
    is_closed = threading.Event()

    def endless() -> Iterator[tuple[bytearray, int]]:
        try:
            for number in range(1_000_000):
                read.append(number)
                yield bytearray(b"block"), number
        finally:
            is_closed.set()

    blocks = decoded_ahead(endless(), decode, 2)
    for _ in range(taken):
        next(blocks)[1]()
    blocks.close()  # type: ignore[attr-defined]
    del blocks
    assert len(read) <= taken + 2
    assert not decoders()
    assert is_closed.wait(0) or not read


def test_a_block_is_free_once_it_was_taken_and_its_content_dropped() -> None:
    """Otherwise its memory could not be used again for another one."""

    def keep(block: bytearray, _: int) -> memoryview:
        return memoryview(block)

    for block, decoded in decoded_ahead(numbered(20), keep, 2):
        with decoded() as view, pytest.raises(BufferError):
            block.append(view[0])
        del decoded
        block.append(0)


@pytest.mark.parametrize(("megabytes", "blocks"), [(8, 1), (64, 1), (128, 2), (256, 4), (100_000, 4)])
def test_a_server_with_more_memory_reads_more_at_once(megabytes: int, blocks: int) -> None:
    assert block_bytes(megabytes * MEBIBYTE) == blocks * disk.BLOCK_BYTES
