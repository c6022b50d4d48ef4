"""What the caching layer needs of a cache, and how memcached and Redis do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Backend(Protocol):
    """A cache of bytes. Keys are text; seconds are 0 for ever."""

    def get(self, key: str) -> bytes | None: ...
    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]: ...
    def set(self, key: str, value: bytes, seconds: int = 0) -> None: ...
    def add(self, key: str, value: bytes, seconds: int = 0) -> bool: ...
    def delete(self, key: str) -> bool: ...
    def incr(self, key: str, amount: int = 1) -> int | None: ...
    def touch(self, key: str, seconds: int) -> bool: ...
    def update(self, key: str, change: Callable[[bytes | None], bytes], seconds: int = 0) -> bytes: ...
    def delete_if(self, key: str, value: bytes) -> bool: ...


class MemcachedBackend:
    """memcached, through pymemcache."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> bytes | None:
        return self.client.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return self.client.get_many(list(keys))

    def set(self, key: str, value: bytes, seconds: int = 0) -> None:
        self.client.set(key, value, expire=seconds, noreply=False)

    def add(self, key: str, value: bytes, seconds: int = 0) -> bool:
        return bool(self.client.add(key, value, expire=seconds, noreply=False))

    def delete(self, key: str) -> bool:
        return self.client.delete(key, noreply=False)

    def incr(self, key: str, amount: int = 1) -> int | None:
        return self.client.incr(key, amount)

    def touch(self, key: str, seconds: int) -> bool:
        return self.client.touch(key, seconds, noreply=False)

    def update(self, key: str, change: Callable[[bytes | None], bytes], seconds: int = 0) -> bytes:
        """Read, change and write until nobody else has written in between."""
        while True:
            old, token = self.client.gets(key)
            new = change(old)
            if old is None:
                if self.add(key, new, seconds):
                    return new
            elif self.client.cas(key, new, token, expire=seconds):
                return new

    def delete_if(self, key: str, value: bytes) -> bool:
        """Remove a value if it is still this one: expire it by cas, as there is no delete with a token."""
        old, token = self.client.gets(key)
        return old == value and bool(self.client.cas(key, b"", token, expire=-1))


class RedisBackend:
    """Redis, through redis-py."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> bytes | None:
        return self.client.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        names = list(keys)
        values = self.client.mget(names) if names else []
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    def set(self, key: str, value: bytes, seconds: int = 0) -> None:
        self.client.set(key, value, ex=seconds or None)

    def add(self, key: str, value: bytes, seconds: int = 0) -> bool:
        return bool(self.client.set(key, value, ex=seconds or None, nx=True))

    def delete(self, key: str) -> bool:
        return bool(self.client.delete(key))

    def incr(self, key: str, amount: int = 1) -> int | None:
        return self.client.incrby(key, amount) if self.client.exists(key) else None

    def touch(self, key: str, seconds: int) -> bool:
        return bool(self.client.expire(key, seconds))

    def update(self, key: str, change: Callable[[bytes | None], bytes], seconds: int = 0) -> bytes:
        """Read, change and write until nobody else has written in between."""
        return self.client.transaction(
            lambda pipe: self._change(pipe, key, change, seconds), key, value_from_callable=True
        )

    def _change(self, pipe: Any, key: str, change: Callable[[bytes | None], bytes], seconds: int) -> bytes:
        new = change(pipe.get(key))
        pipe.multi()
        pipe.set(key, new, ex=seconds or None)
        return new

    def delete_if(self, key: str, value: bytes) -> bool:
        """Remove a value if it is still this one."""
        return self.client.transaction(lambda pipe: self._delete(pipe, key, value), key, value_from_callable=True)

    def _delete(self, pipe: Any, key: str, value: bytes) -> bool:
        is_ours = pipe.get(key) == value
        pipe.multi()
        if is_ours:
            pipe.delete(key)
        return is_ours
