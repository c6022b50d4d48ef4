"""Storing values, apart from any protocol: values that are too large or find no memory, and what watchers see."""

from functools import partial

import pytest

from memcache_kv.commands.store_value import CLASSIC_RULE, SizeRule, accepts_size, store_value
from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Stream
from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.entry import cas_of, pack
from memcache_kv.store.writes import Write
from tests.commands.asking import Asking, allocated_by
from tests.fake_clock import FakeClock
from tests.protocol import command_cases
from tests.protocol.command_cases import CONDITIONAL_CASES, KEY, PLAIN_CASES, CommandCase, Result, check
from tests.protocol.context_factory import Surroundings

CASES = [case for case in (*PLAIN_CASES, *CONDITIONAL_CASES) if isinstance(case.command, command_cases.Store)]
LIMIT_BYTES = 1 << 16
TOO_LARGE_BYTES = LIMIT_BYTES + 1


def asking_of(evicts: bool = True) -> Asking:
    """A store that keeps one item."""
    store = ItemStore(FakeClock(), limit_bytes=1 << 20, item_limit_bytes=LIMIT_BYTES, evicts=evicts, shards=1)
    asking = Asking(store)
    asking.store.put(b"k", pack(0, b"old"))
    return asking


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_value_is_stored(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        assert isinstance(case.command, command_cases.Store)
        mode, value, flags, ttl, cas = case.command
        write = Write(mode, KEY, pack(flags, value), around.store.deadline(ttl), cas)
        return Result(store_value(Asking(around.store, around.counters), write)[0])

    check(case, carry_out)


def test_the_entry_is_returned_with_the_cas_id_that_was_asked_for() -> None:
    outcome, entry = store_value(asking_of(), Write(Mode.SET, b"k", pack(0, b"new"), needs_cas=True))
    assert (outcome, entry and cas_of(entry)) == (Outcome.STORED, 1)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("drops", [frozenset({Mode.SET}), frozenset(Mode), frozenset[Mode]()])
def test_a_value_that_is_too_large_deletes_the_old_one_in_some_modes(mode: Mode, drops: frozenset[Mode]) -> None:
    asking = asking_of()
    assert not accepts_size(asking, mode, b"k", TOO_LARGE_BYTES, 0, SizeRule(drops=drops))
    assert (asking.store.get(b"k") is None) == (mode in drops)


@pytest.mark.parametrize(("counts", "counted"), [(True, {"store_too_large": 1}), (False, {})])
def test_it_is_counted_where_the_protocol_says_so(counts: bool, counted: dict[str, int]) -> None:
    asking = asking_of()
    assert not accepts_size(asking, Mode.ADD, b"k", TOO_LARGE_BYTES, 0, SizeRule(counts=counts))
    assert asking.counts() == counted | {"rejected_too_large": 1}


@pytest.mark.parametrize(
    ("mode", "reports_joins", "is_reported"),
    [(Mode.ADD, True, True), (Mode.ADD, False, True), (Mode.APPEND, True, True), (Mode.PREPEND, False, False)],
)
def test_watchers_hear_of_it(mode: Mode, reports_joins: bool, is_reported: bool) -> None:
    asking = asking_of()
    ask = partial(accepts_size, asking, mode, b"k", TOO_LARGE_BYTES, 0, SizeRule(reports_joins=reports_joins))
    line = f"type=item_store key=k status=too_large cmd={mode.value} ttl=0 clsid=0 cfd=30 size=0\n".encode()
    assert asking.lines_of(ask, Stream.MUTATIONS) == [line] * is_reported


def test_a_value_that_fits_leaves_everything_as_it_is() -> None:
    asking = asking_of()
    assert accepts_size(asking, Mode.SET, b"k", 100, 0)
    assert asking.store.get(b"k") is not None
    assert asking.counts() == {}


@pytest.mark.parametrize("drops_old", [True, False])
@pytest.mark.parametrize("mode", [Mode.SET, Mode.REPLACE, Mode.CAS])
def test_a_value_that_finds_no_memory_may_delete_the_old_one(mode: Mode, drops_old: bool) -> None:
    asking = asking_of(evicts=False)
    entry = asking.store.gets(b"k")
    assert entry is not None
    asking.store.reserve(1 << 20)
    outcome, _ = store_value(asking, Write(mode, b"k", pack(0, b"n" * 1000), cas=cas_of(entry)), drops_old)
    assert outcome is Outcome.NO_MEMORY
    assert (asking.store.get(b"k") is None) == (drops_old or mode is Mode.SET)
    assert asking.counts() == {"cmd_set": 1, "store_no_memory": 1}


class RejectingLog:
    """A journal that takes no writes."""

    refuses = True


def test_while_the_journal_rejects_writes_the_old_value_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = asking_of()
    monkeypatch.setattr(asking.store, "log", RejectingLog())
    assert not accepts_size(asking, Mode.SET, b"k", TOO_LARGE_BYTES, 0, CLASSIC_RULE)
    assert asking.store.get(b"k") is not None
    with pytest.raises(WritesRejected):
        store_value(asking, Write(Mode.SET, b"k", pack(0, b"new")))


def test_watchers_hear_of_the_lookup_and_of_what_was_stored() -> None:
    asking = asking_of()
    ask = partial(store_value, asking, Write(Mode.APPEND, b"k", pack(0, b"er")))
    assert asking.lines_of(ask, Stream.FETCHERS, Stream.MUTATIONS) == [
        b"type=item_get key=k status=found clsid=1 cfd=30 size=3\n",
        b"type=item_store key=k status=stored cmd=append ttl=0 clsid=1 cfd=30 size=5\n",
    ]


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.PREPEND])
def test_joining_a_byte_to_a_long_value_copies_it_once(mode: Mode) -> None:
    asking, size = Asking(ItemStore(FakeClock(), shards=1)), 900_000
    store_value(asking, Write(Mode.SET, b"k", pack(0, b"x" * size)))
    allocated = allocated_by(lambda: store_value(asking, Write(mode, b"k", pack(0, b"y"))))
    assert size < allocated < size * 1.1
