"""Touches, apart from any protocol."""

from functools import partial

import pytest

from memcache_kv.commands.touch import get_and_touch, touch
from memcache_kv.observe.watchers import Stream
from memcache_kv.store import ItemStore, Outcome
from memcache_kv.store.entry import cas_of, deadline_of, pack
from tests.commands.asking import Asking
from tests.fake_clock import FakeClock
from tests.protocol.command_cases import KEY, PLAIN_CASES, CommandCase, Result, Touch, check
from tests.protocol.context_factory import Surroundings

CASES = [case for case in PLAIN_CASES if isinstance(case.command, Touch)]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def asking() -> Asking:
    asking = Asking(ItemStore(FakeClock(), shards=1))
    asking.store.put(b"k", pack(0, b"value"))
    return asking


def deadline_in(case: CommandCase, around: Surroundings) -> int:
    assert isinstance(case.command, Touch)
    return around.store.deadline(case.command.ttl)


@by_name
def test_an_item_gets_a_new_deadline(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        found = touch(Asking(around.store, around.counters), KEY, deadline_in(case, around))
        return Result(Outcome.STORED if found else Outcome.NOT_FOUND)

    check(case, carry_out)


@by_name
def test_an_item_that_is_retrieved_gets_one_too(case: CommandCase) -> None:
    def carry_out(around: Surroundings) -> Result:
        entry = get_and_touch(Asking(around.store, around.counters), KEY, deadline_in(case, around))
        return Result(Outcome.NOT_FOUND if entry is None else Outcome.STORED)

    check(case, carry_out)


def test_a_deadline_in_the_past_returns_the_item_a_last_time(asking: Asking) -> None:
    entry = get_and_touch(asking, b"k", 1)
    assert entry is not None
    assert (cas_of(entry), deadline_of(entry)) == (1, 1)
    assert asking.store.get(b"k") is None


def test_only_what_retrieves_counts_as_a_get_of_the_prefix(asking: Asking) -> None:
    asking.observers.count_prefixes(True)
    touch(asking, b"p:k", 0)
    assert list(asking.observers.prefixes.dump()) == [b"END\r\n"]
    get_and_touch(asking, b"p:k", 0)
    assert b"".join(asking.observers.prefixes.dump()) == b"PREFIX p get 1 hit 0 set 0 del 0\r\nEND\r\n"


@pytest.mark.parametrize("command", [touch, get_and_touch])
def test_watchers_hear_of_the_lookup(asking: Asking, command: object) -> None:
    assert callable(command)
    line = b"type=item_get key=k status=found clsid=1 cfd=30 size=5\n"
    assert asking.lines_of(partial(command, asking, b"k", 0), Stream.FETCHERS) == [line]
