"""The watch over the resident size, with a process whose size the test sets."""

import pytest

from memcache_kv import memory
from memcache_kv.memory import LARGEST_RESERVE_PART, MemoryWatch, resident_bytes
from memcache_kv.store import Store
from tests.fake_clock import FakeClock

MIB = 1 << 20
LIMIT = 8 * MIB
IDLE = 20 * MIB


class Process:
    """A process with a size, of which a trim gives back what is loose."""

    def __init__(self, size: int = IDLE, loose: int = 0) -> None:
        self.size = size
        self.loose = loose
        self.trims = 0

    def resident(self) -> int:
        return self.size

    def trim(self) -> None:
        self.trims += 1
        self.size -= self.loose
        self.loose = 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every check act."""
    monkeypatch.setattr(memory, "ACT_SECONDS", 0.0)


def watched(process: Process) -> tuple[Store, MemoryWatch]:
    """A store filled to its limit, and the watch over it."""
    store = Store(FakeClock(), limit_bytes=LIMIT)
    for number in range(LIMIT // 1000):
        store.put(b"%d" % number, b" 0 1000\r\n" + bytes(1000) + b"\r\n")
    return store, MemoryWatch(store, IDLE, process.resident, process.trim)


def test_a_process_within_its_limit_is_left_alone() -> None:
    process = Process(IDLE + LIMIT)
    store, watch = watched(process)
    watch.check()
    assert (process.trims, store.reserved_bytes) == (0, 0)


def test_holes_are_given_back_before_items_make_room() -> None:
    process = Process(IDLE + 2 * LIMIT, loose=LIMIT + MIB)
    store, watch = watched(process)
    watch.check()
    assert (process.trims, store.reserved_bytes) == (1, 0)


def test_items_that_cost_a_quarter_more_get_four_fifths_of_the_limit() -> None:
    process = Process()
    store, watch = watched(process)
    process.size = IDLE + store.used_bytes * 5 // 4
    watch.check()
    assert store.reserved_bytes == pytest.approx(LIMIT / 5, rel=0.01)


def test_a_size_that_does_not_fall_at_once_takes_no_more_from_the_items() -> None:
    process = Process()
    store, watch = watched(process)
    process.size = IDLE + store.used_bytes * 5 // 4
    for _ in range(5):
        watch.check()
    assert store.reserved_bytes == pytest.approx(LIMIT / 5, rel=0.01)


def test_items_keep_their_part_whatever_else_takes_memory() -> None:
    store, watch = watched(Process(IDLE + 10 * LIMIT))
    watch.check()
    assert store.reserved_bytes == LIMIT * LARGEST_RESERVE_PART


def test_the_items_get_their_memory_back_when_the_process_has_shrunk() -> None:
    process = Process(IDLE + 2 * LIMIT)
    store, watch = watched(process)
    watch.check()
    assert store.reserved_bytes > 0
    process.size = IDLE + LIMIT // 2
    watch.check()
    assert store.reserved_bytes == 0


def test_the_thread_ends_when_asked() -> None:
    _, watch = watched(Process())
    watch.start()
    watch.stop()
    assert not watch.is_alive()


def test_the_resident_size_of_this_process_is_known() -> None:
    assert resident_bytes() > MIB
