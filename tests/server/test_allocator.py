"""What the allocators of this very process say, where they are glibc's and CPython's."""

import ctypes
import gc
import sys

import pytest

from memcache_kv.server import allocator
from memcache_kv.server.allocator import SystemAllocator, Usage

MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2") or "t" in getattr(sys, "abiflags", ""),
    reason="other allocators don't tell",
)


def usage() -> Usage:
    found = SystemAllocator().usage()
    assert found is not None
    return found


@pytest.mark.parametrize("size", [100, 1000, 200_000])
def test_what_is_held_is_in_use_and_what_is_given_back_is_not(size: int) -> None:
    """Small objects are the interpreter's, larger ones malloc's, the largest are mapped by themselves."""
    gc.collect()
    before = usage()
    held = [bytes(size) for _ in range(32 * MIB // size)]
    assert 31 * MIB < usage().in_use - before.in_use < 1.6 * 32 * MIB
    held.clear()
    assert abs(usage().in_use - before.in_use) < 2 * MIB


@pytest.mark.parametrize("size", [100, 1000])
def test_holes_are_free(size: int) -> None:
    held = [bytes(size) for _ in range(32 * MIB // size)]
    before = usage().free
    del held[::2]
    assert usage().free - before > 10 * MIB


def test_another_form_of_the_statistics_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (None, b"bytes: 5\n"):
        monkeypatch.setattr(allocator, "malloc_stats", lambda text=text: text)
        assert SystemAllocator().usage() is None


def test_an_interpreter_that_leaves_all_to_malloc_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "malloc_stats", lambda: b"")
    found = SystemAllocator().usage()
    assert found is not None
    assert found.in_use > 0


def test_asking_leaves_no_garbage() -> None:
    """Each object of it would keep a megabyte of the interpreter's memory until the collector's next run."""
    allocator_of_this = SystemAllocator()
    allocator_of_this.usage()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            allocator_of_this.usage()
        assert gc.collect() == 0
    finally:
        gc.enable()
