"""Tests of memcache_kv/traffic."""
