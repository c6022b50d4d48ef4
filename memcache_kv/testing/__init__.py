"""For test suites of programs that use a memcached: fixtures, faults, recordings, strategies and a model.

pytest loads the plugin by itself (docs/howto/test_with_pytest.md). What is listed here is for annotations and for
more fixtures; it is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcache_kv.testing import factories
    from memcache_kv.testing.cluster import MemcachedCluster
    from memcache_kv.testing.memcached import Memcached
    from memcache_kv.testing.process import MemcachedProc

__all__ = ["Memcached", "MemcachedCluster", "MemcachedProc", "factories"]

_PLACES = {"Memcached": "memcached", "MemcachedCluster": "cluster", "MemcachedProc": "process"}
"""The modules of the classes."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "factories":
        return import_module(f"{__name__}.factories")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
