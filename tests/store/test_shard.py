"""One shard: its accounting, its eviction order, its expiry."""

import itertools
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from memcache_kv.store.entry import (
    ENTRY_COST_BYTES,
    FETCHED,
    ITEM_COST_BYTES,
    TRACKED,
    Entry,
    Item,
    deadline_of,
    make_entry,
    pack,
)
from memcache_kv.store.s3fifo import CHANCES_PER_EVICTION, MIN_MARKS, PLACE_SHIFT
from memcache_kv.store.shard import Shard

NOW = 1000
EVERYTHING = 1 << 40


def under_pressure() -> Shard:
    """A shard that keeps an order of eviction."""
    shard = Shard()
    shard.order_evictions(True)
    return shard


def filled(*keys: bytes) -> Shard:
    """One with a small entry for each of these keys, in this order."""
    shard = under_pressure()
    with shard.lock:
        for key in keys:
            shard.put_locked(key, b" 0 1\r\nx\r\n")
    return shard


def numbered(count: int) -> list[bytes]:
    """Keys of equal length in order, no two of which share a mark: that would depend on the hash's seed."""
    places: dict[int, bytes] = {}
    for number in itertools.count():
        if len(places) == count:
            return list(places.values())
        key = b"%05d" % number
        places.setdefault(hash(key) >> PLACE_SHIFT & MIN_MARKS - 1, key)
    raise AssertionError


def put(shard: Shard, key: bytes, entry: Entry) -> bool:
    with shard.lock:
        return shard.put_locked(key, entry)


def remove(shard: Shard, key: bytes) -> Entry | None:
    with shard.lock:
        return shard.remove_locked(key)


def test_a_new_shard_takes_nothing() -> None:
    shard = Shard()
    assert (shard.used_bytes, shard.expiring, len(shard.table)) == (0, 0, 0)


def test_an_entry_counts_key_value_and_overhead() -> None:
    shard = filled(b"key")
    assert shard.used_bytes == 3 + len(b" 0 1\r\nx\r\n") + ENTRY_COST_BYTES


def test_an_item_counts_its_object_too() -> None:
    shard = Shard()
    put(shard, b"key", Item(b"12345", deadline=NOW))
    assert shard.used_bytes == 3 + 5 + ITEM_COST_BYTES + ENTRY_COST_BYTES


def test_put_tells_whether_it_replaced_something() -> None:
    shard = Shard()
    assert not put(shard, b"key", b"1")
    assert put(shard, b"key", b"2")
    assert shard.table == {b"key": b"2"}


def test_removing_returns_what_was_kept_and_then_nothing() -> None:
    shard = filled(b"a")
    assert remove(shard, b"a") == b" 0 1\r\nx\r\n"
    assert remove(shard, b"a") is None
    assert remove(shard, b"other") is None


def test_a_removed_key_is_no_longer_noted_as_read() -> None:
    shard = filled(b"a")
    shard.order.mark(b"a")
    remove(shard, b"a")
    put(shard, b"a", b" 0 1\r\nx\r\n")
    assert not shard.order.is_marked(b"a")


readies = st.binary(max_size=50).map(lambda value: pack(0, value))
deadlines, ids = st.sampled_from([0, 1, NOW, NOW + 9]), st.sampled_from([0, 7])
entries = st.one_of(
    st.builds(Item, readies, deadlines, ids),
    st.builds(partial(make_entry, b"key"), readies, deadlines, ids),
)
keys = st.sampled_from(numbered(6))


@given(st.lists(st.tuples(keys, st.one_of(st.none(), entries)), max_size=40))
def test_the_accounting_is_always_the_sum_of_the_entries_and_zero_when_all_are_gone(
    changes: list[tuple[bytes, Entry | None]],
) -> None:
    shard = Shard()
    for key, entry in changes:
        if entry is None:
            remove(shard, key)
        else:
            put(shard, key, entry)
        assert shard.used_bytes == sum(len(k) + len(e) + ENTRY_COST_BYTES for k, e in shard.table.items())
        assert shard.expiring == sum(deadline_of(e) > 0 for e in shard.table.values())
    for key in list(shard.table):
        remove(shard, key)
    assert (shard.used_bytes, shard.expiring) == (0, 0)


def test_overwriting_counts_deadlines_once() -> None:
    shard = Shard()
    put(shard, b"a", Item(b"x", deadline=NOW))
    put(shard, b"a", Item(b"y", deadline=NOW + 1))
    assert shard.expiring == 1
    put(shard, b"a", b"plain")
    assert shard.expiring == 0


def test_clearing_leaves_nothing() -> None:
    shard = filled(b"a", b"b")
    put(shard, b"c", Item(b"x", deadline=NOW))
    shard.order.mark(b"a")
    with shard.lock:
        shard.clear_locked()
    assert (shard.used_bytes, shard.expiring, len(shard.table)) == (0, 0, 0)
    assert not shard.order.is_marked(b"a")
    assert shard.evict(EVERYTHING, NOW, b"") == 0


def test_an_entry_lives_until_the_second_of_its_deadline() -> None:
    shard = Shard()
    item = Item(b"x", deadline=NOW)
    put(shard, b"a", item)
    with shard.lock:
        assert shard.live_locked(b"a", NOW - 1) is item
        assert shard.live_locked(b"a", NOW) is None
    assert (len(shard.table), shard.used_bytes, shard.get_expired) == (0, 0, 1)


def test_an_entry_without_deadline_lives_for_ever() -> None:
    shard = Shard()
    item = Item(b"x", cas=5)
    put(shard, b"a", item)
    with shard.lock:
        assert shard.live_locked(b"a", 1 << 60) is item


def test_the_oldest_go_first_and_only_as_many_as_are_needed() -> None:
    shard = filled(*numbered(6))
    each = shard.used_bytes // 6
    assert shard.evict(2 * each, NOW, b"") == 2 * each
    assert list(shard.table) == numbered(6)[2:]
    assert shard.evict(1, NOW, b"") == each
    assert list(shard.table) == numbered(6)[3:]
    assert (shard.evictions, shard.evicted_unseen) == (3, 3)


def test_what_eviction_gains_is_what_the_accounting_loses() -> None:
    shard = filled(*numbered(40))
    before = shard.used_bytes
    gained = shard.evict(before // 2, NOW, b"")
    assert gained >= before // 2
    assert before - shard.used_bytes == gained


def test_what_was_read_is_spared_once() -> None:
    a, b, c = numbered(3)
    shard = filled(a, b, c)
    shard.order.mark(a)
    shard.evict(1, NOW, b"")
    assert set(shard.table) == {a, c}
    assert not shard.order.is_marked(a)
    shard.evict(1, NOW, b"")
    assert set(shard.table) == {a}
    shard.evict(1, NOW, b"")
    assert not shard.table
    assert (shard.second_chances, shard.evictions, shard.evicted_unseen) == (1, 3, 3)


def test_an_eviction_says_whether_the_item_was_read_as_far_as_that_is_known() -> None:
    read, unread, tracked, tracked_and_read = keys_there = numbered(4)
    shard = filled(*keys_there)
    put(shard, tracked, Item(pack(0, b"x"), state=TRACKED))
    put(shard, tracked_and_read, Item(pack(0, b"x"), state=TRACKED | FETCHED))
    shard.order.mark(read)
    shard.order.mark(tracked)  # as an overwrite does
    told: dict[bytes, bool] = {}
    shard.on_eviction = lambda key, entry, was_read: told.update({key: was_read})
    shard.evict(EVERYTHING, NOW, b"")
    assert told == {read: True, unread: False, tracked: False, tracked_and_read: True}


def test_what_is_read_again_and_again_outlives_what_is_not() -> None:
    read, *others = numbered(1001)
    shard = filled(read, *others[:50])
    for key in others[50:]:
        shard.order.mark(read)
        put(shard, key, b" 0 1\r\nx\r\n")
        shard.evict(1, NOW, key)
        assert read in shard.table
    assert len(shard.table) == 51


def test_after_a_bounded_number_of_chances_even_a_read_one_goes() -> None:
    keys_there = numbered(3 * CHANCES_PER_EVICTION)
    shard = filled(*keys_there)
    for key in keys_there:
        shard.order.mark(key)
    shard.evict(1, NOW, b"")
    gone = set(keys_there) - set(shard.table)
    assert gone == {keys_there[CHANCES_PER_EVICTION]}
    assert (shard.evictions, shard.evicted_unseen) == (1, 0)


def test_the_spared_key_never_goes() -> None:
    shard = filled(b"a", b"b", b"c")
    shard.evict(EVERYTHING, NOW, b"a")
    assert list(shard.table) == [b"a"]
    assert shard.evict(EVERYTHING, NOW, b"a") == 0
    assert shard.evict(EVERYTHING, NOW, b"") > 0
    assert shard.evict(EVERYTHING, NOW, b"") == 0
    assert shard.used_bytes == 0


def test_a_key_that_was_deleted_meanwhile_is_passed_over() -> None:
    shard = filled(b"a", b"b", b"c", b"d")
    shard.evict(1, NOW, b"")
    remove(shard, b"b")
    shard.evict(1, NOW, b"")
    assert list(shard.table) == [b"d"]


def test_a_shard_that_kept_no_order_evicts_in_that_of_arrival() -> None:
    shard = Shard()
    for key in (b"b", b"c", b"a"):
        put(shard, key, b" 0 1\r\nx\r\n")
    shard.evict(1, NOW, b"")
    assert list(shard.table) == [b"c", b"a"]


def test_the_order_is_forgotten_when_memory_is_no_longer_scarce() -> None:
    shard = filled(*numbered(9))
    shard.order_evictions(False)
    put(shard, b"later", b" 0 1\r\nx\r\n")
    assert not shard.order.small
    assert not shard.order.main
    shard.order_evictions(True)
    assert list(shard.order.small) == [*numbered(9), b"later"]


def test_an_expired_one_that_makes_room_counts_as_reclaimed() -> None:
    shard = Shard()
    put(shard, b"a", Item(b"x", deadline=NOW))
    put(shard, b"b", Item(b"x", deadline=NOW + 1))
    shard.order.mark(b"a")
    shard.evict(1, NOW, b"")
    assert list(shard.table) == [b"b"]
    assert (shard.reclaimed, shard.evictions) == (1, 0)
    shard.evict(1, NOW, b"")
    assert (shard.reclaimed, shard.evictions) == (1, 1)


def test_reclaim_removes_the_expired_among_the_given_keys_alone() -> None:
    shard = filled(b"plain")
    put(shard, b"dead", Item(b"x", deadline=NOW))
    put(shard, b"also dead", Item(b"x", deadline=NOW - 5))
    put(shard, b"alive", Item(b"x", deadline=NOW + 1))
    put(shard, b"immortal", Item(b"x", cas=3))
    assert shard.reclaim([b"plain", b"dead", b"alive", b"immortal", b"unknown"], NOW) == 1
    assert set(shard.table) == {b"plain", b"also dead", b"alive", b"immortal"}
    assert (shard.expired_unseen, shard.expiring) == (1, 2)


@given(
    st.lists(st.tuples(st.sampled_from(numbered(30)), st.booleans()), max_size=60),
    st.sets(st.sampled_from(numbered(30))),
    st.sampled_from(numbered(30)),
)
def test_eviction_always_ends_and_gains_what_it_can(
    puts: list[tuple[bytes, bool]], seen: set[bytes], spare: bytes
) -> None:
    shard = under_pressure()
    for key, expires in puts:
        put(shard, key, Item(b"x", deadline=NOW) if expires else b"x")
    for key in seen:
        shard.order.mark(key)
    spared = spare in shard.table
    shard.evict(EVERYTHING, NOW, spare)
    assert list(shard.table) == [spare] * spared


steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(numbered(30)), st.booleans()),
    st.tuples(st.just("remove"), st.sampled_from(numbered(30)), st.just(False)),
    st.tuples(st.just("read"), st.sampled_from(numbered(30)), st.just(False)),
    st.tuples(st.just("evict"), st.sampled_from(numbered(30)), st.booleans()),
    st.tuples(st.just("clear"), st.just(b""), st.just(False)),
    st.tuples(st.just("scarce"), st.just(b""), st.booleans()),
)


@given(st.lists(steps, max_size=200))
def test_every_key_has_its_place_while_memory_is_scarce_and_the_accounting_holds(
    steps: list[tuple[str, bytes, bool]],
) -> None:
    shard = under_pressure()
    for step, key, flag in steps:
        if step == "put":
            put(shard, key, Item(b"x", deadline=NOW) if flag else b"x")
        elif step == "remove":
            remove(shard, key)
        elif step == "read":
            shard.order.mark(key)
        elif step == "evict":
            shard.evict(1, NOW if flag else 0, key)
        elif step == "clear":
            with shard.lock:
                shard.clear_locked()
        else:
            shard.order_evictions(flag)
        places = [*shard.order.small, *shard.order.main]
        assert set(places) >= shard.table.keys() if shard.order.is_kept else not places
        assert shard.used_bytes == sum(len(k) + len(e) + ENTRY_COST_BYTES for k, e in shard.table.items())
        assert shard.expiring == sum(deadline_of(e) > 0 for e in shard.table.values())
