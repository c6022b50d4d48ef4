"""memcache_kv: a memcached-compatible server in Python that keeps its data across a crash.

What is listed here is the public interface (docs/reference/api.md). It is imported when it is first used, so that the
program `memcache-kv` starts without it.
"""

from typing import TYPE_CHECKING, Any

from memcache_kv.version import VERSION as __version__

if TYPE_CHECKING:
    from memcache_kv.api.items import Items, Value
    from memcache_kv.api.server import Server
    from memcache_kv.api.store import Store
    from memcache_kv.config.settings import Fsync, Settings
    from memcache_kv.errors import (
        ConfigError,
        ItemTooLarge,
        JournalCorrupt,
        JournalError,
        JournalFailed,
        JournalLocked,
        JournalLost,
        ListenError,
        MemcacheKVError,
        NotRunning,
        OutOfMemory,
        StoppedEarly,
        ThreadDied,
        WritesRejected,
    )

__all__ = [
    "ConfigError",
    "Fsync",
    "ItemTooLarge",
    "Items",
    "JournalCorrupt",
    "JournalError",
    "JournalFailed",
    "JournalLocked",
    "JournalLost",
    "ListenError",
    "MemcacheKVError",
    "NotRunning",
    "OutOfMemory",
    "Server",
    "Settings",
    "StoppedEarly",
    "Store",
    "ThreadDied",
    "Value",
    "WritesRejected",
    "__version__",
]

_MODULES = {
    "Fsync": "config.settings",
    "Items": "api.items",
    "Server": "api.server",
    "Settings": "config.settings",
    "Store": "api.store",
    "Value": "api.items",
}
"""Where the names are that are no exceptions."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
