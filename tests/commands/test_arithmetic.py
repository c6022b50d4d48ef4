"""Arithmetic, apart from any protocol: what only some ask for, and what watchers see."""

import pytest

from memcache_kv.commands import arithmetic
from memcache_kv.commands.arithmetic import Arithmetic, Counted
from memcache_kv.store import Item, ItemStore, Outcome
from memcache_kv.store.entry import FETCHED, STALE, TRACKED, WON, cas_of, deadline_of, pack, state_of
from tests.commands.asking import Asking, add_to, allocated_by
from tests.fake_clock import FakeClock
from tests.protocol.command_cases import CONDITIONAL_CASES, KEY, PLAIN_CASES, CommandCase, Count, Result, check
from tests.protocol.context_factory import Surroundings

CASES = [case for case in (*PLAIN_CASES, *CONDITIONAL_CASES) if isinstance(case.command, Count)]


@pytest.fixture
def asking() -> Asking:
    return Asking(ItemStore(FakeClock(), shards=1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_number_is_counted(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        assert isinstance(case.command, Count)
        amount, is_up, cas, initial = case.command
        caller = Asking(around.store, around.counters)
        counted = arithmetic.count(caller, Arithmetic(KEY, amount, is_up, cas, initial=initial))
        return Result(counted.outcome, counted.number if counted.outcome is Outcome.STORED else None)

    check(case, carry_out)


def test_what_has_expired_is_not_found(asking: Asking) -> None:
    asking.store.put(b"k", Item(pack(0, b"1"), asking.store.clock.now))
    assert arithmetic.count(asking, Arithmetic(b"k", 1)) == Counted(Outcome.NOT_FOUND)


def test_the_new_value_has_no_cas_id_unless_somebody_asks(asking: Asking) -> None:
    asking.store.put(b"k", Item(pack(0, b"1"), cas=50))
    assert arithmetic.count(asking, Arithmetic(b"k", 1)).cas == 0
    assert arithmetic.count(asking, Arithmetic(b"k", 1, needs_cas=True)).cas == 1
    assert arithmetic.count(asking, Arithmetic(b"k", 1, needs_cas=True, new_cas=9)).cas == 9
    entry = asking.store.get(b"k")
    assert entry is not None
    assert cas_of(entry) == 9


def test_a_deadline_is_kept_unless_there_is_another(asking: Asking) -> None:
    now = asking.store.clock.now
    asking.store.put(b"k", Item(pack(0, b"1"), now + 10))
    assert arithmetic.count(asking, Arithmetic(b"k", 1, deadline=now + 20)).former_deadline == now + 10
    assert arithmetic.count(asking, Arithmetic(b"k", 1)).former_deadline == now + 20
    assert arithmetic.count(asking, Arithmetic(b"k", 1, deadline=0)).former_deadline == now + 20
    assert arithmetic.count(asking, Arithmetic(b"k", 1)).former_deadline == 0


def test_an_item_that_is_made_has_a_deadline_of_its_own(asking: Asking) -> None:
    now = asking.store.clock.now
    request = Arithmetic(b"k", 1, deadline=now + 1, initial=3, initial_deadline=now + 30)
    assert arithmetic.count(asking, request) == Counted(Outcome.STORED, 3, is_made=True)
    entry = asking.store.get(b"k")
    assert entry is not None
    assert deadline_of(entry) == now + 30


def test_no_memory_makes_nothing_and_counts_nothing() -> None:
    asking = Asking(ItemStore(FakeClock(), limit_bytes=1 << 20, item_limit_bytes=1 << 16, evicts=False, shards=1))
    asking.store.reserve(1 << 20)
    assert arithmetic.count(asking, Arithmetic(b"k", 1, initial=1)) == Counted(Outcome.NO_MEMORY)
    assert (asking.store.get(b"k"), asking.counts()) == (None, {})


@pytest.mark.parametrize(("amount", "state"), [(1, STALE | WON), (90, 0)])
def test_a_number_counted_in_its_place_keeps_its_state(asking: Asking, amount: int, state: int) -> None:
    asking.store.put(b"k", Item(pack(0, b"10"), 0, 3, 0, STALE | WON))
    add_to(asking.store, b"k", amount)
    entry = asking.store.kept(b"k")
    assert entry is not None
    assert state_of(entry) == state


@pytest.mark.parametrize(("amount", "state"), [(1, TRACKED | FETCHED), (90, TRACKED)])
def test_a_tracked_number_stays_tracked_and_a_longer_one_was_not_read(asking: Asking, amount: int, state: int) -> None:
    asking.store.put(b"k", pack(0, b"10"))
    asking.store.get_tracked(b"k")
    asking.store.get(b"k")
    add_to(asking.store, b"k", amount)
    entry = asking.store.kept(b"k")
    assert entry is not None
    assert state_of(entry) == state


def chunk_bytes(store: ItemStore, beyond: int) -> bytes:
    """A number behind zeros whose item is so many bytes larger than the largest chunk."""
    other = store.sizes.item_bytes(b"k", pack(0, b""))
    return b"7".rjust(store.sizes.chunks[-1] - other + beyond, b"0")


@pytest.mark.parametrize(("beyond", "outcome"), [(0, 8), (1, Outcome.NON_NUMERIC)])
def test_a_value_that_memcached_keeps_in_chunks_is_no_number(
    asking: Asking, beyond: int, outcome: int | Outcome
) -> None:
    asking.store.put(b"k", Item(pack(0, chunk_bytes(asking.store, beyond))))
    assert add_to(asking.store, b"k", 1) == outcome


def test_a_chunked_value_is_no_number_under_any_cas_id(asking: Asking) -> None:
    asking.store.put(b"k", Item(pack(0, chunk_bytes(asking.store, 1)), cas=5))
    assert arithmetic.count(asking, Arithmetic(b"k", 1, cas=6)).outcome is Outcome.NON_NUMERIC


def test_a_value_that_is_no_number_is_not_copied(asking: Asking) -> None:
    asking.store.put(b"long", Item(pack(0, b"1" * 500_000)))
    asking.store.put(b"chunked", Item(pack(0, b"1" * 1_000_000)))
    for key in (b"long", b"chunked"):
        assert allocated_by(lambda key=key: add_to(asking.store, key, 1)) < 20_000  # type: ignore[misc]
