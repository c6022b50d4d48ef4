"""Many threads in one store, switched as often as the interpreter can."""

import threading
import time
from functools import partial

import pytest

from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.crawler import Crawler
from memcache_kv.store.entry import ENTRY_COST_BYTES, cas_of, deadline_of, make_entry, pack, value_of, wire_bytes_of
from tests.commands.asking import add_to
from tests.concurrency.crowd import run_together
from tests.fake_clock import FakeClock
from tests.protocol.context_factory import Conversation, Surroundings

THREADS = 8
ROUNDS = 2000

pytestmark = pytest.mark.usefixtures("frequent_switches")


def check_accounting(store: ItemStore) -> None:
    """What the shards have counted along the way is what there is."""
    for shard in store.shards:
        entries = shard.table.items()
        assert shard.used_bytes == sum(len(key) + len(entry) + ENTRY_COST_BYTES for key, entry in entries)
        assert shard.expiring == sum(deadline_of(entry) > 0 for _, entry in entries)


def value(store: ItemStore, key: bytes) -> bytes:
    entry = store.get(key)
    assert entry is not None
    return value_of(wire_bytes_of(entry))


def test_every_increment_counts() -> None:
    store = ItemStore(FakeClock(), shards=4)
    keys = [b"%d" % number for number in range(3)]
    for key in keys:
        store.put(key, pack(0, b"0"))

    def count() -> None:
        last = dict.fromkeys(keys, 0)
        for turn in range(3 * ROUNDS):
            key = keys[turn % 3]
            told = add_to(store, key, 1)
            assert isinstance(told, int)
            assert told > last[key]
            last[key] = told

    run_together(*[count] * THREADS)
    assert [int(value(store, key)) for key in keys] == [THREADS * ROUNDS] * 3
    check_accounting(store)


def test_every_token_is_appended_once() -> None:
    store = ItemStore(FakeClock(), shards=1)
    store.put(b"tokens", pack(0, b""))

    def append(number: int) -> None:
        for turn in range(ROUNDS):
            assert store.store(Mode.APPEND, b"tokens", pack(0, b"%d.%d;" % (number, turn))) is Outcome.STORED

    run_together(*(partial(append, number) for number in range(THREADS)))
    tokens = value(store, b"tokens").split(b";")[:-1]
    assert sorted(tokens) == sorted(b"%d.%d" % pair for pair in pairs())
    check_accounting(store)


def pairs() -> list[tuple[int, int]]:
    return [(number, turn) for number in range(THREADS) for turn in range(ROUNDS)]


def test_a_counter_by_gets_and_cas_is_exact_and_no_id_is_given_to_two_values() -> None:
    store = ItemStore(FakeClock(), shards=1)
    store.put(b"n", pack(0, b"0"))
    seen: list[tuple[int, bytes]] = []

    def swap() -> None:
        done = 0
        while done < ROUNDS // 4:
            item = store.gets(b"n")
            assert item is not None
            number = value_of(wire_bytes_of(item))
            seen.append((cas_of(item), number))
            new = pack(0, b"%d" % (int(number) + 1))
            done += store.store(Mode.CAS, b"n", new, cas=cas_of(item)) is Outcome.STORED

    run_together(*[swap] * THREADS)
    assert int(value(store, b"n")) == THREADS * (ROUNDS // 4)
    numbers: dict[int, bytes] = {}
    for cas, number in seen:
        assert numbers.setdefault(cas, number) == number
    check_accounting(store)


def test_one_of_many_adds_of_a_key_wins() -> None:
    store = ItemStore(FakeClock(), shards=1)
    won = [0] * THREADS

    def add(number: int) -> None:
        for turn in range(ROUNDS):
            won[number] += store.store(Mode.ADD, b"%d" % turn, pack(0, b"x")) is Outcome.STORED

    run_together(*(partial(add, number) for number in range(THREADS)))
    assert sum(won) == ROUNDS


def test_one_of_many_deletes_of_a_key_finds_it() -> None:
    store = ItemStore(FakeClock(), shards=1)
    for turn in range(ROUNDS):
        store.put(b"%d" % turn, pack(0, b"x"))
    found = [0] * THREADS

    def delete(number: int) -> None:
        for turn in range(ROUNDS):
            found[number] += store.delete(b"%d" % turn) is not None

    run_together(*(partial(delete, number) for number in range(THREADS)))
    assert sum(found) == ROUNDS
    assert len(store) == store.used_bytes == 0


def test_the_accounting_stays_exact_through_crawling_eviction_and_flushes() -> None:
    """Values say whose key they are: none may turn up under another key, or be half of one and half of another."""
    clock = FakeClock()
    store = ItemStore(clock, limit_bytes=100_000, item_limit_bytes=2000, shards=4)
    crawler = Crawler(store)
    over = threading.Event()

    def change(number: int) -> None:
        for turn in range(ROUNDS * 2):
            key = b"key-%d" % ((turn * 7 + number * 13) % 600)
            change_key(store, key, turn + number)
            entry = store.get(key)
            if entry is not None:
                assert set(value_of(wire_bytes_of(entry)).split(b";")) <= {key, b""}

    def pass_time() -> None:
        for turn in range(ROUNDS * 2):
            change_key(store, b"time", turn)
            if turn % 200 == 0:
                clock.advance(1)
            if turn % 1500 == 1499:
                store.flush()

    def crawl() -> None:
        while not over.is_set():
            crawler.crawl()

    def change_all() -> None:
        try:
            run_together(pass_time, *(partial(change, number) for number in range(THREADS)))
        finally:
            over.set()

    run_together(change_all, crawl)
    check_accounting(store)
    clock.advance(3)
    crawler.crawl()
    assert sum(shard.evictions for shard in store.shards) > 0
    assert sum(shard.reclaimed for shard in store.shards) > 0
    check_accounting(store)
    assert store.used_bytes <= store.limit_bytes * 1.05  # how much is looked at only now and then
    store.flush()
    assert len(store) == store.used_bytes == 0
    check_accounting(store)


def test_flushes_go_on_while_others_free_what_they_left() -> None:
    store = ItemStore(FakeClock(), shards=4)
    over = threading.Event()

    def flush() -> None:
        try:
            for turn in range(ROUNDS):
                for number in range(20):
                    store.put(b"%d" % number, pack(0, b"%d" % turn))
                store.flush()
        finally:
            over.set()

    def free() -> None:
        while not over.is_set():
            store.free_some()

    run_together(flush, free, free)
    while store.free_some():
        pass
    assert len(store) == store.used_bytes == store.real_bytes - store.table_bytes == 0


def change_key(store: ItemStore, key: bytes, choice: int) -> None:
    """Do one of the things that can be done to a key; its value is always that key's name, once or several times."""
    ready = pack(0, (key + b";") * (1 + choice % 50))
    deadline = store.clock.now + 1 + choice % 40 if choice % 3 else 0
    if choice % 11 == 0:
        store.delete(key)
    elif choice % 7 == 0:
        store.touch(key, deadline)
    elif choice % 5 == 0:
        store.gets(key)
    elif choice % 4 == 0:
        store.store(Mode.APPEND, key, pack(0, key + b";"))
    elif choice % 2 == 0:
        store.store(Mode.SET, key, ready, deadline)
    else:
        store.put(key, make_entry(key, ready, deadline))


def test_what_nobody_evicts_or_flushes_is_counted_right_beside_a_crawler() -> None:
    clock = FakeClock()
    store = ItemStore(clock, shards=2)
    crawler = Crawler(store)
    store.put(b"n", pack(0, b"0"))
    over = threading.Event()

    def count() -> None:
        for turn in range(ROUNDS):
            assert isinstance(add_to(store, b"n", 1), int)
            store.store(Mode.SET, b"brief-%d" % turn, pack(0, b"x"), clock.now + 1)

    def crawl() -> None:
        while not over.is_set():
            crawler.crawl()
            clock.advance(1)
            time.sleep(0)  # let the others go on

    def count_all() -> None:
        try:
            run_together(*[count] * THREADS)
        finally:
            over.set()

    run_together(count_all, crawl)
    assert int(value(store, b"n")) == THREADS * ROUNDS
    clock.advance(2)
    crawler.crawl()
    assert [key for key, _ in store.items()] == [b"n"]
    assert len(store) == 1
    check_accounting(store)


def test_of_many_who_fill_in_a_missing_key_one_wins() -> None:
    around = Surroundings()
    conversations = [Conversation(around) for _ in range(THREADS)]
    wins: list[int] = []

    def ask(conversation: Conversation) -> None:
        for number in range(ROUNDS // 10):
            if b" W" in conversation.feed(b"mg %d N60\r\n" % number):
                wins.append(number)

    run_together(*[partial(ask, conversation) for conversation in conversations])
    assert sorted(wins) == list(range(ROUNDS // 10))
    check_accounting(around.store)


def test_of_many_who_read_a_stale_item_one_wins() -> None:
    around = Surroundings()
    conversations = [Conversation(around) for _ in range(THREADS)]
    keys = range(ROUNDS // 10)
    for number in keys:
        conversations[0].feed(b"ms %d 1 q\r\nx\r\nmd %d I q\r\n" % (number, number))
    wins: list[int] = []

    def ask(conversation: Conversation) -> None:
        for number in keys:
            if b" W" in conversation.feed(b"mg %d v\r\n" % number):
                wins.append(number)

    run_together(*[partial(ask, conversation) for conversation in conversations])
    assert sorted(wins) == list(keys)
    check_accounting(around.store)


def test_reads_that_are_noted_do_not_lose_writes() -> None:
    store = ItemStore(FakeClock(), shards=1)
    store.put(b"k", pack(0, b"0"))
    store.get_tracked(b"k")

    def read() -> None:
        for _ in range(ROUNDS):
            store.get(b"k")

    def count() -> None:
        for _ in range(ROUNDS):
            add_to(store, b"k", 1)

    run_together(*[read, count] * (THREADS // 2))
    assert int(value(store, b"k")) == ROUNDS * THREADS // 2
    check_accounting(store)
