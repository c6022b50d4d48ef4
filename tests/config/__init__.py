"""Tests of memcache_kv/config."""
