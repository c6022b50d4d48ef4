"""Real clients behind the interface of `memcache_kv.testing.adapter`."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from memcache_kv.testing.adapter import ClientAdapter, FoundItem
from memcache_kv.testing.strategies import LARGEST_CLIENT_FLAGS
from tests.integration.client_library import TIMEOUT, Loop

Address = tuple[str, int]

Client: Any = importlib.import_module("pymemcache.client.base").Client
HashClient: Any = importlib.import_module("pymemcache.client.hash").HashClient
MemcacheError: Any = importlib.import_module("pymemcache.exceptions").MemcacheError


def location_of(address: Address) -> str:
    """Spell an address as most clients take it."""
    host, port = address
    return f"{host}:{port}"


class WithFlags:
    """Has pymemcache hand out values with their flags."""

    def serialize(self, key: bytes, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, key: bytes, value: bytes, flags: int) -> FoundItem:
        return FoundItem(value, flags)


class PymemcacheAdapter(ClientAdapter):
    """pymemcache's Client."""

    refusals = (MemcacheError,)
    timeouts = (TimeoutError,)
    largest_flags = LARGEST_CLIENT_FLAGS

    def __init__(self, client: Any, noreply: bool = False) -> None:
        self.client = client
        self.noreply = noreply

    def quiet(self) -> Self:
        return type(self)(self.client, noreply=True)

    def get(self, key: bytes) -> FoundItem | None:
        found: FoundItem | None = self.client.get(key)
        return found

    def gets(self, key: bytes) -> FoundItem | None:
        found, cas = self.client.gets(key)
        return found and FoundItem(found.value, found.flags, cas)

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        found: Mapping[bytes, FoundItem] = self.client.get_many(keys)
        return found

    def gets_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        return {key: found._replace(cas=cas) for key, (found, cas) in self.client.gets_many(keys).items()}

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self.client.set(key, value, ttl, self.noreply, flags))

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self.client.add(key, value, ttl, self.noreply, flags))

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self.client.replace(key, value, ttl, self.noreply, flags))

    def append(self, key: bytes, value: bytes) -> bool:
        return bool(self.client.append(key, value, 0, self.noreply))

    def prepend(self, key: bytes, value: bytes) -> bool:
        return bool(self.client.prepend(key, value, 0, self.noreply))

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        stored: bool | None = self.client.cas(key, value, cas, ttl, self.noreply, flags)
        return stored

    def set_many(self, values: Mapping[bytes, bytes], flags: int, ttl: int) -> bool:
        return not self.client.set_many(values, ttl, self.noreply, flags)

    def delete(self, key: bytes) -> bool:
        return bool(self.client.delete(key, self.noreply))

    def incr(self, key: bytes, delta: int) -> int | None:
        number: int | None = self.client.incr(key, delta, self.noreply)
        return number

    def decr(self, key: bytes, delta: int) -> int | None:
        number: int | None = self.client.decr(key, delta, self.noreply)
        return number

    def touch(self, key: bytes, ttl: int) -> bool:
        return bool(self.client.touch(key, ttl, self.noreply))

    def flush_all(self) -> object:
        return self.client.flush_all(0, self.noreply)

    def flush_all_later(self, delay: int) -> object:
        return self.client.flush_all(delay, self.noreply)

    def close(self) -> None:
        self.client.close()


class PylibmcAdapter(ClientAdapter):
    """pylibmc, in text. Its flags tell the type of a value, and it raises for what others answer with None."""

    def __init__(self, address: Address) -> None:
        pylibmc = importlib.import_module("pylibmc")
        behaviors = {"cas": True, "tcp_nodelay": True, "verify_keys": True}
        self._client: Any = pylibmc.Client([location_of(address)], behaviors=behaviors)
        self._missing = pylibmc.NotFound
        self.refusals = (pylibmc.Error, ValueError)

    def get(self, key: bytes) -> FoundItem | None:
        value = self._client.get(key)
        return None if value is None else FoundItem(value)

    def gets(self, key: bytes) -> FoundItem | None:
        value, cas = self._client.gets(key)
        return None if value is None else FoundItem(value, cas=cas)

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        return {key: FoundItem(value) for key, value in self._client.get_multi(list(keys)).items()}

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.set(key, value, time=ttl))

    def set_many(self, values: Mapping[bytes, bytes], flags: int, ttl: int) -> bool:
        return not self._client.set_multi(dict(values), time=ttl)

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.add(key, value, time=ttl))

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.replace(key, value, time=ttl))

    def append(self, key: bytes, value: bytes) -> bool:
        return bool(self._client.append(key, value))

    def prepend(self, key: bytes, value: bytes) -> bool:
        return bool(self._client.prepend(key, value))

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        try:
            return bool(self._client.cas(key, value, cas, time=ttl))
        except self._missing:
            return None

    def delete(self, key: bytes) -> bool:
        return bool(self._client.delete(key))

    def incr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.incr, key, delta)

    def decr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.decr, key, delta)

    def _counted(self, count: Any, key: bytes, delta: int) -> int | None:
        try:
            return int(count(key, delta))
        except self._missing:
            return None

    def touch(self, key: bytes, ttl: int) -> bool:
        return bool(self._client.touch(key, ttl))

    def flush_all(self) -> object:
        return self._client.flush_all()

    def flush_all_later(self, delay: int) -> object:
        return self._client.flush_all(time=delay)

    def close(self) -> None:
        self._client.disconnect_all()


class BmemcachedAdapter(ClientAdapter):
    """bmemcached, which speaks the binary protocol only. Keys are text."""

    NOT_FOUND, NO_INITIAL_VALUE = 1, 0xFFFFFFFF

    def __init__(self, address: Address) -> None:
        bmemcached = importlib.import_module("bmemcached")
        self._error: Any = importlib.import_module("bmemcached.exceptions").MemcachedException
        self._client: Any = bmemcached.Client([location_of(address)], raw_data=True, socket_timeout=TIMEOUT)
        self.refusals = (self._error,)

    def get(self, key: bytes) -> FoundItem | None:
        value = self._client.get(key.decode())
        return None if value is None else FoundItem(value)

    def gets(self, key: bytes) -> FoundItem | None:
        value, cas = self._client.gets(key.decode())
        return None if value is None else FoundItem(value, cas=cas)

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        found = self._client.get_multi([key.decode() for key in keys])
        return {key.encode(): FoundItem(value) for key, value in found.items()}

    def gets_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        found = self._client.get_multi([key.decode() for key in keys], get_cas=True)
        return {key.encode(): FoundItem(value, cas=cas) for key, (value, cas) in found.items()}

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.set(key.decode(), value, time=ttl))

    def set_many(self, values: Mapping[bytes, bytes], flags: int, ttl: int) -> bool:
        return not self._client.set_multi({key.decode(): value for key, value in values.items()}, time=ttl)

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.add(key.decode(), value, time=ttl))

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._client.replace(key.decode(), value, time=ttl))

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        return bool(self._client.cas(key.decode(), value, cas, time=ttl))

    def delete(self, key: bytes) -> bool:
        return bool(self._client.delete_multi([key.decode()]))  # `delete` returns True for a missing key, too

    def incr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.incr, key, delta)

    def decr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.decr, key, delta)

    def _counted(self, count: Any, key: bytes, delta: int) -> int | None:
        try:
            return int(count(key.decode(), delta, time=self.NO_INITIAL_VALUE))
        except self._error as error:
            if error.code == self.NOT_FOUND:
                return None
            raise

    def flush_all(self) -> object:
        return self._client.flush_all()

    def flush_all_later(self, delay: int) -> object:
        return self._client.flush_all(delay)

    def close(self) -> None:
        self._client.disconnect_all()


class AiomcacheAdapter(ClientAdapter):
    """aiomcache, which each call drives through an event loop of its own."""

    largest_flags = LARGEST_CLIENT_FLAGS

    def __init__(self, address: Address) -> None:
        aiomcache = importlib.import_module("aiomcache")
        self._error: Any = aiomcache.ClientException
        self.refusals = (aiomcache.ClientException, aiomcache.ValidationException)
        self._loop = Loop()
        self._client: Any = aiomcache.FlagClient(
            *address, pool_size=1, get_flag_handler=self.read, set_flag_handler=self.write
        )

    async def read(self, value: bytes, flags: int) -> FoundItem:
        return FoundItem(value, flags)

    async def write(self, found: FoundItem) -> tuple[bytes, int]:
        return found.value, found.flags or 0

    def _found(self, value: FoundItem | bytes | None, cas: object = None) -> FoundItem | None:
        """The client hands out values without flags as they are."""
        if value is None:
            return None
        found = FoundItem(value, 0) if isinstance(value, bytes) else value
        return found._replace(cas=cas)

    def get(self, key: bytes) -> FoundItem | None:
        return self._found(self._loop(self._client.get(key)))

    def gets(self, key: bytes) -> FoundItem | None:
        return self._found(*self._loop(self._client.gets(key)))

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        values = self._loop(self._client.multi_get(*keys))
        found = {key: self._found(value) for key, value in zip(keys, values, strict=True)}
        return {key: value for key, value in found.items() if value is not None}

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._loop(self._client.set(key, FoundItem(value, flags), ttl)))

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._loop(self._client.add(key, FoundItem(value, flags), ttl)))

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        return bool(self._loop(self._client.replace(key, FoundItem(value, flags), ttl)))

    def append(self, key: bytes, value: bytes) -> bool:
        return bool(self._loop(self._client.append(key, value)))

    def prepend(self, key: bytes, value: bytes) -> bool:
        return bool(self._loop(self._client.prepend(key, value)))

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        return bool(self._loop(self._client.cas(key, FoundItem(value, flags), cas, ttl)))

    def delete(self, key: bytes) -> bool:
        return bool(self._loop(self._client.delete(key)))

    def incr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.incr, key, delta)

    def decr(self, key: bytes, delta: int) -> int | None:
        return self._counted(self._client.decr, key, delta)

    def _counted(self, count: Any, key: bytes, delta: int) -> int | None:
        """The client raises for a missing key what it raises for a refusal."""
        try:
            return int(self._loop(count(key, delta)))
        except self._error as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def touch(self, key: bytes, ttl: int) -> bool:
        return bool(self._loop(self._client.touch(key, ttl)))

    def flush_all(self) -> object:
        return self._loop(self._client.flush_all())

    def close(self) -> None:
        self._loop(self._client.close())
        self._loop.close()
