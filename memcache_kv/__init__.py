"""memcache_kv: a memcached-compatible server in Python that keeps its data across a crash."""

from memcache_kv.version import VERSION as __version__

__all__ = ["__version__"]
