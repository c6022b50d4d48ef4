"""Tests of memcache_kv/protocol/admin."""
