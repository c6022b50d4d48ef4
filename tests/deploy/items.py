"""The items that the tests of deploy/cluster/ store, and what can be read of them."""

from collections.abc import Callable

from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheServerError

KEYS = [f"key-{number}" for number in range(300)]
VALUES = {key: f"value of {key}".encode() for key in KEYS}
LARGEST_SHARE = 0.4
"""A third of this few keys, and what chance adds; the shares of a node's ring itself are between 32 and 34 %."""


def readable(read: Callable[[str], bytes | None]) -> set[str]:
    """The keys that can be read, each with the value that was stored."""
    found = {key: read(key) for key in KEYS}
    assert all(value in (None, VALUES[key]) for key, value in found.items())
    return {key for key, value in found.items() if value is not None}


def reader(client: Client | HashClient) -> Callable[[str], bytes | None]:
    """A function that gets one key; where the server answers with an error, None, as for a miss."""

    def read(key: str) -> bytes | None:
        try:
            found = client.get(key)
        except MemcacheServerError:
            return None
        assert found is None or isinstance(found, bytes)
        return found

    return read
