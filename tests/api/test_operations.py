"""The items of a server and of a store, used as values by the program that they run in."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv import Items, ItemTooLarge, NotRunning, OutOfMemory, Server, Store, Value
from memcache_kv.store.entry import RELATIVE_LIMIT_SECONDS
from tests.fake_clock import FakeClock

NOW = 1_700_000_000


def found(items: Items, key: str = "key") -> Value:
    value = items.gets(key)
    assert value is not None
    return value


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture(params=["store", "server", "store with a journal"])
def items(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Items]:
    if request.param == "server":
        with Server(clock=clock) as server:
            yield server.store
    else:
        journal = tmp_path / "journal" if request.param.endswith("journal") else None
        with Store(clock=clock, journal=journal, fsync="always") as store:
            yield store


def test_a_value_is_stored_with_its_flags_and_expiry_time(items: Items, clock: FakeClock) -> None:
    assert items.get("key") is None
    items.set("key", b"value", ttl=10, flags=7)
    assert items.get("key") == items.get(b"key") == b"value"
    assert found(items)._replace(cas=0) == Value(b"value", 7, 0, NOW + 10)
    clock.now += 10
    assert (items.get("key"), items.gets("key")) == (None, None)


@pytest.mark.parametrize(
    ("ttl", "expires"),
    [(0, 0), (0.2, NOW + 1), (60, NOW + 60), (RELATIVE_LIMIT_SECONDS + 1, NOW + RELATIVE_LIMIT_SECONDS + 1)],
)
def test_a_ttl_is_always_relative_and_rounded_up(items: Items, ttl: float, expires: int) -> None:
    items.set("key", b"", ttl)
    assert found(items).expires == expires


def test_a_negative_ttl_stores_what_has_expired(items: Items) -> None:
    items.set("key", b"value", ttl=-1)
    assert "key" not in items


def test_add_and_replace_depend_on_whether_there_is_an_item(items: Items) -> None:
    assert (items.replace("key", b"0"), items.add("key", b"1"), items.add("key", b"2")) == (False, True, False)
    assert (items.get("key"), items.replace("key", b"3"), items.get("key")) == (b"1", True, b"3")


def test_append_and_prepend_keep_flags_and_expiry_time(items: Items) -> None:
    assert (items.append("key", b"+"), items.prepend("key", b"-")) == (False, False)
    items.set("key", b"value", ttl=5, flags=3)
    assert (items.append("key", b"+"), items.prepend("key", b"-")) == (True, True)
    assert found(items)._replace(cas=0) == Value(b"-value+", 3, 0, NOW + 5)


def test_cas_stores_only_over_the_value_that_was_read(items: Items) -> None:
    assert items.cas("key", b"new", 1) is None
    items.set("key", b"old")
    before = found(items).cas
    items.set("key", b"meanwhile")
    assert items.cas("key", b"new", before) is False
    assert items.cas("key", b"new", found(items).cas, flags=2) is True
    assert (found(items).value, found(items).flags) == (b"new", 2)


def test_numbers_wrap_upwards_and_stop_at_zero(items: Items) -> None:
    assert (items.incr("key"), items.decr("key")) == (None, None)
    items.set("key", b"18446744073709551614")
    assert (items.incr("key"), items.incr("key")) == (18446744073709551615, 0)
    items.set("key", b"5")
    assert (items.decr("key", 3), items.decr("key", 3), items.get("key")) == (2, 0, b"0")


def test_what_is_no_number_can_not_be_counted(items: Items) -> None:
    items.set("key", b"five")
    with pytest.raises(ValueError, match=r"^cannot increment or decrement non-numeric value$"):
        items.incr("key")
    for amount in (-1, 1 << 64):
        with pytest.raises(ValueError, match="amount"):
            items.incr("key", amount)
    assert items.get("key") == b"five"


def test_touch_and_delete_tell_whether_there_was_an_item(items: Items, clock: FakeClock) -> None:
    assert (items.touch("key", 5), items.delete("key")) == (False, False)
    items.set("key", b"value", ttl=1)
    assert items.touch("key", 5)
    clock.now += 4
    assert items.get("key") == b"value"
    assert (items.touch("key"), items.delete("key"), items.delete("key")) == (True, True, False)


def test_items_are_listed_counted_and_looked_for(items: Items, clock: FakeClock) -> None:
    for number in range(100):
        items.set(f"key {number}".replace(" ", "-"), b"%d" % number, ttl=number % 2)
    assert len(items) == 100
    clock.now += 1
    listed = {key: value.value for key, value in items.items()}
    assert listed == {b"key-%d" % number: b"%d" % number for number in range(0, 100, 2)}
    assert ("key-2" in items, b"key-1" in items, bool(items)) == (True, False, True)


def test_a_flush_removes_all(items: Items) -> None:
    items.set("key", b"value")
    items.flush()
    assert (list(items.items()), "key" in items, bool(items)) == ([], False, True)


def test_a_flush_may_come_later(clock: FakeClock) -> None:
    with Store(clock=clock) as store:
        store.set("key", b"value")
        store.flush(delay=9.5)
        clock.advance(9)
        assert "key" in store
        clock.advance(1)
        assert "key" not in store


@pytest.mark.parametrize("key", ["", "k" * 251, "a key", "a\nkey", "a\0key", b"\x7f"])
def test_keys_that_no_client_can_send_are_refused(items: Items, key: str | bytes) -> None:
    for use in (items.get, items.gets, items.delete, items.touch, items.incr, lambda key: items.set(key, b"")):
        with pytest.raises(ValueError, match="a key must have"):
            use(key)


def test_other_types_are_refused(items: Items) -> None:
    with pytest.raises(TypeError, match="a key must be str or bytes, not int"):
        items.get(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a value must be bytes, not str"):
        items.set("key", "value")  # type: ignore[arg-type]
    for flags in (-1, 1 << 32):
        with pytest.raises(ValueError, match="flags must be from 0 to 4294967295"):
            items.set("key", b"value", flags=flags)
    assert len(items) == 0


def test_a_set_that_is_too_large_removes_the_old_value_as_in_memcached(items: Items) -> None:
    items.set("key", b"old")
    with pytest.raises(ItemTooLarge, match=r"^object too large for cache$"):
        items.set("key", bytes(2 << 20))
    assert "key" not in items


def test_there_may_be_no_room_without_evictions() -> None:
    with Store(memory_limit=2 << 20, disable_evictions=True, shards=1) as store:
        number = 0
        with contextlib.suppress(OutOfMemory):
            while number < 100:
                store.set(f"key{number}", bytes(100_000))
                number += 1
        assert 5 < len(store) == number < 25
        with pytest.raises(OutOfMemory, match=r"^out of memory storing object$"):
            store.set("one-more", bytes(100_000))


def test_clients_and_the_program_see_the_same_items() -> None:
    with Server() as server:
        client = Client(server.address, default_noreply=False)
        server.store.set("from-the-program", b"1", flags=3)
        client.set("from-a-client", b"2")
        assert (client.get("from-the-program"), server.store.get("from-a-client")) == (b"1", b"2")
        before = server.stats()
        server.store.get("from-a-client")
        after = server.stats()
        client.close()
    assert [before[name] for name in ("cmd_get", "cmd_set", "get_hits")] == ["1", "1", "1"]
    assert [after[name] for name in ("cmd_get", "cmd_set", "get_hits")] == ["1", "1", "1"]


def test_items_are_there_from_the_start_to_the_stop_only() -> None:
    server, store = Server(), Store()
    for items in (server.store, store):
        with pytest.raises(NotRunning, match="before the start and after the stop"):
            items.get("key")
    with server, store:
        kept = server.store
        kept.set("key", b"value")
        store.set("key", b"value")
    for items in (kept, store):
        with pytest.raises(NotRunning):
            items.set("key", b"")
    with server:
        assert kept.get("key") is None
