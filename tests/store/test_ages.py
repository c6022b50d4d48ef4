"""How old evicted items were, known without a time for each item."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.store import ItemStore
from memcache_kv.store.ages import MARKS_PER_SPAN, QueueAges
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=MARKS_PER_SPAN))
def test_the_age_is_that_of_the_second_in_which_a_key_was_added(seconds: list[tuple[int, int]]) -> None:
    """Each second, some keys are added and some taken."""
    ages, queue = QueueAges(), deque[int]()
    for now, (added, taken) in enumerate(seconds):
        ages.mark(len(queue), now)
        queue.extend([now] * added)
        for _ in range(min(taken, len(queue))):
            ages.taken += 1
            assert ages.last_taken_at() == queue.popleft()


def test_what_was_there_before_the_first_mark_has_no_known_age() -> None:
    ages = QueueAges()
    ages.mark(1, 100)
    ages.taken += 1
    assert ages.last_taken_at() is None
    ages.taken += 1
    assert ages.last_taken_at() == 100


def test_a_clock_that_was_set_back_tells_no_age_by_its_old_time() -> None:
    ages = QueueAges()
    ages.mark(0, 5000)
    ages.mark(3, 100)
    ages.taken += 1
    assert ages.last_taken_at() is None
    ages.taken += 3
    assert ages.last_taken_at() == 100


def test_the_marks_are_few_however_long_the_queue_is() -> None:
    ages, seconds = QueueAges(), 20_000
    for now in range(seconds):
        ages.mark(now, now)
    assert len(ages) < 20 * MARKS_PER_SPAN
    for added_at in range(seconds - 1):
        ages.taken += 1
        found_at = ages.last_taken_at()
        assert found_at is not None
        assert 0 <= added_at - found_at <= 1 + seconds / MARKS_PER_SPAN, "an age is exact to a part of the time"


def test_keys_that_are_removed_all_over_the_queue_move_the_marks() -> None:
    ages = QueueAges()
    ages.mark(0, 10)
    ages.mark(100, 20)
    ages.shrink(200, 100)
    ages.taken += 50
    assert ages.last_taken_at() == 10
    ages.taken += 1
    assert ages.last_taken_at() == 20


@pytest.fixture
def full() -> ItemStore:
    """A store that evicts, and that has seen a second pass since."""
    store = ItemStore(FakeClock(), limit_bytes=1 << 20, shards=1)
    fill(store, 0, 8_000)
    return store


def fill(store: ItemStore, first: int, number: int) -> None:
    for key in range(first, first + number):
        store.put(b"%d" % key, pack(0, bytes(100)))


def pass_seconds(store: ItemStore, seconds: int) -> None:
    assert isinstance(store.clock, FakeClock)
    store.clock.now += seconds
    store.new_second()


def test_evictions_are_counted_by_age(full: ItemStore) -> None:
    ages = full.shards[0].evicted_ages
    assert not any(ages.counts), "nothing was stored since the order is kept and a second has passed"
    pass_seconds(full, 1)
    fill(full, 10_000, 8_000)
    pass_seconds(full, 100)
    fill(full, 20_000, 8_000)
    before = sum(ages.counts)
    assert before > 0
    assert ages.sum > 50 * before / 2, "items were in the queue for 100 seconds, or for none"
    assert ages.sum < 110 * sum(ages.counts)


def test_no_more_are_counted_than_were_evicted(full: ItemStore) -> None:
    for _ in range(3):
        pass_seconds(full, 5)
        fill(full, full.shards[0].total_items, 4_000)
    assert 0 < sum(full.shards[0].evicted_ages.counts) <= full.shards[0].evictions


def test_items_evicted_unread_are_counted(full: ItemStore) -> None:
    [shard] = full.shards
    fill(full, 10_000, 8_000)
    evictions, unread = shard.evictions, shard.evicted_unread
    assert 0.9 * evictions < unread <= evictions, "nothing was ever read"
    for start in range(30_000, 60_000, 200):
        fill(full, start, 200)
        for key in range(start, start + 200):
            full.get(b"%d" % key)
    evictions, unread = shard.evictions - evictions, shard.evicted_unread - unread
    assert unread < 0.5 * evictions, "those that were read do not count"
