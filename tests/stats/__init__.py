"""Tests of memcache_kv/stats."""
