"""Tests of memcache_kv/server."""
