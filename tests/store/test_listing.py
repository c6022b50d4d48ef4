"""Replies that walk over all items, piece by piece."""

import tracemalloc

import pytest

from memcache_kv.config.settings import Settings
from memcache_kv.protocol import session
from memcache_kv.store import ItemStore, Mode, listing
from memcache_kv.store.entry import cas_of, pack
from memcache_kv.store.listing import LISTED_AT_ONCE
from tests.fake_clock import FakeClock
from tests.protocol.context_factory import Conversation, Surroundings

NOW = 1_700_000_000
MANY = 4 * LISTED_AT_ONCE


@pytest.fixture
def store() -> ItemStore:
    return ItemStore(FakeClock(NOW), shards=2)


def put(store: ItemStore, key: bytes, value: bytes = b"x", ttl: int = 0, flags: int = 0) -> None:
    store.store(Mode.SET, key, pack(flags, value), store.deadline(ttl))


def keys_in(pieces: list[bytes]) -> list[bytes]:
    """The keys of an mgdump."""
    lines = b"".join(pieces).split(b"\r\n")
    return [line.split(b" ")[1] for line in lines if line.startswith(b"mg ")]


def test_a_plain_item_is_told_of_as_far_as_it_is_known(store: ItemStore) -> None:
    put(store, b"k", b"abc", flags=7)
    assert list(listing.metadump(store)) == [
        b"OK\r\n",
        b"key=k exp=-1 la=%d cas=0 fetch=no cls=1 size=%d flags=7 \n" % (NOW, store.used_bytes),
        b"END\r\n",
    ]


def test_an_item_with_facts_is_told_of_with_them(store: ItemStore) -> None:
    clock = store.clock
    put(store, b"k", ttl=1000)
    cas = store.get_tracked(b"k")
    assert cas is not None
    clock.shift(30)
    store.get(b"k")
    assert b"exp=%d la=%d cas=%d fetch=yes cls=1" % (NOW + 1000, NOW + 30, cas_of(cas)) in b"".join(
        listing.metadump(store)
    )


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (b"azAZ09-._~", b"azAZ09-._~"),
        (b"a/b:c d", b"a%2Fb%3Ac%20d"),
        (b"\x00\n\xff", b"%00%0A%FF"),
        ("naïve".encode(), b"na%C3%AFve"),
        (b"100%", b"100%25"),
    ],
)
def test_keys_are_encoded_as_in_a_url(store: ItemStore, key: bytes, encoded: bytes) -> None:
    put(store, key)
    assert list(listing.metadump(store))[1].startswith(b"key=" + encoded + b" exp=")


@pytest.mark.parametrize(
    ("key", "line"),
    [(b"k", b"mg k\r\n"), (b"\xff\x01", b"mg \xff\x01\r\n"), (b"a b", b"mg YSBi b\r\n"), (b"\n", b"mg Cg== b\r\n")],
)
def test_a_key_that_no_line_can_name_is_told_in_base64(store: ItemStore, key: bytes, line: bytes) -> None:
    put(store, key)
    assert b"".join(listing.mgdump(store)) == b"OK\r\n" + line + b"EN\r\n"


def test_a_dump_changes_nothing(store: ItemStore) -> None:
    for number in range(10):
        put(store, b"k%d" % number)
    before, used_bytes = dict(store.items()), store.used_bytes
    for dump in (listing.metadump(store), listing.mgdump(store), listing.cachedump(store, 0)):
        assert list(dump)
    after = dict(store.items())
    assert all(after[key] is entry for key, entry in before.items())
    assert (len(after), store.used_bytes) == (10, used_bytes)


@pytest.mark.parametrize("dump", [listing.metadump, listing.mgdump, lambda store: listing.cachedump(store, 0)])
def test_what_has_expired_is_left_out(store: ItemStore, dump: object) -> None:
    assert callable(dump)
    put(store, b"dead", ttl=10)
    put(store, b"living", ttl=11)
    put(store, b"immortal")
    store.clock.shift(10)
    told = b"".join(dump(store))
    assert (b"dead" in told, b"living" in told, b"immortal" in told) == (False, True, True)


def test_every_key_that_stays_is_told_of_once_whatever_happens_meanwhile(store: ItemStore) -> None:
    staying = {b"stay%d" % number for number in range(MANY)}
    for key in staying:
        put(store, key)
        put(store, b"go" + key)
    pieces = []
    for turn, piece in enumerate(listing.mgdump(store)):
        pieces.append(piece)
        for number in range(turn * 50, turn * 50 + 50):
            put(store, b"new%d" % number)
            put(store, b"stay%d" % (number % MANY), b"changed")
            store.delete(b"gostay%d" % (number % MANY))
    told = keys_in(pieces)
    assert len(told) == len(set(told))
    assert staying <= set(told)


def test_a_flush_in_the_middle_ends_the_dump_in_order(store: ItemStore) -> None:
    for number in range(MANY):
        put(store, b"k%d" % number)
    pieces = listing.metadump(store)
    assert next(pieces) == b"OK\r\n"
    assert next(pieces).count(b"key=") == LISTED_AT_ONCE
    store.flush()
    assert b"".join(pieces) == b"END\r\n"


def test_pieces_are_small_and_memory_is_that_of_one_shards_keys(store: ItemStore) -> None:
    for number in range(40_000):
        put(store, b"key:%040d" % number)
    tracemalloc.start()
    try:
        longest = max(map(len, listing.metadump(store)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert longest <= LISTED_AT_ONCE * 200
    assert peak < 40_000 * 8 + LISTED_AT_ONCE * 3000


@pytest.mark.parametrize(("most", "told"), [(0, 5), (1, 1), (3, 3), (100, 5)])
def test_cachedump_tells_of_so_many(store: ItemStore, most: int, told: int) -> None:
    for number in range(5):
        put(store, b"k%d" % number)
    assert b"".join(listing.cachedump(store, most)).count(b"ITEM ") == told


def test_cachedump_tells_lengths_and_deadlines_and_leaves_out_what_it_can_not_name() -> None:
    store = ItemStore(FakeClock(NOW), shards=1)
    put(store, b"k1", b"abc")
    put(store, b"not plain")
    put(store, b"k2", b"", ttl=100)
    assert b"".join(listing.cachedump(store, 0)) == b"ITEM k2 [0 b; %d s]\r\nITEM k1 [3 b; 0 s]\r\nEND\r\n" % (
        NOW + 100
    )


def test_cachedump_is_no_longer_than_memcacheds(monkeypatch: pytest.MonkeyPatch, store: ItemStore) -> None:
    monkeypatch.setattr(listing, "CACHEDUMP_LIMIT_BYTES", 1000)
    for number in range(MANY):
        put(store, b"k%04d" % number)
    reply = b"".join(listing.cachedump(store, 0))
    assert 900 < len(reply) <= 1000
    assert reply.endswith(b" s]\r\nEND\r\n")


# As commands


def test_a_dump_comes_in_turns_and_what_follows_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", -1.0)  # each piece uses up a turn
    conversation = Conversation()
    conversation.feed(b"".join(b"set k%d 0 0 1\r\nx\r\n" % number for number in range(MANY)))
    conversation.turns.clear()
    reply = conversation.feed(b"lru_crawler mgdump all\r\nmn\r\n")
    assert reply.endswith(b"EN\r\nMN\r\n")
    assert len(keys_in([reply])) == MANY
    assert len(conversation.turns) > MANY // LISTED_AT_ONCE


@pytest.mark.parametrize(
    ("classes", "told"), [(b"all", 1), (b"hash", 1), (b"1", 1), (b"3,1", 1), (b"2", 0), (b"63", 0)]
)
def test_all_items_are_of_the_first_class(classes: bytes, told: int) -> None:
    conversation = Conversation()
    conversation.feed(b"set k 0 0 1\r\nx\r\n")
    for name, end in ((b"metadump", b"END\r\n"), (b"mgdump", b"EN\r\n")):
        reply = conversation.feed(b"lru_crawler " + name + b" " + classes + b"\r\n")
        assert reply.startswith(b"OK\r\n")
        assert reply.endswith(end)
        assert reply.count(b"\n") == 2 + told


@pytest.mark.parametrize("name", [b"metadump", b"mgdump"])
def test_a_dump_behind_an_unsent_reply_is_refused_and_the_next_is_not(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TURN_SECONDS", 1e9)  # at the end of a turn the reply is sent
    conversation = Conversation()
    reply = conversation.feed(b"mg x v\r\nlru_crawler " + name + b" all\r\n")
    assert reply == b"EN\r\nERROR cannot pipeline other commands before " + name + b"\r\n"
    assert conversation.feed(b"lru_crawler " + name + b" all\r\n").startswith(b"OK\r\n")


def test_dumps_are_refused_where_they_are_disabled() -> None:
    conversation = Conversation(Surroundings(Settings(disable_dumping=True)))
    for line, reply in (
        (b"lru_crawler metadump all", b"ERROR metadump not allowed\r\n"),
        (b"lru_crawler mgdump x", b"ERROR key dump not allowed\r\n"),
        (b"stats cachedump", b"CLIENT_ERROR stats cachedump not allowed\r\n"),
        (b"stats detail on", b"CLIENT_ERROR stats detail not allowed\r\n"),
    ):
        assert conversation.feed(line + b"\r\n") == reply


def test_sizes_are_counted_where_they_are_tracked() -> None:
    conversation = Conversation(Surroundings(Settings(track_sizes=True)))
    assert conversation.feed(b"stats sizes\r\n") == b"END\r\n"
    conversation.feed(b"set a 0 0 1\r\nx\r\n")
    assert conversation.feed(b"stats sizes\r\n").endswith(b" 1\r\nEND\r\n")
