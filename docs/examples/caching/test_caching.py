"""Tests of the caching layer. None of them knows which server it runs on."""

from __future__ import annotations

import json

import pytest
from caching import Baskets, Busy, Catalogue, Locks, Pages, RateLimit, Sessions, key_for
from servers import Cache

WORDS = ["", "a", "home", "products/7", "über uns", "search?q=a b", "x" * 300, "日本", "a\tb", "100%"]
VALUES = [b"", b"a", b"\0", b"\r\nEND\r\n", "ü".encode(), bytes(range(256)), b"x" * 1024, b"y" * 100_000, b"7", b"7 "]


# Keys


@pytest.mark.parametrize("word", WORDS)
def test_a_key_is_one_that_every_cache_takes(word: str) -> None:
    key = key_for("page", word)
    assert len(key) <= 200
    assert key.isascii()
    assert len(key.split()) == 1


@pytest.mark.parametrize("word", WORDS)
def test_two_words_have_two_keys(word: str) -> None:
    assert len({key_for("page", other) for other in {*WORDS, word}}) == len(WORDS)


# Values


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_back(cache: Cache, value: bytes) -> None:
    cache.backend.set("value", value)
    assert cache.backend.get("value") == value


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_replaced(cache: Cache, value: bytes) -> None:
    cache.backend.set("value", b"old")
    cache.backend.set("value", value)
    assert cache.backend.get("value") == value


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_added_once(cache: Cache, value: bytes) -> None:
    assert cache.backend.add("value", value)
    assert not cache.backend.add("value", b"other")
    assert cache.backend.get("value") == value


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_removed(cache: Cache, value: bytes) -> None:
    cache.backend.set("value", value)
    assert cache.backend.delete("value")
    assert not cache.backend.delete("value")
    assert cache.backend.get("value") is None


@pytest.mark.parametrize("number", range(13))
def test_no_test_sees_what_another_one_has_left(cache: Cache, number: int) -> None:
    assert cache.backend.add("left", str(number).encode())


@pytest.mark.parametrize("count", [0, 1, 2, 10, 100])
def test_many_values_are_read_at_once(cache: Cache, count: int) -> None:
    values = {f"many:{number}": str(number).encode() for number in range(count)}
    for key, value in values.items():
        cache.backend.set(key, value)
    assert cache.backend.get_many([*values, "many:none"]) == values


# Pages


@pytest.mark.parametrize("path", WORDS)
def test_a_page_is_rendered_once(cache: Cache, path: str) -> None:
    rendered: list[str] = []
    pages = Pages(cache.backend, lambda path: rendered.append(path) or f"<p>{path}</p>")
    assert pages.show(path) == pages.show(path) == f"<p>{path}</p>"
    assert rendered == [path]


@pytest.mark.parametrize("path", WORDS)
def test_a_page_that_is_forgotten_is_rendered_again(cache: Cache, path: str) -> None:
    versions = iter(["one", "two"])
    pages = Pages(cache.backend, lambda path: next(versions))
    assert pages.show(path) == "one"
    assert pages.forget(path)
    assert pages.show(path) == "two"


@pytest.mark.expiry
@pytest.mark.parametrize("seconds", [1, 2])
def test_a_page_is_rendered_again_after_a_while(cache: Cache, seconds: int) -> None:
    versions = iter(["one", "two"])
    pages = Pages(cache.backend, lambda path: next(versions), seconds)
    assert pages.show("/") == "one"
    cache.wait(seconds)
    assert pages.show("/") == "two"


class Broken:
    """A cache that nobody can reach."""

    def get(self, key: str) -> bytes | None:
        raise ConnectionRefusedError


@pytest.mark.parametrize("path", WORDS)
def test_pages_are_shown_without_a_cache(path: str) -> None:
    assert Pages(Broken(), str.upper).show(path) == path.upper()  # type: ignore[arg-type]


# Catalogue


def load(numbers: list[int]) -> dict[int, dict[str, object]]:
    return {number: {"name": f"product {number}", "price": number * 100} for number in numbers if number % 7}


@pytest.mark.parametrize("kept", range(10))
def test_what_the_cache_lacks_is_loaded_in_one_query(cache: Cache, kept: int) -> None:
    queries: list[list[int]] = []
    catalogue = Catalogue(cache.backend, lambda numbers: queries.append(numbers) or load(numbers))
    catalogue.products(range(1, kept + 1))
    queries.clear()
    assert catalogue.products(range(1, 7)) == load(list(range(1, 7)))
    assert queries == ([list(range(kept + 1, 7))] if kept < 6 else [])


@pytest.mark.parametrize("number", [7, 14, 0])
def test_a_product_that_does_not_exist_is_not_kept(cache: Cache, number: int) -> None:
    catalogue = Catalogue(cache.backend, load)
    assert catalogue.products([number]) == {}
    assert cache.backend.get(key_for("product", number)) is None


@pytest.mark.parametrize("number", range(1, 7))
def test_a_product_is_kept_as_json(cache: Cache, number: int) -> None:
    product = Catalogue(cache.backend, load).products([number])[number]
    assert json.loads(cache.backend.get(key_for("product", number)) or b"") == product


# Sessions


@pytest.mark.parametrize("user", ["anna", "berta", "ü", "x" * 250, "a b"])
def test_a_session_knows_its_user(cache: Cache, user: str) -> None:
    sessions = Sessions(cache.backend)
    session = sessions.begin(user)
    assert sessions.user(session) == user
    assert sessions.end(session)
    assert sessions.user(session) is None


@pytest.mark.expiry
def test_a_session_ends_when_nobody_uses_it(cache: Cache) -> None:
    sessions = Sessions(cache.backend, seconds=1)
    session = sessions.begin("anna")
    cache.wait(1)
    assert sessions.user(session) is None


@pytest.mark.expiry
def test_a_session_goes_on_while_somebody_uses_it(cache: Cache) -> None:
    sessions = Sessions(cache.backend, seconds=5)
    session = sessions.begin("anna")
    for _ in range(5):
        cache.wait(1)
        assert sessions.user(session) == "anna"


@pytest.mark.parametrize("count", [2, 5, 20])
def test_users_have_sessions_of_their_own(cache: Cache, count: int) -> None:
    sessions = Sessions(cache.backend)
    begun = {sessions.begin(f"user {number}"): f"user {number}" for number in range(count)}
    assert {session: sessions.user(session) for session in begun} == begun


# Baskets


@pytest.mark.parametrize("count", range(1, 11))
def test_a_basket_adds_up(cache: Cache, count: int) -> None:
    baskets = Baskets(cache.backend)
    for _ in range(count):
        baskets.put("anna", "pen")
    assert baskets.put("anna", "cup", 2) == baskets.show("anna") == {"pen": count, "cup": 2}


@pytest.mark.parametrize("count", range(1, 11))
def test_what_is_taken_out_is_gone(cache: Cache, count: int) -> None:
    baskets = Baskets(cache.backend)
    baskets.put("anna", "pen", count)
    assert baskets.put("anna", "pen", -count) == {}
    assert baskets.show("anna") == baskets.show("berta") == {}


@pytest.mark.parametrize("times", range(5))
def test_a_change_of_another_tab_is_not_lost(cache: Cache, times: int) -> None:
    baskets, calls = Baskets(cache.backend), []

    def change(old: bytes | None) -> bytes:
        calls.append(old)
        if len(calls) <= times:
            baskets.put("anna", "pen")
        return json.dumps(json.loads(old or b"{}") | {"cup": 1}).encode()

    cache.backend.update(key_for("basket", "anna"), change)
    assert len(calls) == times + 1
    assert baskets.show("anna") == ({"pen": times} if times else {}) | {"cup": 1}


# Rate limits


@pytest.mark.parametrize("limit", range(1, 11))
def test_a_user_may_do_so_much(cache: Cache, limit: int) -> None:
    rate = RateLimit(cache.backend, limit, seconds=60)
    assert [rate.allows("anna") for _ in range(limit + 2)] == [True] * limit + [False] * 2
    assert rate.allows("berta")


@pytest.mark.expiry
@pytest.mark.parametrize("limit", [1, 2])
def test_a_user_may_again_after_a_while(cache: Cache, limit: int) -> None:
    rate = RateLimit(cache.backend, limit, seconds=1)
    for _ in range(limit):
        assert rate.allows("anna")
    cache.wait(1)
    assert rate.allows("anna")


@pytest.mark.parametrize("amount", [0, 1, 2, 10, 1000])
def test_a_counter_that_is_missing_is_not_made(cache: Cache, amount: int) -> None:
    assert cache.backend.incr("counter", amount) is None
    assert cache.backend.add("counter", b"5")
    assert cache.backend.incr("counter", amount) == 5 + amount


# Locks


@pytest.mark.parametrize("name", WORDS)
def test_one_at_a_time_has_a_lock(cache: Cache, name: str) -> None:
    locks = Locks(cache.backend)
    with locks.hold(name):
        with pytest.raises(Busy):
            with locks.hold(name):
                pass
        with locks.hold("other"):
            pass
    with locks.hold(name):
        pass


@pytest.mark.parametrize("name", WORDS[:5])
def test_a_lock_ends_with_an_error(cache: Cache, name: str) -> None:
    locks = Locks(cache.backend)
    with pytest.raises(ZeroDivisionError):
        with locks.hold(name):
            raise ZeroDivisionError
    with locks.hold(name):
        pass


@pytest.mark.expiry
@pytest.mark.parametrize("seconds", [1, 2])
def test_a_lock_ends_when_its_holder_has_died(cache: Cache, seconds: int) -> None:
    locks = Locks(cache.backend, seconds)
    with locks.hold("job"):
        cache.wait(seconds)
        with locks.hold("job"):
            assert cache.backend.get(key_for("lock", "job"))


@pytest.mark.expiry
@pytest.mark.parametrize("seconds", [1, 2])
def test_a_holder_that_was_too_slow_leaves_the_lock_of_the_next_one(cache: Cache, seconds: int) -> None:
    locks = Locks(cache.backend, seconds)
    with locks.hold("job"):
        cache.wait(seconds)
        cache.backend.add(key_for("lock", "job"), b"the next one's")
    assert cache.backend.get(key_for("lock", "job")) == b"the next one's"
