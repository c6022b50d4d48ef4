"""The watch over the memory, with allocators whose holdings the test sets."""

import pytest

from memcache_kv.server import memory
from memcache_kv.server.allocator import SystemAllocator, Usage
from memcache_kv.server.memory import LARGEST_RESERVE_PART, MemoryWatch
from memcache_kv.store import ItemStore
from tests.fake_clock import FakeClock
from tests.program import poll_until

MIB = 1 << 20
LIMIT = 8 * MIB
IDLE = 20 * MIB
UNKNOWN = 5 * MIB
"""What is resident of the idle process that no allocator knows of."""
VALUE = b" 0 1000\r\n" + bytes(1000) + b"\r\n"


class Process:
    """A process in which the items, others, and nobody (holes) have memory; of the holes a trim gives back the loose
    ones. Where `is_known` is false, its allocators don't tell."""

    def __init__(self) -> None:
        self.store = ItemStore(FakeClock(), limit_bytes=LIMIT)
        self.others = IDLE - UNKNOWN
        self.unknown = UNKNOWN
        self.holes = self.loose = self.trims = self.measures = 0
        self.extra = 0
        """What the items take beyond what the store knows."""
        self.is_known = True

    def fill(self) -> None:
        """Fill the store to its limit."""
        for number in range(LIMIT // 1000):
            self.store.put(b"%d" % number, VALUE)

    def resident(self) -> int:
        return self.unknown + self.others + self.store.real_bytes + self.extra + self.holes + self.loose

    def usage(self) -> Usage | None:
        self.measures += 1
        in_use = self.others + self.store.real_bytes
        return Usage(in_use, self.holes + self.loose + self.extra) if self.is_known else None

    def trim(self) -> None:
        self.trims += 1
        self.loose = 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every check act."""
    monkeypatch.setattr(memory, "ACT_SECONDS", 0.0)
    monkeypatch.setattr(memory, "LARGEST_TIME_PART", float("inf"))


@pytest.fixture(params=["known", "unknown"])
def process(request: pytest.FixtureRequest) -> Process:
    made = Process()
    made.is_known = request.param == "known"
    return made


@pytest.fixture
def known() -> Process:
    return Process()


def watch_over(process: Process) -> MemoryWatch:
    """The watch, made while the process is idle; the store is full afterwards."""
    watch = MemoryWatch(process.store, process)
    process.fill()
    return watch


# Holes, whether or not the allocators tell of them


def test_a_process_within_its_limit_is_left_alone(process: Process) -> None:
    watch_over(process).check()
    assert (process.trims, process.store.reserved_bytes) == (0, 0)


def test_holes_are_given_back_before_items_make_room(process: Process) -> None:
    watch = watch_over(process)
    process.loose = LIMIT
    watch.check()
    assert (process.trims, process.store.reserved_bytes) == (1, 0)


def test_items_that_cost_a_quarter_more_get_four_fifths_of_the_limit(process: Process) -> None:
    watch = watch_over(process)
    process.holes = process.store.used_bytes * 5 // 4 - process.store.real_bytes
    for _ in range(5):  # a size that does not fall at once takes no more from the items
        watch.check()
        assert process.store.reserved_bytes == pytest.approx(LIMIT / 5, rel=0.01)


def test_items_keep_their_part_however_large_the_holes_are(process: Process) -> None:
    watch = watch_over(process)
    process.holes = 10 * LIMIT
    watch.check()
    assert process.store.reserved_bytes == LIMIT * LARGEST_RESERVE_PART


def test_the_items_get_their_memory_back_when_the_holes_are_gone(process: Process) -> None:
    watch = watch_over(process)
    process.holes = LIMIT
    watch.check()
    assert process.store.reserved_bytes > 0
    process.holes = -LIMIT // 4
    watch.check()
    assert process.store.reserved_bytes == 0


# What is not the items'


def test_what_others_hold_costs_the_items_nothing(known: Process) -> None:
    watch = watch_over(known)
    known.others += 50 * LIMIT
    for _ in range(3):
        watch.check()
    assert known.store.reserved_bytes == 0


def test_holes_that_are_tolerated_cost_nothing_when_others_take_more(known: Process) -> None:
    watch = watch_over(known)
    known.holes = LIMIT * 33 // 32 - known.store.real_bytes
    watch.check()
    assert (known.measures, known.store.reserved_bytes) == (1, 0), "nothing was corrected"
    known.others += LIMIT
    watch.check()
    assert known.measures > 1
    assert known.store.reserved_bytes == 0


def test_what_others_hold_is_measured_once_and_not_with_each_check(known: Process) -> None:
    watch = watch_over(known)
    known.others += 50 * LIMIT
    watch.check()
    before = known.measures
    for _ in range(10):
        watch.check()
    assert known.measures == before


def test_memory_that_no_allocator_knows_of_costs_the_items_nothing(known: Process) -> None:
    watch = watch_over(known)
    known.unknown += 50 * LIMIT
    watch.check()
    assert known.store.reserved_bytes == 0


def test_the_holes_that_others_leave_cost_the_items_nothing(known: Process) -> None:
    watch = watch_over(known)
    known.others += 10 * LIMIT
    watch.check()
    known.others, known.holes = known.others - 10 * LIMIT, 10 * LIMIT
    for _ in range(3):
        watch.check()
    assert known.store.reserved_bytes == 0


def test_holes_of_the_items_count_while_others_hold_much(known: Process) -> None:
    watch = watch_over(known)
    known.others += 10 * LIMIT
    watch.check()
    known.holes = known.store.used_bytes * 5 // 4 - known.store.real_bytes
    watch.check()
    assert known.store.reserved_bytes == pytest.approx(LIMIT / 5, rel=0.01)


def test_items_do_not_grow_unseen_into_what_others_gave_back(known: Process) -> None:
    watch = watch_over(known)
    known.others += 10 * LIMIT
    watch.check()
    known.others -= 10 * LIMIT
    watch.check()
    known.holes = known.store.used_bytes * 5 // 4 - known.store.real_bytes
    watch.check()
    assert known.store.reserved_bytes == pytest.approx(LIMIT / 5, rel=0.01)


def test_a_program_with_holes_of_its_own_keeps_them(known: Process) -> None:
    known.holes = 10 * LIMIT
    watch = watch_over(known)
    watch.check()
    assert known.store.reserved_bytes == 0


def test_a_costly_measure_is_made_rarely(known: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGEST_TIME_PART", 1e-9)
    watch = watch_over(known)
    known.holes = LIMIT
    watch.check()
    before = known.measures
    watch.check()
    assert known.measures == before


# The thread, and this process


def test_a_correction_does_not_wait_for_time_while_the_items_grow(
    known: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "ACT_SECONDS", 1000.0)
    watch = watch_over(known)
    known.holes = LIMIT // 8
    watch.check()
    reserved = known.store.reserved_bytes
    assert reserved > 0
    known.holes += LIMIT // 64
    watch.check()
    assert known.store.reserved_bytes == reserved, "it has not grown enough"
    known.holes += LIMIT // 16
    watch.check()
    assert known.store.reserved_bytes > reserved


def test_the_thread_checks_when_much_was_stored_and_not_only_by_the_clock(
    known: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_CHECK_SECONDS", 1000.0)
    watch = MemoryWatch(known.store, known)
    watch.start()
    known.holes = 2 * LIMIT
    known.fill()
    poll_until(lambda: known.store.reserved_bytes > 0, "it has checked")
    watch.stop()
    assert not watch.is_alive()


def test_the_thread_ends_when_asked() -> None:
    watch = watch_over(Process())
    watch.start()
    watch.stop()
    assert not watch.is_alive()


def test_the_memory_of_this_process_is_known() -> None:
    assert SystemAllocator().resident() > MIB


# While a journal is read


def test_while_a_journal_is_read_a_correction_waits_for_growth_and_not_for_time(
    known: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "ACT_SECONDS", 1000.0)
    monkeypatch.setattr(memory, "LARGEST_TIME_PART", 0.001)
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    watch.check_often()
    assert known.trims == 2, "a correction trims twice where holes are left"
    known.holes += LIMIT // 64
    watch.check_often()
    assert known.trims == 4


def test_while_a_journal_is_read_items_make_room_for_a_little_more_than_the_holes_take(known: Process) -> None:
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    cost = (known.store.real_bytes + known.holes) / known.store.real_bytes
    assert known.store.reserved_bytes == pytest.approx(LIMIT - LIMIT * 31 / 32 / cost, rel=0.01)


def test_while_a_journal_is_read_holes_within_the_limit_cost_no_more_items(known: Process) -> None:
    """Items that were left out leave holes, and others take these: nothing is gained if more are left out."""
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    while known.store.free_some():
        pass
    known.holes = LIMIT - known.store.real_bytes
    watch.check_often()
    assert LIMIT - known.store.reserved_bytes > known.store.real_bytes * 0.99


def test_while_a_journal_is_read_a_little_more_than_the_limit_costs_items_once(known: Process) -> None:
    """The first correction is not repeated until it shows: its own change of the items is no reason for another."""
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    while known.store.free_some():
        pass
    reserved = known.store.reserved_bytes
    known.holes = LIMIT + LIMIT // 128 - known.store.real_bytes
    watch.check_often()
    assert known.trims == 4, "it looked"
    assert known.store.reserved_bytes == reserved
    known.holes += LIMIT // 64
    watch.check_often()
    assert known.store.reserved_bytes > reserved


def test_while_a_journal_is_read_items_take_no_room_that_tables_will_need(
    known: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    while known.store.free_some():
        pass
    known.holes = LIMIT * 7 // 8 - known.store.real_bytes
    coming = LIMIT // 4
    monkeypatch.setattr(ItemStore, "coming_bytes", coming)
    watch.check_often()
    cost = (LIMIT * 7 // 8 + coming) / (known.store.real_bytes + coming)
    assert (LIMIT - known.store.reserved_bytes) * cost == pytest.approx(LIMIT * 31 / 32, rel=0.001)


def test_while_a_journal_is_read_many_holes_are_given_back_before_the_limit_is_reached(known: Process) -> None:
    watch = watch_over(known)
    known.holes = LIMIT // 4
    watch.check_often()
    known.holes = 0
    while known.store.free_some():
        pass
    known.loose = LIMIT * 31 // 32 - known.store.real_bytes
    assert known.loose > LIMIT // 16
    watch.check_often()
    assert known.loose == 0
