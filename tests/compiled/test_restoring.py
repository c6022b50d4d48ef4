"""The compiled decoder leaves in a store what the Python code leaves there, whatever a journal has."""

from array import array
from dataclasses import asdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcache_kv.journal import recovery
from memcache_kv.journal.codec import Parsed, ParsedLines
from memcache_kv.journal.record import Record, entry_line, line_of, mark_record, put_key, rechained_lines
from memcache_kv.journal.recovery import Replay, Survey
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import Entry, Item, make_entry, pack
from memcache_kv.store.restoring import LeaveOut, LeftOut, Needed, Restoring, leave_out
from memcache_kv.store.shard import Shard
from tests.fake_clock import FakeClock
from tests.store.test_model import check_accounting

journal_decoder = pytest.importorskip("memcache_kv.compiled.journal_decoder", exc_type=ImportError)

NOW = 1_700_000_000
FAR = 1 << 64
"""A deadline that no 64 bits hold."""
KEYS = st.sampled_from([b"a", b"b", b"key-%d" % 7, "ä".encode(), b"with space", b"\xff\x00", b'"quoted"', b"x" * 250])
VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"x" * size for size in (479, 480, 481, 4080, 4090, 5000)]),
    st.sampled_from([b'"' * 3000, b"\xff" * 5000]),
)
DEADLINES = st.sampled_from([0, 0, 1, NOW - 1, NOW, NOW + 1, (1 << 32) - 1, 1 << 32])
CAS_IDS = st.sampled_from([0, 0, 0, 1, 2, 9, (1 << 32) + 5, (1 << 63) + 1])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of any record that changes a store."""
    key, deadline, cas = draw(KEYS), draw(DEADLINES), draw(CAS_IDS)
    kind = draw(st.integers(0, 12))
    if kind < 6:
        wire_bytes = pack(draw(st.sampled_from([0, 7, (1 << 32) - 1])), draw(VALUES))
        return entry_line(key, make_entry(key, wire_bytes, deadline, cas, 0, 2 if kind == 5 else 0))
    if kind < 8:
        return line_of(put_key(Record("delete"), key))
    others = (
        put_key(Record("touch", exp=deadline), key),
        put_key(Record("cas", cas=cas), key),
        put_key(mark_record(deadline, cas, 2), key),
        Record("flush"),
        Record("time", at=NOW - 5, stepped=draw(st.integers(-3, 3))),
    )
    return line_of(others[kind - 8])


def shown(entry: Entry) -> object:
    if isinstance(entry, Item):
        return entry.wire_bytes, entry.deadline, entry.cas, entry.accessed, entry.state
    return entry


class PythonStore(ItemStore):
    """A store out of which the Python code leaves items."""

    def restoring(self, leave_out: LeaveOut = leave_out) -> Restoring:
        return super().restoring()


def state_of_shard(shard: Shard) -> object:
    """All that the replay of a journal changes in a shard."""
    order = shard.order
    queues = [*order.small], [*order.main], order.ghosts.tolist(), bytes(order.marks), order.is_kept
    entries = [(key, shown(entry)) for key, entry in shard.table.items()]
    return entries, shard.used_bytes, shard.expiring, queues, order.second_chances


def replayed(blocks: list[Parsed], store: ItemStore) -> object:
    """What blocks leave in a store, with the order of its keys, and what is known about them."""
    replay = Replay(store)
    for block in blocks:
        replay.apply_parsed(block)
    before = [state_of_shard(shard) for shard in store.shards]
    replay.finish()
    check_accounting(store)
    after = [state_of_shard(shard) for shard in store.shards]
    return before, after, asdict(replay.found), store.flush_at


def surveyed(blocks: list[Parsed]) -> object:
    survey = Survey(NOW)
    for block in blocks:
        survey.apply_parsed(block)
    survey.finish()
    return asdict(survey.found)


def check_that_both_leave_the_same(blocks: list[list[bytes]], max_items: int, shards: int) -> None:
    found: list[list[Parsed]] = [[], []]
    before = 0
    for block in blocks:
        chained, last = rechained_lines(b"".join(block), before)
        found[0].append(ParsedLines(chained, before))
        found[1].append(journal_decoder.parse_block(chained, before))
        before = last
    stores = [kind(FakeClock(NOW), max_items=max_items, shards=shards) for kind in (PythonStore, ItemStore)]
    assert replayed(found[1], stores[1]) == replayed(found[0], stores[0])
    assert surveyed(found[1]) == surveyed(found[0])


@settings(deadline=None, max_examples=400)
@given(
    st.lists(st.lists(lines(), min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([1, 4]),
)
def test_both_leave_the_same(blocks: list[list[bytes]], max_items: int, shards: int) -> None:
    check_that_both_leave_the_same(blocks, max_items, shards)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 4]), st.sampled_from([5, 20]))
def test_both_leave_the_same_where_items_find_no_room(rnd: Random, shards: int, max_items: int) -> None:
    def line() -> bytes:
        key, kind = b"key-%d" % rnd.randrange(60), rnd.randrange(20)
        if kind < 14:
            value = b"x" * rnd.choice([1, 40, 600, 5000])
            deadline = rnd.choice([0, 0, NOW + 9, NOW - 9, FAR])
            return entry_line(key, make_entry(key, pack(0, value), deadline, kind // 10))
        if kind < 18:
            return line_of(put_key(Record("delete"), key))
        return line_of(Record("flush") if rnd.random() < 0.1 else put_key(Record("touch"), key))

    blocks = [[line() for _ in range(rnd.randrange(1, 90))] for _ in range(4)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recovery, "HELD_AFTER_RECORDS", 8)
        check_that_both_leave_the_same(blocks, max_items, shards)


class Later:
    """What is known about keys once the files were read, as `LaterTouches` has it."""

    def __init__(self, keys: set[bytes]) -> None:
        self.positions, self.mask, self.at = array("H", bytes(2 * 128)), 127, 3
        for key in keys:
            self.positions[hash(key) & self.mask] = len(key) - 1

    def __call__(self, key: bytes) -> bool:
        return self.positions[hash(key) & self.mask] > self.at


@settings(deadline=None, max_examples=150)
@given(st.randoms(use_true_random=False), st.integers(0, 2), st.integers(0, 30), st.integers(1, 6000))
def test_both_leave_out_the_same_items(rnd: Random, kind: int, wanted_items: int, wanted_bytes: int) -> None:
    keys = [b"key-%d" % number for number in range(rnd.randrange(1, 60))]
    needed_later = {key for key in keys if rnd.random() < 0.4}
    commands = [(rnd.choice(keys), rnd.randrange(10)) for _ in range(150)]
    found = []
    for function in (leave_out, journal_decoder.leave_out):
        shard, needed, left_out, counts = Shard(), Needed(), LeftOut(1 << 20), []
        for number, (key, action) in enumerate(commands):
            if action < 6:
                deadline = FAR if number % 7 == 0 else NOW + number % 3 - 1
                shard.put_locked(key, make_entry(key, pack(0, b"x" * action * 50), deadline))
            elif action < 8:
                shard.remove_locked(key)
            else:
                shard.order.mark(key)
            if number % 40 == 39:
                is_needed = (None, needed_later.__contains__, Later(needed_later))[kind]
                counts.append(function(shard, needed, left_out, is_needed, wanted_bytes, wanted_items, NOW))
        known = [*needed.keys], needed.left_out, left_out.count, left_out.prints.tolist()
        found.append((state_of_shard(shard), known, counts, shard.order.victim_age(NOW), shard.order.was_marked))
    assert found[0] == found[1]


@pytest.mark.parametrize("function", [leave_out, journal_decoder.leave_out], ids=["python", "compiled"])
@pytest.mark.parametrize("was", [False, True])
def test_what_is_known_of_the_last_victim_stays_if_there_is_no_other(function: LeaveOut, was: bool) -> None:
    shard = Shard()
    shard.order.was_promoted = shard.order.was_marked = was
    assert function(shard, Needed(), LeftOut(1 << 20), None, 1, 1, NOW) == 0
    assert (shard.order.was_promoted, shard.order.was_marked) == (was, was)


@pytest.mark.parametrize("is_apart", [False, True])
def test_bytes_in_memory_of_their_own_are_the_same(is_apart: bool) -> None:
    entries = [(b"%d" % size, make_entry(b"k", pack(0, b"v" * size), 0)) for size in range(0, 6000, 7)]
    block = b"".join(entry_line(key, entry) for key, entry in entries)
    chained, _ = rechained_lines(block, 0)
    parsed = journal_decoder.parse_block(chained, 0)
    keys, made = parsed.lines(0, len(parsed), 0, is_apart)
    assert [*zip(keys, map(shown, made), strict=True)] == [(key, shown(entry)) for key, entry in entries]


def test_simple_records_are_restored_without_python() -> None:
    store = ItemStore(FakeClock(NOW), shards=2)
    queue = [entry_line(b"%d" % number, pack(0, b"x" * number)) for number in range(5000)]
    queue += [line_of(put_key(Record("delete"), b"7"))]
    chained, _ = rechained_lines(b"".join(queue), 0)
    parsed = journal_decoder.parse_block(chained, 0)
    assert parsed.restore(store.shards, [{}, {}], 0, len(queue), NOW, 3) == (len(queue), len(queue), 3)
    assert len(store) == 4999
    check_accounting(store)
