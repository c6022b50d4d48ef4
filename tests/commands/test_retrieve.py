"""Retrieval, apart from any protocol: who wins, what is made, what is counted."""

import pytest

from memcache_kv.commands.retrieve import Retrieval, fetch, get_with_cas, retrieve
from memcache_kv.errors import WritesRejected
from memcache_kv.observe.watchers import Stream
from memcache_kv.store import Item, ItemStore
from memcache_kv.store.entry import FETCHED, JOURNALED, STALE, WON, cas_of, deadline_of, pack, state_of, wire_bytes_of
from tests.commands.asking import Asking
from tests.fake_clock import FakeClock

VALUE = pack(5, b"value")
HIT, MISS = {"cmd_get": 1, "get_hits": 1}, {"cmd_get": 1, "get_misses": 1}


@pytest.fixture
def asking() -> Asking:
    asking = Asking(ItemStore(FakeClock(), shards=1))
    asking.store.put(b"k", VALUE)
    asking.store.put(b"timed", Item(VALUE, asking.store.deadline(60)))
    asking.store.put(b"stale", Item(VALUE, 0, 3, 0, STALE))
    return asking


def test_a_get_returns_the_item_with_its_cas_id(asking: Asking) -> None:
    entry = get_with_cas(asking, b"k")
    assert entry is not None
    assert cas_of(entry) == 1
    assert asking.counts() == HIT
    assert get_with_cas(asking, b"none") is None
    assert asking.counts() == {"cmd_get": 2, "get_hits": 1, "get_misses": 1}


@pytest.mark.parametrize("command", ["fetch", "retrieve"])
def test_watchers_and_prefixes_hear_of_it(asking: Asking, command: str) -> None:
    def ask() -> None:
        if command == "fetch":
            fetch(asking, b"p:k", asking.store.get)
        else:
            retrieve(asking, Retrieval(b"p:k"))

    asking.store.put(b"p:k", VALUE)
    asking.observers.count_prefixes(True)
    line = b"type=item_get key=p%3Ak status=found clsid=1 cfd=30 size=5\n"
    assert asking.lines_of(ask, Stream.FETCHERS) == [line]
    assert b"".join(asking.observers.prefixes.dump()) == b"PREFIX p get 1 hit 1 set 0 del 0\r\nEND\r\n"


def test_a_retrieval_that_changes_nothing_finds_the_item_or_not(asking: Asking) -> None:
    found = retrieve(asking, Retrieval(b"timed"))
    assert found is not None
    assert (wire_bytes_of(found.entry), found.former_deadline) == (VALUE, asking.store.deadline(60))
    assert found[3:] == (False, False, False, False, False)
    assert asking.counts() == HIT
    assert retrieve(asking, Retrieval(b"none")) is None


def test_of_those_who_find_an_item_stale_one_wins(asking: Asking) -> None:
    first, second = retrieve(asking, Retrieval(b"stale")), retrieve(asking, Retrieval(b"stale"))
    assert first is not None
    assert second is not None
    assert [(found.is_stale, found.is_won, found.wins) for found in (first, second)] == [
        (True, False, True),
        (True, True, False),
    ]


@pytest.mark.parametrize("seconds", [60, 61])
def test_one_wins_when_the_item_expires_before_a_deadline(asking: Asking, seconds: int) -> None:
    request = Retrieval(b"timed", recache_deadline=asking.store.deadline(seconds))
    won = [found.wins for _ in range(3) if (found := retrieve(asking, request)) is not None]
    assert won == [seconds > 60, False, False]


@pytest.mark.parametrize("after_touch", [True, False])
def test_it_matters_whether_the_new_deadline_is_asked_about(asking: Asking, after_touch: bool) -> None:
    now = asking.store.deadline
    request = Retrieval(b"timed", deadline=now(10), recache_deadline=now(30), recaches_after_touch=after_touch)
    found = retrieve(asking, request)
    assert found is not None
    assert found.wins is after_touch
    assert (deadline_of(found.entry), found.former_deadline) == (now(10), now(60))
    assert asking.counts() == {"cmd_touch": 1, "touch_hits": 1}


def test_what_never_expires_does_not_run_out(asking: Asking) -> None:
    found = retrieve(asking, Retrieval(b"k", recache_deadline=asking.store.deadline(1000)))
    assert found is not None
    assert not found.wins


def test_an_empty_item_is_made_for_a_miss_and_its_maker_wins(asking: Asking) -> None:
    deadline = asking.store.deadline(30)
    request = Retrieval(b"new", initial_deadline=deadline, new_cas=50)
    first, second = retrieve(asking, request), retrieve(asking, request)
    assert first is not None
    assert second is not None
    assert (first.is_made, first.wins, first.is_won, first.former_deadline) == (True, True, False, 0)
    assert (second.is_made, second.wins, second.is_won, second.former_deadline) == (False, False, True, deadline)
    assert (wire_bytes_of(first.entry), cas_of(first.entry)) == (pack(0, b""), 50)
    assert asking.counts() == {"cmd_get": 2, "get_hits": 2}


def test_without_memory_nothing_is_made() -> None:
    asking = Asking(ItemStore(FakeClock(), limit_bytes=1 << 20, item_limit_bytes=1 << 16, evicts=False, shards=1))
    asking.store.reserve(1 << 20)
    assert retrieve(asking, Retrieval(b"k", initial_deadline=0)) is None
    assert asking.counts() == MISS


def test_a_request_that_is_cut_short_changes_the_deadline_but_lets_nobody_win_and_is_not_counted(
    asking: Asking,
) -> None:
    deadline = asking.store.deadline(9)
    retrieve(asking, Retrieval(b"stale", deadline=deadline, is_cut_short=True))
    retrieve(asking, Retrieval(b"new", initial_deadline=deadline, is_cut_short=True))
    for key, state in ((b"stale", STALE), (b"new", 0)):
        entry = asking.store.kept(key)
        assert entry is not None
        assert (deadline_of(entry), state_of(entry)) == (deadline, state)
    assert asking.counts() == {}
    assert retrieve(asking, Retrieval(b"none", is_cut_short=True)) is None
    assert asking.counts() == MISS


def test_access_metadata_is_kept_from_when_somebody_asks(asking: Asking) -> None:
    began = asking.store.clock.now
    first = retrieve(asking, Retrieval(b"k", wants_access_metadata=True))
    asking.store.clock.now += 5
    second = retrieve(asking, Retrieval(b"k", wants_access_metadata=True))
    assert first is not None
    assert second is not None
    assert [(found.accessed, found.was_read) for found in (first, second)] == [(began, False), (began, True)]


@pytest.mark.parametrize("is_read", [True, False])
def test_a_retrieval_may_leave_no_trace(asking: Asking, is_read: bool) -> None:
    asking.store.get_tracked(b"k")
    for request in (Retrieval(b"k", is_read=is_read), Retrieval(b"timed", is_read=is_read, deadline=0)):
        retrieve(asking, request)
        entry = asking.store.kept(request.key)
        assert entry is not None
        assert bool(state_of(entry) & FETCHED) is is_read


def test_a_cas_id_is_made_for_whoever_asks(asking: Asking) -> None:
    for is_read in (True, False):
        found = retrieve(asking, Retrieval(b"k", needs_cas=True, is_read=is_read))
        assert found is not None
        assert cas_of(found.entry) == 1


class RejectingLog:
    """A journal that takes no writes."""

    refuses = True


def test_while_the_journal_rejects_writes_only_what_changes_nothing_is_answered(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking.store, "log", RejectingLog())
    assert retrieve(asking, Retrieval(b"k")) is not None
    with pytest.raises(WritesRejected):
        retrieve(asking, Retrieval(b"k", deadline=0))
    assert asking.counts() == HIT


def test_a_winner_keeps_the_value_and_the_cas_id(asking: Asking) -> None:
    found = retrieve(asking, Retrieval(b"stale"))
    assert found is not None
    assert (wire_bytes_of(found.entry), cas_of(found.entry)) == (VALUE, 3)
    assert state_of(found.entry) & JOURNALED == STALE | WON
