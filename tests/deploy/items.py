"""The items that the tests of deploy/cluster/ store, and what can be read of them."""

from collections.abc import Callable
from uuid import NAMESPACE_DNS, uuid5

from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.client.hash import HashClient  # type: ignore[import-untyped]
from pymemcache.exceptions import MemcacheServerError  # type: ignore[import-untyped]

KEYS = [str(uuid5(NAMESPACE_DNS, str(number))) for number in range(300)]
VALUES = {key: f"value of {key}".encode() for key in KEYS}
LARGEST_SHARE = 0.37
"""A third, and what chance adds: the nodes' shares of the rings are between 32 and 35 %."""


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
