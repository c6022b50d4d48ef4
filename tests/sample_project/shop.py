"""A shop that keeps carts in a memcached."""

from __future__ import annotations

import json

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

CART_SECONDS = 1800


class Carts:
    """The carts of all customers. address: where the memcached is. Without it, carts are empty."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._client = Client(address, connect_timeout=1, timeout=0.2, default_noreply=False)

    def put(self, customer: str, goods: str) -> bool:
        """Add goods to a cart; return whether they are kept."""
        try:
            self._client.set(f"cart:{customer}", json.dumps([*self.of(customer), goods]), expire=CART_SECONDS)
        except (MemcacheError, OSError):
            return False
        return True

    def of(self, customer: str) -> list[str]:
        """Return what is in a cart."""
        try:
            found = self._client.get(f"cart:{customer}")
        except (MemcacheError, OSError):
            return []
        return [] if found is None else [str(goods) for goods in json.loads(found)]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
