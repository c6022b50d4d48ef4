"""The model, told what each real client accepts."""

from hypothesis import strategies as st

from memcache_kv.testing import strategies
from memcache_kv.testing.adapter import ClientAdapter
from memcache_kv.testing.model import MemcachedModel
from tests.integration.client_library import TIMEOUT
from tests.testing.client_adapters import (
    Address,
    AiomcacheAdapter,
    BmemcachedAdapter,
    Client,
    HashClient,
    PylibmcAdapter,
    PymemcacheAdapter,
    WithFlags,
)


class ClientModel(MemcachedModel):
    """A model of one client, of whatever server `address` is of."""

    module: str
    """The client's module."""
    address: Address


class PymemcacheModel(ClientModel):
    module = "pymemcache"

    def connect(self) -> ClientAdapter:
        return PymemcacheAdapter(Client(self.address, serde=WithFlags(), timeout=TIMEOUT, no_delay=True))


class HashClientModel(ClientModel):
    module = "pymemcache"

    def connect(self) -> ClientAdapter:
        return PymemcacheAdapter(HashClient([self.address], serde=WithFlags(), timeout=TIMEOUT, no_delay=True))


class PylibmcModel(ClientModel):
    module = "pylibmc"
    keys = strategies.keys(ascii_only=True)
    invalid_keys = st.nothing()
    """`get` raises for them, but `set` and `delete` return False."""
    deltas = strategies.deltas(2**31 - 1)
    negative_ttls = False

    def connect(self) -> ClientAdapter:
        return PylibmcAdapter(self.address)


class BmemcachedModel(ClientModel):
    module = "bmemcached"
    invalid_keys = st.nothing()
    """It sends them all, and the server hangs up."""
    negative_ttls = False

    def connect(self) -> ClientAdapter:
        return BmemcachedAdapter(self.address)


class AiomcacheModel(ClientModel):
    module = "aiomcache"
    negative_ttls = False

    def connect(self) -> ClientAdapter:
        return AiomcacheAdapter(self.address)


MODELS: list[type[ClientModel]] = [
    PymemcacheModel,
    HashClientModel,
    PylibmcModel,
    BmemcachedModel,
    AiomcacheModel,
]
