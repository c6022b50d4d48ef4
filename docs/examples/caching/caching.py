"""A caching layer as web applications have one: pages, catalogues, sessions, baskets, rate limits and locks."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from backends import Backend

LONGEST_KEY = 200
Load = Callable[[list[int]], dict[int, dict[str, Any]]]
"""Loads products from the database: those of the numbers that there are."""


def key_for(*parts: object) -> str:
    """Make a key that every cache takes: no white space, and a hash in place of what would be too long."""
    key = ":".join(str(part) for part in parts)
    if len(key.encode()) <= LONGEST_KEY and key.isascii() and key.isprintable() and " " not in key:
        return key
    return f"{parts[0]}:{hashlib.sha256(key.encode()).hexdigest()}"


class Pages:
    """Rendered pages. When the cache is out of order, pages are rendered each time."""

    def __init__(self, cache: Backend, render: Callable[[str], str], seconds: int = 60) -> None:
        self._cache, self._render, self._seconds = cache, render, seconds

    def show(self, path: str) -> str:
        key = key_for("page", path)
        try:
            found = self._cache.get(key)
        except OSError:
            return self._render(path)
        if found is not None:
            return found.decode()
        page = self._render(path)
        self._cache.set(key, page.encode(), self._seconds)
        return page

    def forget(self, path: str) -> bool:
        return self._cache.delete(key_for("page", path))


class Catalogue:
    """Products, many at a time: what the cache lacks is loaded in one query, and kept."""

    def __init__(
        self, cache: Backend, load: Callable[[list[int]], dict[int, dict[str, Any]]], seconds: int = 60
    ) -> None:
        self._cache, self._load, self._seconds = cache, load, seconds

    def products(self, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
        keys = {key_for("product", number): number for number in numbers}
        found = {keys[key]: json.loads(value) for key, value in self._cache.get_many(keys).items()}
        missing = [number for number in keys.values() if number not in found]
        loaded = self._load(missing) if missing else {}
        for number, product in loaded.items():
            self._cache.set(key_for("product", number), json.dumps(product).encode(), self._seconds)
        return found | loaded


class Sessions:
    """Sessions that end when nobody uses them for a while."""

    def __init__(self, cache: Backend, seconds: int = 1800) -> None:
        self._cache, self._seconds = cache, seconds

    def begin(self, user: str) -> str:
        session = uuid.uuid4().hex
        self._cache.set(key_for("session", session), user.encode(), self._seconds)
        return session

    def user(self, session: str) -> str | None:
        key = key_for("session", session)
        user = self._cache.get(key)
        if user is None:
            return None
        self._cache.touch(key, self._seconds)
        return user.decode()

    def end(self, session: str) -> bool:
        return self._cache.delete(key_for("session", session))


class Baskets:
    """Baskets that several tabs of one user change at once."""

    def __init__(self, cache: Backend) -> None:
        self._cache = cache

    def put(self, user: str, product: str, count: int = 1) -> dict[str, int]:
        def change(old: bytes | None) -> bytes:
            basket = json.loads(old) if old else {}
            basket[product] = basket.get(product, 0) + count
            return json.dumps({name: number for name, number in basket.items() if number > 0}).encode()

        return json.loads(self._cache.update(key_for("basket", user), change))

    def show(self, user: str) -> dict[str, int]:
        found = self._cache.get(key_for("basket", user))
        return json.loads(found) if found else {}


class RateLimit:
    """So many requests of a user in a span of time."""

    def __init__(self, cache: Backend, limit: int, seconds: int) -> None:
        self._cache, self._limit, self._seconds = cache, limit, seconds

    def allows(self, user: str) -> bool:
        key = key_for("rate", user)
        if self._cache.add(key, b"1", self._seconds):
            return self._limit >= 1
        count = self._cache.incr(key)
        return count is None or count <= self._limit


class Busy(Exception):
    """Somebody else has the lock."""


class Locks:
    """Locks that end by themselves when their holder dies."""

    def __init__(self, cache: Backend, seconds: int = 30) -> None:
        self._cache, self._seconds = cache, seconds

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        key, token = key_for("lock", name), uuid.uuid4().hex.encode()
        if not self._cache.add(key, token, self._seconds):
            raise Busy(name)
        try:
            yield
        finally:
            self._cache.delete_if(key, token)
