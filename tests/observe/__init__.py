"""Tests of memcache_kv/observe."""
