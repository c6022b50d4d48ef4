"""Tests of memcache_kv."""
