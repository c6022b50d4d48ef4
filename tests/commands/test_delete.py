"""Deletes, apart from any protocol: what may be left of an item, and what watchers see."""

import pytest

from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.observe.watchers import Stream
from memcache_kv.store import Entry, Item, ItemStore, Outcome
from memcache_kv.store.entry import STALE, WON, cas_of, deadline_of, pack, state_of, wire_bytes_of
from tests.commands.asking import Asking
from tests.fake_clock import FakeClock
from tests.protocol.command_cases import CONDITIONAL_CASES, KEY, PLAIN_CASES, CommandCase, Delete, Result, check
from tests.protocol.context_factory import Surroundings

CASES = [case for case in (*PLAIN_CASES, *CONDITIONAL_CASES) if isinstance(case.command, Delete)]
VALUE = pack(5, b"value")


@pytest.fixture
def asking() -> Asking:
    asking = Asking(ItemStore(FakeClock(), shards=1))
    asking.store.put(b"k", Item(VALUE, asking.store.deadline(60), 7, 0, WON))
    return asking


def left(asking: Asking) -> Entry:
    entry = asking.store.kept(b"k")
    assert entry is not None
    return entry


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_key_is_deleted(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        assert isinstance(case.command, Delete)
        return Result(delete(Asking(around.store, around.counters), Deletion(KEY, case.command.cas or None)))

    check(case, carry_out)


def test_an_empty_value_may_be_left_under_the_same_cas_id(asking: Asking) -> None:
    assert delete(asking, Deletion(b"k", empties=True, flags=3)) is Outcome.DELETED
    entry = left(asking)
    assert (wire_bytes_of(entry), deadline_of(entry), cas_of(entry), state_of(entry)) == (pack(3, b""), 0, 7, 0)
    assert asking.counts() == {"delete_hits": 1}


def test_the_item_may_be_left_stale_under_a_new_cas_id(asking: Asking) -> None:
    assert delete(asking, Deletion(b"k", invalidates=True)) is Outcome.DELETED
    entry = left(asking)
    assert (wire_bytes_of(entry), deadline_of(entry)) == (VALUE, asking.store.deadline(60))
    assert (cas_of(entry), state_of(entry)) == (1, STALE)
    assert asking.counts() == {}, "it is neither a hit nor a miss"


def test_deadline_and_cas_id_of_what_is_left_may_be_chosen(asking: Asking) -> None:
    delete(asking, Deletion(b"k", invalidates=True, empties=True, deadline=asking.store.deadline(9), new_cas=50))
    entry = left(asking)
    assert (wire_bytes_of(entry), deadline_of(entry)) == (pack(0, b""), asking.store.deadline(9))
    assert (cas_of(entry), state_of(entry)) == (50, STALE)


@pytest.mark.parametrize(("counts_mismatch", "counts"), [(True, {"delete_misses": 1}), (False, {})])
def test_another_cas_id_counts_as_a_miss_where_the_protocol_says_so(
    asking: Asking, counts_mismatch: bool, counts: dict[str, int]
) -> None:
    assert delete(asking, Deletion(b"k", 8, counts_mismatch=counts_mismatch)) is Outcome.EXISTS
    assert asking.counts() == counts
    assert wire_bytes_of(left(asking)) == VALUE


def test_no_item_has_the_cas_id_0_unless_none_has_any(asking: Asking) -> None:
    assert delete(asking, Deletion(b"k", 0)) is Outcome.EXISTS
    without = Asking(ItemStore(FakeClock(), gives_cas=False))
    without.store.put(b"k", VALUE)
    assert delete(without, Deletion(b"k", 5)) is Outcome.EXISTS
    assert delete(without, Deletion(b"k", 0)) is Outcome.DELETED


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (Deletion(b"k"), [b"type=deleted key=k cmd=delete clsid=1 size=5\n"]),
        (Deletion(b"k", 7, command="md"), [b"type=deleted key=k cmd=md clsid=1 size=5\n"]),
        (Deletion(b"k", 8), []),
        (Deletion(b"k", invalidates=True), []),
        (Deletion(b"none"), []),
    ],
)
def test_watchers_hear_of_what_was_deleted(asking: Asking, request_: Deletion, lines: list[bytes]) -> None:
    assert asking.lines_of(lambda: delete(asking, request_), Stream.DELETIONS) == lines
