"""Tests of memcache_kv/auth."""
