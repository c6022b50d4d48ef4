"""S3-FIFO: which key is the next to go."""

from memcache_kv.store.entry import Entry, make_entry
from memcache_kv.store.s3fifo import CHANCES_PER_EVICTION, SLACK, TURNS, S3Fifo
from memcache_kv.store.shard import Shard
from tests.store.test_shard import NOW, numbered

SMALL_ENTRY = b" 0 1\r\nx\r\n"


class Cache:
    """A table with its order that holds so many keys."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.table: dict[bytes, Entry] = {}
        self.order = S3Fifo()
        self.order.start(self.table)

    def get(self, key: bytes) -> bool:
        if key in self.table:
            self.order.mark(key)
        return key in self.table

    def put(self, key: bytes, entry: Entry = SMALL_ENTRY) -> None:
        if key not in self.table:
            self.order.add(key)
        self.table[key] = entry
        if len(self.table) > self.capacity:
            self.evict(key)

    def evict(self, spare: bytes = b"") -> bytes | None:
        victim = self.order.next_victim(self.table, NOW, spare)
        if victim is not None:
            del self.table[victim]
        return victim

    def delete(self, key: bytes) -> None:
        del self.table[key]
        self.order.tidy(self.table)


def places(cache: Cache) -> int:
    return len(cache.order.small) + len(cache.order.main)


def test_one_hit_wonders_leave_first() -> None:
    read, *once = numbered(30)
    cache = Cache(10)
    cache.put(read)
    for key in once:
        cache.get(read)
        cache.put(key)
    assert read in cache.table
    assert read in cache.order.main


def test_what_was_read_once_in_small_moves_to_main() -> None:
    cache = Cache(3)
    a, b, c = numbered(3)
    for key in (a, b, c):
        cache.put(key)
    cache.get(a)
    assert cache.evict() == b
    assert (list(cache.order.small), list(cache.order.main)) == ([c], [a])
    assert cache.order.second_chances == 1
    assert not cache.order.is_marked(a)  # the move has used up what the read was worth


def test_what_comes_back_while_its_ghost_is_there_goes_to_main_once() -> None:
    cache = Cache(3)
    a, b, c, d = numbered(4)
    for key in (a, b, c, d):
        cache.put(key)
    assert a not in cache.table
    cache.put(a)
    assert list(cache.order.main) == [a]
    cache.delete(a)
    cache.order.main.clear()
    cache.put(a)
    assert not cache.order.main


def in_main(keys: list[bytes]) -> Cache:
    """Make a cache that is full, with all these keys in main, and none of them read since."""
    cache = Cache(len(keys))
    for key in keys:
        cache.put(key)
        cache.get(key)
    cache.order.small.clear()
    cache.order.main.extend(keys)
    for key in keys:
        cache.order.unmark(key)
    return cache


def test_what_left_main_unread_has_no_ghost() -> None:
    cache = in_main(numbered(30))
    gone = cache.evict()
    assert gone == numbered(1)[0]
    cache.put(gone)
    assert list(cache.order.small) == [gone]


def test_a_read_in_main_is_worth_three_turns_however_often_it_is_repeated() -> None:
    read, *others = numbered(CHANCES_PER_EVICTION)
    cache = in_main([read, *others])
    cache.get(read)
    cache.get(read)
    gone = []
    for _ in range(TURNS):
        assert cache.order.is_marked(read)
        gone.append(cache.evict())
        cache.order.main.rotate(-cache.order.main.index(read))
    assert gone == others[:TURNS]
    assert not cache.order.is_marked(read)
    assert cache.evict() == read
    assert cache.order.second_chances == TURNS


def test_a_read_between_two_turns_begins_them_anew() -> None:
    read, *others = numbered(3 * TURNS)
    cache = in_main([read, *others])
    for _ in range(2 * TURNS):
        cache.get(read)
        assert cache.evict() != read
        cache.order.main.rotate(-cache.order.main.index(read))
    assert cache.order.is_marked(read)


def test_a_scan_does_not_push_out_what_is_asked_for_often() -> None:
    names = numbered(1300)
    hot, once = names[:80], iter(names[80:])
    cache = Cache(100)
    for _ in range(5):
        for key in hot:
            if not cache.get(key):
                cache.put(key)
            cache.put(next(once))
    stay = set(hot) & set(cache.order.main)
    assert len(stay) >= 0.9 * len(hot)  # one or two may have lost their ghost to another before they came back
    for key in once:
        cache.put(key)
    assert stay <= cache.table.keys()


def test_no_more_than_the_chances_are_given_at_once_however_many_were_read() -> None:
    cache = Cache(100)
    for key in numbered(100):
        cache.put(key)
        cache.get(key)
    assert cache.evict() == numbered(100)[CHANCES_PER_EVICTION]
    assert cache.order.second_chances == CHANCES_PER_EVICTION


def test_the_spared_key_stays_wherever_it_is() -> None:
    a, b, c = numbered(3)
    for spare in (a, b, c):
        cache = Cache(3)
        for key in (a, b, c):
            cache.put(key)
        gone = {cache.evict(spare), cache.evict(spare)}
        assert gone == {a, b, c} - {spare}
        assert cache.evict(spare) is None
        assert cache.evict() == spare
        assert cache.evict() is None


def test_the_expired_get_no_second_chance() -> None:
    cache = Cache(40)
    for key in numbered(40):
        cache.put(key, make_entry(key, SMALL_ENTRY, NOW))
        cache.get(key)
    assert [cache.evict() for _ in range(40)] == numbered(40)
    assert cache.order.second_chances == 0


def test_a_key_deleted_and_stored_anew_is_evicted_once_and_its_other_place_passed_over() -> None:
    a, b, c = numbered(3)
    cache = Cache(3)
    for key in (a, b, c):
        cache.put(key)
    cache.delete(a)
    cache.put(a)
    assert places(cache) == 4
    assert [cache.evict() for _ in range(4)] == [a, b, c, None]


def test_one_deleted_and_stored_anew_that_was_read_moves_to_main() -> None:
    a, b, c = numbered(3)
    cache = Cache(3)
    for key in (a, b, c):
        cache.put(key)
    cache.delete(a)
    cache.put(a)
    cache.get(a)
    assert cache.evict() == b
    assert list(cache.order.main) == [a]


def test_sets_and_deletes_without_end_leave_no_more_places_than_twice_the_keys() -> None:
    cache = Cache(1000)
    for key in numbered(100):
        cache.put(key)
    for number in range(5000):
        key = b"other %d" % (number % 7)
        cache.put(key)
        assert places(cache) <= 2 * len(cache.table) + SLACK
        cache.delete(key)
        assert places(cache) <= 2 * len(cache.table) + SLACK
    assert [cache.evict() for _ in range(100)] == numbered(100)


def test_the_order_of_both_queues_outlives_a_sweep() -> None:
    cache = Cache(1000)
    names = numbered(300)
    for key in names[:50]:
        cache.put(key)
        cache.get(key)
    for key in names[50:100]:
        cache.put(key)
    for _ in range(1 + 50 // CHANCES_PER_EVICTION):
        cache.evict()
    before = [key for key in (*cache.order.main, *cache.order.small) if key in cache.table]
    for key in names[100:]:
        cache.put(key)
        cache.delete(key)
    assert [key for key in (*cache.order.main, *cache.order.small) if key in cache.table] == before


def test_marks_and_ghosts_grow_with_the_keys_and_keep_what_they_say() -> None:
    cache = Cache(10)
    for key in numbered(20):
        cache.put(key)
    read = next(iter(cache.table))
    cache.get(read)
    length = len(cache.order.marks)
    cache.order.fit(10 * length)
    assert len(cache.order.marks) > 10 * length
    assert cache.order.is_marked(read)
    back = numbered(20)[9]  # the last to leave: none has taken the place of its ghost
    assert back not in cache.table
    cache.put(back)
    assert back in cache.order.main


def test_nothing_is_kept_of_one_that_was_stopped() -> None:
    cache = Cache(10)
    for key in numbered(20):
        cache.put(key)
    cache.order.stop()
    assert (places(cache), len(cache.order.marks)) == (0, 1)
    assert not cache.order.is_kept


def test_marks_may_be_set_before_any_order_is_kept() -> None:
    shard = Shard()
    shard.order.mark(b"key")
    assert len(shard.order.marks) == 1
