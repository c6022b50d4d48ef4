"""Tests of memcache_kv/protocol/meta."""
